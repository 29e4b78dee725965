from dataclasses import replace

import numpy as np
import pytest
import torch
from channel_networks import NETWORKS, Drawing, evaluate, image_for
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe
from paretrim.graph.channels import channel_groups
from paretrim.graph.reorder import reorder, reorderable
from paretrim.graph.types import INPUT

GROUPS = {name: channel_groups(graph) for name, graph in NETWORKS.items()}
SETS = {name: reorderable(graph, GROUPS[name]) for name, graph in NETWORKS.items()}


def shuffled(name, random):
    """A permutation of the classes within the reorderable sets."""
    source = np.arange(GROUPS[name].count)
    for members in SETS[name]:
        source[members] = random.sample(members.tolist(), len(members))
    return source


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.randoms(use_true_random=False))
def test_every_order_of_channels_computes_the_same(name, random):
    graph, source = NETWORKS[name], shuffled(name, random)
    moved = reorder(graph, GROUPS[name], source)
    image = image_for(graph)
    expected, found = evaluate(graph, image), evaluate(moved.graph, image)
    torch.testing.assert_close(found[graph.output], expected[graph.output], rtol=1e-10, atol=1e-10)
    for node, kept in moved.kept.items():
        torch.testing.assert_close(found[node], expected[node][:, kept.outputs], rtol=1e-10, atol=1e-10)
        assert sorted(kept.outputs.tolist()) == list(range(len(kept.outputs)))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_only_rows_and_columns_move(name):
    graph, groups = NETWORKS[name], GROUPS[name]
    source = np.arange(groups.count)
    for members in SETS[name]:
        source[members] = members[::-1]
    moved = reorder(graph, groups, source)
    for before, after in zip(graph.nodes, moved.graph.nodes, strict=True):
        assert (before.type, dict(before.attributes), before.inputs) == (after.type, dict(after.attributes), after.inputs)
        for key, tensor in before.tensors.items():
            np.testing.assert_array_equal(np.sort(after.tensors[key], axis=None), np.sort(tensor, axis=None))
    back = reorder(moved.graph, groups, np.argsort(source))
    for before, after in zip(graph.nodes, back.graph.nodes, strict=True):
        for key, tensor in before.tensors.items():
            np.testing.assert_array_equal(after.tensors[key], tensor)


def test_reorderable_channels_are_found():
    sizes = {name: sorted(len(members) for members in SETS[name]) for name in NETWORKS}
    assert sizes["chain"] == [4, 5, 6]
    assert sizes["residual"] == [4, 4, 6]
    assert sizes["option_a"] == [4, 5, 5, 6]
    assert sizes["vgg"] == [5, 6, 7]
    assert sizes["grouped"] == [2, 3, 6]
    assert sizes["depthwise_multiplier"] == [4, 5]
    assert sizes["chunks"] == [2, 3, 3, 3, 3, 4]
    assert sizes["step_slice"] == [4]  # channels that are taken in steps stay where they are


def tangled():
    """A value added to itself with its first two and last two channels swapped: classes of two channels each."""
    d = Drawing()
    x = d.block(INPUT, 4)
    turned = d.node("concat", d.cut(x, 0, 2, 4), d.cut(x, 0, 0, 2))
    return d.finish(d.block(d.node("add", x, turned), 5))


def half_turned():
    """A value added to itself with two of its four channels swapped."""
    d = Drawing()
    x = d.block(INPUT, 4)
    turned = d.node("concat", d.cut(x, 0, 1, 2), d.cut(x, 0, 0, 1), d.cut(x, 0, 2, 4))
    return d.finish(d.block(d.node("add", x, turned), 5))


@pytest.mark.parametrize("draw", [tangled, half_turned])
def test_reordering_a_tangled_network_computes_the_same(draw):
    graph = draw()
    groups = channel_groups(graph)
    free = reorderable(graph, groups)
    assert 5 in {len(members) for members in free}  # the layer behind is not tied
    source = np.arange(groups.count)
    for members in free:
        source[members] = np.roll(members, 1)
    found = evaluate(reorder(graph, groups, source).graph, image_for(graph))
    torch.testing.assert_close(found[graph.output], evaluate(graph, image_for(graph))[graph.output], rtol=1e-10, atol=1e-10)


def test_a_set_with_fixed_positions_is_not_reordered():
    """Two classes of three channels each, rotated in opposite directions: swapping them would add other pairs."""
    d = Drawing()
    x = d.block(INPUT, 6)
    turned = d.node("concat", d.cut(x, 0, 1, 3), d.cut(x, 0, 0, 1), d.cut(x, 0, 5, 6), d.cut(x, 0, 3, 5))
    graph = d.finish(d.block(d.node("add", x, turned), 5))
    found = channel_groups(graph)
    behind = found.sets[-1]
    members = np.concatenate(found.sets[:-1])
    assert (len(members), len(behind)) == (2, 5)
    groups = replace(found, sets=(members, behind))  # as if the slices did not tell them apart
    assert [free.tolist() for free in reorderable(graph, groups)] == [behind.tolist()]
    source = np.arange(groups.count)
    source[members] = members[::-1]
    with pytest.raises(InvalidRecipe, match=rf"class {members[0]} cannot change its place; only classes of one reorderable set"):
        reorder(graph, groups, source)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda source, groups: source[:-1], r"an order of channels must name each of the 21 classes once"),
        (lambda source, groups: np.zeros_like(source), r"must name each of the 21 classes once"),
        (lambda source, groups: exchanged(source, groups.classes[INPUT][:2]), r"channel class 0 cannot change its place"),
        (
            lambda source, groups: exchanged(source, [groups.sets[0][0], groups.sets[1][0]]),
            r"channel class 3 cannot change its place",
        ),
    ],
)
def test_invalid_orders_are_refused(change, text):
    groups = GROUPS["chain"]
    with pytest.raises(InvalidRecipe, match=text):
        reorder(NETWORKS["chain"], groups, change(np.arange(groups.count), groups))


def exchanged(source, pair):
    a, b = pair
    source[[a, b]] = source[[b, a]]
    return source


def test_reordering_does_not_change_its_argument():
    graph = NETWORKS["residual"]
    copies = {node.name: {key: tensor.copy() for key, tensor in node.tensors.items()} for node in graph.nodes}
    source = np.arange(GROUPS["residual"].count)
    members = SETS["residual"][0]
    source[members] = np.roll(members, 1)
    reorder(replace(graph), GROUPS["residual"], source)
    for node in graph.nodes:
        for key, tensor in node.tensors.items():
            np.testing.assert_array_equal(tensor, copies[node.name][key])
