"""Weights that only ever multiply padding are set to 0, and no others."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from paretrim.capture import capture
from paretrim.graph.taps import covered, weights_on_padding
from paretrim.models.resnet import resnet18_imagenet


def weight_that_matters(layer, shape):
    """The taps with a gradient for some image."""
    images = torch.ones(1, *shape)
    layer(images).sum().backward()
    return layer.weight.grad[0, 0] != 0


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(*[st.integers(1, 6)] * 2),
    kernel=st.tuples(*[st.integers(1, 5)] * 2),
    stride=st.tuples(*[st.integers(1, 4)] * 2),
    dilation=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 5)] * 2),
    groups=st.sampled_from((1, 2)),
)
def test_exactly_the_taps_without_influence_become_zero(size, kernel, stride, dilation, padding, groups):
    for extent, taps, spread, around in zip(size, kernel, dilation, padding, strict=True):
        if extent + 2 * around < spread * (taps - 1) + 1:
            return
    layer = nn.Conv2d(2, 2, kernel, stride, padding, dilation, groups)
    nn.init.uniform_(layer.weight, 0.5, 1.0)
    graph = capture(nn.Sequential(layer, nn.Flatten(), nn.Linear(layer(torch.ones(1, 2, *size)).numel(), 2)).eval(), (2, *size))
    found = next(node for node in graph.nodes if node.op == "conv2d").tensors["weight"] != 0
    expected = weight_that_matters(layer, (2, *size)).numpy()
    assert np.array_equal(found, np.broadcast_to(expected, found.shape))


def test_what_lies_on_the_map():
    assert covered(1, 3, 1, 1, (1, 1)) == ((1,),)
    assert covered(2, 3, 2, 1, (1, 1)) == ((1, 2),)
    assert covered(4, 3, 1, 2, (2, 2)) == ((1, 2), (1, 2), (0, 1), (0, 1))
    assert covered(1, 1, 5, 1, (3, 3)) == ((), ())


def test_a_network_on_images_too_small_for_it():
    module = resnet18_imagenet(classes=10).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    graph = capture(module, (3, 32, 32))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    last = next(node for node in graph.nodes if node.layer == "layer4.1.conv2").tensors["weight"]
    assert np.array_equal(np.argwhere(last.any((0, 1))), [[1, 1]])
    squares = dict.fromkeys(("layer4.0.conv2", "layer4.1.conv1", "layer4.1.conv2"), 512 * 512 * 8)
    assert weights_on_padding(graph) == {"layer4.0.conv1": 512 * 256 * 5} | squares
    assert weights_on_padding(capture(module, (3, 64, 64))) == {}
