"""Stages whose masks may grow: what changes, when, and special cases."""

from dataclasses import replace

import pytest
import torch
from tiny import SHORT, STAGES, assert_killed_goes_on_to_the_same_bits, dense, resources, same, state

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import sparsity, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.acdc import AcDc
from paretrim.stages.prune.gsm import Gsm
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.patterns import parse_pattern
from paretrim.stages.prune.rigl import RigL, moved
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.stages.stage_table import STAGES as NAMED
from paretrim.stages.together import Together
from paretrim.train.training import Step

LONG = replace(SHORT, epochs=4)


@pytest.mark.parametrize("growing", [RigL(every=2), AcDc(warmup=0.2, phase=0.2), StraightThrough(every=2), Movement()])
@pytest.mark.parametrize("other", [Prune(schedule="cubic"), Gsm(), Movement()])
def test_two_parts_do_not_make_the_same_masks_if_one_restores_weights(growing, other):
    for parts in ((growing, other), (other, growing), (growing, Together(parts=(other,)))):
        names = growing.name if parts[0] is growing else other.name, other.name if parts[0] is growing else growing.name
        said = f"together: {names[0]} and {names[1]} both make the masks of layer 'down.0', and one of them restores"
        with pytest.raises(InvalidRecipe, match=said):
            Together(parts=parts, budget=SHORT).begin(dense("residual").network, resources("residual"))
    apart = Prune(schedule="cubic", layers=("down.*",)), replace(growing, layers=("left.*",))
    Together(parts=apart, budget=SHORT).begin(dense("residual").network, resources("residual"))
    channels = Prune(schedule="cubic", pattern="channel", sparsity=0.25), Prune(schedule="cubic"), Prune(sparsity=0.5)
    Together(parts=channels, budget=SHORT).begin(dense("residual").network, resources("residual"))


def test_stages_whose_masks_grow_say_so_in_their_type():
    growing = {name for name, kind in NAMED.items() if "masks_grow" in vars(kind)}
    assert {"rigl", "acdc", "straight_through", "movement"} <= growing
    assert not growing & {"prune", "quantize", "distill", "finetune", "together", "lottery"}


def test_the_smallest_are_dropped_and_the_steepest_grown():
    mask = torch.tensor([[True, True, True, True, False, False, False, False]])
    weight = torch.tensor([[4.0, 3.0, -2.0, 1.0, 0.0, 0.0, 0.0, 0.0]])
    gradient = torch.tensor([[9.0, 9.0, 9.0, 0.1, 0.2, -5.0, 1.0, 3.0]])
    free = parse_pattern("unstructured")
    found = moved(mask, weight, gradient, 0.5, free)
    assert torch.nonzero(found[0]).flatten().tolist() == [0, 1, 2, 5]  # 2 was dropped and is steeper than all others
    assert torch.nonzero(moved(mask, weight, gradient, 0.25, free)[0]).flatten().tolist() == [0, 1, 2, 5]
    assert torch.equal(moved(mask, weight, gradient, 0.0, free), mask)
    blocks = moved(mask, weight, gradient, 1.0, parse_pattern("1x4"))
    assert torch.equal(blocks, mask)  # the first block has the larger sum of squared gradients
    gradient[0, :3] = 0
    assert torch.equal(moved(mask, weight, gradient, 1.0, parse_pattern("1x4")), ~mask)


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_every_layer_keeps_its_number_of_weights_and_others_of_them(pattern):
    stage = RigL(sparsity=0.5, pattern=pattern, every=2, budget=LONG)
    begun = stage.begin(dense("residual").network, resources("residual")).network
    found = run_stage(dense("residual"), stage, resources("residual"))
    differ = 0
    for name, layer in weighted_layers(found.network).items():
        before = weighted_layers(begun)[name].mask
        if before is not None:
            assert int(layer.mask.sum()) == int(before.sum())
            differ += int((layer.mask != before).sum())
    assert differ > 0
    assert found.history[-1].sparsity == sparsity(begun)


