import pytest
import torch
from torch import nn

from paretrim.network.constraints import (
    WeightedLayer,
    all_finite,
    hold_masks_,
    set_mask_,
    sparsity,
    weight_bits,
    weighted_layers,
    zeros_and_weights,
)
from paretrim.network.uniform import WeightQuantizer


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "a/b": WeightedLayer(torch.ones(2, 3), None),
                "norm": nn.Identity(),
                "c": WeightedLayer(torch.ones(4, 1), torch.ones(4)),
            }
        )


def test_layers_are_found_by_the_users_names():
    assert list(weighted_layers(Network())) == ["a.b", "c"]


def test_a_pruned_weight_and_its_gradient_stay_zero():
    layer = WeightedLayer(torch.randn(3, 4), None)
    mask = torch.rand(3, 4) > 0.5
    set_mask_(layer, mask)
    assert (layer.weight[~mask] == 0).all()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(2):
        layer.effective_weight().square().sum().backward()
        assert (layer.weight.grad[~mask] == 0).all()
        optimizer.step()
    with torch.no_grad():
        layer.weight += 1  # an optimizer that moves what it should not
    assert (layer.effective_weight()[~mask] == 0).all()
    hold_masks_([layer])
    assert (layer.weight[~mask] == 0).all()
    layer.quantizer = WeightQuantizer(layer.effective_weight(), bits=8, scales="learned")
    assert (layer.effective_weight()[~mask] == 0).all()


def test_masks_only_shrink():
    layer = WeightedLayer(torch.ones(2, 2), None)
    set_mask_(layer, torch.tensor([[True, False], [True, True]]))
    set_mask_(layer, torch.tensor([[True, False], [False, True]]))
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back; combine it with the present mask"):
        set_mask_(layer, torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"a mask of shape \(2,\) for a weight of shape \(2, 2\)"):
        set_mask_(layer, torch.ones(2, dtype=torch.bool))


def test_silenced_channels_lose_their_bias():
    layer = WeightedLayer(torch.ones(3, 1), torch.tensor([1.0, 2.0, 3.0]))
    assert layer.effective_bias() is layer.bias
    layer.alive = torch.tensor([1.0, 0.0, 1.0])
    torch.testing.assert_close(layer.effective_bias(), torch.tensor([1.0, 0.0, 3.0]))
    assert WeightedLayer(torch.ones(3, 1), None).effective_bias() is None


def test_counts():
    network = Network()
    set_mask_(network.layers["c"], torch.tensor([[True], [False], [False], [True]]))
    assert zeros_and_weights(network) == (2, 10)
    assert sparsity(network) == 0.2
    assert sparsity(_empty()) == 0.0
    assert weight_bits(network) == 32
    for layer, bits in zip(weighted_layers(network).values(), (8, 4), strict=True):
        layer.quantizer = WeightQuantizer(layer.weight, bits=bits, scales="observed")
    assert weight_bits(network) == 8
    assert weight_bits(_empty()) == 32


def _empty():
    network = Network()
    network.layers = nn.ModuleDict()
    return network


def test_a_mask_that_is_not_true_or_false_is_refused():
    with pytest.raises(ValueError, match=r"a mask of torch\.float64; a mask is torch\.bool"):
        set_mask_(WeightedLayer(torch.ones(2, 3), None), torch.ones(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 100), (3, 5, 9, 11)])
def test_a_single_non_finite_number_is_found(dtype, shape):
    values = torch.randn(shape).to(dtype)
    assert all_finite(values)
    for at in {0, values.numel() // 2, values.numel() - 1} if values.numel() else ():
        for bad in (torch.nan, torch.inf, -torch.inf):
            spoilt = values.clone()
            spoilt.view(-1)[at] = bad
            assert not all_finite(spoilt)
