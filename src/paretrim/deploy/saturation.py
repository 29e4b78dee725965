"""CPUs that add pairs of 8-bit products in 16 bits: what runtimes of ONNX files do there, and how results stay exact.

Without VNNI, x86 CPUs have one instruction for 8-bit products, ``vpmaddubsw``: it adds two products of uint8 and int8 in int16
and saturates. Two products fit if no weight is above 64 in magnitude, as with weights of 7 bits. The native runtime splits larger
weights in two (``native/kernels/pairs.h``). ONNX Runtime avoids the instruction if its session asks for it, and is slower then.
OpenVINO has no such setting.

Source: ONNX Runtime, onnxruntime_session_options_config_keys.h, "session.x64quantprecision".
"""

from __future__ import annotations

import numpy as np

from paretrim.bench.types import Machine
from paretrim.graph.types import Graph

EXACT_SUMS = ("session.x64quantprecision", "1")
"""Entry of ONNX Runtime's session configuration: on such CPUs weights are converted to uint8 and products added in 32 bits."""

LARGEST_SAFE_WEIGHT = 32767 // (2 * 255)
"""Two products of a weight up to this and a uint8 value fit in int16."""

SATURATES = (
    "this CPU has no VNNI, so OpenVINO, and ONNX Runtime unless its sessions set session.x64quantprecision to 1, add pairs of "
    "8-bit products of ONNX files in 16 bits, which saturate; use the .trim file, or quantize with 7-bit weights"
)


def may_saturate(graph: Graph, machine: Machine) -> bool:
    """Whether a runtime that adds pairs of 8-bit products in 16 bits could saturate on this machine."""
    if machine.has_dot_product:
        return False
    weights = (node.tensors["weight"] for node in graph.nodes if "weight" in node.tensors)
    return any(w.dtype == np.int8 and w.size and np.abs(w.astype(np.int16)).max() > LARGEST_SAFE_WEIGHT for w in weights)
