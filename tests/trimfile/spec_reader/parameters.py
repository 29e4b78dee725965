"""Parameters: the elements of tensors that are not large."""

from __future__ import annotations

import numpy as np

from spec_reader.container import Record
from spec_reader.cursor import Bytes, require
from spec_reader.numbers_and_text import Numbers, predictions, steps
from spec_reader.stream import Stream
from spec_reader.structure import FLOATS, Layer, Structure, bits_of


def read_parameters(record: Record, structure: Structure) -> None:
    """The elements of all tensors that are not large."""
    small = structure.tensors(large=False)
    size = sum(tensor.bytes for _, tensor in small)
    require(size == record.decoded, f"it claims {record.decoded} bytes, and its tensors have {size}")
    if record.coding == 0:
        file = Bytes(record.data)
        for _, tensor in small:
            tensor.elements = np.frombuffer(file.take(tensor.bytes), bits_of(tensor.element)).tolist()
        file.end()
        return
    stream = Stream(record.data)
    numbers = Numbers(stream)
    for layer, tensor in small:
        bias = layer.tensors.get("bias")
        if tensor is bias and has_biases(layer):
            continue
        if tensor.element in FLOATS:
            tensor.elements = numbers.floats(tensor.count, tensor.element)
        elif tensor.element == "<i4":
            tensor.elements = numbers.integers(tensor.count)
        else:
            tensor.elements = numbers.bytes(tensor.count, predictions(structure.input, layer, tensor))
        if tensor.name == "weight_scale" and bias and has_biases(layer):
            bias.elements = numbers.biases(steps(layer, tensor))
    stream.end()


def has_biases(layer: Layer) -> bool:
    """Whether the node's bias is coded behind its weight_scale."""
    bias, scale = layer.tensors.get("bias"), layer.tensors.get("weight_scale")
    if bias is None or scale is None or layer.source is None or bias.element != "<i4" or scale.element != "<f4" or scale.large:
        return False
    return bias.count == scale.count and layer.type.quantized
