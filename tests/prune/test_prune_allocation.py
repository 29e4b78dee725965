import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from paretrim.errors import InvalidRecipe, TrainingFailed, UnsupportedOperation, WeightsMismatch
from paretrim.stages.prune.allocation import allocate, masks
from paretrim.stages.prune.patterns import BLOCK_1X4, UNSTRUCTURED, block_alive, block_scores, parse_pattern

TWO_FOUR = parse_pattern("2:4")
METHODS = ["global", "uniform", "erk", "lamp", "cost", "speed"]
COSTS = {f"layer{i}": (3.0, 0.5, 40.0, 1e-3, 7.0)[i] for i in range(5)}
"""What a block costs; the other methods have no use for it."""
shapes = st.one_of(
    st.tuples(st.integers(1, 6), st.integers(1, 9)),
    st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 3), st.integers(1, 3)),
)
networks = st.builds(
    lambda shapes, seed, levels: network(shapes, seed, levels=levels),
    st.lists(shapes, min_size=1, max_size=5),
    st.integers(0, 999),
    st.sampled_from([None, 3]),
)


def network(shapes, seed=0, levels=None):
    """Scores of given shapes, each layer on its own scale; ``levels`` few values make ties."""
    g = torch.Generator().manual_seed(seed)
    draw = (
        (lambda s: torch.randn(s, generator=g)) if levels is None else (lambda s: torch.randint(levels, s, generator=g).float())
    )
    return {f"layer{i}": draw(shape).abs() * (1 + i) for i, shape in enumerate(shapes)}


def blocks_in(tensors, pattern):
    return sum(block_scores(t.float(), pattern).numel() for t in tensors.values())


def feasible(layers, sparsity, pattern):
    total = blocks_in(layers, pattern)
    return sparsity == 1 or total - round(sparsity * total) >= len(layers)


@settings(max_examples=150, deadline=None)
@given(networks, st.one_of(st.floats(0, 1), st.just(1.0)), st.sampled_from(METHODS), st.sampled_from([UNSTRUCTURED, BLOCK_1X4]))
def test_zero_blocks_are_exact_and_no_layer_is_empty(layers, sparsity, method, pattern):
    if not feasible(layers, sparsity, pattern):
        with pytest.raises(InvalidRecipe, match="every layer keeps at least one; ask for at most"):
            allocate(layers, sparsity, method=method, pattern=pattern, costs=COSTS)
        return
    total = blocks_in(layers, pattern)
    counts = allocate(layers, sparsity, method=method, pattern=pattern, costs=COSTS)
    assert sum(counts.values()) == total - round(sparsity * total)
    assert min(counts.values()) >= (sparsity < 1)
    for name, mask in masks(layers, sparsity, method=method, pattern=pattern, costs=COSTS).items():
        assert mask.shape == layers[name].shape
        assert int(block_alive(mask, pattern).sum()) == counts[name]


@settings(max_examples=150, deadline=None)
@given(networks, st.floats(0, 1), st.floats(0, 1), st.sampled_from(METHODS), st.sampled_from([UNSTRUCTURED, BLOCK_1X4]))
def test_masks_at_rising_sparsity_are_nested(layers, first, second, method, pattern):
    low, high = sorted((first, second))
    if not (feasible(layers, low, pattern) and feasible(layers, high, pattern)):
        return
    dense = masks(layers, low, method=method, pattern=pattern, costs=COSTS, minimum_density=0.1)
    sparse = masks(layers, high, method=method, pattern=pattern, costs=COSTS, minimum_density=0.1)
    assert not any((sparse[name] & ~dense[name]).any() for name in layers)


