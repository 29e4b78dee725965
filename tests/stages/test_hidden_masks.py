"""Stages that keep the values of pruned weights behind the mask: gradients, mask updates and special cases."""

import itertools
from dataclasses import replace

import pytest
import torch
from tiny import SHORT, dense, resources, same, state
from torch.nn import functional as F

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import WeightedLayer, hold_masks_, sparsity, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.hidden import hide_, memory_of, put_masks_
from paretrim.stages.prune.movement import Movement, Scores, above, as_sizes
from paretrim.stages.prune.patterns import block_sums, parse_pattern
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.train.training import Step

LONG = replace(SHORT, epochs=4)
FREE, BLOCKS = parse_pattern("unstructured"), parse_pattern("1x4")


def weights(candidate):
    return {name: layer.weight.detach() for name, layer in weighted_layers(candidate.network).items()}


def mask_of(layer):
    return torch.ones_like(layer.weight, dtype=torch.bool) if layer.mask is None else layer.mask


def test_restored_weights_have_their_hidden_values():
    layer = WeightedLayer(torch.tensor([[3.0, -2.0, 1.0]]), None)
    layers = {"only": layer}
    hide_(layers, hidden=True)
    put_masks_(layers, {"only": torch.tensor([[True, False, True]])})
    assert layer.effective_weight().tolist() == [[3.0, 0.0, 1.0]]
    hold_masks_([layer])
    put_masks_(layers, {"only": torch.tensor([[False, True, True]])})
    assert layer.effective_weight().tolist() == [[0.0, -2.0, 1.0]]
    hide_(layers, hidden=False)
    assert layer.weight.tolist() == [[0.0, -2.0, 1.0]]


def test_masks_frozen_from_the_start_equal_one_shot_pruning():
    prune = Prune(sparsity=0.5, budget=SHORT)
    frozen = StraightThrough(sparsity=0.5, end=0.0, freeze=0.0, budget=SHORT)
    assert same(*(state(run_stage(dense("residual"), stage, resources("residual"))) for stage in (prune, frozen)))


@pytest.mark.parametrize("stage", [StraightThrough(sparsity=0.0, budget=SHORT), Movement(sparsity=0.0, budget=SHORT)])
def test_without_pruning_it_equals_fine_tuning(stage):
    plain, found = (run_stage(dense("residual"), one, resources("residual")) for one in (FineTune(budget=SHORT), stage))
    assert all(torch.equal(weight, weights(found)[name]) for name, weight in weights(plain).items())
    assert found.history[-1].sparsity == plain.history[-1].sparsity


def test_gradients_pass_straight_through_to_all_weights_and_pruned_ones_decay():
    stage = StraightThrough(sparsity=0.5, end=0.0, every=5, decay=0.5)
    training = stage.begin(dense("plain").network, resources("plain"))
    stage.advance(training, 0.0)
    layers = {name: layer for name, layer in weighted_layers(training.network).items() if layer.mask is not None}
    gradients = {name: torch.randn_like(layer.weight) for name, layer in layers.items()}
    for number in (0, 1):  # the masks are chosen in the first step
        stage.observe(training, Step(None, torch.zeros(()), 0.1, 0, number, gradients))
    for name, layer in layers.items():
        pruned = ~layer.mask
        assert torch.equal(layer.weight.grad[~pruned], gradients[name][~pruned])
        assert torch.equal(layer.weight.grad[pruned], (gradients[name] + 0.5 * layer.weight.detach())[pruned])
        assert layer.weight[pruned].abs().sum() > 0
    assert sum(int((~layer.mask).sum()) for layer in layers.values()) == round(
        0.5 * sum(layer.weight.numel() for layer in layers.values())
    )


