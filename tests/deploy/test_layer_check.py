"""Large float networks are checked on some channels of every layer."""

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from paretrim.deploy import layer_check
from paretrim.deploy.layer_check import check_layers
from paretrim.errors import DataUnavailable, ExportMismatch
from paretrim.graph import interpreter
from paretrim.graph.operations.table import OPERATIONS
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.runtime import Session, plan


@pytest.fixture
def little(monkeypatch):
    """The check computes one channel of every layer, and no whole image."""
    monkeypatch.setattr(interpreter, "CHECKED_WORK", 1)


def drawn(seed, pixels=True):
    graph, images = random_graph(seed, quantized=False, pixels=pixels)
    return graph, images[:1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans(), work=st.sampled_from([1, 10**6, 10**12]), threads=st.integers(1, 3))
def test_a_right_file_passes(seed, pixels, work, threads):
    graph, images = drawn(seed, pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "CHECKED_WORK", work)
        check_layers(graph, images, plan(graph, measure=False), threads=threads)


def test_only_some_channels_are_computed(little, monkeypatch):
    """One, and of no layer always the first."""
    graph, images = drawn(3)
    computed = {}

    def counted(node, *others):
        computed[node.name] = node.type.shape
        return compute(node, *others)

    compute = layer_check.compute
    monkeypatch.setattr(layer_check, "compute", counted)
    session = plan(graph, measure=False)
    check_layers(graph, images, session)
    whole = {node.name: node for node in graph.nodes}
    layers = [node for node in graph.nodes if "weight" in node.tensors]
    assert len(layers) > 3
    for node in layers:
        assert computed[node.name][0] == 1
    steps = [step.name.split(" + ") for step in session.network.layers]
    fused = {name: first for first, *others in steps for name in others if "weight" in whole[first].tensors}
    assert fused
    for name, node in whole.items():
        if name in fused:
            assert computed[name] == (computed[fused[name]][0], *node.type.shape[1:])
        elif "weight" not in node.tensors:
            assert computed[name] == node.type.shape
    assert {layer_check._channels(node, 0.01)[0] > 0 for node in layers if node.attributes.get("groups", 1) == 1} >= {True}


