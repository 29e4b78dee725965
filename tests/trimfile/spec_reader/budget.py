"""Budget: the work that a file of a given size may cause."""

from __future__ import annotations

import math

from paretrim.graph.types import ValueType
from spec_reader.cursor import require
from spec_reader.structure import Layer, Structure, widens


def check_budget(structure: Structure, size: int) -> None:
    """Refuse a structure that needs more than a file of ``size`` bytes may."""
    last = {value: index for index, layer in enumerate(structure.layers) for value in layer.inputs}
    last |= dict.fromkeys(structure.outputs, len(structure.layers))
    parts = weights = numbers = sums = 0
    live = largest = value_bytes(structure.types[0])
    for index, layer in enumerate(structure.layers):
        parts += 1 + len(layer.inputs)
        weights += sum(tensor.bytes for tensor in layer.tensors.values()) + 16 * channels(layer.type)
        numbers += sum(tensor.count for tensor in layer.tensors.values())
        weights += 4 * layer.tensors["weight"].count - layer.tensors["weight"].bytes if widens(layer) else 0
        sums += multiply_adds(layer)
        live += value_bytes(layer.type)
        largest = max(largest, live)
        live -= sum(value_bytes(structure.types[value]) for value in set(layer.inputs) if last[value] == index)
        live -= value_bytes(layer.type) if index + 1 not in last else 0
    require(parts <= 2**14 + size / 64, f"it would take {parts} nodes and inputs")
    require(weights <= 2**24 + 2**11 * size, f"it would take {weights} bytes of weights and tables")
    require(numbers <= max(2**28, 2**7 * size), f"it would take {numbers} numbers in weights and tables")
    require(largest <= 2**28, f"it would take {largest} bytes of values at once")
    require(sums <= 2**34 + 2**18 * size, f"it would take {sums} multiply-adds for one image")


def check_parameters(decoded: int, size: int) -> None:
    """Refuse parameters of more bytes than a file of ``size`` bytes may have."""
    require(decoded <= 2**22 + 2**8 * size, f"it would take {decoded} bytes of parameters")


def check_weights(modelled: int, size: int) -> None:
    """Refuse weights other than 0 that models decoded, of more bytes than a file of ``size`` bytes may have."""
    require(modelled <= 2**22 + 2**8 * size, f"it would take {modelled} bytes of weights other than 0")


def channels(kind: ValueType) -> int:
    """The first extent."""
    return kind.shape[0] if kind.shape else 1


def value_bytes(kind: ValueType) -> int:
    """Size of a value in memory, with channels rounded up to a multiple of 4."""
    rest = math.prod(kind.shape[1:])
    return -(-channels(kind) // 4) * 4 * rest * (1 if kind.quantized else 4)


def multiply_adds(layer: Layer) -> int:
    """Multiply-adds of one node."""
    elements = math.prod(layer.type.shape)
    if layer.operation in ("conv2d", "linear") and "weight" in layer.tensors:
        return layer.tensors["weight"].count * math.prod(layer.type.shape[1:])
    if layer.operation in ("max_pool", "avg_pool"):
        window = layer.attributes.get("window")
        return elements * math.prod(window) if isinstance(window, tuple) else elements
    if layer.operation == "adaptive_avg_pool" and layer.source:
        return max(elements, math.prod(layer.source.shape))
    if layer.operation == "matmul" and layer.source and len(layer.source.shape) == 3:
        return elements * layer.source.shape[2]
    return elements
