"""A layer that pruning nearly empties is named once, and one that keeps its share is not."""

import pytest
import torch
from torch import nn

from paretrim.capture.agreement import captured_network
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.run.emptied import emptied, said_of_emptied
from paretrim.stages.prune.stage import Prune


def three_layers():
    """The second layer's weights are small beside the others', which its BatchNorm makes up for."""
    torch.manual_seed(0)
    convs = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)]
    with torch.no_grad():
        convs[1].weight.mul_(1e-3)
    parts = [part for conv in convs for part in (conv, nn.BatchNorm2d(16), nn.ReLU())]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def pruned(allocation):
    network = captured_network(three_layers(), (3, 8, 8))
    return Prune(sparsity=0.6, allocation=allocation).mask_(network, 0.6, None)


def test_one_ranking_over_all_layers_empties_the_one_of_small_scale():
    assert emptied(pruned("global")) == {"3": pytest.approx(0, abs=0.01)}
    said = said_of_emptied(pruned("global"))
    assert said.startswith("warning: pruning leaves hardly any weights in 3 (0.48 %); BatchNorm hides")
    assert said.endswith(
        "choose another allocation ('lamp', 'erk', 'uniform'), if the stage has one, or prune less"
    )  # GSM has none


@pytest.mark.parametrize("allocation", ["lamp", "uniform", "erk"])
def test_other_allocations_do_not(allocation):
    assert said_of_emptied(pruned(allocation)) == ""


def test_a_dense_network_is_not_empty():
    assert said_of_emptied(captured_network(three_layers(), (3, 8, 8))) == ""


def test_weights_on_padding_are_not_missed():
    """Nine tenths of this layer are zero, as its map has one pixel; the pixel's weights are all there."""
    parts = nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 5, padding=2), nn.Flatten(), nn.Linear(8, 2)
    network = captured_network(nn.Sequential(*parts).eval(), (3, 8, 8))
    for layer in weighted_layers(network).values():
        set_mask_(layer, layer.weight != 0)
    assert emptied(network) == {}
    middle = weighted_layers(network)["2"]
    set_mask_(middle, middle.mask & (torch.arange(8) == 0).reshape(8, 1, 1, 1))
    assert emptied(network) == {}
    set_mask_(middle, torch.zeros_like(middle.mask))
    assert emptied(network) == {"2": 0.0}