def test_without_dropping_it_equals_random_pruning():
    prune = Prune(sparsity=0.5, allocation="erk", score="random", budget=SHORT)
    still = RigL(sparsity=0.5, drop=0.0, budget=SHORT)
    late = RigL(sparsity=0.5, until=0.0, budget=SHORT)
    states = [state(run_stage(dense("residual"), stage, resources("residual"))) for stage in (prune, still, late)]
    assert same(states[0], states[1])
    assert same(states[0], states[2])


def test_masks_move_only_until_their_end(monkeypatch):
    shares = []
    monkeypatch.setattr("paretrim.stages.prune.rigl.moved", lambda mask, _w, _g, share, _p: shares.append(share) or mask)
    stage = RigL(sparsity=0.5, every=4, until=0.75)
    training = stage.begin(dense("plain").network, resources("plain"))
    gradients = {name: layer.weight for name, layer in weighted_layers(training.network).items()}
    for number in range(16):
        stage.observe(training, Step(None, torch.zeros(()), number / 16, 0, number, gradients))
    assert shares == pytest.approx([0.15 * (1 + 0.5), 0.15 * (1 - 0.5)])


def test_the_published_phases():
    stage = AcDc()
    epochs = [stage.is_sparse_at(epoch / 100) for epoch in range(100)]
    expected = [False] * 10 + ([True] * 5 + [False] * 5) * 6 + [True] * 5 + [False] * 10 + [True] * 15
    assert epochs == expected
    assert stage.is_sparse_at(1.0)
    assert replace(stage, last_sparse=0.0).is_sparse_at(1.0)


def test_one_sparse_phase_equals_one_shot_pruning():
    prune = Prune(sparsity=0.5, budget=SHORT)
    one = AcDc(sparsity=0.5, warmup=0.0, phase=1.0, last_dense=0.0, last_sparse=0.0, budget=SHORT)
    assert same(*(state(run_stage(dense("residual"), stage, resources("residual"))) for stage in (prune, one)))


def test_weights_come_back_in_dense_phases_and_the_end_is_sparse(monkeypatch):
    seen = []
    advance = AcDc.advance

    def watching(stage, training, progress, /):
        advance(stage, training, progress)
        seen.append((stage.is_sparse_at(progress), sparsity(training.network)))

    monkeypatch.setattr(AcDc, "advance", watching)
    stage = AcDc(sparsity=0.5, warmup=0.25, phase=0.25, last_dense=0.25, last_sparse=0.25, budget=LONG)
    pruned = run_stage(dense("residual"), Prune(sparsity=0.5, budget=SHORT), resources("residual"))
    found = run_stage(pruned, stage, resources("residual"))
    assert found.history[-1].sparsity == pytest.approx(pruned.history[-1].sparsity, abs=1e-9)
    sparse, later = [share for masked, share in seen if masked], [share for masked, share in seen if not masked]
    assert min(sparse) == pytest.approx(max(sparse))
    assert min(later) < 0.1 < min(sparse)


@pytest.mark.parametrize("kind", ["rigl", "acdc", "straight through", "movement", "movement soft"])
def test_a_killed_run_resumes_bit_for_bit(kind, tmp_path):
    stage = replace(STAGES[kind], budget=LONG)
    assert_killed_goes_on_to_the_same_bits(stage, tmp_path, epoch=3)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RigL(pattern="channel"), "rigl: pattern channel has no blocks that can move; choose unstructured or 1x4"),
        (lambda: RigL(pattern="2:4"), "rigl: pattern 2:4 has no blocks that can move"),
        (lambda: AcDc(pattern="channel"), "acdc: removed channels cannot be restored; choose pattern unstructured"),
        (lambda: AcDc(warmup=0.9), "warmup, last_dense and last_sparse are 0.9, 0.1 and 0.15 of the budget, more than all of it"),
        (lambda: RigL(score="larges"), "score 'larges' is unknown"),
    ],
)
def test_conflicting_settings_are_refused(make, match):
    with pytest.raises(InvalidRecipe, match=match):
        make()
