"""Graphs run with every instruction set and compared bit for bit."""

import numpy as np

from paretrim.graph import interpreter
from paretrim.runtime import instruction_sets, plan

SETS = instruction_sets()


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
