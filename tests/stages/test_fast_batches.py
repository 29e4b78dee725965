"""Forward passes without gradients: every image once, in order, in batches that suit the network."""

import math

import pytest
import torch
from tiny import dense, resources

from paretrim.graph.fusion import grid_values
from paretrim.stages.quantize.calibration import calibrate
from paretrim.train import execution
from paretrim.train.execution import fast_batches


@pytest.mark.parametrize(("fitting", "sizes"), [(2000, [11]), (5, [5, 5, 1]), (1, [4, 4, 3])])
def test_parts_are_the_images_in_order(monkeypatch, fitting, sizes):
    network = dense("plain").network
    largest = max(4 * math.prod(kind.shape) for kind in network.structure.types.values())
    monkeypatch.setattr(execution, "_VALUE_BYTES", fitting * largest)
    images = torch.randn(11, 3, 8, 8)
    parts = list(fast_batches(network, images))
    assert [len(part) for part in parts] == sizes
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in parts)
    assert torch.equal(torch.cat(parts), images)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "lsq", "lsq+", "kl"])
def test_grids_do_not_depend_on_the_parts(monkeypatch, method):
    network, images = dense("residual").network, resources("residual").calibration[:50]
    names = grid_values(network.structure)
    whole = calibrate(network, names, images, method=method, percentile=99.0)
    monkeypatch.setattr(execution, "_VALUE_BYTES", 1)
    parted = calibrate(network, names, images, method=method, percentile=99.0)
    for name in names:
        assert parted[name].scale == pytest.approx(whole[name].scale, rel=1e-6)
        assert parted[name].zero_point == whole[name].zero_point