@settings(max_examples=100, deadline=None)
@given(networks, st.floats(0, 1), st.sampled_from(METHODS), st.sampled_from([UNSTRUCTURED, BLOCK_1X4]), st.integers(0, 99))
def test_dead_weights_stay_dead_and_count(layers, sparsity, method, pattern, seed):
    g = torch.Generator().manual_seed(seed)
    alive = {name: torch.rand(w.shape, generator=g) < 0.6 for name, w in layers.items()}
    dead = sum(int((~block_alive(mask, pattern)).sum()) for mask in alive.values())
    living_layers = sum(bool(mask.any()) for mask in alive.values())
    total = blocks_in(layers, pattern)
    zeros = max(dead, round(sparsity * total))
    if total - zeros < living_layers and sparsity < 1:
        return
    result = masks(layers, sparsity, method=method, pattern=pattern, costs=COSTS, alive=alive)
    assert sum(int((~block_alive(mask, pattern)).sum()) for mask in result.values()) == zeros
    assert not any((result[name] & ~alive[name]).any() for name in layers)


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.83])
def test_global_equals_sorting_all_weights(sparsity):
    layers = network([(8, 5, 3, 3), (6, 8), (4, 8, 1, 1)], seed=3)
    flat = torch.cat([w.flatten() for w in layers.values()]).numpy()
    expected = np.ones(flat.size, bool)
    expected[np.argsort(flat)[: round(sparsity * flat.size)]] = False
    result = masks(layers, sparsity, method="global", pattern=UNSTRUCTURED)
    np.testing.assert_array_equal(torch.cat([m.flatten() for m in result.values()]).numpy(), expected)


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, BLOCK_1X4])
def test_lamp_equals_ranking_its_formula(pattern):
    layers = {name: weight / 100 for name, weight in network([(6, 8, 3, 3), (5, 6), (4, 9, 1, 1)], seed=5).items()}
    keyed = []
    for name, weight in layers.items():
        energy = block_scores(weight, pattern).double().flatten()
        energy = energy if pattern is BLOCK_1X4 else energy.square()
        keyed += [(float(e / energy[energy >= e].sum()), name) for e in energy]
    keep = len(keyed) - round(0.7 * len(keyed))
    best = [name for _, name in sorted(keyed, reverse=True)[:keep]]
    counts = allocate(layers, 0.7, method="lamp", pattern=pattern)
    assert counts == {name: best.count(name) for name in layers}


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, BLOCK_1X4])
def test_by_cost_no_exchange_of_blocks_keeps_more_for_as_much(pattern):
    layers = network([(6, 8, 3, 3), (5, 8), (4, 12, 1, 1)], seed=5)
    found = masks(layers, 0.6, method="cost", pattern=pattern, costs=COSTS)
    kept, gone = [], []
    for name, weight in layers.items():
        energy = block_scores(weight, pattern).double()
        worth = (energy if pattern is BLOCK_1X4 else energy.square()) / COSTS[name]
        stay = block_alive(found[name], pattern)
        guarded = worth.max()  # every layer keeps its best block, whatever it costs
        kept += worth[stay & (worth < guarded)].tolist()
        gone += worth[~stay].tolist()
    assert min(kept) >= max(gone)
    assert len(gone) == round(0.6 * blocks_in(layers, pattern))


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, BLOCK_1X4])
def test_speed_equals_ranking_lamp_scores_by_cost(pattern):
    layers = network([(6, 8, 3, 3), (5, 8), (4, 12, 1, 1)], seed=5)
    keyed = []
    for name, weight in layers.items():
        energy = block_scores(weight, pattern).double().flatten()
        energy = energy if pattern is BLOCK_1X4 else energy.square()
        keyed += sorted((float(e / energy[energy >= e].sum()) / COSTS[name], name) for e in energy)[:-1]
    keep = len(keyed) + len(layers) - round(0.7 * (len(keyed) + len(layers)))
    best = [name for _, name in sorted(keyed, reverse=True)[: keep - len(layers)]]  # every layer keeps its best block
    counts = allocate(layers, 0.7, method="speed", pattern=pattern, costs=COSTS)
    assert counts == {name: 1 + best.count(name) for name in layers}


def test_speed_with_equal_costs_is_lamp_and_does_not_see_the_scale_of_a_layer():
    layers = network([(6, 8, 3, 3), (5, 8), (4, 12, 1, 1)], seed=2)
    lamp = allocate(layers, 0.7, method="lamp", pattern=BLOCK_1X4)
    assert allocate(layers, 0.7, method="speed", pattern=BLOCK_1X4, costs=dict.fromkeys(layers, 5.0)) == lamp
    scaled = {name: 10.0**number * weight for number, (name, weight) in enumerate(layers.items())}
    by_speed = allocate(layers, 0.7, method="speed", pattern=BLOCK_1X4, costs=COSTS)
    assert allocate(scaled, 0.7, method="speed", pattern=BLOCK_1X4, costs=COSTS) == by_speed
    assert by_speed["layer2"] < lamp["layer2"]  # the dear one


