"""Every way the native runtime can compute a layer gives the reference interpreter's bits: each view, tile, group, number of
passes and number of bands is forced on layers that no kernel is specialised for, in every instruction set."""

from dataclasses import dataclass, field
from functools import cache
from itertools import product

import numpy as np
import pytest
from random_graphs import Builder

from paretrim.graph import interpreter
from paretrim.runtime import instruction_sets
from paretrim.runtime.compiled import native

VIEWS = ("in place", "columns", "positions")
TILES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16")
GROUPED = ("1", "2", "4", "8", "16")
PASSES = ("", ", 2 passes", ", 4 passes", ", 8 passes")
BANDS = ("", ", 2 bands", ", 4 bands", ", 8 bands", ", 64 bands")
ADDED = ("", "first", "second")
"""Which operand of a fused add the layer is, if any."""

REFUSED = "columns, 16 x 16, 8 passes"
"""No layer can be computed so; it stands for a choice that is made anew."""


@dataclass(frozen=True)
class Layer:
    """A convolution, and what the runtime must be able to view its input as; "bands": cut into bands of rows."""

    shape: tuple[int, int, int]
    outputs: int
    window: tuple[int, int] = (3, 3)
    views: frozenset[str] = frozenset({"columns", "positions"})
    attributes: dict[str, object] = field(default_factory=dict)

    @property
    def groups(self):
        return self.attributes.get("groups", 1)


def layer(shape, outputs, window=(3, 3), *views, **attributes):
    return Layer(shape, outputs, window, frozenset(views or ("columns", "positions")), attributes)


EVERYWHERE = (1, 1, 1, 1)
"""Padding that keeps the extents under a 3 x 3 window."""

LAYERS = {
    "odd": layer((5, 9, 7), 6, (3, 3), "columns", "positions", padding=EVERYWHERE),
    "several bands of rows": layer((6, 12, 16), 18, (3, 3), "columns", "positions", "bands", padding=EVERYWHERE),
    "a last band of fewer rows": layer((9, 9, 24), 5, (3, 3), "columns", "positions", "bands", padding=EVERYWHERE),
    "rows of one pixel and a half register": layer((3, 34, 8), 17, (3, 3), "columns", "positions", "bands", padding=EVERYWHERE),
    "dilated bands": layer((4, 13, 16), 7, (3, 3), "bands", padding=(2, 3, 2, 3), dilation=(2, 3)),
    "bands taller than the image": layer((7, 6, 16), 9, (2, 3), "bands", padding=(5, 2, 4, 0)),
    "bands shorter than the image": layer((7, 21, 16), 9, (5, 1), "bands", padding=(0, 0, 0, 0)),
    "a stride across": layer((6, 9, 17), 6, (3, 3), "columns", "positions", "bands", stride=(1, 2), padding=(1, 0, 0, 1)),
    "a stride down": layer((6, 17, 9), 6, (4, 2), stride=(3, 1), padding=(0, 1, 2, 0)),
    "a stem": layer((3, 31, 33), 20, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3)),
    "dilated and strided": layer((6, 15, 14), 5, (3, 2), stride=(2, 3), dilation=(3, 2), padding=(4, 1, 0, 2)),
    "more padding than window": layer((5, 3, 4), 6, (2, 2), padding=(5, 4, 3, 6)),
    "a padded single position": layer((5, 6, 7), 6, (1, 1), "positions", padding=(2, 3, 1, 0)),
    "one pixel that grows": layer((6, 1, 1), 5, (2, 2), padding=(2, 2, 2, 2)),
    "one pixel": layer((70, 1, 1), 21, (1, 1), "in place"),
    "all of the image": layer((7, 3, 5), 19, (3, 5), "positions"),
    "one pixel of a padded image": layer((7, 2, 2), 19, (3, 3), "positions", padding=(1, 1, 0, 0)),
    "the middle of a window": layer((70, 1, 1), 21, (3, 3), "positions", padding=EVERYWHERE),
    "a corner of a window": layer((21, 2, 2), 19, (3, 3), "positions", stride=(2, 2), padding=EVERYWHERE),
    "three rows of a window": layer((9, 2, 9), 8, (5, 3), "columns", "positions", padding=(2, 1, 2, 1)),
    "in place": layer((17, 7, 9), 22, (1, 1), "in place"),
    "bands in place": layer((9, 7, 16), 6, (1, 1), "in place", "bands"),
    "many strided rows": layer((3, 70, 64), 5, (3, 3), "columns", "positions", "bands", stride=(2, 2), padding=EVERYWHERE),
    "every second pixel": layer((17, 7, 9), 22, (1, 1), "positions", stride=(2, 2)),
    "many planes": layer((70, 5, 6), 9, (3, 3), "columns", "positions", padding=EVERYWHERE),
    "groups of whole blocks": layer((24, 5, 16), 12, (3, 3), "columns", "bands", groups=3, padding=EVERYWHERE),
    "groups that share blocks": layer((18, 5, 7), 12, (3, 3), groups=6, padding=EVERYWHERE),
    "depthwise": layer((19, 9, 16), 19, (3, 3), "columns", "positions", "bands", groups=19, padding=EVERYWHERE),
    "depthwise with two outputs": layer((7, 6, 5), 14, (3, 3), groups=7, padding=EVERYWHERE, stride=(2, 2)),
    "slices of one plane": layer((32, 9, 16), 32, (3, 3), "columns", "positions", "bands", groups=32, padding=EVERYWHERE),
    "slices of two planes": layer((64, 3, 5), 64, (3, 3), "columns", "positions", groups=64, padding=EVERYWHERE),
    "strided slices with more outputs": layer((16, 9, 7), 32, (3, 3), groups=16, padding=EVERYWHERE, stride=(2, 2)),
    "slices in place": layer((48, 5, 16), 24, (1, 1), "in place", "bands", groups=6),
    "a single column": layer((5, 40, 1), 6, (3, 1), "columns", "positions", "bands", padding=(1, 0, 1, 0)),
    "a single row": layer((5, 1, 40), 6, (1, 3), "positions", padding=(0, 1, 0, 1)),
}
"""By what is odd about them."""


