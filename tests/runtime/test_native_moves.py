"""Channels that change places, tables and products byte by byte, in every instruction set: the widths that real networks have and
those that fit no register, bit for bit as in the reference interpreter."""

from itertools import pairwise

import numpy as np
import pytest
from random_graphs import Builder, finish
from same_bits import assert_same_bits_in_every_set, images_for

from paretrim.graph.types import ValueType

MAPS = ((1, 1), (1, 2), (3, 5), (7, 7), (13, 21))
"""Of one pixel, within one register, and over several with a rest."""

WIDTHS = ((8, 4, 12), (5, 3), (1, 1, 1, 1, 1), (2, 9, 1, 6), (58, 58), (3,), (1, 70, 2))
"""Channels of the parts of a concatenation: whole planes, planes of two parts and of four."""


def built(channels, extent, block):
    """A graph of one block behind one convolution."""
    b = Builder(np.random.default_rng([channels, *extent]), quantized=True, shape=(3, *extent), count=2)
    return finish(b, block(b, b.conv(b.start(), channels, kernel=1)))


def part(b, x, start, stop):
    return b.simple("slice", [x], {"axis": 0, "start": start, "stop": stop, "step": 1})


def cut_and_joined(widths):
    """Slices of every width, each second one on a grid of its own, in reverse order."""

    def block(b, x):
        ends = np.cumsum([0, *widths]).tolist()
        parts = [part(b, x, start, stop) for start, stop in pairwise(ends)]
        return b.simple("concat", [b.pointwise(p, "silu") if i % 2 else p for i, p in enumerate(parts)][::-1])

    return block


def shuffled(groups):
    return lambda b, x: b.simple("channel_shuffle", [x], {"groups": groups})


def pixels_shuffled(down, across):
    return lambda b, x: b.simple("pixel_shuffle", [x], {"factor": (down, across)})


def pixels_gathered(down, across):
    """Of a map that is repeated until the factor divides it."""

    def block(b, x):
        height, width = b.types[x].shape[1:]
        wide = b.simple("adaptive_avg_pool", [x], {"output_size": (down * height, across * width)})
        wide = b.simple("add", [wide, b.pointwise(wide, "silu")])
        return b.simple("pixel_unshuffle", [b.simple("pixel_shuffle", [wide], {"factor": (1, 1)})], {"factor": (down, across)})

    return block


def widened(b, x):
    """Channels of a filling before and behind, none of them on the border of a plane."""
    return b.simple("pad", [x], {"before": (3, 0, 0), "after": (6, 0, 0)})


def gated(b, x):
    gate = b.pointwise(b.simple("adaptive_avg_pool", [x], {"output_size": (1, 1)}), "sigmoid")
    return b.simple("mul", [gate, x])


def squared(b, x):
    return b.simple("mul", [x, b.pointwise(x, "silu")])


def multiplied(b, x):
    """Sums of as many products as there are rows or columns; of the second product more columns than are summed at once."""
    height = b.types[x].shape[1]
    wide = b.simple("adaptive_avg_pool", [x], {"output_size": (height, 67)})
    scores = b.simple("matmul", [x, b.pointwise(x, "silu")], {"transposed": 1})
    return b.simple("matmul", [scores, wide])


BLOCKS = {
    "joined": [(sum(widths), cut_and_joined(widths)) for widths in WIDTHS],
    "shuffled": [(116, shuffled(2)), (9, shuffled(3)), (10, shuffled(5)), (64, shuffled(16))],
    "pixels shuffled": [
        (16, pixels_shuffled(2, 2)),
        (9, pixels_shuffled(3, 1)),
        (42, pixels_shuffled(2, 3)),
        (5, pixels_shuffled(1, 1)),
    ],
    "pixels gathered": [(4, pixels_gathered(2, 2)), (3, pixels_gathered(3, 1)), (7, pixels_gathered(2, 3))],
    "widened": [(5, widened), (8, widened)],
    "gated": [(6, gated), (17, gated)],
    "multiplied": [(1, multiplied), (6, multiplied)],
    "squared": [(7, squared)],
    "normalised": [(7, Builder.batch_norm), (16, Builder.batch_norm)],
    "activated": [(7, lambda b, x: b.pointwise(x, "gelu")), (36, lambda b, x: b.pointwise(x, "tanh"))],
}


@pytest.mark.parametrize("extent", MAPS, ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_byte_is_moved_to_its_place(extent, name):
    for channels, block in BLOCKS[name]:
        graph = built(channels, extent, block)
        # One image is shared by the threads, several are not.
        assert_same_bits_in_every_set(graph, images_for(graph, channels, 3), counts=(1, 3), threads=2, measure=False)


def test_all_entries_of_a_table_are_found():
    """Values 0 to 255 in every byte of a register; each of them is a logit."""
    b = Builder(np.random.default_rng(0), quantized=True, shape=(4, 5, 7), count=2)
    x = b.simple("flatten", [b.pointwise(b.start(), "silu")])
    graph = b.graph(b.add("dequantize", [x], ValueType(b.types[x].shape)))
    images = (np.arange(256)[:, None] + 37 * np.arange(4 * 5 * 7)).astype(np.uint8).reshape(256, 4, 5, 7)
    assert len(np.unique(images[:, 1, 2, 3])) == 256
    assert_same_bits_in_every_set(graph, images, measure=False)
