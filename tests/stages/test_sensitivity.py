"""The scan of single layers, and the sparsities computed from it."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import dense, image_set, resources, same, state
from torch.nn import functional

from paretrim.curves import TIE, Curve, CurvePoint, sensitivity_of
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.graph.channels import channel_groups, choose, group_scores
from paretrim.network.constraints import replace_mask_, sparsity, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.allocation import allocate, masks
from paretrim.stages.prune.channels import without_channels
from paretrim.stages.prune.patterns import BLOCK_1X4, UNSTRUCTURED, parse_pattern
from paretrim.stages.prune.score_table import by_magnitude, channels_by_magnitude
from paretrim.stages.prune.sensitivity import held_out, scan_channels, scan_weights
from paretrim.stages.prune.stage import Prune
from paretrim.train.budget import Budget


def curve(units, losses, name="a"):
    """A curve whose sparsities are spread evenly up to all but one unit."""
    shares = np.linspace(0, 1 - 1 / units, len(losses))
    return Curve((name,), units, tuple(CurvePoint(float(s), float(loss), 0.5) for s, loss in zip(shares, losses, strict=True)))


def test_losses_between_points_are_interpolated_and_never_fall():
    found = curve(10, [1.0, 3.0, 2.0, 4.0]).losses_at(np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.9, 1.0]))
    np.testing.assert_allclose(found, [0, 1, 2, 2, 2, 3, 3], atol=2 * TIE)
    assert (np.diff(found[:6]) > 0).all()


def test_keys_are_the_losses_that_are_reached_when_a_unit_leaves():
    found = curve(4, [0.0, 1.0, 2.0, 3.0]).keys()  # one, two, three gone: 1, 2, 3; the last one never leaves by itself
    np.testing.assert_allclose(found, [3, 3, 2, 1], atol=2 * TIE)


networks = st.lists(st.tuples(st.integers(2, 6), st.integers(1, 9)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(networks, st.floats(0, 1), st.integers(0, 99), st.sampled_from([UNSTRUCTURED, BLOCK_1X4]))
def test_the_total_is_exact_larger_shares_contain_smaller_ones_and_one_loss_decides(shapes, share, seed, pattern):
    random = np.random.default_rng(seed)
    layers = {str(i): torch.from_numpy(random.random(shape)) for i, shape in enumerate(shapes)}
    units = {name: rows * -(-columns // pattern.block) for name, (rows, columns) in zip(layers, shapes, strict=True)}
    curves = {name: curve(count, np.cumsum(random.random(5)), name) for name, count in units.items()}
    total = sum(units.values())
    shares = sorted({share, min(1.0, share + 0.1)})
    if any(one < 1 and total - round(one * total) < len(layers) for one in shares):
        return
    counts = [allocate(layers, one, method="sensitivity", pattern=pattern, curves=curves) for one in shares]
    for one, kept in zip(shares, counts, strict=True):
        assert sum(kept.values()) == total - round(one * total)
    assert all(counts[0][name] >= counts[-1][name] for name in layers)
    # What stays in any layer was worth more than what left another, but for the one block that each keeps.
    stay = [curves[name].keys()[kept - 1] for name, kept in counts[0].items() if kept > 1]
    gone = [curves[name].keys()[kept] for name, kept in counts[0].items() if kept < units[name]]
    assert not stay or not gone or min(stay) >= max(gone)


def test_the_best_of_each_layer_stay():
    layers = {"a": torch.tensor([[4.0, 1.0, 3.0, 2.0]]), "b": torch.tensor([[1.0, 2.0, 3.0, 4.0]])}
    curves = {"a": curve(4, [0, 1, 2, 3], "a"), "b": curve(4, [0, 0.1, 0.2, 0.3], "b")}
    found = masks(layers, 0.5, method="sensitivity", pattern=UNSTRUCTURED, curves=curves)
    assert found["a"].tolist() == [[True, False, True, True]]
    assert found["b"].tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(("curves", "said"), [({}, "missing"), ({"a": curve(3, [0, 1])}, "of 3 blocks")])
def test_a_scan_that_does_not_fit_is_refused(curves, said):
    text = f"allocation 'sensitivity' needs a scan of layer 'a' in its 4 blocks, but that is {said}; scan all layers with the"
    with pytest.raises(InvalidRecipe, match=text):
        allocate({"a": torch.ones(2, 2)}, 0.5, method="sensitivity", pattern=UNSTRUCTURED, curves=curves)


def loss_of(network, images, labels):
    with torch.no_grad():
        return float(functional.cross_entropy(network.eval()(images), labels))


@pytest.mark.parametrize("pattern", [UNSTRUCTURED, BLOCK_1X4], ids=["single", "blocks"])
def test_each_point_is_the_network_with_one_layer_pruned(pattern):
    network, given = dense("residual").network, resources("residual")
    before, scores = state(network), by_magnitude(network, given)
    scan = scan_weights(network, given, scores, pattern, sparsities=(0.25, 0.5, 1.0))
    assert same(before, state(network))
    images, labels = held_out(given, len(given.calibration))
    assert (scan.images, scan.pattern, [c.layers[0] for c in scan.curves]) == (len(images), pattern.text, list(scores))
    assert scan.loss == pytest.approx(loss_of(copy.deepcopy(network), images, labels), rel=1e-5)
    for found in scan.curves:
        assert found.points[0] == CurvePoint(0.0, scan.loss, scan.value)
        assert [round(point.sparsity * found.units) for point in found.points] == [
            0,
            round(found.units / 4),
            round(found.units / 2),
            found.units - 1,
        ]
        other = copy.deepcopy(network)
        keep = found.units - round(found.units / 2)
        alone = masks({found.layers[0]: scores[found.layers[0]]}, 1 - keep / found.units, method="global", pattern=pattern)
        replace_mask_(weighted_layers(other)[found.layers[0]], alone[found.layers[0]])
        assert found.points[2].loss == pytest.approx(loss_of(other, images, labels), rel=1e-4)


def test_earlier_zeros_count_and_stay():
    stage = Prune(sparsity=0.5, allocation="uniform", first=True, last=True, budget=Budget(epochs=0))
    network = run_stage(dense("plain"), stage, resources("plain")).network
    scan = scan_weights(network, resources("plain"), by_magnitude(network, resources("plain")), UNSTRUCTURED)
    for found in scan.curves:
        assert found.points[0].sparsity == pytest.approx(0.5, abs=1 / found.units)
        assert [point.sparsity for point in found.points] == sorted({point.sparsity for point in found.points})


def test_channels_are_removed_in_the_scan_as_they_are_in_the_network():
    network, given = dense("residual").network, resources("residual")
    row_scores = channels_by_magnitude(network, given)
    scan = scan_channels(network, given, row_scores, sparsities=(0.5,))
    groups = channel_groups(network.graph())
    scores = group_scores(groups, {name: some.numpy() for name, some in row_scores.items()}, mean=True)
    assert [found.units for found in scan.curves] == [len(members) for members in groups.sets]
    images, labels = held_out(given, len(given.calibration))
    for found, members in zip(scan.curves, groups.sets, strict=True):
        gone = members[np.argsort(-scores[members], kind="stable")][len(members) - round(len(members) / 2) :]
        smaller = without_channels(network, groups, np.sort(gone))
        assert found.points[1].loss == pytest.approx(loss_of(smaller, images, labels), rel=1e-4)
    assert ("stem.0", "left.1") in [found.layers for found in scan.curves]


def test_only_channels_that_may_go_are_scanned():
    network, given = dense("residual").network, resources("residual")
    stage = Prune(sparsity=0.5, pattern="channel", allocation="sensitivity", layers=("down.*",), budget=Budget(epochs=0))
    assert [found.layers for found in stage.scan(network, given).curves] == [("down.0",)]


def test_keys_decide_how_many_channels_each_set_keeps():
    groups = channel_groups(dense("residual").network.graph())
    scores, keys = np.ones(groups.count), [np.zeros(len(members)) for members in groups.sets]
    keys[0] = np.ones(len(groups.sets[0]))
    total = sum(map(len, groups.sets))
    removed = choose(groups, scores, 0.3, allocation="global", keys=keys)
    assert len(removed) == round(0.3 * total)
    assert not np.isin(removed, groups.sets[0]).any()


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "channel"])
def test_a_stage_prunes_by_its_own_scan(pattern):
    everywhere = {} if pattern == "channel" else {"first": True, "last": True}
    stage = Prune(sparsity=0.5, pattern=pattern, allocation="sensitivity", budget=Budget(epochs=0), **everywhere)
    network = run_stage(dense("plain"), stage, resources("plain")).network
    if pattern == "channel":
        assert (
            sum(len(network.structure.types[name].shape) and network.structure.types[name].shape[0] for name in ("0.0", "1.0"))
            == 12
        )
    elif pattern == "unstructured":
        assert sparsity(network) == pytest.approx(0.5, abs=0.002)


def test_a_scan_survives_json():
    scan = scan_channels(dense("plain").network, resources("plain"), channels_by_magnitude(dense("plain").network, None))
    assert sensitivity_of(scan.facts()) == scan
    with pytest.raises(ValueError, match="a curve has no points"):
        sensitivity_of(scan.facts() | {"curves": [{"layers": ["a"], "units": 1, "points": []}]})


def test_curves_of_several_layers_say_so():
    assert Curve(("a", "b", "c"), 1, ()).name == "a and 2 more"
    assert Curve(("a",), 1, ()).name == "a"


@pytest.mark.parametrize(("count", "found"), [(1000, 120), (120, 120), (60, 60), (30, 30), (40, 60)])
def test_held_out_images_are_spread_over_all(count, found):
    given = resources("plain")
    images, labels = held_out(given, count)
    step = 120 // found
    assert (len(images), labels.tolist()) == (found, image_set().labels[::step].tolist())


def test_a_fixed_pattern_and_a_loss_that_is_not_finite_are_refused():
    network, given = copy.deepcopy(dense("plain").network), resources("plain")
    with pytest.raises(
        InvalidRecipe, match="pattern 2:4 has only one sparsity, so a scan makes no sense; choose unstructured or 1x4"
    ):
        scan_weights(network, given, {}, parse_pattern("2:4"))
    weighted_layers(network)["4"].bias.data[0] = float("nan")
    with pytest.raises(
        TrainingFailed, match="loss of the network on validation images is not finite; check the weights, or train with a lower"
    ):
        scan_weights(network, replace(given), {}, UNSTRUCTURED)
