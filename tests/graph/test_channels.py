from dataclasses import replace

import numpy as np
import pytest
import torch
from channel_networks import NETWORKS, evaluate, image_for
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.errors import InvalidRecipe, UnsupportedOperation, WeightsMismatch
from paretrim.graph.channels import channel_groups, choose, group_scores
from paretrim.graph.restrict import restrict
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

GROUPS = {name: channel_groups(graph) for name, graph in NETWORKS.items()}


def zeroed(graph, groups, removed):
    """The same graph with the rows of removed channels and their batch_norm vectors set to zero."""

    def blank(node):
        if node.op not in ("conv2d", "linear", "batch_norm"):
            return node
        gone = np.isin(groups.classes[node.name], removed)
        names = {"gamma", "beta"} if node.op == "batch_norm" else {"weight", "bias"}
        tensors = {name: np.array(tensor) for name, tensor in node.tensors.items()}
        for name in names:
            tensors[name][gone] = 0
        return replace(node, tensors=tensors)

    return replace(graph, nodes=tuple(blank(node) for node in graph.nodes))


def norms(graph):
    return {
        n.name: np.sqrt((n.tensors["weight"].astype(np.float64).reshape(len(n.tensors["weight"]), -1) ** 2).sum(1))
        for n in graph.nodes
        if n.op in ("conv2d", "linear")
    }


def named(graph, op):
    return [node.name for node in graph.nodes if node.op == op]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.randoms(use_true_random=False))
