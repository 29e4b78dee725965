"""What operations say of themselves is tried on random values: a fact that does not hold, or is left out, fails here."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from operation_examples import FLOATS, GRIDS, INTEGER, exact, facts, named, of, real, settings

from paretrim.graph import functions
from paretrim.graph.fold import affine_of
from paretrim.graph.interpreter import compute
from paretrim.graph.operations.channel_rules import Channels, Identities
from paretrim.graph.operations.requantize import levels
from paretrim.graph.operations.table import BOUNDING, NORMALIZING, OPERATIONS
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.network import Network
from paretrim.network.torch_forms import OWN_MEMORY, real_form
from paretrim.stages.prune.absolute import absolute


def test_every_operation_is_tried():
    held = {example.node.op for example in FLOATS}
    assert held == {name for name, one in OPERATIONS.items() if one.real is not None and one.grid != "enters"}
    held = {example.node.op for example in INTEGER}
    assert held == {name for name, one in OPERATIONS.items() if one.integer is not None and one.grid != "pixels"}
    assert {str(example) for example in FLOATS} >= {f"pointwise {function}" for function in functions.PLAIN}


# How the size of a result follows the sizes of the inputs.


def multiplied(example, rng):
    """The inputs and the result with every channel multiplied by a factor above 0, the same for channels that go together."""
    identities = Identities()
    parts = [identities.fresh(value.shape[1]) for value in example.inputs]
    rule = facts(example).channels
    after = rule.outputs(Channels(example.node, parts, example.types[0].shape, identities))
    factors = np.exp2(rng.integers(-3, 4, len(identities.parents))).astype(np.float32)  # exact

    def times(value, channels):
        each = factors[[identities.root(channel) for channel in channels]]
        return value * each.reshape(-1, *[1] * (value.ndim - 2))

    return [times(value, part) for value, part in zip(example.inputs, parts, strict=True)], lambda value: times(value, after)


def follows_factors(example, rng):
    wide = dataclasses.replace(example, inputs=tuple(value * np.float32(16) for value in example.inputs))
    inputs, times = multiplied(wide, rng)
    wanted = times(real(example, *wide.inputs))
    with np.errstate(over="ignore"):
        found = real(example, *inputs)
    return np.allclose(found, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


@named(FLOATS)
def test_homogeneous_operations_pass_factors_on_and_others_do_not(name):
    rng = np.random.default_rng(0)
    found = [example for example in of(FLOATS, name) if not facts(example).weighted and not facts(example).normalizes]
    for example in found:
        if facts(example).scaling(settings(example)) == "homogeneous":
            assert follows_factors(example, rng)
        else:
            assert any(not follows_factors(other, rng) for other in found)


def size(values):
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def ratio(example, factor, chosen):
    """How many times larger the result is if the ``chosen`` inputs are multiplied by a factor."""
    inputs = [value * np.float32(factor if index in chosen else 1) for index, value in enumerate(example.inputs)]
    with np.errstate(over="ignore"):
        return size(real(example, *inputs)) / size(real(example, *example.inputs))


@named([example for example in FLOATS if not facts(example).weighted and not facts(example).normalizes])
def test_sizes_follow_the_inputs_as_the_operation_says(name):
    """What has a size of its own does not follow both small and large inputs; what is near its inputs follows one of them."""
    for example in of(FLOATS, name):
        said, every = facts(example).scaling(settings(example)), set(range(len(example.inputs)))
        if not size(real(example, *example.inputs)):
            continue
        factors = (2.0**-12, 2.0**12)
        both = [ratio(example, factor, every) / factor for factor in factors]
        if said == "product":
            assert all(ratio(example, factor, {one}) == pytest.approx(factor, rel=1e-5) for factor in factors for one in every)
        elif said == "homogeneous":
            assert both == pytest.approx([1, 1], rel=1e-5)
        elif name != "pointwise power":  # its exponent decides
            follows = [1 / 50 < one < 50 for one in both]
            assert any(follows) if said == "near" else not all(follows)


# What an operation is, value by value.


@named(FLOATS)
def test_elementwise_operations_follow_any_order_of_the_values_and_others_do_not(name):
    def follows(example):
        if len(example.inputs) != 1:
            return False
        (value,) = example.inputs
        found, order = real(example, value), np.random.default_rng(1).permutation(value[0].size)

        def moved(values):
            return values.reshape(len(values), -1)[:, order].reshape(values.shape)

        return found.shape == value.shape and np.array_equal(real(example, moved(value)), moved(found))

    found = of(FLOATS, name)
    assert all(follows(example) for example in found) == facts(found[0]).elementwise


@named([example for example in FLOATS if example.node.op in BOUNDING])
def test_bounds_are_all_that_a_bounding_operation_does(name):
    for example in of(FLOATS, name):
        low, high = facts(example).bounds(settings(example))
        value = example.inputs[0] * 4
        wanted = np.clip(value, -math.inf if low is None else low, math.inf if high is None else high)
        assert np.array_equal(real(example, value), wanted)
        assert (wanted != value).any()


def test_a_bounding_operation_is_elementwise_without_tensors():
    for name in BOUNDING:
        operation = OPERATIONS[name]
        assert (operation.elementwise, operation.arity, dict(operation.real_tensors)) == (True, 1, {})


@named([example for example in FLOATS if facts(example).same_values])
def test_the_same_values_are_the_same_in_order(name):
    for example in of(FLOATS, name):
        assert np.array_equal(real(example, *example.inputs).ravel(), example.inputs[0].ravel())


@named([example for example in FLOATS if example.node.op in NORMALIZING])
def test_normalizing_operations_are_a_factor_and_an_offset_for_each_channel(name):
    for example in of(FLOATS, name):
        factor, offset = (part.reshape(-1, 1, 1) for part in affine_of(example.node))
        assert np.allclose(real(example, *example.inputs), example.inputs[0] * factor + offset, atol=1e-5)


@named([example for example in GRIDS if facts(example).grid == "keeps"])
def test_operations_that_keep_a_grid_give_its_levels_for_what_they_give_in_floats(name):
    for example in of(GRIDS, name):
        assert (example.node.type.scale, example.node.type.zero_point) == (example.types[0].scale, example.types[0].zero_point)
        found = compute(example.node, example.inputs, example.types, example.spec)
        assert np.allclose(levels(example.types[0])[found], exact(example, example.inputs), rtol=1e-6, atol=1e-6)


@named(FLOATS)
def test_what_only_moves_pixels_changes_places_with_a_scale_and_shift(name):
    for example in of(FLOATS, name):
        rule = facts(example).channels
        times = rule.spread(example.node)
        if times is None:
            continue
        channels = example.node.type.shape[0]
        factor, shift = np.random.default_rng(0).normal(0, 1, (2, channels, 1, 1)).astype(np.float32)
        first = np.repeat(factor, times, axis=0) * example.inputs[0] + np.repeat(shift, times, axis=0)
        assert np.array_equal(real(example, first), factor * real(example, *example.inputs) + shift)


@named(FLOATS)
def test_in_the_network_of_absolute_values_every_operation_is_linear_and_a_product_in_each_input(name):
    """So that its output is a sum over paths; a max pool is not until it is spread, which one with dilation cannot be."""
    for example in of(FLOATS, name):
        if (
            "dilation" in example.node.attributes
            and not facts(example).weighted
            and example.node.attributes["dilation"] != (1, 1)
        ):
            continue
        if any(len(kind.shape) != 3 for kind in example.types):
            continue
        count = [0, *np.cumsum([kind.shape[0] for kind in example.types])]
        if len({kind.shape[1:] for kind in example.types}) > 1:
            continue  # they cannot be slices of one image
        network = absolute(Network(alone(example, count)), spread=True)
        rng = np.random.default_rng(0)
        whole = rng.uniform(0, 4, (2, 2, count[-1], *example.types[0].shape[1:]))
        for part in parts_of(example, count):
            first, second, total = whole[0].copy(), whole[0].copy(), whole[0].copy()
            second[:, part] = whole[1][:, part]
            total[:, part] = first[:, part] + second[:, part]
            results = [run(network, value) for value in (first, second, total)]
            assert np.allclose(results[0] + results[1], results[2])


def parts_of(example, count):
    """The channels of each input of a product; those of all inputs of what is linear in all of them."""
    if facts(example).scaling(settings(example)) != "product":
        return [slice(0, count[-1])]
    return [slice(first, last) for first, last in itertools.pairwise(count)]


def alone(example, count):
    """The graph of one node whose inputs are parts of the channels of one image, behind a convolution that changes nothing."""
    channels, rest = int(count[-1]), example.types[0].shape[1:]
    weight = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1)
    nodes = [Node("same", "conv2d", (INPUT,), ValueType((channels, *rest)), {}, {"weight": weight})]
    for first, last in itertools.pairwise(map(int, count)):
        cut = {"axis": 0, "start": first, "stop": last}
        nodes.append(Node(f"from_{first}", "slice", ("same",), ValueType((last - first, *rest)), cut))
    node = dataclasses.replace(example.node, inputs=tuple(one.name for one in nodes[1:]))
    return Graph(InputSpec((channels, *rest)), (*nodes, node), (node.name,))


def run(network, value):
    with torch.no_grad():
        return network.outputs(torch.from_numpy(value))[0].numpy()


@named([example for example in FLOATS if example.node.op in OWN_MEMORY and len(example.types[0].shape) == 3])
def test_a_result_with_memory_of_its_own_shares_none(name):
    for example in of(FLOATS, name):
        node = dataclasses.replace(example.node, inputs=(INPUT,) * len(example.inputs))
        network = Network(Graph(InputSpec(example.types[0].shape), (node,), (node.name,))).eval()
        inputs = [torch.from_numpy(np.ascontiguousarray(value)) for value in example.inputs]
        found = real_form(node)(settings(example), next(iter(network.layers.values()), None), inputs)
        assert all(found.untyped_storage().data_ptr() != value.untyped_storage().data_ptr() for value in inputs)


@named([example for example in FLOATS if facts(example).real_tensors])
def test_a_network_holds_the_tensors_of_every_operation(name):
    for example in of(FLOATS, name):
        shape = example.types[0].shape
        if len(shape) != 3:
            continue
        node = dataclasses.replace(example.node, inputs=(INPUT,))
        (held,) = Network(Graph(InputSpec(shape), (node,), (node.name,))).graph().nodes
        assert held.tensors.keys() == node.tensors.keys()
        assert all(np.array_equal(held.tensors[key], value) for key, value in node.tensors.items())


@named(INTEGER)
def test_a_table_is_the_one_that_the_operation_says(name):
    for example in of(INTEGER, name):
        if "table" in example.node.tensors:
            made = facts(example).table(settings(example), example.types[0], example.node.type, example.spec)
            assert np.array_equal(made, example.node.tensors["table"])
    assert ("table" in facts(example).integer_tensors) == (facts(example).table is not None)
