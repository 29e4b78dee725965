"""Calibrators against brute force on the values themselves."""

from typing import get_args

import numpy as np
import pytest
import torch
from tiny import dense, resources

from paretrim.capture import capture
from paretrim.errors import TrainingFailed
from paretrim.graph.fusion import grid_values
from paretrim.graph.types import INPUT
from paretrim.network.constraints import weighted_layers
from paretrim.network.grids import grid_for_range
from paretrim.network.network import Network
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.quantize.calibration import CLIP_RATIOS, calibrate, divergence, weight_clips
from paretrim.stages.quantize.calibrators import Calibrator


def observed(name="residual"):
    network = dense(name).network
    names = grid_values(network.structure)
    with torch.no_grad():
        values = network.features(resources(name).calibration, names)
    return network, names, {key: value.numpy().astype(np.float64) for key, value in values.items() if key in names}


def found(method, percentile=99.99):
    network, names, values = observed()
    return calibrate(network, names, resources("residual").calibration, method=method, percentile=percentile), values


def squared_error(values, grid):
    levels = np.clip(np.rint(values / grid.scale) + grid.zero_point, 0, 255)
    return float(((levels - grid.zero_point) * grid.scale - values).__pow__(2).mean())


def test_minmax_covers_exactly_the_observed_range():
    grids, values = found("minmax")
    for name, grid in grids.items():
        assert grid == grid_for_range(float(values[name].min()), float(values[name].max()))


@pytest.mark.parametrize("percentile", [90.0, 99.0])
def test_percentile_clips_the_share_it_says(percentile):
    grids, values = found("percentile", percentile)
    for name, grid in grids.items():
        top = (255 - grid.zero_point) * grid.scale
        bin_width = (max(values[name].max(), 0) - min(values[name].min(), 0)) / 2048
        exact = np.quantile(values[name], percentile / 100, method="inverted_cdf")
        assert exact - bin_width - grid.scale <= top <= exact + 2 * bin_width + grid.scale
        if values[name].min() >= 0:
            assert grid.zero_point == 0


def test_percentile_100_is_minmax():
    assert found("percentile", 100.0)[0] == found("minmax")[0]


def test_mse_is_as_good_as_the_best_clip():
    grids, values = found("mse")
    for name, grid in grids.items():
        low, high = float(values[name].min()), float(values[name].max())
        best = min(squared_error(values[name], grid_for_range(low * ratio, high * ratio)) for ratio in CLIP_RATIOS)
        assert squared_error(values[name], grid) <= best * 1.05


def test_lsq_begins_with_twice_the_mean_over_the_root_of_the_top():
    grids, values = found("lsq")
    exact = {name: 2 * np.abs(value).mean() / (255 if value.min() >= 0 else 127) ** 0.5 for name, value in values.items()}
    for name, grid in grids.items():
        assert grid.scale == pytest.approx(exact[name], rel=0.02)
        assert grid.zero_point == (0 if values[name].min() >= 0 else 128)
    weight = torch.tensor([[1.0, -3.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]])
    clips = weight_clips(weight, bits=4, method="lsq", percentile=99.0)
    assert clips.tolist() == pytest.approx([2 * 4 / 7**0.5 * 7 / 8, 1.0])  # the pruned weight has no part in the mean
    step = WeightQuantizer(weight, bits=4, scales="learned", clip=clips).scale.detach()
    assert float(step[0]) == pytest.approx(2 * 4 / 7**0.5)


def test_lsq_plus_begins_with_three_deviations_around_the_mean_and_the_least_squared_error():
    assert found("lsq+")[0] == found("mse")[0]
    weight = torch.tensor([[1.0, -3.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]])
    clips = weight_clips(weight, bits=3, method="lsq+", percentile=99.0)
    mean, spread = 2.0, ((1 + 25 + 36) / 3) ** 0.5
    assert clips.tolist() == pytest.approx([(mean + 3 * spread) / 4 * 3 / 8, 1.0])


def slow_divergence(counts, edges, grid):
    """The same, bin by bin."""
    bins = [(round(edge / grid.scale) + grid.zero_point, int(count)) for edge, count in zip(edges, counts, strict=True)]
    inside = [(level, count) for level, count in bins if 0 <= level <= 255]
    p = [count for _, count in inside]
    p[0] += sum(count for level, count in bins if level < 0)
    p[-1] += sum(count for level, count in bins if level > 255)
    q = []
    for level, count in inside:
        members = [other for same, other in inside if same == level and other]
        q.append(max(sum(members) / len(members), 1e-4) if count else 1e-4)
    pairs = [(a / sum(p), b / sum(b for a, b in zip(p, q, strict=True) if a)) for a, b in zip(p, q, strict=True) if a]
    return sum(a * np.log(a / b) for a, b in pairs)