def test_removing_channels_equals_zeroing_them(name, random):
    graph, groups = NETWORKS[name], GROUPS[name]
    removed = [c for members in groups.sets for c in random.sample(members.tolist(), random.randrange(len(members)))]
    image = image_for(graph)
    small = restrict(graph, groups, removed)
    result = evaluate(small.graph, image)  # checks the declared shapes, too
    expected = evaluate(zeroed(graph, groups, removed), image)
    torch.testing.assert_close(result[graph.output], expected[graph.output], rtol=1e-10, atol=1e-10)
    for value, classes in groups.classes.items():
        left = np.flatnonzero(~np.isin(classes, removed))
        torch.testing.assert_close(result[value], expected[value][:, left], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_all_but_one_channel_of_each_set_can_be_removed(name):
    graph, groups = NETWORKS[name], GROUPS[name]
    removed = [c for members in groups.sets for c in members[1:]]
    assert sum(len(members) - 1 for members in groups.sets) == len(removed) > 0
    small = restrict(graph, groups, removed)
    expected = evaluate(zeroed(graph, groups, removed), image_for(graph))
    torch.testing.assert_close(
        evaluate(small.graph, image_for(graph))[graph.output], expected[graph.output], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_removing_nothing_changes_nothing(name):
    graph, groups = NETWORKS[name], GROUPS[name]
    same = restrict(graph, groups, []).graph
    assert same.output == graph.output
    for before, after in zip(graph.nodes, same.nodes, strict=True):
        assert before.type == after.type
        if before.op != "slice":  # an open end such as 2**62 or -4 comes back as a position
            assert dict(before.attributes) == dict(after.attributes)
        for key, tensor in before.tensors.items():
            np.testing.assert_array_equal(after.tensors[key], tensor)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_kept_slices_tensors_of_another_copy(name):
    graph, groups = NETWORKS[name], GROUPS[name]
    removed = choose(groups, group_scores(groups, norms(graph)), 0.5, allocation="uniform")
    small = restrict(graph, groups, removed)
    originals = {node.name: node for node in graph.nodes}
    for node in small.graph.nodes:
        if node.name in small.kept:
            kept = small.kept[node.name]
            for key, tensor in node.tensors.items():
                copy = originals[node.name].tensors[key][kept.outputs]
                np.testing.assert_array_equal(tensor, copy[:, kept.inputs] if key == "weight" else copy)
    assert set(small.kept) == {n.name for n in graph.nodes if n.op in ("conv2d", "linear", "batch_norm")}


def test_input_and_output_channels_are_frozen_with_a_reason():
    graph, groups = NETWORKS["chain"], GROUPS["chain"]
    assert {groups.frozen[c] for c in groups.classes[INPUT]} == {"channels of the network's input"}
    assert {groups.frozen[c] for c in groups.classes[graph.output]} == {"outputs of the network"}
    assert len(groups.frozen) == 3 + 3
    assert [len(members) for members in groups.sets] == [5, 6, 4]


def test_a_stage_of_a_resnet_shares_one_set():
    graph, groups = NETWORKS["residual"], GROUPS["residual"]
    convs = named(graph, "conv2d")
    stage = [convs[0], convs[2], convs[4]]
    first = int(groups.classes[convs[0]][0])
    assert groups.rows(first) == tuple((name, 0) for name in stage)
    assert sorted(len(members) for members in groups.sets) == [4, 4, 6]


def test_the_zero_channels_of_a_shortcut_follow_their_partners():
    graph, groups = NETWORKS["option_a"], GROUPS["option_a"]
    (pad,) = named(graph, "pad")
    last = named(graph, "conv2d")[-1]
    np.testing.assert_array_equal(groups.classes[pad], groups.classes[last])
    np.testing.assert_array_equal(groups.classes[pad][2:6], groups.classes[named(graph, "conv2d")[0]])
    small = restrict(graph, groups, groups.classes[pad][[0, 3, 6, 7]])
    node = next(n for n in small.graph.nodes if n.name == pad)
    assert (node.attributes["before"], node.attributes["after"], node.type.shape[0]) == ((1, 0, 0), (1, 0, 0), 5)


def test_channels_made_by_pad_belong_to_no_row():
    graph, groups = NETWORKS["padded_alone"], GROUPS["padded_alone"]
    (pad,) = named(graph, "pad")
    alone = groups.classes[pad][[0, 1, 6]]
    assert [groups.rows(int(c)) for c in alone] == [(), (), ()]
    np.testing.assert_array_equal(group_scores(groups, norms(graph), mean=True)[alone], 0)


def test_depthwise_rows_belong_to_their_inputs_and_groups_shrink():
    graph, groups = NETWORKS["separable_with_gate"], GROUPS["separable_with_gate"]
    _, expand, depthwise, squeeze, gate, _ = named(graph, "conv2d")
    assert {name for name, _ in groups.rows(int(groups.classes[depthwise][0]))} == {expand, depthwise, gate}
    small = restrict(graph, groups, groups.classes[depthwise][:3])
    nodes = {n.name: n for n in small.graph.nodes}
    assert nodes[depthwise].attributes["groups"] == 5
    assert nodes[depthwise].tensors["weight"].shape == (5, 1, 3, 3)
    assert nodes[squeeze].tensors["weight"].shape == (3, 5, 1, 1)


def test_groups_of_a_convolution_stay_equal():
    graph, groups = NETWORKS["grouped"], GROUPS["grouped"]
    expand, conv = named(graph, "conv2d")[1:3]
    assert groups.classes[conv].reshape(4, 3).tolist() == [groups.classes[conv][:3].tolist()] * 4
    small = restrict(graph, groups, [groups.classes[conv][1], groups.classes[expand][1]])
    node = next(n for n in small.graph.nodes if n.name == conv)
    assert (node.attributes["groups"], node.tensors["weight"].shape) == (4, (8, 1, 3, 3))
    np.testing.assert_array_equal(small.kept[conv].outputs, [0, 2, 3, 5, 6, 8, 9, 11])
    np.testing.assert_array_equal(small.kept[conv].inputs, [0])


def test_flatten_maps_every_channel_to_its_columns():
    graph, groups = NETWORKS["vgg"], GROUPS["vgg"]
    last = named(graph, "conv2d")[-1]
    small = restrict(graph, groups, groups.classes[last][[1, 4]])
    np.testing.assert_array_equal(small.kept[named(graph, "linear")[0]].inputs, [*range(4), *range(8, 16), *range(20, 24)])


def test_channels_taken_in_steps_are_frozen():
    graph, groups = NETWORKS["step_slice"], GROUPS["step_slice"]
    (cut,) = named(graph, "slice")
    with pytest.raises(InvalidRecipe, match=f"cannot be removed: channels taken in steps of 2 by '{cut}'"):
        restrict(graph, groups, [int(groups.classes[named(graph, "conv2d")[0]][0])])


def test_group_scores_sum_squares_over_the_rows():
    graph, groups = NETWORKS["shuffle"], GROUPS["shuffle"]
    lengths = norms(graph)
    total, mean = group_scores(groups, lengths), group_scores(groups, lengths, mean=True)
    for c in range(groups.count):
        squares = [lengths[name][row] ** 2 for name, row in groups.rows(c)]
        assert total[c] == pytest.approx(np.sqrt(sum(squares)))
        assert mean[c] == pytest.approx(np.sqrt(np.mean(squares)) if squares else 0)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.floats(0, 0.999), st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_uniform_removes_the_exact_share_of_the_lowest(name, sparsity, multiple, minimum, seed):
    groups = GROUPS[name]
    scores = np.random.default_rng(seed).integers(0, 4, groups.count).astype(np.float64)
    removed = choose(groups, scores, sparsity, allocation="uniform", multiple_of=multiple, minimum=minimum)
    for members in groups.sets:
        gone = np.isin(members, removed)
        wanted = max(len(members) - round(sparsity * len(members)), minimum)
        assert (~gone).sum() == min(len(members), -(-wanted // multiple) * multiple)
        order = sorted(members, key=lambda c: (-scores[c], c))
        assert set(order[: (~gone).sum()]) == set(members[~gone])
    assert not set(removed.tolist()) & set(groups.frozen)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.floats(0, 0.999), st.integers(1, 3), st.integers(0, 9))
def test_global_removes_the_lowest_relative_scores(name, sparsity, minimum, seed):
    groups = GROUPS[name]
    scores = np.random.default_rng(seed).random(groups.count)
    removed = choose(groups, scores, sparsity, allocation="global", minimum=minimum)
    candidates = []
    for members in groups.sets:
        order = sorted(members.tolist(), key=lambda c: -scores[c])
        candidates += [(scores[c] / scores[members].mean(), c) for c in order[minimum:]]
    total = sum(len(members) for members in groups.sets)
    lowest = sorted(candidates)[: min(len(candidates), round(sparsity * total))]
    np.testing.assert_array_equal(removed, sorted(c for _, c in lowest))


def test_global_survivors_are_rounded_up_to_a_multiple():
    groups = GROUPS["chain"]
    scores = np.arange(groups.count, dtype=np.float64)
    removed = choose(groups, scores, 0.6, allocation="global", multiple_of=2)
    assert all((~np.isin(m, removed)).sum() in {2, 4, 6, len(m)} for m in groups.sets)


def test_a_set_of_zero_scores_loses_channels_first():
    groups = GROUPS["chain"]
    scores = np.ones(groups.count)
    scores[groups.sets[1]] = 0
    np.testing.assert_array_equal(choose(groups, scores, 5 / 15, allocation="global"), groups.sets[1][1:])


def test_a_graph_without_removable_channels_has_no_groups():
    node = Node(
        "fc", "linear", ("flat",), ValueType((2,)), {}, {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    )
    flat = Node("flat", "flatten", (INPUT,), ValueType((3,)))
    groups = channel_groups(Graph(InputSpec((3, 1, 1)), (flat, node), ("fc",)))
    for allocation in ("uniform", "global"):
        assert len(choose(groups, np.ones(groups.count), 0.5, allocation=allocation)) == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sparsity": 1.0}, r"channel sparsity 1.0 is not in \[0, 1\)"),
        ({"sparsity": -0.5}, r"channel sparsity -0.5 is not in \[0, 1\)"),
        ({"sparsity": float("nan")}, r"channel sparsity nan is not in \[0, 1\)"),
        ({"allocation": "lamp"}, "channel allocation 'lamp' is unknown; choose one of uniform, global"),
        ({"multiple_of": 0}, "multiple_of 0 of channel pruning is below 1"),
        ({"minimum": 0}, "minimum 0 of channel pruning is below 1"),
        (
            {"scores": np.ones(3)},
            r"channel scores of shape \(3,\) with 0 that are not finite; give one finite score for each of the 21",
        ),
        ({"scores": np.full(21, np.nan)}, r"channel scores of shape \(21,\) with 21 that are not finite"),
    ],
)
def test_invalid_channel_choices_are_refused(changes, match):
    arguments = {"scores": np.ones(21), "sparsity": 0.5, "allocation": "uniform"} | changes
    with pytest.raises(InvalidRecipe, match=match):
        choose(GROUPS["chain"], arguments.pop("scores"), arguments.pop("sparsity"), **arguments)


def test_row_norms_of_wrong_length_are_refused():
    groups = GROUPS["chain"]
    lengths = norms(NETWORKS["chain"])
    with pytest.raises(
        WeightsMismatch, match="row norms of node 'conv2d0' are missing; give one norm for each of its 5 output rows"
    ):
        group_scores(groups, {k: v for k, v in lengths.items() if k != "conv2d0"})
    with pytest.raises(WeightsMismatch, match=r"row norms of node 'conv2d0' are of shape \(4,\)"):
        group_scores(groups, lengths | {"conv2d0": np.ones(4)})


def test_removing_all_channels_is_refused():
    graph, groups = NETWORKS["chunks"], GROUPS["chunks"]
    cut = named(graph, "slice")[1]
    with pytest.raises(InvalidRecipe, match=f"removing these channels leaves none of the 3 of '{cut}'; keep at least one"):
        restrict(graph, groups, groups.classes[cut])
    with pytest.raises(InvalidRecipe, match="leaves none of the 9"):
        restrict(graph, groups, [c for members in groups.sets for c in members])


def test_removing_frozen_channels_is_refused():
    graph, groups = NETWORKS["chain"], GROUPS["chain"]
    with pytest.raises(InvalidRecipe, match="there is no channel class 21; this graph has classes 0 to 20"):
        restrict(graph, groups, [21])
    with pytest.raises(InvalidRecipe, match="there is no channel class -1"):
        restrict(graph, groups, [-1])
    with pytest.raises(InvalidRecipe, match="channel class 0 cannot be removed: channels of the network's input"):
        restrict(graph, groups, [0])
    with pytest.raises(InvalidRecipe, match="channel class 20 cannot be removed: outputs of the network"):
        restrict(graph, groups, np.array([20]))


def graph_of(*nodes, shape=(4, 2, 2)):
    return Graph(InputSpec(shape), nodes, (nodes[-1].name,))


def test_graphs_whose_channels_cannot_be_followed_are_refused():
    with pytest.raises(UnsupportedOperation, match=r"node 'q' \(layer ''\) is quantized; remove channels from the float graph"):
        channel_groups(graph_of(Node("q", "quantize", (INPUT,), ValueType((4, 2, 2), "uint8"))))
    with pytest.raises(
        UnsupportedOperation, match=r"node 'd' \(layer ''\) is 'dequantize'; channels are followed in float graphs"
    ):
        channel_groups(graph_of(Node("d", "dequantize", (INPUT,), ValueType((4, 2, 2)))))
    one = Node("one", "slice", (INPUT,), ValueType((1, 2, 2)), {"axis": 0, "start": 0, "stop": 1, "step": 1})
    with pytest.raises(UnsupportedOperation, match=r"node 'm' \(mul, layer 'gate'\) combines 4 with 1 channels"):
        channel_groups(graph_of(one, Node("m", "mul", (INPUT, "one"), ValueType((4, 2, 2)), layer="gate")))
    with pytest.raises(
        UnsupportedOperation, match=r"node 'r' \(relu, layer ''\) has shape \(3, 2, 2\), but its inputs make 4 channels"
    ):
        channel_groups(graph_of(Node("r", "relu", (INPUT,), ValueType((3, 2, 2)))))
    weight = {"weight": np.ones((2, 3), np.float32)}
    with pytest.raises(
        UnsupportedOperation, match=r"node 'f' \(layer ''\) has a weight of shape \(2, 3\) in 1 groups.*of 4 channels"
    ):
        channel_groups(graph_of(Node("f", "linear", (INPUT,), ValueType((2,)), {}, weight)))
