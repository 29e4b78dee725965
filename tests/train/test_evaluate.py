"""Evaluation of a network: integer networks run natively on a CPU, float ones where it is faster, the rest in torch."""

import numpy as np
import pytest
import torch
from tiny import NONE, dense, resources

from paretrim.errors import CorruptFile, UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.run.pipeline import run_stage
from paretrim.stages.quantize.stage import Quantize
from paretrim.train import evaluate

CPU = torch.device("cpu")


@pytest.fixture(params=["residual", "depthwise"])
def quantized(request):
    given = resources(request.param)
    return run_stage(dense(request.param), Quantize(budget=NONE), given).network, given.validation


def never(*_arguments, **_settings):
    raise AssertionError("the other way was taken")


def test_both_ways_give_the_bits_of_the_interpreter(quantized):
    network, validation = quantized
    graph = freeze(network)
    images = torch.cat([batch.inputs for batch in validation.epoch(0)])
    with torch.inference_mode():
        found = [evaluate._integers(graph, CPU)(images), IntegerNetwork(graph, CPU).outputs(images)]
    expected = run(graph, images.numpy())
    for (logits,) in found:
        assert logits.dtype == torch.float32
        np.testing.assert_array_equal(logits.numpy().view(np.uint32), expected.view(np.uint32))


def test_a_cpu_does_not_compute_integers_in_torch(quantized, monkeypatch):
    network, validation = quantized
    expected = evaluate.predictions(network, validation.epoch(0), CPU)
    monkeypatch.setattr(evaluate, "IntegerNetwork", never)
    assert all(map(torch.equal, evaluate.predictions(network, validation.epoch(0), CPU), expected))


def test_another_device_computes_integers_in_torch(quantized, monkeypatch):
    graph = freeze(quantized[0])
    monkeypatch.setattr(evaluate, "plan", never)
    assert isinstance(evaluate._integers(graph, torch.device("meta")).__self__, IntegerNetwork)


@pytest.mark.parametrize("error", [UnsupportedOperation, CorruptFile])
def test_what_the_native_runtime_refuses_is_computed_in_torch(quantized, monkeypatch, error):
    def refuse(*_arguments, **_settings):
        raise error("not here")

    network, validation = quantized
    expected = evaluate.predictions(network, validation.epoch(0), CPU)
    monkeypatch.setattr(evaluate, "plan", refuse)
    assert all(map(torch.equal, evaluate.predictions(network, validation.epoch(0), CPU), expected))


@pytest.fixture
def floats():
    """A float network, and batches of images for it."""
    given = resources("depthwise")
    return dense("depthwise").network, list(given.validation.epoch(0))


def outputs(network, batches):
    judged = evaluate._floats(network.eval(), CPU, in_torch=False)
    with torch.inference_mode():
        return torch.cat([judged(batch.inputs)[0] for batch in batches])


def test_large_float_networks_of_few_products_are_judged_natively(floats, monkeypatch):
    network, batches = floats
    expected = outputs(network, batches)
    monkeypatch.setattr(evaluate, "_LARGE_VALUE", 1)
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "fast_batches", never)
        torch.testing.assert_close(outputs(network, batches), expected, rtol=1e-4, atol=1e-5)
        found = evaluate.predictions(network, batches, CPU)
    monkeypatch.setattr(evaluate, "plan", never)
    assert all(map(torch.equal, evaluate.predictions(network, batches, CPU, in_torch=True), found))
    monkeypatch.setattr(evaluate, "_FEW_PRODUCTS", 0)
    assert all(map(torch.equal, evaluate.predictions(network, batches, CPU), found))


def test_networks_that_do_not_compute_what_they_ship_are_judged_in_torch(floats, monkeypatch):
    network, _ = floats
    monkeypatch.setattr(evaluate, "_LARGE_VALUE", 1)
    assert evaluate._is_faster_natively(network)
    norm = next(iter(network.batch_norms().values()))
    norm.gate = lambda training: torch.ones(len(norm.gamma))
    assert not evaluate._is_faster_natively(network)
    norm.gate = None
    weights = Quantize(budget=NONE, activations="float32").begin(network, resources("depthwise")).network
    assert not evaluate._is_faster_natively(weights)


def test_what_the_native_runtime_refuses_of_floats_is_computed_in_torch(floats, monkeypatch):
    def refuse(*_arguments, **_settings):
        raise UnsupportedOperation("not here")

    network, batches = floats
    expected = outputs(network, batches)
    monkeypatch.setattr(evaluate, "_LARGE_VALUE", 1)
    monkeypatch.setattr(evaluate, "plan", refuse)
    assert torch.equal(outputs(network, batches), expected)


def test_images_in_any_order_of_memory(quantized):
    network, validation = quantized
    batches = list(validation.epoch(0))
    turned = [batch._replace(inputs=batch.inputs.contiguous(memory_format=torch.channels_last)) for batch in batches]
    assert all(map(torch.equal, evaluate.predictions(network, turned, CPU), evaluate.predictions(network, batches, CPU)))