@pytest.mark.parametrize(
    "stage",
    [
        StraightThrough(sparsity=0.6, every=1, budget=LONG),
        StraightThrough(sparsity=0.5, pattern="2:4", every=1, budget=LONG),
        Movement(sparsity=0.6, pattern="1x4", budget=LONG),
        Movement(selection="soft", threshold=0.45, score_rate=0.1, penalty=0.0, budget=LONG),
    ],
    ids=["straight through", "straight through 2:4", "movement", "movement soft"],
)
def test_weights_are_restored_and_pruned_ones_end_at_0(stage, monkeypatch):
    masks = []
    put = put_masks_

    def watching(layers, found):
        masks.append({name: mask.clone() for name, mask in found.items()})
        put(layers, found)

    module = type(stage).__module__
    monkeypatch.setattr(f"{module}.put_masks_", watching)
    found = run_stage(dense("residual"), stage, resources("residual"))
    back = sum(int((new[name] & ~old[name]).sum()) for old, new in itertools.pairwise(masks) for name in new)
    assert back > 0
    for layer in weighted_layers(found.network).values():
        assert layer.holds
        assert not layer.weight.detach()[~mask_of(layer)].any()


@pytest.mark.parametrize("kind", [StraightThrough, Movement])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_the_sparsity_is_exact_and_earlier_zeros_stay(kind, pattern):
    parent = run_stage(dense("residual"), Prune(sparsity=0.4, pattern=pattern, budget=SHORT), resources("residual"))
    found = run_stage(parent, kind(sparsity=0.7, pattern=pattern, every=2, budget=SHORT), resources("residual"))
    blocks = zeros = 0
    for name, layer in weighted_layers(parent.network).items():
        if layer.mask is not None:
            after = weighted_layers(found.network)[name].mask
            assert not (after & ~layer.mask).any()
            alive = block_sums(after, parse_pattern(pattern)) > 0
            blocks, zeros = blocks + alive.numel(), zeros + int((~alive).sum())
    assert zeros == round(0.7 * blocks)


