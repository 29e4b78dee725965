"""The built-in networks at full width, from a module to a file whose convolutions run in INT8."""

import numpy as np
import pytest
import torch
from chain import assert_the_file_runs_in_int8, resources
from hand_networks import trained

from paretrim.capture import capture
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.models.catalog import NETWORKS
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

BACKBONES = {
    "resnet18": (32, 2, 20),
    "resnet18_imagenet": (64, 2, 20),
    "resnet50": (32, 1, 53),
    "vgg16_bn": (32, 2, 13),
    "wide_resnet_28_10": (32, 1, 28),
}
"""Side of the images, how many, and the convolutions of the network."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_from_module_to_file(name, tmp_path):
    size, count, convolutions = BACKBONES[name]
    torch.manual_seed(0)
    module = trained(NETWORKS[name](classes=10))
    images = torch.randn(count, 3, size, size)
    network = Network(capture(module, (3, size, size)))
    graph = freeze(Quantize(budget=Budget(epochs=0), calibrator="minmax").begin(network, resources(images)).network.eval())
    validate(graph)
    assert sum(node.op == "conv2d" for node in graph.nodes) == convolutions
    reference = run(graph, images.numpy())
    with torch.no_grad():
        found = IntegerNetwork(graph, torch.device("cpu"))(images).numpy()
    np.testing.assert_array_equal(found.view(np.uint32), reference.view(np.uint32))
    assert len(np.unique(reference)) > 1
    assert_the_file_runs_in_int8(graph, images, tmp_path)
