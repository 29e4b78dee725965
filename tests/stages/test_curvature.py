"""The curvature of a loss by layer against the full Hessian, computed entry by entry."""

from dataclasses import replace

import pytest
import torch
from tiny import network, resources
from torch import nn

from paretrim.capture import capture
from paretrim.errors import TrainingFailed
from paretrim.network.constraints import living_weights, set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.stages.gradients import hessian_traces
from paretrim.train.tasks import Regression


def whole_traces(tiny, given):
    """The mean of the diagonal of the Hessian of every layer, one second derivative after the other."""
    layers = weighted_layers(tiny)
    images, labels = given.labelled_calibration()
    loss = torch.nn.functional.cross_entropy(tiny(images), labels)
    found = {}
    for name, layer in layers.items():
        (slope,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
        flat = slope.reshape(-1)
        second = [torch.autograd.grad(one, layer.weight, retain_graph=True)[0].reshape(-1)[i] for i, one in enumerate(flat)]
        found[name] = float(torch.stack(second).sum()) / living_weights(layer)
    return found


def whole_gauss_newton_traces(tiny, given):
    """The mean of the diagonal of J' H J of every layer, one output of one image after the other."""
    images = given.calibration
    outputs = tiny(images)
    odds = outputs.detach().softmax(1)
    layers, sums = weighted_layers(tiny), {}
    for name, layer in layers.items():
        slopes = [
            torch.stack([torch.autograd.grad(one, layer.weight, retain_graph=True)[0].reshape(-1) for one in image])
            for image in outputs
        ]
        bends = [torch.diag(p) - torch.outer(p, p) for p in odds]
        total = sum(float((slope * (bend @ slope)).sum()) for slope, bend in zip(slopes, bends, strict=True))
        sums[name] = total / len(images) / living_weights(layer)
    return sums


def small(between):
    """A briefly trained network of 126 weights, and 12 images."""
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 2, 3, 3), between, nn.Flatten(), nn.Linear(8, 4)
    whole = resources("plain")
    given = replace(whole, calibration=whole.calibration[:12], calibration_labels=whole.calibration_labels[:12])
    return Network(capture(nn.Sequential(*parts), (3, 8, 8))).eval(), given


@pytest.mark.parametrize("pruned", [False, True])
def test_traces_are_those_of_the_whole_hessian(pruned):
    tiny, given = small(nn.ReLU())
    for layer in weighted_layers(tiny).values():
        if pruned:
            set_mask_(layer, layer.weight.detach().abs() > layer.weight.detach().abs().median())
    before = {key: tensor.clone() for key, tensor in tiny.state_dict().items()}
    exact = whole_traces(tiny, given)
    torch.manual_seed(0)
    found = hessian_traces(tiny, given, samples=400)
    assert found == pytest.approx(exact, rel=0.1)
    assert all(torch.equal(tiny.state_dict()[key], tensor) for key, tensor in before.items())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_traces_are_those_of_gauss_newton_where_outputs_are_not_linear_in_a_layer():
    tiny, given = small(nn.Softplus())
    torch.manual_seed(0)
    found = hessian_traces(tiny, given, samples=400)
    assert found == pytest.approx(whole_gauss_newton_traces(tiny, given), rel=0.1)


def test_a_loss_without_curvature_has_traces_of_0():
    class Linear(Regression):
        def loss(self, outputs, labels, /, *, label_smoothing):
            return outputs[0].sum()

    tiny, given = small(nn.ReLU())
    assert set(hessian_traces(tiny, replace(given, task=Linear()), samples=1).values()) == {0.0}


def test_curvature_that_is_not_finite_is_refused():
    tiny = network("without_norm")
    with torch.no_grad():
        weighted_layers(tiny)["0"].weight.mul_(1e30)
        weighted_layers(tiny)["3"].weight.mul_(1e30)
    with pytest.raises(
        TrainingFailed, match=r"layer '\w+': the curvature on calibration images is not finite; check the weights"
    ):
        hessian_traces(tiny, resources("without_norm"), samples=1)
