"""Values that are always 0, and layers whose weights all are, from capture through training to files in every runtime."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import paretrim
from paretrim.bench.machine import describe
from paretrim.capture import capture
from paretrim.deploy.saturation import may_saturate
from paretrim.deploy.write import write_graph
from paretrim.graph.interpreter import run
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

IMAGES = torch.randn(24, 3, 12, 12, generator=torch.Generator().manual_seed(0))


class Dead(nn.Module):
    """A convolution of which half the channels, or all, are always 0; ``body`` combines the two halves."""

    def __init__(self, body, *, alive=8):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gate, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.fc, self.body = nn.Linear(8, 4), [body]
        with torch.no_grad():
            self.conv.weight[alive:] = 0
            self.conv.bias[alive:] = -1

    def forward(self, x):
        living, dead = F.relu(self.conv(x)).chunk(2, 1)
        return self.fc(self.body[0](self, living, dead).mean((2, 3)))


BODIES = {
    "global average": lambda net, a, b: a * torch.sigmoid(net.gate(b.mean((2, 3), keepdim=True))),
    "average": lambda net, a, b: a * torch.sigmoid(net.gate(F.avg_pool2d(b, 12))),
    "padded average": lambda net, a, b: a + F.avg_pool2d(b, 3, 1, 1),
    "largest": lambda net, a, b: a * torch.sigmoid(net.gate(F.max_pool2d(b, 12))),
    "sum": lambda net, a, b: a + b,
    "sum of the dead": lambda net, a, b: a + (b + F.avg_pool2d(b, 3, 1, 1)),
    "product": lambda net, a, b: a + a * b,
    "concat": lambda net, a, b: torch.cat((a[:, :4], b[:, :4]), 1),
    "tanh": lambda net, a, b: a + torch.tanh(b),
    "norm": lambda net, a, b: a + net.norm(b),
    "convolution": lambda net, a, b: a + net.gate(b),
    "upsampled": lambda net, a, b: a + F.interpolate(F.avg_pool2d(b, 2), scale_factor=2.0),
}


@pytest.mark.parametrize("alive", [8, 0])
@pytest.mark.parametrize("body", BODIES)
def test_dead_values_have_grids_that_every_runtime_computes_with(body, alive, tmp_path):
    resources = Resources(None, None, IMAGES, Execution(device="cpu", precision="float32"), 0)
    network = Network(capture(Dead(BODIES[body], alive=alive).eval(), (3, 12, 12)))
    graph = freeze(Quantize().begin(network, resources).network)
    expected = run(graph, IMAGES.numpy())
    largest = max(abs(expected).max(), 1e-3)
    with torch.no_grad():
        assert abs(expected - network.eval()(IMAGES).numpy()).max() <= 0.05 * largest
    for suffix, runtime in ((".trim", "paretrim"), (".onnx", "onnxruntime"), (".onnx", "openvino")):
        path = tmp_path / f"network{suffix}"
        write_graph(graph, path)
        if runtime == "openvino" and may_saturate(graph, describe()):
            continue
        found = paretrim.open_runnable(path, runtime=runtime)(IMAGES.numpy())
        np.testing.assert_allclose(found, expected, rtol=0, atol=0 if runtime == "paretrim" else 0.02 * largest)


@pytest.mark.parametrize("scales", ["learned", "observed"])
@pytest.mark.parametrize("body", ["global average", "sum of the dead"])
def test_dead_branches_survive_training(body, scales, tmp_path):
    loader = DataLoader(TensorDataset(IMAGES, torch.arange(len(IMAGES)) % 4), 8)
    stages = (
        paretrim.Prune(sparsity=1.0, budget=paretrim.Budget(epochs=0), first=True),
        Quantize(scales=scales, budget=paretrim.Budget(epochs=2)),
    )
    result = paretrim.compress(Dead(BODIES[body]).eval(), loader, loader, stages=stages, folder=tmp_path, report=lambda _: None)
    assert result.deployed.onnx is not None
    assert result.history[-1].sparsity > 0.1
