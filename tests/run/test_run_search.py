import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe
from paretrim.search.ladder import (
    Reference,
    Targets,
    Tried,
    best_of,
    climb,
    ladder,
    misses,
    split_epochs,
    usual_stages,
    weighed,
)
from paretrim.train.budget import Budget

DENSE = Reference(accuracy=0.90, images=1000, classes=10)
RUNGS = {rung.name: rung for rung in ladder(10, Targets(), budget=Budget())}


def _tried(name, accuracy, size, *, p50=None, entropy=0.0):
    return Tried(RUNGS[name], accuracy, size, entropy, p50)


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
    with pytest.raises(InvalidRecipe, match="--epochs is -1; it must be 0 or more"):
        split_epochs(-1)


def test_the_ladder_costs_the_same_on_every_trained_rung():
    assert [sum(stage.budget.epochs for stage in rung.stages) for rung in RUNGS.values()] == [0] + [10] * 10
    assert [rung.name for rung in ladder(0, Targets(), budget=Budget())][:2] == ["INT8", "50% zeros, INT8"]


def test_zeros_are_left_out_where_they_cannot_help():
    def families(targets, native=True):
        return {rung.family for rung in ladder(10, targets, budget=Budget(), native=native)}

    for targets in (Targets(max_latency_ms=1.0), Targets(max_latency_ms=1.0, max_bytes=1)):
        assert families(targets) == {"int8", "blocks", "channels"}
        assert families(targets, native=False) == {"int8", "channels"}
    assert families(Targets(max_bytes=1)) == {"int8", "zeros", "channels"}
    assert families(Targets()) == {"int8", "zeros", "blocks", "channels"}
    assert families(Targets(), native=False) == {"int8", "zeros", "channels"}


def _climb(accuracies, targets, sizes=None):
    notes = []
    tried = climb(
        tuple(RUNGS.values()),
        targets,
        DENSE,
        attempt=lambda rung: Tried(rung, accuracies.get(rung.name, 0.9), (sizes or {}).get(rung.name, 100), 0.0),
        note=notes.append,
    )
    return [one.rung.name for one in tried], notes


def test_a_clear_miss_ends_its_family_and_no_other():
    names, notes = _climb({"80% zeros, INT8": 0.5}, Targets(max_drop=0.01))
    assert "90% zeros, INT8" not in names
    assert names[-1] == "75% of channels removed, INT8"
    assert notes == ["90% zeros, INT8: left out, a lighter candidate clearly misses the accuracy"]


def test_a_miss_within_the_noise_ends_nothing():
    names, notes = _climb({"80% zeros, INT8": 0.885}, Targets(max_drop=0.01))  # its interval reaches 0.903
    assert names == list(RUNGS)
    assert notes == []


def test_post_training_quantization_says_nothing_about_what_is_trained():
    assert len(_climb({"INT8": 0.1}, Targets(max_drop=0.01))[0]) == len(RUNGS)
    assert _climb({"INT8 trained": 0.1}, Targets(max_drop=0.01))[0] == ["INT8", "INT8 trained"]


def test_without_an_allowed_drop_nothing_is_left_out():
    assert len(_climb(dict.fromkeys(RUNGS, 0.1), Targets())[0]) == len(RUNGS)


def test_the_first_that_meets_a_limit_ends_the_climb():
    sizes = {"INT8": 300, "INT8 trained": 300, "50% zeros, INT8": 90}
    assert _climb({}, Targets(max_bytes=100), sizes)[0] == ["INT8", "INT8 trained", "50% zeros, INT8"]


def test_a_limit_that_int8_meets_has_it_trained_too_unless_a_drop_is_named():
    assert _climb({}, Targets(max_bytes=100))[0] == ["INT8", "INT8 trained"]
    assert _climb({}, Targets(max_drop=0.01, max_bytes=100))[0] == ["INT8"]
    sizes = {name: 50 if "channels" in name else 200 for name in RUNGS}
    assert _climb({}, Targets(max_bytes=100), sizes)[0][-1] == "25% of channels removed, INT8"