@cache
def graph_of(name, added):
    """The layer between a quantize and a linear layer; behind it an add where ``added`` says which operand it is."""
    made = LAYERS[name]
    b = Builder(np.random.default_rng(len(name)), quantized=True, shape=made.shape, count=2)
    x = b.start()
    shape = (made.outputs, made.shape[0] // made.groups, *made.window)
    y = b.weighted("conv2d", x, shape, made.attributes, relu=added == "")
    if added:
        # Of another grid than the layer's own result, and done before it.
        other = b.pointwise(b.weighted("conv2d", x, shape, made.attributes), "tanh")
        again = b.weighted("conv2d", x, shape, made.attributes)
        y = b.simple("add", [again, other] if added == "first" else [other, again])
    graph = b.graph(b.linear(b.simple("flatten", [y]), 5, logits=True))
    images = np.concatenate([b.images, b.rng.integers(0, 256, b.images.shape).astype(np.uint8)])
    return graph, images, interpreter.run(graph, images)


def plan(graph, choices, *, threads, instruction_set):
    return native.plan_graph(graph, threads=threads, instruction_set=instruction_set, measure=False, choices=choices)


def usual_choices(graph, instruction_set):
    """The identity that stored choices begin with, and the choice of every layer by the runtime itself.

    A plan that neither measures nor is given choices leaves the weights out of its identity. So it is given some that fit none.
    """
    return plan(graph, REFUSED, threads=1, instruction_set=instruction_set).choices.split("|")


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("name", LAYERS)
def test_every_choice_gives_the_same_bits(name, instruction_set):
    # Every layer is met alone and as either operand of an add, in one instruction set or another.
    added = ADDED[(list(LAYERS).index(name) + instruction_sets().index(instruction_set)) % len(ADDED)]
    graph, images, expected = graph_of(name, added)
    identity, *chosen = usual_choices(graph, instruction_set)
    place = len(chosen) - 2  # of the layer; the last is the linear one
    views, number = set(), 0

    def taken(choice):
        """Whether the layer can be computed so; then it was, with the bits of the interpreter."""
        nonlocal number
        number += 1
        forced = [REFUSED] * len(chosen)
        forced[place] = choice
        network = plan(graph, "|".join([identity, *forced]), threads=1 + number % 2, instruction_set=instruction_set)
        if network.choices.split("|")[1 + place] != choice:
            return False
        views.update({choice.partition(",")[0], *(["bands"] if "bands" in choice else [])})
        np.testing.assert_array_equal(network.run(images[number % 3 :])[0], expected[number % 3 :], err_msg=choice)
        return True

    for view, tile, grouped in product(VIEWS, TILES, GROUPED):
        bare = f"{view}, {tile} x {grouped}"
        # A tile that a view does not take by itself is taken in no number of passes or bands.
        if taken(bare):
            for passes, bands in product(PASSES if grouped == "1" else PASSES[:1], BANDS):
                if passes or bands:
                    taken(f"{bare}{passes}{bands}")
    assert views >= LAYERS[name].views


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_a_linear_layer_dense_or_sparse(instruction_set):
    b = Builder(np.random.default_rng(5), quantized=True, shape=(5, 4, 4), count=3)
    x = b.linear(b.simple("flatten", [b.start()]), 37, relu=True)
    graph = b.graph(b.linear(x, 3, logits=True))
    identity, *chosen = usual_choices(graph, instruction_set)
    for first, second in product(("in place, 1 x 1", "in place, 1 x 16"), repeat=2):
        network = plan(graph, f"{identity}|{first}|{second}", threads=2, instruction_set=instruction_set)
        assert network.choices.split("|")[1:] == [first, second]
        np.testing.assert_array_equal(network.run(b.images)[0], interpreter.run(graph, b.images))
    assert len(chosen) == 2
