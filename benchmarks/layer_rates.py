"""How close each layer comes to the peak rate of the CPU's dot product, counting nonzero blocks only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from estimates import median
from runtime_lines import LayerLine, Origin

from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.storage import load as load_graph
from paretrim.graph.types import Array
from paretrim.runtime import load, peak_multiply_adds_a_second

PROFILES = 9
BLOCK = 4
"""Input channels that one lane of a dot product takes."""


def surviving_blocks(weight: Array) -> int:
    """Nonzero blocks: four input channels of one output channel and one kernel position."""
    outputs, inputs = weight.shape[:2]
    padded = np.zeros((outputs, -(-inputs // BLOCK) * BLOCK, *weight.shape[2:]), np.bool_)
    padded[:, :inputs] = weight != 0
    return int(padded.reshape(outputs, -1, BLOCK, *weight.shape[2:]).any(axis=2).sum())


def layer_lines(network: str, graphs: Mapping[float, Path], origin: Origin, profiles: int = PROFILES) -> Iterator[LayerLine]:
    """A line for every convolution and linear layer with every share of zeros, on one thread."""
    for zeros, path in graphs.items():
        nodes = {node.name: node for node in load_graph(path).nodes if node.op in WEIGHTED}
        session = load(path)
        image = np.random.default_rng(0).integers(0, 256, session.shape, np.uint8)
        taken, peaks = [], []
        for _ in range(profiles):
            peaks.append(peak_multiply_adds_a_second(session.instruction_set))
            taken.append(session.profile(image))
        for times in zip(*taken, strict=True):
            one = times[0]
            node = nodes.get(one.name.split(" + ")[0])
            if node is None:
                continue
            positions = one.multiply_adds // one.weights
            surviving = surviving_blocks(node.tensors["weight"]) * BLOCK * positions
            # Each is divided by the peak measured at the same moment: a virtual core may alternate between two speeds for
            # seconds.
            share = median([surviving / max(time.time_ns, 1) * 1e9 / peak for time, peak in zip(times, peaks, strict=True)])
            yield LayerLine(
                network=network,
                zeros=zeros,
                layer=one.layer or one.name,
                kernel=one.kernel,
                positions=positions,
                surviving_multiply_adds=surviving,
                time_us=float(np.median([time.time_ns for time in times])) / 1e3,
                share_of_peak=share.value,
                share_of_peak_low=share.low,
                share_of_peak_high=share.high,
                peak_multiply_adds_a_second=max(peaks),
                profiles=profiles,
                origin=origin,
            )
