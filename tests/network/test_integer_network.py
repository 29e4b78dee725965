"""Torch computes the integers of a graph exactly as the reference interpreter does."""

import copy
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.errors import UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.network import integer_network
from paretrim.network.integer_network import IntegerNetwork

sys.path.insert(0, str(Path(__file__).parent / "graph"))

from random_graphs import Builder, random_graph

CPU = torch.device("cpu")


def logits(graph, images):
    with torch.no_grad():
        return IntegerNetwork(graph, CPU)(torch.from_numpy(images)).numpy()


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([1, 5]))
def test_random_graphs_bit_for_bit(seed, count):
    graph, _ = random_graph(seed, quantized=True, pixels=False)
    images = np.random.default_rng(seed).normal(0, 1.5, (count, *graph.input.shape)).astype(np.float32)
    assert_same_bits(logits(graph, images), run(graph, images))


@pytest.mark.parametrize("count", [1, 5])
def test_sums_beyond_exact_float32_are_split(count):
    rng = np.random.default_rng(count)
    b = Builder(rng, quantized=True, shape=(4096, 1, 1), pixels=False)
    graph = b.graph(b.linear(b.simple("flatten", [b.start()]), 5, logits=True))
    last = graph.nodes[-1]
    large = rng.integers(120, 128, last.tensors["weight"].shape).astype(np.int8)
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(last, tensors={**last.tensors, "weight": large})))
    images = rng.uniform(3, 9, (count, 4096, 1, 1)).astype(np.float32)
    expected = run(graph, images)
    step = graph.types[last.inputs[0]].scale * last.tensors["weight_scale"]
    assert (np.abs(expected / step) > 2**24).all()
    assert len(IntegerNetwork(graph, CPU)._weights[last.name]) > 1
    assert_same_bits(logits(graph, images), expected)


@pytest.mark.parametrize(("quantized", "pixels"), [(True, True), (False, False)])
def test_other_graphs_are_refused(quantized, pixels):
    graph, _ = random_graph(0, quantized=quantized, pixels=pixels)
    with pytest.raises(
        UnsupportedOperation, match="only an integer graph that takes normalised images can be evaluated here; freeze"
    ):
        IntegerNetwork(graph, CPU)


def test_attributes_are_checked_once(monkeypatch):
    checked = []

    def counted(node):
        checked.append(node.name)
        return settings_of(node)

    settings_of = integer_network.settings_of
    monkeypatch.setattr(integer_network, "settings_of", counted)
    graph, _ = random_graph(1, quantized=True, pixels=False)
    network = IntegerNetwork(graph, CPU)
    for _ in range(3):
        network(torch.zeros(2, *graph.input.shape))
    assert checked == [node.name for node in graph.nodes]


def test_copies_give_the_same_bits():
    graph, _ = random_graph(1, quantized=True, pixels=False)
    network = IntegerNetwork(graph, CPU).eval()
    images = torch.randn(3, *graph.input.shape, generator=torch.Generator().manual_seed(0))
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert copied is not network
        assert not copied.training
        assert_same_bits(copied(images).numpy(), network(images).numpy())