def test_divergence_is_that_of_its_definition():
    random = np.random.default_rng(1)
    centres = np.arange(-300, 900) + 0.5
    counts = random.poisson(20 * np.exp(-np.abs(centres) / 150))
    for high in (900.0, 400.0, 120.0):
        grid = grid_for_range(-high / 3, high)
        assert divergence(centres, counts, grid) == pytest.approx(slow_divergence(counts, centres, grid), rel=1e-9)


def test_kl_keeps_the_whole_of_an_even_histogram_and_clips_a_long_tail():
    network = observed()[0]
    images = torch.linspace(0, 1, 8 * 3 * 64).reshape(8, 3, 8, 8)
    assert calibrate(network, (INPUT,), images, method="kl", percentile=99.0)[INPUT].scale == pytest.approx(1 / 255, rel=1e-2)
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)).abs()
    images[0, 0, 0, 0] = 40.0
    grid = calibrate(network, (INPUT,), images, method="kl", percentile=99.0)[INPUT]
    assert 2.5 < 255 * grid.scale < 6
    images[8:] = 0.0
    fewer = calibrate(network, (INPUT,), images[:8], method="kl", percentile=99.0)
    assert calibrate(network, (INPUT,), images, method="kl", percentile=99.0) == fewer  # zeros tell nothing


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_mse_clips_of_weights_are_the_best_of_all_ratios(bits):
    weight = weighted_layers(dense("residual").network)["down.0"].weight.detach()
    clips = weight_clips(weight, bits=bits, method="mse", percentile=0.0)
    top = 2 ** (bits - 1) - 1
    for row, clip in zip(weight.reshape(len(weight), -1).double(), clips, strict=True):

        def error(ratio, row=row):
            step = float(row.abs().max()) * ratio / top
            return float(((row / step).round().clamp(-top, top) * step - row).square().sum())

        assert error(float(clip)) <= min(map(error, CLIP_RATIOS)) * (1 + 1e-4)


def test_other_clips_of_weights():
    weight = torch.arange(1.0, 201.0).reshape(2, 100)
    assert weight_clips(weight, bits=8, method="minmax", percentile=50.0).tolist() == [1.0, 1.0]
    clips = weight_clips(weight, bits=8, method="percentile", percentile=90.0)
    assert clips.tolist() == pytest.approx(
        [np.quantile(np.arange(1, 101), 0.9) / 100, np.quantile(np.arange(101, 201), 0.9) / 200]
    )
    assert weight_clips(weight, bits=4, method="kl", percentile=50.0).tolist() == [1.0, 1.0]
    assert weight_clips(torch.zeros(3, 4), bits=8, method="mse", percentile=0.0).shape == (3,)


def test_a_value_that_is_always_zero_has_a_grid():
    network = dense("without_norm").network
    images = torch.zeros(4, 3, 8, 8)
    for method in get_args(Calibrator):
        grids = calibrate(network, ("images",), images, method=method, percentile=99.0)
        assert grids["images"] == grid_for_range(0.0, 0.0)


def test_no_images_and_infinite_values_are_refused():
    network, names, _ = observed()
    with pytest.raises(TrainingFailed, match="needs calibration images, but there are none; give at least one training batch"):
        calibrate(network, names, torch.empty(0, 3, 8, 8), method="minmax", percentile=99.0)
    images = torch.full((2, 3, 8, 8), torch.inf)
    with pytest.raises(TrainingFailed, match="the value 'images' is not finite on calibration images; check the weights"):
        calibrate(network, names, images, method="minmax", percentile=99.0)


@pytest.mark.parametrize(("bits", "shape"), [(8, (5, 3000)), (8, (70, 16, 5, 5)), (4, (7, 999)), (2, (3, 70000)), (8, (4, 1))])
def test_early_stopping_and_chunks_change_no_clip(bits, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits)) ** 3
    weight[0] = 0
    rows = weight.reshape(len(weight), -1).abs()
    peak, top = rows.amax(1).clamp_min(1e-12), 2 ** (bits - 1) - 1
    steps = [(peak * ratio / top)[:, None] for ratio in CLIP_RATIOS]
    errors = torch.stack([(((rows / step).round().clamp(max=top) * step - rows) ** 2).sum(1) for step in steps])
    expected = torch.tensor(CLIP_RATIOS)[errors.argmin(0)]
    assert torch.equal(weight_clips(weight, bits=bits, method="mse", percentile=0.0), expected)


