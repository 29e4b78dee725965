"""Large float networks are checked on some channels of every layer."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.deploy import layer_check
from paretrim.deploy.layer_check import check_layers
from paretrim.errors import ExportMismatch
from paretrim.graph import interpreter
from paretrim.runtime import plan


@pytest.fixture
def little(monkeypatch):
    """Of every layer one channel is computed, and no whole image."""
    monkeypatch.setattr(interpreter, "CHECKED_WORK", 1)


def drawn(seed, pixels=True):
    graph, images = random_graph(seed, quantized=False, pixels=pixels)
    return graph, images[:1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans(), work=st.sampled_from([1, 10**6, 10**12]))
def test_a_right_file_passes(seed, pixels, work):
    graph, images = drawn(seed, pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "CHECKED_WORK", work)
        check_layers(graph, images, plan(graph, measure=False).outputs(images))


def test_only_some_channels_are_computed(little, monkeypatch):
    """One for each group, and of no layer always the first."""
    graph, images = drawn(3)
    computed = {}

    def counted(node, *others):
        computed[node.name] = node.type.shape
        return compute(node, *others)

    compute = layer_check.compute
    monkeypatch.setattr(layer_check, "compute", counted)
    check_layers(graph, images, plan(graph, measure=False).outputs(images))
    whole = {node.name: node for node in graph.nodes}
    layers = [node for node in graph.nodes if "weight" in node.tensors]
    assert len(layers) > 3
    for node in layers:
        assert computed[node.name][0] == node.attributes.get("groups", 1)
    assert all(computed[name] == node.type.shape for name, node in whole.items() if "weight" not in node.tensors)
    assert {layer_check._channels(node, 0.01)[0] > 0 for node in layers if node.attributes.get("groups", 1) == 1} >= {True}


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_layer_that_computes_something_else_is_named(part, monkeypatch):
    """By the last bit of a bias, or one weight, in the channels that are looked at."""
    graph, images = drawn(3)
    last = [node for node in graph.nodes if "weight" in node.tensors][-1]
    tensor = last.tensors[part] + np.spacing(np.abs(last.tensors[part]) + np.float32(1))
    wrong = replace(last, tensors={**last.tensors, part: tensor.astype(np.float32)})
    other = replace(graph, nodes=tuple(wrong if node is last else node for node in graph.nodes))
    found = plan(other, measure=False).outputs(images)

    def plan_another(asked, **settings):
        return plan(replace(asked, nodes=other.nodes), **settings)

    monkeypatch.setattr(interpreter, "CHECKED_WORK", graph.multiply_adds * interpreter.FLOAT_WORK // 2)
    monkeypatch.setattr(layer_check, "plan", plan_another)
    with pytest.raises(ExportMismatch, match=rf"in paretrim \S+ node '{last.name}' \({last.op}, layer '.*'\) is the first that"):
        check_layers(graph, images, found)


def test_a_file_that_gives_other_outputs_is_refused(little):
    graph, images = drawn(3)
    (output,) = plan(graph, measure=False).outputs(images)
    with pytest.raises(ExportMismatch, match="every node is right on its own, and the file gives other values of"):
        check_layers(graph, images, [np.nextafter(output, np.float32(np.inf))])


def test_functions_of_a_mathematics_library_may_round_to_a_neighbour():
    expected = np.array([1.0, -2.0, 0.5], np.float32)
    near, far = np.nextafter(expected, np.float32(3)), expected + np.float32(0.01)
    assert layer_check.same(near, expected, exact=False)
    assert not layer_check.same(near, expected, exact=True)
    assert not layer_check.same(far, expected, exact=False)
    assert not layer_check.same(expected.astype(np.uint8), near.astype(np.uint8) + 1, exact=False)


def test_integer_networks_are_always_computed_whole(little):
    graph, _ = random_graph(0, quantized=True)
    assert interpreter.affordable_share(graph) == 1
    assert interpreter.affordable_share(drawn(0)[0]) < 1e-3