def test_costs_count_by_their_ratio_and_equal_ones_are_global():
    layers = network([(6, 8, 3, 3), (5, 8), (4, 12, 1, 1)], seed=2)
    by_cost = allocate(layers, 0.7, method="cost", pattern=BLOCK_1X4, costs=COSTS)
    scaled = {name: 1000 * cost for name, cost in COSTS.items()}
    assert allocate(layers, 0.7, method="cost", pattern=BLOCK_1X4, costs=scaled) == by_cost
    everywhere = allocate(layers, 0.7, method="global", pattern=BLOCK_1X4)
    assert allocate(layers, 0.7, method="cost", pattern=BLOCK_1X4, costs=dict.fromkeys(layers, 5.0)) == everywhere
    assert by_cost != everywhere
    assert by_cost["layer2"] < everywhere["layer2"]  # the dear one


@pytest.mark.parametrize(
    ("costs", "match"),
    [
        (None, "needs the cost of a block of every layer that is pruned; missing are layer0, layer1"),
        ({"layer0": 1.0}, "missing are layer1"),
        ({"layer0": 1.0, "layer1": 0.0}, "a block of layer 'layer1' costs 0.0; give a number above 0"),
        ({"layer0": float("nan"), "layer1": 1.0}, "a block of layer 'layer0' costs nan; give a number above 0"),
    ],
)
@pytest.mark.parametrize("method", ["cost", "speed"])
def test_costs_that_say_nothing_are_refused(costs, match, method):
    with pytest.raises(InvalidRecipe, match=match) as refused:
        allocate(network([(4, 4), (4, 4)]), 0.5, method=method, pattern=UNSTRUCTURED, costs=costs)
    assert "missing" not in match or f"allocation '{method}'" in str(refused.value)


@pytest.mark.parametrize("sparsity", [0.3, 0.6, 0.8, 0.9])
def test_erk_densities_solve_the_equation_with_saturated_layers(sparsity):
    layers = network([(16, 3, 3, 3), (64, 16, 3, 3), (128, 64, 3, 3), (10, 128)])
    raw = {name: sum(w.shape) / w.numel() for name, w in layers.items()}
    total = sum(w.numel() for w in layers.values())

    def surplus(eps):
        return sum(min(1, eps * raw[name]) * w.numel() for name, w in layers.items()) - (1 - sparsity) * total

    eps = brentq(surplus, 0, 1e4, xtol=1e-12)
    counts = allocate(layers, sparsity, method="erk", pattern=UNSTRUCTURED)
    for name, weight in layers.items():
        assert counts[name] == pytest.approx(min(1, eps * raw[name]) * weight.numel(), abs=1)
    assert counts["layer0"] == layers["layer0"].numel()  # the cap is exercised


def test_uniform_gives_every_layer_the_same_share():
    layers = network([(10, 10), (20, 10), (3, 3, 3, 3)])
    assert allocate(layers, 0.9, method="uniform", pattern=UNSTRUCTURED) == {"layer0": 10, "layer1": 20, "layer2": 8}


def test_uniform_ties_go_to_the_earlier_layer():
    layers = {name: torch.ones(1, 2) for name in "abc"}
    assert allocate(layers, 0.2, method="uniform", pattern=UNSTRUCTURED) == {"a": 2, "b": 2, "c": 1}


def test_the_guard_keeps_a_share_of_a_weak_layer():
    layers = {"strong": torch.ones(100, 10), "weak": torch.full((40, 10), 1e-6)}
    assert allocate(layers, 0.5, method="global", pattern=UNSTRUCTURED) == {"strong": 698, "weak": 2}
    assert allocate(layers, 0.5, method="global", pattern=UNSTRUCTURED, minimum_density=0.1)["weak"] == 40
    assert allocate(layers, 0.5, method="global", pattern=UNSTRUCTURED, minimum_density=0.0)["weak"] == 1


