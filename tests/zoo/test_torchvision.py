"""The usual families, as torchvision writes them, at small image sizes."""

import pytest
import torch
from chain import (
    assert_frozen_float_is_the_network,
    assert_integers_are_the_fake_quantized_network,
    assert_the_file_runs_in_int8,
    captured,
)
from hand_networks import trained
from torch import nn

SIZES = {
    "resnet18": 32,
    "resnext50_32x4d": 32,
    "densenet121": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "mobilenet_v2": 32,
    "mobilenet_v3_small": 32,
    "shufflenet_v2_x0_5": 32,
    "efficientnet_b0": 32,
    "regnet_y_400mf": 32,
    "squeezenet1_0": 32,
    "mnasnet0_5": 32,
    "vgg11_bn": 32,
}
QUICK = {"resnet18", "shufflenet_v2_x0_5"}


def built(torchvision_models, name):
    torch.manual_seed(0)
    settings = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = getattr(torchvision_models, name)(weights=None, num_classes=10, **settings)
    if name == "vgg11_bn":
        model.classifier = nn.Linear(512 * 49, 10)  # its own has a hundred million weights and nothing new
    return trained(model)


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SIZES])
def test_families_from_module_to_file(torchvision_models, name, tmp_path):
    network, images, expected = captured(built(torchvision_models, name), (3, SIZES[name], SIZES[name]))
    assert_frozen_float_is_the_network(network, images, expected)
    graph = assert_integers_are_the_fake_quantized_network(network, images)
    assert_the_file_runs_in_int8(graph, images, tmp_path)


@pytest.mark.slow
def test_convnext_is_what_torch_computes(torchvision_models):
    """Channels last inside its blocks, and norms of the channels of a pixel."""
    torch.manual_seed(0)
    settings = torchvision_models.convnext.CNBlockConfig
    blocks = [settings(16, 32, 1), settings(32, None, 1)]
    network, *_ = captured(torchvision_models.ConvNeXt(blocks, layer_scale=0.5, num_classes=10).eval(), (3, 32, 32))
    assert {node.op for node in network.structure.nodes} >= {"conv2d", "mul", "pointwise", "linear"}
