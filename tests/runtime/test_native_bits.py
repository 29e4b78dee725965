"""The native runtime gives the reference interpreter's logits, bit for bit: every instruction set, any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import BLOCKS, Builder, finish, random_graph
from same_bits import assert_same_bits_in_every_set, images_for, odd_conv

from paretrim.graph import interpreter
from paretrim.runtime import plan


def assert_same_bits(session, graph, images):
    np.testing.assert_array_equal(session(images).view(np.uint32), interpreter.run(graph, images).view(np.uint32))


def wide_graph(seed):
    """Odd extents, many channels and any number of blocks: shapes that no kernel is specialised for."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 20)), int(rng.integers(1, 24)), int(rng.integers(1, 24)))
    b = Builder(rng, quantized=True, shape=shape, pixels=bool(rng.random() < 0.7), count=2)
    x = b.conv(b.start(), int(rng.integers(1, 70)), kernel=int(rng.choice([1, 3, 5])))
    for index in rng.integers(0, len(BLOCKS), int(rng.integers(1, 7))):
        x = BLOCKS[index](b, x)
        if rng.random() < 0.3:
            x = odd_conv(b, x)
    return finish(b, x)


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.booleans())
def test_random_graphs_of_every_operation(seed, pixels):
    graph, images = random_graph(seed, quantized=True, blocks=4, pixels=pixels)
    assert_same_bits_in_every_set(graph, np.concatenate([images, images_for(graph, seed, 3)]), measure=False)


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_odd_shapes_and_several_threads(seed, threads):
    graph = wide_graph(seed)
    images = images_for(graph, seed, 5)
    assert_same_bits_in_every_set(graph, images, counts=(1, threads, 5), threads=threads, measure=False)


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(1, 2))
def test_measured_kernels_give_the_same_bits(seed, threads):
    graph = wide_graph(seed)
    assert_same_bits(plan(graph, threads=threads), graph, images_for(graph, seed, 3))


@pytest.mark.parametrize("threads", [1, 3])
def test_many_callers_at_once(threads):
    graph = wide_graph(7)
    session = plan(graph, threads=threads, measure=False)
    batches = [images_for(graph, seed, 1 + seed % 5) for seed in range(40)]
    expected = [interpreter.run(graph, images) for images in batches]
    with ThreadPoolExecutor(8) as callers:
        for found, wanted in zip(callers.map(session, batches), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