@pytest.mark.parametrize("method", get_args(Calibrator))
def test_pixels_do_not_lie_on_rounding_ties(method):
    """With mean 0.5 and the full range every pixel would be a tie, which runtimes round differently."""
    pixels = np.random.default_rng(0).permutation(np.arange(3 * 8 * 8 * 8) % 256).astype(np.float32)
    images = ((pixels / 255 - np.float32(0.5)) / np.float32(0.5)).reshape(8, 3, 8, 8)
    grid = calibrate(observed()[0], (INPUT,), torch.from_numpy(images), method=method, percentile=100.0)[INPUT]
    steps = images.astype(np.float64) / grid.scale
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 2.0**-12
    clips = method in ("mse", "lsq", "lsq+", "kl")
    assert clips or 2 / 255 < grid.scale < 2 / 255 * 1.002  # a hair longer, so that nothing more is clipped
    assert grid.zero_point in (127, 128)


class Tying(torch.nn.Module):
    """A sum, a product, an average and a concatenation with ranges that are simple multiples of their inputs' ranges."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(12, 4, 8)

    def forward(self, x):
        total = x + torch.relu(x)
        mean = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(x, 2), scale_factor=2.0)
        return self.head(torch.cat([total, mean, x * torch.relu(x), torch.nn.functional.max_pool2d(x, 3, 1, 1)], 1)).flatten(1)


def test_results_rarely_lie_on_rounding_ties():
    """Otherwise half of the sum's pairs and a quarter of the means would be ties, which float32 orders round differently."""
    torch.manual_seed(0)
    network = Network(capture(Tying(), (3, 8, 8)))
    images = torch.rand(8, 3, 8, 8)
    images[:, :, :4] = 1.0  # a blank area: the mean has the range of the images
    names = grid_values(network.structure)
    grids = calibrate(network, names, images, method="minmax", percentile=100.0)
    ops = {node.op: node.name for node in network.structure.nodes}
    steps, own = np.arange(256.0), grids[INPUT].scale
    results = {
        "add": own * (steps[:, None] + steps),
        "avg_pool": own * np.arange(1021.0) / 4,
        "mul": own**2 * steps[:, None] * steps,
    }
    results["concat"] = grids[ops["add"]].scale * steps
    ranges = {"add": 2.0, "avg_pool": 1.0, "mul": 1.0, "concat": 2.0}
    for op, values in results.items():
        scale = grids[ops[op]].scale
        moved = values / scale
        assert (np.abs(moved - np.floor(moved) - 0.5) < 2.0**-12).mean() <= 2.0**-7, op
        assert ranges[op] / 255 * 0.999999 <= scale <= ranges[op] / 255 * 1.01, op
    plain = results["add"] / (2 * own)
    assert (np.abs(plain - np.floor(plain) - 0.5) < 2.0**-12).mean() > 0.4


class Faint(torch.nn.Module):
    """A sum whose first input has a range that is an eighteenth of its own."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(1, 4, 8)

    def forward(self, x):
        return self.head(x[:, :1] + 17.99 * x[:, 1:]).flatten(1)


def test_a_sum_with_zero_does_not_lie_on_rounding_ties():
    """Behind a ReLU the other input is often zero, so such ties would be common."""
    torch.manual_seed(0)
    network = Network(capture(Faint(), (2, 8, 8)))
    images = torch.rand(8, 2, 8, 8) * 0.9
    images[0, 0, 0, 0], images[0, :, 0, 1] = 1.0, torch.tensor([0.01, 1.0])
    grids = calibrate(network, grid_values(network.structure), images, method="minmax", percentile=100.0)
    total = grids[next(node.name for node in network.structure.nodes if node.op == "add")]
    assert 18 * 1.0005 < total.scale / grids[INPUT].scale < 18 * 1.01  # by itself it would be 18, where every 18th value is a tie


class Crossing(torch.nn.Module):
    """A matrix product in which large numbers meet small ones."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(1, 4, 2)

    def forward(self, x):
        return self.head(torch.matmul(x[:, :1], x[:, 1:])).flatten(1)


def test_results_of_a_matrix_product_do_not_often_lie_between_two_steps():
    """A quarter of all sums of two products of steps did: one in four is halfway where a step of the result is four products."""
    torch.manual_seed(0)
    network = Network(capture(Crossing(), (2, 2, 2)))
    images = torch.tensor([[[[1.0, 2 / 255], [1.0, 0.0]], [[2 / 255, 0.0], [1.0, 1.0]]]])
    grids = calibrate(network, grid_values(network.structure), images, method="minmax", percentile=100.0)
    (product,) = (node.name for node in network.structure.nodes if node.op == "matmul")
    unit, scale = grids[INPUT].scale ** 2, grids[product].scale
    assert 1.0 < scale / (4 / 255**2) < 1.01
    moved = unit * np.arange(2.0**15) / scale
    assert (np.abs(moved - np.floor(moved) - 0.5) < 2.0**-12).mean() <= 2.0**-7
