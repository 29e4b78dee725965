"""Operations between floats, integers and pixels."""

from __future__ import annotations

import numpy as np

from paretrim.errors import CorruptFile
from paretrim.graph import functions
from paretrim.graph.operations import channel_rules
from paretrim.graph.operations.operation import NodeCall, Operation, TensorRule, always, same_shape
from paretrim.graph.operations.requantize import centered, clamped
from paretrim.graph.windows import Values


def _look_up_pixels(table: Values, pixels: Values) -> Values:
    """``table[c, p]`` for pixels [N, C, H, W]."""
    return np.asarray(table[np.arange(table.shape[0])[:, None, None], pixels])


def _normalize(call: NodeCall) -> Values:
    return _look_up_pixels(functions.pixel_values(call.spec).astype(np.float32), call.inputs[0])


def _quantize_pixels(call: NodeCall) -> Values:
    return _look_up_pixels(call.node.tensors["table"], call.inputs[0])


def _quantize(call: NodeCall) -> Values:
    node, x = call.node, call.inputs[0]
    if np.isnan(x).any():
        raise CorruptFile(
            f"node '{node.name}' (layer '{node.layer}') would quantize NaN: a weight or scale before it overflows float32"
        )
    return clamped(np.rint(x / np.float32(node.type.scale)), node.type.zero_point, 0, 255)


def _dequantize(call: NodeCall) -> Values:
    return np.asarray(centered(call.inputs[0], call.types[0]) * np.float32(call.types[0].scale))


NORMALIZE = Operation(
    name="normalize",
    number=0,
    meaning="per-channel (x / 255 - mean) / std on pixels; float output",
    shape=same_shape,
    real=None,
    integer=_normalize,  # pixels are uint8
    channels=channel_rules.PASSING,
    grid="pixels",
    scaling=always("own"),
    results=None,
)

QUANTIZE = Operation(
    name="quantize",
    number=1,
    meaning="float32 or pixels -> uint8",
    shape=same_shape,
    real=_quantize,
    integer=_quantize_pixels,
    channels=None,
    grid="enters",
    scaling=always("near"),
    results=None,
    table=lambda _, __, output, spec: functions.pixel_table(spec, output),
    integer_tensors={"table": TensorRule("uint8", "tables")},
)

DEQUANTIZE = Operation(
    name="dequantize",
    number=2,
    meaning="uint8 -> float32",
    shape=same_shape,
    real=None,
    integer=_dequantize,
    channels=None,
    grid="leaves",
    scaling=always("homogeneous"),
    results=None,
)
