"""Small files whose layers are within the budget but could cost a careless planner gigabytes or minutes."""

import re
import subprocess
import sys

import numpy as np
import pytest

from paretrim import trimfile
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType

ONE = (1, 1)


def convolution(shape, outputs, kernel, groups=1):
    """A file of few bytes: every weight is 0 but the first of each output. Its result is averaged to one pixel."""
    grid, extents = ("uint8", 0.0625, 128), tuple(side - reach + 1 for side, reach in zip(shape[1:], kernel, strict=True))
    weight = np.zeros((outputs, shape[0] // groups, *kernel), np.int8)
    weight[:, 0, 0, 0] = 1
    tensors = {"weight": weight, "weight_scale": np.ones(outputs, np.float32), "bias": np.zeros(outputs, np.int32)}
    nodes = (
        Node("q", "quantize", (INPUT,), ValueType(shape, *grid)),
        Node("conv", "conv2d", ("q",), ValueType((outputs, *extents), *grid), {"groups": groups}, tensors),
        Node("pool", "adaptive_avg_pool", ("conv",), ValueType((outputs, 1, 1), *grid), {"output_size": ONE}),
        Node("flat", "flatten", ("pool",), ValueType((outputs,), *grid)),
        Node("end", "dequantize", ("flat",), ValueType((outputs,))),
    )
    return trimfile.to_bytes(Graph(InputSpec(shape), nodes, ("end",)))


PLANNING = """
import resource, sys, time
import numpy as np
from paretrim import runtime
from paretrim.errors import UnsupportedOperation
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    session = runtime.load(sys.argv[1], remember=False)
    print(session(np.zeros((1, *session.shape), np.float32)).shape)
except UnsupportedOperation as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.process_time() - start)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((1, 250, 250), 4, (185, 185)), r"\(1, 4\)"),
        (
            ((1, 300, 300), 1, (257, 257)),
            r"\(layer '', conv2d\) cannot be planned: its kernel has 66049 positions; the maximum is 65536",
        ),
        (
            ((1, 4, 24000), 4, (1, 16000)),
            r"cannot be planned: copies of its input would take more than 134217728 bytes",
        ),
        (((64000, 1, 1), 64000, ONE, 32000), r"\(1, 64000\)"),
        (((1, 2000, 1200), 1, (51, 51)), r"\(1, 1\)"),
        (((32, 510, 540), 64, (9, 42), 32), r"\(1, 64\)"),
    ],
    ids=["a large kernel", "a larger one", "a wide one", "many groups", "many copies", "many copies of groups"],
)
def test_planning_a_small_file_takes_neither_memory_nor_time(tmp_path, arguments, said):
    """Kernels were looked up with the square of their positions, and a layer of many groups was tried as a dense one."""
    path = tmp_path / "a.trim"
    path.write_bytes(convolution(*arguments))
    assert path.stat().st_size < 1000
    done = subprocess.run([sys.executable, "-c", PLANNING, path], capture_output=True, text=True, check=True)
    first, spent = done.stdout.splitlines()
    kilobytes, seconds = spent.split()
    assert int(kilobytes) < 256 * 1024
    assert float(seconds) < 2
    assert re.search(said, first)
