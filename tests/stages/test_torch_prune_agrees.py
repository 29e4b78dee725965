"""Magnitude pruning removes what ``torch.nn.utils.prune`` removes."""

import copy

import pytest
import torch
from tiny import NONE, dense, resources
from torch import nn
from torch.nn.utils import prune as peer

from paretrim.network.constraints import weighted_layers
from paretrim.stages.prune.stage import Prune


def left_of_a_peer(layers, allocation, sparsity):
    """Masks of copies of the layers, by torch's own pruning of single weights."""
    plain = [nn.Module() for _ in layers]
    for module, layer in zip(plain, layers, strict=True):
        module.weight = nn.Parameter(layer.weight.detach().clone())
    if allocation == "global":
        peer.global_unstructured([(module, "weight") for module in plain], peer.L1Unstructured, amount=sparsity)
    else:
        for module in plain:
            peer.l1_unstructured(module, "weight", amount=sparsity)
    return [module.weight_mask.bool() for module in plain]


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.83])
def test_single_weights(allocation, sparsity):
    network = copy.deepcopy(dense("residual").network)
    stage = Prune(sparsity=sparsity, pattern="unstructured", allocation=allocation, budget=NONE)
    layers = list(weighted_layers(stage.begin(network, resources("residual")).network).values())[1:-1]
    expected = left_of_a_peer(list(weighted_layers(network).values())[1:-1], allocation, sparsity)
    for layer, left in zip(layers, expected, strict=True):
        assert torch.equal(layer.mask, left)
        assert 0 < int(left.sum()) < left.numel()


@pytest.mark.parametrize(("score", "norm"), [("l1", 1), ("magnitude", 2)])
def test_channels_of_a_chain(score, norm):
    """Every layer loses the outputs that torch would mask, and the inputs that the layer before it has lost."""
    network = copy.deepcopy(dense("plain").network)
    stage = Prune(sparsity=0.5, pattern="channel", score=score, allocation="uniform", budget=NONE)
    found = weighted_layers(stage.begin(network, resources("plain")).network)
    inputs = slice(None)
    for name, layer in list(weighted_layers(network).items())[:-1]:
        module = nn.Module()
        module.weight = nn.Parameter(layer.weight.detach().clone())
        peer.ln_structured(module, "weight", amount=0.5, n=norm, dim=0)
        kept = module.weight_mask.flatten(1).any(1)
        assert 0 < int(kept.sum()) < len(kept)
        torch.testing.assert_close(found[name].weight, layer.weight[kept][:, inputs])
        inputs = kept