def test_scores_learn_by_adam():
    random = torch.Generator().manual_seed(3)
    scores, trusted = (
        Scores(WeightedLayer(torch.zeros(2, 3), None), FREE),
        torch.zeros(2, 3, dtype=torch.float64, requires_grad=True),
    )
    optimizer = torch.optim.Adam([trusted], lr=0.01)
    for _ in range(5):
        gradient = torch.randn(2, 3, generator=random, dtype=torch.float64)
        trusted.grad = gradient.clone()
        optimizer.step()
        scores.step_(gradient, 0.01)
    torch.testing.assert_close(scores.value, trusted.detach(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pattern", [FREE, BLOCKS], ids=["unstructured", "1x4"])
@pytest.mark.parametrize("selection", ["hard", "soft"])
def test_the_gradient_of_a_score_is_that_of_a_factor_on_its_block(pattern, selection, monkeypatch):
    settings = {"penalty": 0.3} if selection == "soft" else {}
    stage = Movement(selection=selection, pattern=pattern.text, start=0.0, end=0.0, every=100, **settings)
    training = stage.begin(dense("plain").network, resources("plain"))
    given = resources("plain")
    (name, layer), *_ = [(name, layer) for name, layer in weighted_layers(training.network).items() if layer.mask is not None]
    seen = {}
    monkeypatch.setattr(Scores, "step_", lambda scores, gradient, _rate: seen.setdefault(id(scores), gradient))
    others = {name: torch.zeros_like(one.weight) for name, one in weighted_layers(training.network).items()}
    memory = memory_of(training, name, layer)
    factor = torch.ones_like(memory.value, requires_grad=True)
    value = torch.randn(memory.value.shape, dtype=torch.float64, requires_grad=True)
    wide = factor.repeat_interleave(pattern.block, 1)[:, : layer.weight.shape[1]]
    labels = torch.arange(8) % layer.weight.shape[0]
    images = given.calibration[:8].mean(1, keepdim=True).expand(-1, layer.weight.shape[1], -1, -1)
    weight = layer.weight.detach().clone().requires_grad_()
    F.cross_entropy(F.conv2d(images, weight * wide.float()).mean((2, 3)), labels).backward()
    memory.value.copy_(value.detach())
    stage.observe(training, Step(None, torch.zeros(()), 0.0, 0, 1, others | {name: weight.grad}))
    wanted = factor.grad
    if selection == "soft":
        (0.3 * value.sigmoid().sum()).backward()
        wanted = wanted + value.grad
    torch.testing.assert_close(seen[id(memory)], wanted, rtol=1e-5, atol=1e-8)


def test_scores_of_any_sign_become_sizes_in_the_same_order_over_layers_and_small_blocks():
    layers = {"a": WeightedLayer(torch.zeros(2, 6), None), "b": WeightedLayer(torch.zeros(1, 3), None)}
    scores = {"a": torch.tensor([[-1.0, 4.0], [0.5, -3.0]]).double(), "b": torch.tensor([[2.0]]).double()}
    sizes = as_sizes(scores, layers, BLOCKS)
    assert [tuple(size.shape) for size in sizes.values()] == [(2, 6), (1, 3)]
    found = torch.cat([block_sums(size.square(), BLOCKS).flatten() for size in sizes.values()])
    torch.testing.assert_close(found, torch.cat([score.flatten() for score in scores.values()]) + 3.0)
    free = {"a": torch.tensor([[-1.0, 4.0]]).double()}
    assert as_sizes(free, {"a": WeightedLayer(torch.zeros(1, 2), None)}, FREE)["a"].tolist() == [[0.0, 5.0]]


def test_the_best_block_of_a_layer_stays_above_any_threshold():
    score = torch.tensor([[-5.0, -4.0], [0.1, -6.0]])
    assert above(score, 0.5, torch.Size((2, 2)), FREE).tolist() == [[False, False], [True, False]]
    assert above(score, 0.99, torch.Size((2, 2)), FREE).tolist() == [[False, False], [True, False]]
    assert above(score, 0.01, torch.Size((2, 8)), BLOCKS).tolist() == [[False] * 4 + [True] * 4, [True] * 4 + [False] * 4]


def test_without_gradients_movement_uses_magnitude():
    none = replace(SHORT, epochs=0)
    moved, cut = (run_stage(dense("plain"), stage(sparsity=0.5, budget=none), resources("plain")) for stage in (Movement, Prune))
    assert same(state(moved), state(cut))


def test_a_larger_penalty_leaves_less():
    shares = []
    for penalty in (0.0, 1.0):
        stage = Movement(selection="soft", threshold=0.45, penalty=penalty, score_rate=0.05, budget=LONG)
        shares.append(sparsity(run_stage(dense("plain"), stage, resources("plain")).network))
    assert shares[0] < shares[1]


def test_a_layer_that_lost_channels_is_refused():
    stage = Movement(sparsity=0.5)
    training = stage.begin(dense("plain").network, resources("plain"))
    name, layer = next((name, layer) for name, layer in weighted_layers(training.network).items() if layer.mask is not None)
    layer.weight = torch.nn.Parameter(layer.weight.detach()[:4])
    with pytest.raises(
        InvalidRecipe, match=rf"layer '{name}' had shape .* when this stage began and has .* now; remove channels"
    ):
        stage.advance(training, 1.0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: StraightThrough(pattern="channel"), "straight_through: whole channels have no mask"),
        (
            lambda: StraightThrough(end=0.9),
            "start, end and freeze are 0.0, 0.9 and 0.75; the schedule must end before the masks freeze",
        ),
        (lambda: StraightThrough(pattern="2:4"), r"pattern 2:4 always has sparsity 0.5, but sparsity is 0.9"),
        (lambda: Movement(pattern="2:4"), "movement: pattern 2:4 has no blocks that can move; choose unstructured or 1x4"),
        (lambda: Movement(start=0.9), "movement: the schedule ends at 0.8, before its start at 0.9"),
        (lambda: Movement(selection="soft", sparsity=0.5), r"sparsity is 0\.5, but selection is 'soft', where threshold"),
        (lambda: Movement(penalty=1.0), r"penalty is 1\.0, but selection is 'hard', where sparsity"),
    ],
)
def test_conflicting_settings_are_refused(make, match):
    with pytest.raises(InvalidRecipe, match=match):
        make()
