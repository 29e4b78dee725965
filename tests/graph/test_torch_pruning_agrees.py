"""Channels that can only be removed together, against Torch-Pruning, which finds them on modules by autograd.

Not compared: channels that our graph keeps, and shortcuts padded with zeros (ResNet-20), where Torch-Pruning 1.6 couples equal
numbers although the padding moves the channels.
"""

import pytest
import torch
import torch_pruning
from torch import nn

from paretrim.capture import capture
from paretrim.graph.channels import channel_groups
from paretrim.graph.operations.table import WEIGHTED
from paretrim.models.catalog import NETWORKS

SHAPE = (3, 32, 32)
OURS = ("lenet_5", "resnet18", "resnet50_imagenet", "speed_cnn", "wide_resnet_16_2")
FAMILIES = ("mobilenet_v2", "squeezenet1_0", "vgg11_bn")


def rows_by_row(model, shape):
    """Layer and output of every removable row of a layer, and the rows that have to go with it."""
    graph = capture(model, shape)
    groups = channel_groups(graph)
    layers = {node.name: node.layer for node in graph.nodes if node.op in WEIGHTED}
    found = {}
    for index in (index for members in groups.sets for index in members.tolist()):
        rows = frozenset((layers[name], row) for name, row in groups.rows(index))
        found.update(dict.fromkeys(rows, rows))
    return found


def rows_of_a_peer(model, shape, rows):
    """The same for some rows by Torch-Pruning."""
    dependencies = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=torch.rand(1, *shape))
    names = {module: name for name, module in model.named_modules()}
    found = {}
    for layer, row in rows:
        module = model.get_submodule(layer)
        prune = dependencies.get_pruner_of_module(module).prune_out_channels
        group = dependencies.get_pruning_group(module, prune, idxs=[row])
        weighted = (one for one in group if isinstance(one.dep.target.module, nn.Conv2d | nn.Linear))
        found[layer, row] = frozenset(
            (names[one.dep.target.module], int(index))
            for one in weighted
            if one.dep.handler == dependencies.get_pruner_of_module(one.dep.target.module).prune_out_channels
            for index in one.idxs
        )
    return found


def some_of(rows, layers=6):
    """The first, a middle and the last removable row of layers spread over the network."""
    by_layer = {}
    for layer, row in rows:
        by_layer.setdefault(layer, []).append(row)
    names = sorted(by_layer)[:: max(1, len(by_layer) // layers)]
    return [(name, sorted(by_layer[name])[place]) for name in names for place in (0, len(by_layer[name]) // 2, -1)]


def assert_the_same_rows(model, shape=SHAPE):
    rows = rows_by_row(model, shape)
    asked = some_of(rows)
    assert len(asked) >= 6
    assert rows_of_a_peer(model, shape, asked) == {key: rows[key] for key in asked}


@pytest.mark.parametrize("name", OURS)
def test_own_networks(name):
    shape = (1, 28, 28) if name == "lenet_5" else SHAPE
    assert_the_same_rows(NETWORKS[name](classes=10, channels=shape[0]).eval(), shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_usual_families(torchvision_models, name):
    assert_the_same_rows(getattr(torchvision_models, name)(weights=None, num_classes=10).eval())


def test_concatenations_of_all_earlier_layers(torchvision_models):
    model = torchvision_models.DenseNet(growth_rate=4, block_config=(3, 2), num_init_features=8, bn_size=2, num_classes=10)
    assert_the_same_rows(model.eval())
