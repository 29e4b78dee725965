"""Checks for tests of single operations: the float graph is exact, the 8-bit file close."""

from types import SimpleNamespace

import numpy as np
import torch
from hand_networks import SIZE

from paretrim.capture.agreement import captured_network
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.graph.types import InputSpec
from paretrim.network.freeze import freeze
from paretrim.runtime import load
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution
from paretrim.trimfile import read, write

SHAPE = (3, SIZE, SIZE)
IMAGES = torch.randn(48, *SHAPE, generator=torch.Generator().manual_seed(5))
RESOURCES = SimpleNamespace(calibration=IMAGES, execution=Execution(device="cpu", precision="float32"), seed=0)


def is_deployed(module, path):
    """The float graph equals torch; the native runtime equals the interpreter bit for bit and is close to the module."""
    network = captured_network(module, SHAPE, images=IMAGES).eval()
    graph = network.graph()
    validate(graph)
    with torch.no_grad():
        expected, found = module(IMAGES.clone()), network(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(graph, IMAGES.numpy()), expected.numpy(), rtol=1e-4, atol=1e-4)
    write(freeze(Quantize().begin(network, RESOURCES).network, InputSpec(SHAPE)), path)
    integers = load(path, measure=False)(IMAGES.numpy())
    np.testing.assert_array_equal(integers, run(read(path), IMAGES.numpy()))
    spread = expected - expected.mean()
    error = np.sqrt(np.square(integers - expected.numpy()).mean() / np.square(spread.numpy()).mean())
    assert error < 0.15