def test_a_candidate_at_chance_meets_no_target():
    sizes = {name: 50 if "channels" in name else 200 for name in RUNGS}
    accuracies = {"25% of channels removed, INT8": 0.11, "50% of channels removed, INT8": 0.5}
    assert _climb(accuracies, Targets(max_bytes=100), sizes)[0][-1] == "50% of channels removed, INT8"
    useless = _tried("75% of channels removed, INT8", 0.11, 50)
    (said,) = misses(useless, Targets(max_bytes=100), DENSE)
    assert said.startswith("11.00 % of 1,000 validation images is not shown to be better than guessing among 10 classes; allow")
    assert misses(useless, Targets(), DENSE) == (said,)


TRIED = (
    _tried("INT8", 0.898, 300, p50=0.5, entropy=250),
    _tried("80% zeros, INT8", 0.895, 300, p50=0.5, entropy=120),
    _tried("25% of channels removed, INT8", 0.880, 200, p50=0.7),
    _tried("50% of channels removed, INT8", 0.600, 100, p50=0.2),
)


@pytest.mark.parametrize(
    ("targets", "best"),
    [
        (Targets(), 1),  # smallest within a point; of equal files the one with less entropy
        (Targets(max_drop=0.02), 2),
        (Targets(max_drop=0.0), 0),  # none: the most accurate
        (Targets(max_drop=0.02, max_latency_ms=1.0), 1),  # the fastest of those that meet both
        (Targets(max_drop=0.02, max_latency_ms=0.1), 1),  # none: the fastest that is accurate enough
        (Targets(max_bytes=250), 2),  # the most accurate of those small enough
        (Targets(max_bytes=50), 3),  # none: the smallest
        (Targets(max_latency_ms=0.3), 3),
    ],
)
def test_the_best_of_them(targets, best):
    assert best_of(TRIED, targets, DENSE) is TRIED[best]


@pytest.mark.parametrize("targets", [Targets(), Targets(max_bytes=60), Targets(max_latency_ms=0.15), Targets(max_drop=0.01)])
def test_one_at_chance_is_best_only_where_all_are(targets):
    useless = _tried("75% of channels removed, INT8", 0.11, 50, p50=0.1)
    assert best_of((*TRIED, useless), targets, DENSE) in TRIED
    assert best_of((useless,), targets, DENSE) is useless


def test_misses_say_by_how_much():
    found = misses(_tried("INT8", 0.85, 1200, p50=2.5), Targets(0.005, 2.0, 1000), DENSE)
    assert found == (
        "accuracy drops by 5.00 points on validation images, 4.50 more than --max-drop 0.5",
        "the median latency is 2.5 ms, 0.5 ms more than --max-latency-ms 2",
        "the .trim file has 1,200 bytes, 200 more than --max-bytes 1,000",
    )
    assert misses(_tried("INT8", 0.895, 1000, p50=2.0), Targets(0.005, 2.0, 1000), DENSE) == ()
    (tiny,) = misses(_tried("INT8", 0.85, 1200, p50=0.0123), Targets(None, 0.0001), DENSE)
    assert tiny == "the median latency is 0.0123 ms, 0.0122 ms more than --max-latency-ms 0.0001"


def test_what_a_candidate_is_worth():
    assert weighed(_tried("INT8", 0.85, 1200), DENSE) == "validation accuracy 90.00 % → 85.00 %, 1,200 bytes (.trim)"
    assert weighed(_tried("INT8", 0.95, 1200, p50=0.0123), DENSE).endswith("90.00 % → 95.00 %, 1,200 bytes (.trim), 0.0123 ms")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ({"max_drop": -0.1}, "--max-drop is -10 points; it must be from 0 to 100"),
        ({"max_latency_ms": float("inf")}, "--max-latency-ms is inf; it must be above 0"),
        ({"max_bytes": 0}, "--max-bytes is 0; it must be 1 or more"),
    ],
)
def test_targets_that_make_no_sense(targets, said):
    with pytest.raises(InvalidRecipe, match=said):
        Targets(**targets)
