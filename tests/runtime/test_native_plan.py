"""What the planner makes of graphs whose values have several readers, end early or live long: adds that are fused or cannot be,
moves that become one, logits that are reshaped. And settings a machine cannot give."""

import subprocess
import sys

import numpy as np
import pytest
from random_graphs import Builder

from paretrim.errors import CorruptFile
from paretrim.graph import interpreter
from paretrim.graph.types import InputSpec, ValueType
from paretrim.runtime import instruction_sets, plan

LARGEST = 2**31 - 1


def builder(seed=1, shape=(6, 9, 7)):
    return Builder(np.random.default_rng(seed), quantized=True, shape=shape, count=3)


def finished(b, x):
    return b.graph(b.linear(b.simple("flatten", [x]), 4, logits=True))


def twice(b, x):
    y = b.conv(x, 6)
    return b.simple("add", [y, y])


def two_convolutions(b, x):
    return b.simple("add", [b.conv(x, 6), b.conv(x, 6, kernel=1, relu=False)])


def read_by_two(b, x):
    total = b.simple("add", [b.conv(x, 6), x])
    return b.simple("concat", [b.conv(total, 5), b.simple("max_pool", [total], {"window": (1, 1), "stride": (1, 1)})])


def convolution_read_twice(b, x):
    y = b.conv(x, 6)
    return b.simple("concat", [b.simple("add", [y, x]), y])


def a_ladder(b, x):
    """The second operand of every add is older than the one before it, and is read again at the end."""
    first = y = b.conv(x, 6)
    for _ in range(4):
        y = b.simple("add", [x, b.conv(y, 6)])
        y = b.simple("add", [b.conv(y, 6, kernel=1), first])
    return b.simple("concat", [y, first, x])


def added_to_what_comes_later(b, x):
    """The convolution stands first, its operand after it."""
    y = b.conv(x, 6)
    later = b.batch_norm(b.conv(x, 6, kernel=1))
    return b.simple("add", [y, later])


def shortcuts(b, x):
    y = b.conv(x, 8, stride=2)
    for axis, extent in ((1, 9), (2, 7)):
        x = b.simple("slice", [x], {"axis": axis, "start": 0, "stop": extent, "step": 2})
    x = b.simple("pad", [x], {"before": (1, 0, 0), "after": (1, 0, 0)})
    return b.simple("add", [y, x])


def gated(b, x):
    gate = b.simple("adaptive_avg_pool", [x], {"output_size": (1, 1)})
    gate = b.simple("add", [b.conv(gate, 6, kernel=1), gate])
    return b.simple("add", [b.simple("mul", [b.conv(x, 6), gate]), b.conv(x, 6)])


NETWORKS = (
    twice, two_convolutions, read_by_two, convolution_read_twice, a_ladder, added_to_what_comes_later, shortcuts, gated,
)  # fmt: skip


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("network", NETWORKS)
def test_values_live_as_long_as_they_are_read(network, instruction_set):
    b = builder()
    graph = finished(b, network(b, b.conv(b.start(), 6)))
    for threads in (1, 3):
        session = plan(graph, threads=threads, instruction_set=instruction_set, measure=False)
        np.testing.assert_array_equal(session(b.images), interpreter.run(graph, b.images))
        np.testing.assert_array_equal(session(b.images[:1]), interpreter.run(graph, b.images[:1]))


def test_an_add_is_fused_where_the_other_operand_is_there():
    b = builder()
    session = plan(finished(b, two_convolutions(b, b.start())), measure=False)
    assert [layer.name.count(" + ") for layer in session.network.layers].count(1) == 1
    assert "add" not in [layer.op for layer in session.network.layers]


@pytest.mark.parametrize("instruction_set", instruction_sets())
def test_logits_of_a_convolution_are_flattened(instruction_set):
    """The classifier of SqueezeNet and of every network that ends in a 1 x 1 convolution."""
    b = builder()
    x = b.simple("adaptive_avg_pool", [b.conv(b.start(), 8)], {"output_size": (1, 1)})
    logits = b.weighted("conv2d", x, (5, 8, 1, 1), {}, logits=True)
    graph = b.graph(b.add("flatten", [logits], ValueType((5,))))
    session = plan(graph, instruction_set=instruction_set, measure=False)
    np.testing.assert_array_equal(session(b.images), interpreter.run(graph, b.images))


def test_a_chain_of_slices_of_one_pixel_each():
    """Their steps multiply to far more than 64 bits and reach nothing."""
    b = builder()
    x = b.conv(b.start(), 6)
    for _ in range(3):
        for axis in (1, 2):
            x = b.simple("slice", [x], {"axis": axis, "start": 0, "stop": 1, "step": LARGEST})
    graph = finished(b, x)
    np.testing.assert_array_equal(plan(graph, measure=False)(b.images), interpreter.run(graph, b.images))


def test_threads_that_cannot_be_started_are_an_error():
    """Not the end of the process: with little room for stacks, most of 1024 threads cannot be made."""
    program = """
import resource
from random_graphs import random_graph
from paretrim.errors import UnsupportedOperation
from paretrim.runtime import plan
graph, images = random_graph(3, quantized=True)
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
try:
    plan(graph, threads=1024, measure=False)
except UnsupportedOperation as error:
    print(error)
print(plan(graph, threads=2, measure=False)(images).shape)
"""
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r} + sys.path\n{program}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "threads is 1024; the system allows this process no more than" in done.stdout
    assert done.stdout.endswith("(3, 5)\n")


def test_scales_that_leave_float32_are_refused():
    """A ratio may be finite and 255 steps of it not; then a sum would be infinity less infinity."""
    b = builder()
    x = b.start()
    huge = ValueType(b.types[x].shape, "uint8", float(np.float32(1e38)), 255)
    y = b.add("batch_norm", [x], huge, {}, {"multiplier": np.ones(6, np.float32), "offset": np.zeros(6, np.float32)})
    with np.errstate(all="ignore"):
        total = b.add("add", [y, y], ValueType(huge.shape, "uint8", 1.0))
    graph = finished(b, total)
    with pytest.raises(CorruptFile, match=r"node 'add_2'.*overflow float32"):
        plan(graph, measure=False)


def test_the_average_of_a_very_large_map():
    """More than 2**31 in one sum of uint8."""
    b = builder(shape=(1, 2925, 2925))
    b.input, b.images[:] = InputSpec((1, 2925, 2925), (0.0,), (1.0,)), 255  # whose zero point is 0
    x = b.simple("adaptive_avg_pool", [b.start()], {"output_size": (1, 1)})
    graph = finished(b, x)
    np.testing.assert_array_equal(plan(graph, measure=False)(b.images[:1]), interpreter.run(graph, b.images[:1]))