def test_below_the_guard_the_rest_is_split_uniformly():
    layers = {"large": torch.ones(100, 10), "small": torch.full((100, 2), 5.0)}
    assert allocate(layers, 0.95, method="global", pattern=UNSTRUCTURED, minimum_density=0.1) == {"large": 50, "small": 10}


def test_dead_weights_do_not_speak_for_their_block_in_the_allocation():
    quiet = torch.ones(1, 12)
    quiet[0, [0, 4]] = 9.0
    layers = {"quiet": quiet, "loud": torch.full((1, 12), 3.0)}
    counts = allocate(layers, 1 / 3, method="global", pattern=BLOCK_1X4, alive={"quiet": quiet < 9})
    assert counts == {"quiet": 1, "loud": 3}


def test_sparsity_one_zeroes_everything():
    layers = network([(4, 5), (2, 3, 3, 3)])
    assert not any(mask.any() for mask in masks(layers, 1, method="lamp", pattern=BLOCK_1X4).values())


@pytest.mark.parametrize("method", METHODS)
def test_n_of_m_sets_its_own_sparsity(method):
    layers = network([(4, 8, 3, 3), (5, 6)])
    result = masks(layers, 0.5, method=method, pattern=TWO_FOUR, costs=COSTS)
    assert int(result["layer0"].sum()) == 4 * 4 * 9
    assert int(result["layer1"].sum()) == 5 * 3  # a last group of two keeps one


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sparsity": -0.1}, "sparsity -0.1 is not a share of zeros"),
        ({"sparsity": 90}, "sparsity 90 is not a share of zeros"),
        ({"sparsity": float("nan")}, "sparsity nan is not a share of zeros"),
        (
            {"method": "magic"},
            "allocation 'magic' is unknown; choose one of global, uniform, erk, lamp, cost, speed, sensitivity",
        ),
        ({"minimum_density": 2.0}, "minimum density 2.0 is not a share"),
        ({"layers": {}}, "there are no layers to prune"),
        ({"pattern": TWO_FOUR, "sparsity": 0.9}, "pattern '2:4' always has sparsity 0.5, not 0.9"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, match):
    settings_ = {"layers": network([(4, 4)]), "sparsity": 0.5, "method": "global", "pattern": UNSTRUCTURED} | changes
    with pytest.raises(InvalidRecipe, match=match):
        allocate(settings_.pop("layers"), settings_.pop("sparsity"), **settings_)


def test_the_advice_for_too_much_sparsity_works():
    layers = network([(4, 4), (4, 4), (4, 4)])
    with pytest.raises(InvalidRecipe, match=r"leaves 2 of 48 blocks for 3 layers.*ask for at most 0.9375"):
        allocate(layers, 0.95, method="erk", pattern=UNSTRUCTURED)
    assert set(allocate(layers, 0.9375, method="erk", pattern=UNSTRUCTURED).values()) == {1}


def test_masks_that_fit_no_layer_are_refused():
    layers = network([(4, 4)])
    with pytest.raises(WeightsMismatch, match="there is a mask for 'other' but no such layer; layers are layer0"):
        allocate(layers, 0.5, method="global", pattern=UNSTRUCTURED, alive={"other": torch.ones(1).bool()})
    with pytest.raises(
        WeightsMismatch, match=r"the mask of layer 'layer0' is torch.float32 \(4, 4\); it must be torch.bool \(4, 4\)"
    ):
        allocate(layers, 0.5, method="global", pattern=UNSTRUCTURED, alive={"layer0": torch.ones(4, 4)})


def test_errors_inside_a_layer_name_it():
    with pytest.raises(TrainingFailed, match="layer 'a': 1 of 2 scores are NaN or infinite"):
        allocate({"a": torch.tensor([[1.0, torch.nan]])}, 0.5, method="global", pattern=UNSTRUCTURED)
    with pytest.raises(TrainingFailed, match="layer 'b': 2 of 4 scores are NaN or infinite"):
        masks(
            {"b": torch.full((1, 4), torch.nan).put_(torch.tensor([0, 1]), torch.ones(2))}, 0.5, method="global", pattern=TWO_FOUR
        )
    with pytest.raises(UnsupportedOperation, match="layer 'bias': a weight of shape"):
        allocate({"bias": torch.ones(4)}, 0.5, method="global", pattern=UNSTRUCTURED)
