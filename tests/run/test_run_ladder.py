"""The ladder of a search: what its rungs cost, which are tried, and where the climb ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from trials import DENSE, RUNGS, trial_of

from paretrim.capture.agreement import captured_network
from paretrim.errors import InvalidRecipe
from paretrim.search.fitting import fitting
from paretrim.search.ladder import (
    KINDS,
    Reference,
    Targets,
    climb,
    ladder,
    misses,
    usual_kinds,
)
from paretrim.stages.usual import split_epochs, usual_stages
from paretrim.train.budget import Budget


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_a_split_adds_up_and_stays_near_the_shares(total, shares):
    parts = split_epochs(total, shares)
    assert sum(parts) == total
    assert all(abs(part - total * share / sum(shares)) < 1 + 1e-6 for part, share in zip(parts, shares, strict=True))


def test_the_usual_split():
    assert split_epochs(10) == (2, 4, 4)
    assert split_epochs(1) in ((0, 1, 0), (0, 0, 1))
    assert [(stage.name, stage.budget.epochs) for stage in usual_stages(5, budget=Budget())] == [
        ("prune", 1),
        ("quantize", 2),
        ("distill", 2),
    ]
    splits = {
        pattern: {usual_stages(epochs, pattern=pattern, budget=Budget())[0].allocation for epochs in (0, 5)}
        for pattern in ("1x4", "unstructured", "channel")
    }
    assert splits == {"1x4": {"speed"}, "unstructured": {"global"}, "channel": {"global"}}


@pytest.mark.parametrize("pattern", ["1x4", "unstructured", "channel"])
@pytest.mark.parametrize("epochs", [0, 5])
def test_weights_are_usually_pruned_by_second_order_and_fitted(pattern, epochs):
    prune, *_ = usual_stages(epochs, sparsity=0.5, pattern=pattern, budget=Budget())
    assert (prune.score, prune.compensate) == (("magnitude", False) if pattern == "channel" else ("obs", True))


def test_a_split_of_fewer_than_no_epochs_is_refused():
    with pytest.raises(InvalidRecipe, match="--epochs is -1; it must be 0 or more"):
        split_epochs(-1)


def test_the_ladder_costs_the_same_on_every_trained_rung():
    assert [sum(stage.budget.epochs for stage in rung.stages) for rung in RUNGS.values()] == [0] + [10] * 10
    assert [rung.name for rung in ladder(0, KINDS, budget=Budget())][:2] == ["INT8", "50% of prunable zero, INT8"]


def test_zeros_are_left_out_where_they_cannot_help():
    for targets in (Targets(max_latency_ms=1.0), Targets(max_latency_ms=1.0, max_bytes=1)):
        assert usual_kinds(targets) == {"int8", "int8-trained", "blocks", "channels"}
        assert usual_kinds(targets, native=False) == {"int8", "int8-trained", "channels"}
    assert usual_kinds(Targets(max_bytes=1)) == {"int8", "int8-trained", "zeros", "channels"}
    assert usual_kinds(Targets()) == set(KINDS)
    assert usual_kinds(Targets(), native=False) == {"int8", "int8-trained", "zeros", "channels"}


def test_candidates_are_those_that_are_asked_for():
    assert [rung.name for rung in ladder(10, ("int8",), budget=Budget())] == ["INT8"]
    assert [rung.name for rung in ladder(10, ("zeros", "int8-trained"), budget=Budget())] == [
        "INT8 trained",
        *(f"{share}% of prunable zero, INT8" for share in (50, 80, 90)),
    ]
    with pytest.raises(InvalidRecipe, match="--candidates names 'int4'; choose from int8, int8-trained, zeros, blocks, channels"):
        ladder(10, ("int8", "int4"), budget=Budget())
    with pytest.raises(InvalidRecipe, match="--candidates int8-trained leaves nothing to try with --epochs 0; train, or name"):
        ladder(0, ("int8-trained",), budget=Budget())


def _climb(accuracies, targets, sizes=None, reference=DENSE):
    notes = []
    tried = climb(
        tuple(RUNGS.values()),
        targets,
        reference,
        attempt=lambda rung: trial_of(
            rung.name, accuracies.get(rung.name, 0.9), (sizes or {}).get(rung.name, 100), images=reference.images
        ),
        note=notes.append,
    )
    return [one.name for one in tried], notes


def test_a_clear_miss_ends_its_family_and_no_other():
    names, notes = _climb({"80% of prunable zero, INT8": 0.5}, Targets(max_drop=0.01))
    assert "90% of prunable zero, INT8" not in names
    assert names[-1] == "75% of channels removed, INT8"
    assert notes == ["90% of prunable zero, INT8: left out, a lighter candidate clearly loses more than is allowed"]


def test_a_miss_within_the_noise_ends_nothing():
    names, notes = _climb({"80% of prunable zero, INT8": 0.885}, Targets(max_drop=0.01))  # the drop may be 0.9 points
    assert names == list(RUNGS)
    assert notes == []


def test_post_training_quantization_says_nothing_about_what_is_trained():
    assert len(_climb({"INT8": 0.1}, Targets(max_drop=0.01))[0]) == len(RUNGS)
    assert _climb({"INT8 trained": 0.1}, Targets(max_drop=0.01))[0] == ["INT8", "INT8 trained"]


def test_without_an_allowed_drop_nothing_is_left_out():
    assert len(_climb(dict.fromkeys(RUNGS, 0.1), Targets())[0]) == len(RUNGS)


def test_the_first_that_meets_a_limit_ends_the_climb():
    sizes = {"INT8": 300, "INT8 trained": 300, "50% of prunable zero, INT8": 90}
    assert _climb({}, Targets(max_bytes=100), sizes)[0] == ["INT8", "INT8 trained", "50% of prunable zero, INT8"]


def test_a_limit_that_int8_meets_has_it_trained_too_unless_a_drop_is_named():
    assert _climb({}, Targets(max_bytes=100))[0] == ["INT8", "INT8 trained"]
    assert _climb({}, Targets(max_drop=0.01, max_bytes=100))[0] == ["INT8"]
    sizes = {name: 50 if "channels" in name else 200 for name in RUNGS}
    assert _climb({}, Targets(max_bytes=100), sizes)[0][-1] == "25% of channels removed, INT8"


def test_a_candidate_at_chance_meets_no_target():
    sizes = {name: 50 if "channels" in name else 200 for name in RUNGS}
    accuracies = {"25% of channels removed, INT8": 0.11, "50% of channels removed, INT8": 0.5}
    assert _climb(accuracies, Targets(max_bytes=100), sizes)[0][-1] == "50% of channels removed, INT8"
    useless = trial_of("75% of channels removed, INT8", 0.11, 50)
    (said,) = misses(useless, Targets(max_bytes=100), DENSE)
    assert said.startswith("11.00 % of 1,000 validation images is not shown to be better than guessing among 10 classes; allow")
    assert misses(useless, Targets(), DENSE) == (said,)


def test_the_climb_goes_on_to_what_shows_the_target_unless_nothing_could():
    targets = Targets(max_drop=0.01, max_bytes=100)
    assert _climb({"INT8": 0.895}, targets)[0] == ["INT8", "INT8 trained"]  # by 0.5 points, at most 1.16
    assert _climb({"INT8": 0.899}, targets, reference=Reference(0.9, 300, 10))[0] == ["INT8"]


def _fitting(module, kinds=KINDS):
    notes = []
    network = captured_network(module.eval(), (3, 8, 8))
    return [rung.kind for rung in fitting(ladder(0, kinds, budget=Budget()), network, notes.append)], notes


def test_candidates_that_have_nothing_to_prune_are_left_out():
    kinds, notes = _fitting(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    assert kinds == ["int8"]
    zeros, channels = notes
    assert zeros.startswith("left out: 50% of prunable zero, INT8; 80% of prunable zero, INT8; 90%")
    assert zeros.endswith("1x4 blocks, INT8, as no layer of this network of 1 weighted layers may be pruned")
    assert channels.startswith("left out: 25% of channels removed, INT8; 50%")
    assert ", as no channels of this network can be removed" in channels
    assert not any("set first" in note or "choose" in note for note in notes)  # compress has no such options


def test_candidates_that_leave_a_layer_without_a_block_are_left_out():
    convolutions = nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Conv2d(1, 2, 1)
    kinds, notes = _fitting(nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(72, 4)), ("int8", "blocks"))
    assert kinds == ["int8"]
    assert "as sparsity 0.5 leaves 1 of 3 blocks for 2 layers, but every layer keeps at least one" in notes[0]


def test_where_nothing_asked_for_fits_the_first_step_says_what_does():
    said = "none of the candidates fits this network, as no channels of this network can be removed: .*; try --candidates int8"
    with pytest.raises(InvalidRecipe, match=said):
        _fitting(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), ("channels",))
