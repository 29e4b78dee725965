"""What a program has set in torch for itself changes no result, and is as it was afterwards."""

import os
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import paretrim
from paretrim.torch_settings import alone, callers_device, usual_settings

IMAGES = torch.randn(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 3
STAGES = (
    paretrim.Prune(pattern="channel", sparsity=0.5, budget=paretrim.Budget(epochs=1)),
    paretrim.Quantize(budget=paretrim.Budget(epochs=1)),
)


@contextmanager
def default_type(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SETTINGS = {
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "doubles": lambda: default_type(torch.float64),
    "bfloat16": lambda: default_type(torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}


def state():
    types = torch.get_default_dtype(), torch.get_autocast_dtype("cpu"), torch.get_default_device()
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), *types


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()


def compressed(module, batches):
    folder, images = tempfile.mkdtemp(), IMAGES.clone()
    result = paretrim.compress(module, batches, batches, stages=STAGES, folder=folder, report=lambda *_: None)
    restored, _ = paretrim.network_from_file(result.deployed.trim)
    with torch.no_grad():
        logits = [network(images).float().numpy() for network in (result.network, restored, result.trainable)]
    return result.deployed.trim.read_bytes(), logits


@pytest.mark.parametrize("name", SETTINGS)
def test_results_are_those_of_torch_as_it_starts(name):
    batches = [(IMAGES[start : start + 8], LABELS[start : start + 8]) for start in range(0, 24, 8)]
    content, (logits, *simulated) = compressed(network(), batches)
    module = network()
    with SETTINGS[name]():
        before = state()
        found, (ours, *simulations) = compressed(module, batches)
        assert state() == before
    assert found == content
    np.testing.assert_array_equal(ours, logits)
    if name != "autocast":  # which is asked for where a network that trains is called
        np.testing.assert_array_equal(simulations, simulated)


def test_a_module_and_images_made_in_inference_mode_are_trained():
    batches = DataLoader(TensorDataset(IMAGES, LABELS), 8)
    content, _ = compressed(network(), batches)
    with torch.inference_mode():
        module, frozen = network(), DataLoader(TensorDataset(IMAGES.clone(), LABELS.clone()), 8)
    assert compressed(module, frozen)[0] == content


def test_images_may_come_with_gradients():
    plain = [(IMAGES[:8], LABELS[:8])]
    watched = [(IMAGES[:8].clone().requires_grad_(), LABELS[:8])]
    assert compressed(network(), watched)[0] == compressed(network(), plain)[0]
    assert watched[0][0].grad is None


def test_two_threads_get_what_one_gets():
    batches = [(IMAGES[start : start + 8], LABELS[start : start + 8]) for start in range(0, 24, 8)]
    modules = [network(), network()]
    content, _ = compressed(network(), batches)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda module: compressed(module, batches)[0], modules))
    assert found == [content] * 2


def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have():
    held, over = threading.Event(), threading.Event()

    def holds():
        with alone():
            held.set()
            over.wait()

    holder = threading.Thread(target=holds)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        with alone():
            os._exit(0)
    over.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_code_of_the_caller_sees_its_own_default_device():
    with torch.device("meta"):
        with usual_settings():
            assert torch.empty(1).device.type == "cpu"
            with callers_device():
                assert torch.empty(1).device.type == "meta"
            with usual_settings():
                assert torch.empty(1).device.type == "cpu"
        assert torch.empty(1).device.type == "meta"
    with callers_device():
        assert torch.empty(1).device.type == "cpu"


def test_a_loader_sees_its_own_default_device():
    seen = []

    class Batches:
        def __len__(self):
            return 1

        def __iter__(self):
            seen.append(torch.empty(1).device.type)
            yield IMAGES[:8], LABELS[:8]
            seen.append(torch.empty(1).device.type)

    module = network()
    with torch.device("meta"):
        compressed(module, Batches())
    assert set(seen) == {"meta"}
