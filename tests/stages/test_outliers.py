"""The outlier study against counting the values themselves."""

import numpy as np
import pytest
import torch
from tiny import NETWORKS, dense, resources

from paretrim.network.constraints import weighted_layers
from paretrim.stages.quantize.outliers import BINS, outliers


def study(name, **settings):
    network = dense(name).network
    return network, outliers(network, resources(name).calibration, **{"calibrator": "percentile", "percentile": 99.0} | settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_and_value_is_described_and_shares_add_up(name):
    network, found = study(name)
    assert [one.name for one in found if one.kind == "weight"] == list(weighted_layers(network))
    assert {one.kind for one in found} == {"weight", "activation"}
    for one in found:
        assert len(one.before) == len(one.after) == BINS == len(one.edges) - 1
        assert sum(one.before) == pytest.approx(1)
        assert sum(one.after) == pytest.approx(1)
        assert 0 <= one.clipped <= 1 / 9  # of the nine weights of a depthwise channel the largest


def test_a_weight_is_counted_as_it_is():
    network, found = study("plain")
    weight = next(iter(weighted_layers(network).values())).weight.detach().double().flatten()
    one = found[0]
    assert (one.values, one.low, one.high) == (weight.numel(), float(weight.min()), float(weight.max()))
    centred = weight - weight.mean()
    assert one.kurtosis == pytest.approx(float(centred.pow(4).mean() / centred.square().mean() ** 2))
    counts = np.histogram(weight.numpy(), np.array(one.edges))[0]
    assert list(one.before) == pytest.approx(list(counts / weight.numel()))


def test_an_activation_is_counted_within_the_bins_of_calibration():
    network, found = study("plain")
    one = next(one for one in found if one.kind == "activation" and one.name != "images" and one.high > one.low)
    with torch.no_grad():
        values = network.eval().features(resources("plain").calibration, (one.name,))[one.name].double().flatten()
    assert one.values == values.numel()
    assert one.high == pytest.approx(float(values.max()))
    half = (one.clip_high - one.clip_low) / 255 / 2
    beyond = float(((values > one.clip_high + half) | (values < one.clip_low - half)).double().mean())
    assert one.clipped == pytest.approx(beyond, abs=0.005)
    assert one.kurtosis == pytest.approx(float((values - values.mean()).pow(4).mean() / values.var(correction=0) ** 2), rel=0.01)


def test_an_outlier_is_seen_and_clipped_and_min_max_clips_nothing():
    network = dense("plain").network
    layer = next(iter(weighted_layers(network).values()))
    before = layer.weight.detach().clone()
    try:
        with torch.no_grad():
            layer.weight[0, 0, 0, 0] = 40 * layer.weight.abs().max()
        images = resources("plain").calibration
        strange = outliers(network, images, calibrator="mse", percentile=99.0)[0]
        whole = outliers(network, images, calibrator="minmax", percentile=99.0)
    finally:
        with torch.no_grad():
            layer.weight.copy_(before)
    assert strange.kurtosis > 50
    assert all(one.clipped == 0 for one in whole if one.kind == "weight")
    assert whole[0].before == whole[0].after


def test_what_is_rounded_to_the_end_of_its_grid_is_not_clipped():
    """The brightest pixels of images lie a fraction of a step beyond the end, which is a multiple of the step."""
    network, images = dense("plain").network, resources("plain").calibration.clamp(max=1.0)
    found = outliers(network, images, calibrator="mse", percentile=99.0)
    (pixels,) = (one for one in found if one.name == "images")
    assert pixels.before[-1] > 0.01
    assert pixels.clipped == 0