@pytest.mark.parametrize(
    ("groups", "share", "expected"),
    [
        (1, 0.5, 12),
        (4, 0.5, 12),  # of every group the same
        (4, 0.25, 8),
        (4, 0.125, 3),  # one of three groups
        (8, 1e-6, 1),
        (24, 0.25, 6),
        (24, 1, None),
    ],
)
def test_channels_of_a_layer_with_groups(groups, share, expected):
    """As many channels as the share says, from separate groups; their values equal the layer's."""
    rng = np.random.default_rng(0)
    shape, tensors = (24, 5, 5), {"weight": rng.normal(0, 1, (24, 24 // groups, 3, 3)).astype(np.float32)}
    node = Node("a", "conv2d", (INPUT,), ValueType(shape), {"groups": groups, "padding": (1, 1, 1, 1)}, tensors)
    channels = layer_check._channels(node, share)
    if expected is None:
        assert channels is None
        return
    assert len(channels) == len({*channels}) == expected
    assert list(channels) == sorted(channels)
    x = rng.normal(0, 1, (2, *shape)).astype(np.float32)
    part, reads = layer_check._part(node, channels)
    kinds, spec = (ValueType(shape),), InputSpec(shape)
    found = interpreter.compute(part, (x if reads is None else x[:, reads],), kinds, spec)
    np.testing.assert_array_equal(found, interpreter.compute(node, (x,), kinds, spec)[:, channels])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_layer_that_computes_something_else_is_named(part, threads, monkeypatch):
    """By the last bit of a bias, or one weight, in a checked channel."""
    graph, images = drawn(3)
    last = [node for node in graph.nodes if "weight" in node.tensors][-1]
    tensor = last.tensors[part] + np.spacing(np.abs(last.tensors[part]) + np.float32(1))
    wrong = replace(last, tensors={**last.tensors, part: tensor.astype(np.float32)})
    other = replace(graph, nodes=tuple(wrong if node is last else node for node in graph.nodes))
    monkeypatch.setattr(interpreter, "CHECKED_WORK", graph.multiply_adds * interpreter.FLOAT_WORK // 2)
    with pytest.raises(ExportMismatch, match=rf"in paretrim \S+ node '{last.name}' \({last.op}, layer '.*'\) is the first that"):
        check_layers(graph, images, plan(other, measure=False), threads=threads)


@pytest.mark.parametrize("threads", [1, 4])
def test_of_two_nodes_that_differ_the_first_is_named(threads):
    """Although it takes far longer than the other."""
    graph = Graph(
        InputSpec((8, 40, 40)),
        (
            Node("slow", "pointwise", (INPUT,), ValueType((8, 40, 40)), {"function": "gelu"}),
            Node("quick", "relu", (INPUT,), ValueType((8, 40, 40))),
            Node("sum", "add", ("slow", "quick"), ValueType((8, 40, 40))),
        ),
        ("sum",),
    )
    images = np.random.default_rng(0).normal(0, 1, (1, 8, 40, 40)).astype(np.float32)
    session = plan(graph, measure=False)

    class Another(Session):
        def outputs_and_step_values(self, images):
            outputs, values = super().outputs_and_step_values(images)
            return outputs, values | {"slow": values["slow"] + 1, "quick": values["quick"] + 1}

    other = Another(**{field.name: getattr(session, field.name) for field in fields(Session)})
    with pytest.raises(ExportMismatch, match=r"node 'slow' \(pointwise, layer ''\) is the first that"):
        check_layers(graph, images, other, threads=threads)


def test_a_file_that_gives_other_outputs_is_refused(little):
    graph, images = drawn(3)

    class Another(Session):
        def outputs_and_step_values(self, images):
            (output,), values = super().outputs_and_step_values(images)
            return (np.nextafter(output, np.float32(np.inf)),), values

    session = plan(graph, measure=False)
    other = Another(**{field.name: getattr(session, field.name) for field in fields(Session)})
    with pytest.raises(ExportMismatch, match="every single node is right, but the whole file gives other values of"):
        check_layers(graph, images, other)


@pytest.mark.parametrize("wrong", [None, "first", "inner", "last"])
def test_of_many_values_of_a_library_function_some_channels_are_computed(little, monkeypatch, wrong):
    shape = (64, 64, 64)
    graph = Graph(InputSpec(shape), (Node("act", "pointwise", (INPUT,), ValueType(shape), {"function": "gelu"}),), ("act",))
    images = np.random.default_rng(0).normal(0, 1, (1, *shape)).astype(np.float32)
    session, computed = plan(graph, measure=False), []
    channels = layer_check._channels(graph.nodes[0], 1.0)
    assert 16 <= len(channels) <= 18
    assert {channels[0], channels[-1]} == {0, 63}

    class Another(Session):
        def outputs_and_step_values(self, images):
            outputs, values = super().outputs_and_step_values(images)
            found = values["act"].copy()
            if wrong is not None:
                found[0, channels[{"first": 0, "inner": 5, "last": -1}[wrong]], -1, -1] += 1
            return outputs, {"act": found}

    def counted(node, *others):
        computed.append(node.type.shape)
        return interpreter.compute(node, *others)

    monkeypatch.setattr(layer_check, "compute", counted)
    other = Another(**{field.name: getattr(session, field.name) for field in fields(Session)})
    if wrong is None:
        check_layers(graph, images, other)
    else:
        with pytest.raises(ExportMismatch, match=r"node 'act' \(pointwise, layer ''\) is the first that"):
            check_layers(graph, images, other)
    assert computed == [(len(channels), 64, 64)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), pixels=st.booleans(), count=st.integers(1, 3), threads=st.integers(1, 3))
def test_values_of_steps_are_those_of_their_nodes(seed, pixels, count, threads):
    """Also where nodes are fused: only the last node of a step has a value."""
    graph, images = random_graph(seed, quantized=False, pixels=pixels)
    images = images[:count]
    session = plan(graph, measure=False, threads=threads)
    outputs, found = session.outputs_and_step_values(images)
    expected = interpreter.values(graph, images)
    assert [one.tobytes() for one in outputs] == [one.tobytes() for one in session.outputs(images)]
    assert list(found) == [node.name for node in graph.nodes if node.name in found]
    steps = [layer.name.split(" + ")[-1] for layer in session.network.layers]
    assert set(found) == {name for name in steps if name != "images"}
    for name, value in found.items():
        assert layer_check.same(value, expected[name], exact=not interpreter.depends_on_library(graph))
        assert value.shape == expected[name].shape


def test_step_values_refuse_other_images():
    graph, images = drawn(3)
    with pytest.raises(DataUnavailable, match="images are float64"):
        plan(graph, measure=False).step_values(images.astype(np.float64))


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


@pytest.mark.parametrize("name", sorted(name for name, operation in OPERATIONS.items() if operation.same_values))
def test_what_is_said_to_have_the_same_values_has_the_bytes_of_its_input(name):
    value = np.random.default_rng(0).standard_normal((2, 6) if name == "unflatten" else (2, 3, 4, 5)).astype(np.float32)
    found = OPERATIONS[name].real(SimpleNamespace(inputs=(value,)))
    assert found.tobytes() == value.tobytes()
