"""Transposed convolutions equal torch in every geometry, and channels can be removed from them as from other layers."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from paretrim.capture import capture
from paretrim.graph.channels import channel_groups
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.graph.restrict import restrict

GEOMETRIES = [
    (kernel, stride, padding, output_padding)
    for kernel, stride, padding, output_padding in product((1, 2, 3, 4, 5), (1, 2, 3), (0, 1, 2, 3), (0, 1, 2))
    if output_padding < stride and 4 * stride - 2 * padding + kernel + output_padding >= 1
]


def captured(layer, side=5):
    """The graph of a layer between others, its images, and what the module makes of them."""
    torch.manual_seed(0)
    images = torch.randn(2, 4, side, side + 1)
    module = nn.Sequential(nn.Conv2d(4, 4, 1), layer, nn.Flatten())
    features = module(images).shape[1]
    module.append(nn.Linear(features, 7)).eval()
    graph = capture(module, images.shape[1:])
    validate(graph)
    with torch.no_grad():
        return graph, images, module(images).numpy(), module


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_geometry_is_exact(groups):
    for kernel, stride, padding, output_padding in GEOMETRIES:
        layer = nn.ConvTranspose2d(4, 8, kernel, stride, padding, output_padding, groups, bias=kernel % 2 == 0)
        graph, images, expected, _ = captured(layer)
        text = f"{kernel} {stride} {padding} {output_padding}"
        np.testing.assert_allclose(run(graph, images.numpy()), expected, rtol=1e-5, atol=1e-5, err_msg=text)


def test_rows_and_columns_may_differ():
    layer = nn.ConvTranspose2d(4, 3, (3, 4), (2, 1), (1, 0), (1, 0))
    graph, images, expected, _ = captured(layer)
    np.testing.assert_allclose(run(graph, images.numpy()), expected, rtol=1e-5, atol=1e-5)
    (shuffle,) = [node for node in graph.nodes if node.op == "pixel_shuffle"]
    assert shuffle.attributes["factor"] == (2, 1)


def test_no_more_is_computed_than_the_results_need():
    """A kernel of 2 with stride 2 needs one multiplication per weight; no row is padded or cropped."""
    graph, *_ = captured(nn.ConvTranspose2d(4, 6, 2, 2))
    assert [node.op for node in graph.nodes] == ["conv2d", "conv2d", "pixel_shuffle", "flatten", "linear"]
    made = graph.nodes[1]
    assert made.tensors["weight"].shape == (24, 4, 1, 1)
    assert made.attributes["padding"] == (0, 0, 0, 0)


def test_a_channel_is_removed_with_all_its_pixels():
    graph, images, expected, module = captured(nn.ConvTranspose2d(4, 6, 4, 2, 1))
    groups = channel_groups(graph)
    classes = groups.classes[graph.nodes[1].name].reshape(6, 4)
    assert (classes == classes[:, :1]).all()
    small = restrict(graph, groups, classes[[1, 4], 0])
    assert small.graph.nodes[1].tensors["weight"].shape == (16, 4, 2, 2)
    with torch.no_grad():
        module[1].weight[:, [1, 4]] = 0
        module[1].bias[[1, 4]] = 0
        without = module(images).numpy()
    np.testing.assert_allclose(run(small.graph, images.numpy()), without, rtol=1e-5, atol=1e-5)
    assert not np.allclose(without, expected)
