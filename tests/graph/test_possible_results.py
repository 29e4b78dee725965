"""What results operations say they can have on uint8 grids, which calibration chooses a grid by, tried on random levels."""

import numpy as np
import pytest
from operation_examples import GRIDS, exact, facts, named, of, settings

from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.types import ValueType


def small_inputs(example, rng):
    """Levels on the grids of the inputs: their ends, the middle, anything."""
    for low, high in ((0, 255), (0, 0), (255, 255), (100, 140)):
        yield tuple(rng.integers(low, high + 1, value.shape).astype(np.uint8) for value in example.inputs)
    zeros = [np.full(value.shape, kind.zero_point, np.uint8) for value, kind in zip(example.inputs, example.types, strict=True)]
    for index in range(len(zeros)):
        mixed = [rng.integers(0, 256, value.shape).astype(np.uint8) if index == at else value for at, value in enumerate(zeros)]
        yield tuple(mixed)


def test_every_operation_that_requantizes_by_its_inputs_alone_says_what_results_it_can_have():
    for operation in OPERATIONS.values():
        wanted = operation.grid == "requantizes" and not operation.integer_tensors
        assert (operation.results is not None) == wanted, operation.name


@named([example for example in GRIDS if facts(example).results])
def test_results_on_grids_are_among_the_possible_ones(name):
    rng = np.random.default_rng(0)
    for example in of(GRIDS, name):
        possible = facts(example).results.possible(settings(example), example.types)
        if not possible:
            continue
        known = np.unique(np.concatenate([part.ravel() for part in possible]))
        if example.node.op == "matmul" and example.types[0].shape[2] > 1:  # those of the largest sums are left out
            step = example.types[0].scale * example.types[1].scale
            assert np.allclose(np.diff(known), step, rtol=1e-6)
            assert known[0] <= -step * 2**15 * 0.999 or known[-1] >= step * 2**15 * 0.999
        unit = facts(example).results.finest(settings(example), example.types)
        for inputs in small_inputs(example, rng):
            results = exact(example, inputs).ravel()
            inside = results[(results >= known[0] - unit) & (results <= known[-1] + unit)]
            assert example.node.op == "matmul" or len(inside) == len(results)
            near = known[np.clip(np.searchsorted(known, inside), 0, len(known) - 1)]
            before = known[np.clip(np.searchsorted(known, inside) - 1, 0, len(known) - 1)]
            distance = np.minimum(np.abs(near - inside), np.abs(before - inside))
            assert distance.max(initial=0) <= 1e-3 * unit


@named([example for example in GRIDS if facts(example).results])
def test_the_ends_of_the_possible_results_are_reached(name):
    """Otherwise anything would be possible: for each operation some inputs give the largest and the smallest result."""
    for example in of(GRIDS, name):
        possible = facts(example).results.possible(settings(example), example.types)
        if not possible or (example.node.op == "matmul" and example.types[0].shape[2] > 1):
            continue
        corners = [[np.full(value.shape, level, np.uint8) for level in (0, 255)] for value in example.inputs]
        picks = [[part[bit >> index & 1] for index, part in enumerate(corners)] for bit in range(2 ** len(corners))]
        results = np.concatenate([exact(example, tuple(pick)).ravel() for pick in picks])
        low, high = min(part.min() for part in possible), max(part.max() for part in possible)
        assert [results.min(), results.max()] == pytest.approx([low, high], rel=1e-5, abs=1e-6)


@named([example for example in GRIDS if facts(example).results])
def test_one_step_of_one_input_changes_a_result_by_the_finest_step_or_more(name):
    rng = np.random.default_rng(0)
    for example in of(GRIDS, name):
        finest = facts(example).results.finest(settings(example), example.types)
        assert finest > 0
        for _ in range(20):
            inputs = [rng.integers(0, 255, value.shape).astype(np.uint8) for value in example.inputs]
            before, which = exact(example, inputs), rng.integers(len(inputs))
            place = tuple(rng.integers(extent) for extent in inputs[which].shape)
            inputs[which][place] += 1
            moved = np.abs(exact(example, inputs) - before)
            noise = 1e-6 * np.abs(before).max()
            assert (moved[moved > noise] >= finest * (1 - 1e-3) - noise).all()


def test_sums_of_two_products_are_multiples_of_a_step_by_a_step_near_zero():
    kinds = [ValueType((1, 2, 2), "uint8", 0.5, 0), ValueType((1, 2, 2), "uint8", 0.25, 250)]
    (found,) = OPERATIONS["matmul"].results.possible(Settings({"transposed": 0}), kinds)
    assert np.array_equal(found, 0.125 * np.arange(-(2**15), 2 * 255 * 5 + 1))
