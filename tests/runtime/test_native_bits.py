"""The native runtime gives the reference interpreter's logits, bit for bit: every instruction set, any number of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import BLOCKS, Builder, finish, random_graph

from paretrim.graph import interpreter
from paretrim.runtime import instruction_sets, plan

SETS = instruction_sets()


def assert_same_bits(session, graph, images):
    np.testing.assert_array_equal(session(images).view(np.uint32), interpreter.run(graph, images).view(np.uint32))


def assert_same_bits_in_every_set(graph, images, *, counts=(None,), **settings):
    """In every instruction set, of all images and of the first of them; the interpreter computes them once."""
    expected = [logits.view(np.uint32) for logits in interpreter.run_outputs(graph, images)]
    for name in SETS:
        session = plan(graph, instruction_set=name, **settings)
        for count in counts:
            for found, wanted in zip(session.outputs(images[:count]), expected, strict=True):
                np.testing.assert_array_equal(found.view(np.uint32), wanted[:count], err_msg=name)


def images_for(graph, seed, count):
    """Other images than the grids were made for, so that values leave the grids on both sides."""
    rng = np.random.default_rng(seed)
    if graph.input.takes_pixels:
        return rng.integers(0, 256, (count, *graph.input.shape)).astype(np.uint8)
    return rng.normal(0, 3, (count, *graph.input.shape)).astype(np.float32)


def wide_graph(seed):
    """Odd extents, many channels and any number of blocks: shapes no kernel was made for."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 20)), int(rng.integers(1, 24)), int(rng.integers(1, 24)))
    b = Builder(rng, quantized=True, shape=shape, pixels=bool(rng.random() < 0.7), count=2)
    x = b.conv(b.start(), int(rng.integers(1, 70)), kernel=int(rng.choice([1, 3, 5])))
    for index in rng.integers(0, len(BLOCKS), int(rng.integers(1, 7))):
        x = BLOCKS[index](b, x)
        if rng.random() < 0.3:
            x = odd_conv(b, x)
    return finish(b, x)


def odd_conv(b, x):
    """Any window, stride, dilation, padding and grouping that fits."""
    rng, (channels, height, width) = b.rng, b.types[x].shape
    window, dilation = rng.integers(1, 5, 2), rng.integers(1, 4, 2)
    reach = (window - 1) * dilation + 1
    padding = tuple(int(rng.integers(0, 5)) for _ in range(4))
    if height + padding[0] + padding[2] < reach[0] or width + padding[1] + padding[3] < reach[1]:
        return x
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    outputs = groups * int(rng.integers(1, max(2, 40 // groups)))
    attributes = {
        "stride": tuple(int(s) for s in rng.integers(1, 4, 2)),
        "padding": padding,
        "dilation": tuple(int(d) for d in dilation),
        "groups": groups,
    }
    return b.weighted("conv2d", x, (outputs, channels // groups, *map(int, window)), attributes, relu=bool(rng.random() < 0.5))


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
