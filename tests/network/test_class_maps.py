"""Grad-CAM against the class activation map, finite differences and its invariants."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretrim.capture.agreement import captured_network
from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.network.class_maps import class_maps, last_map, likeness


class Small(nn.Module):
    """A convolution, a mean over the map and a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(2, 3, 3), nn.Linear(3, 4)

    def forward(self, x):
        return self.linear(functional.adaptive_avg_pool2d(self.conv(x).relu(), 1).flatten(1))


IMAGES = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 1, 2, 3, 1])


@pytest.fixture(scope="module")
def small():
    module = Small().eval()
    return module, captured_network(module, (2, 6, 6), classes=(), images=IMAGES).eval()


def test_behind_global_pooling_it_is_the_class_activation_map(small):
    module, network = small
    with torch.no_grad():
        map_ = module.conv(IMAGES).relu()
        expected = (module.linear.weight[CLASSES][:, :, None, None] * map_).sum(1).relu() / 16  # a mean over 4x4 pixels
    found = class_maps(network, IMAGES.clone(), CLASSES)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0
    assert not found.requires_grad


def test_the_module_is_named_by_its_path(small):
    module, network = small
    inner = class_maps(network, IMAGES.clone(), CLASSES, at="conv")
    with torch.no_grad():
        map_ = module.conv(IMAGES)
        alpha = (module.linear.weight[CLASSES] / 16)[:, :, None, None] * (map_ > 0)
        expected = (alpha.mean((2, 3), keepdim=True) * map_).sum(1).relu()
    torch.testing.assert_close(inner, expected)
    with pytest.raises(InvalidRecipe, match="the network has no module 'cnov'"):
        class_maps(network, IMAGES.clone(), CLASSES, at="cnov")
    with pytest.raises(InvalidRecipe, match=r"module 'linear' returns values of shape \[4\]; name a convolution"):
        class_maps(network, IMAGES.clone(), CLASSES, at="linear")


def test_grad_cam_without_a_feature_map_is_refused():
    network = captured_network(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), (2, 6, 6), classes=(), images=IMAGES)
    with pytest.raises(UnsupportedOperation, match="Grad-CAM needs a layer that returns a map of height and width"):
        last_map(network.structure)


def test_similarity_is_1_for_proportional_maps_and_0_for_disjoint_ones():
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(likeness(maps, 7 * maps), torch.ones(3))
    left, right = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    left[0, 0, 0], right[0, 1, 1] = 1.0, 1.0
    assert likeness(left, right).item() == 0
    assert likeness(left, torch.zeros(1, 2, 2)).item() == 0
    assert likeness(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)).item() == 1
    assert likeness(torch.ones(1, 2, 2), torch.ones(1, 8, 8)).item() == pytest.approx(1)  # sizes may differ
