"""``torch.einsum`` written with permutations, products, sums, and layers and matrix products."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def einsum(equation: str, tensors: Sequence[Tensor]) -> Tensor:
    """What ``torch.einsum`` computes where it is a matrix over one axis, a matrix product, or products that are then summed.

    Raises:
        NotImplementedError: it is none of these.
    """
    inputs, output = _labels(equation, tensors)
    if any(len(set(labels)) < len(labels) for labels in (*inputs, output)):
        raise NotImplementedError("diagonals")
    if len(tensors) == 2:
        first, second = ((tensor, labels) for tensor, labels in zip(tensors, inputs, strict=True))
        for value, weight in ((first, second), (second, first)):
            if (made := _layer(*value, *weight, output)) is not None:
                return _ordered(*made, output)
        for left, right in ((first, second), (second, first)):
            if (product := _matrix_product(*left, *right, output)) is not None:
                return product
    return _ordered(*_product(tensors, inputs), output)


def _labels(equation: str, tensors: Sequence[Tensor]) -> tuple[list[str], str]:
    """The letter of every axis of all inputs and of the result, with ``...`` written out."""
    given, _, result = equation.replace(" ", "").partition("->")
    inputs = given.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = [tensor.dim() - len(labels.replace("...", "")) for tensor, labels in zip(tensors, inputs, strict=True)]
    count = max([0, *(more for more, labels in zip(hidden, inputs, strict=True) if "..." in labels)])
    rest = "".join(free[:count])
    written = [labels.replace("...", rest[count - more :]) for more, labels in zip(hidden, inputs, strict=True)]
    if "->" not in equation:
        once = sorted(letter for letter in set(given) if letter.isalpha() and given.count(letter) == 1)
        return written, rest + "".join(once)
    return written, result.replace("...", rest)


def _layer(value: Tensor, labels: str, weight: Tensor, pair: str, output: str) -> tuple[Tensor, str] | None:
    """A product with a matrix over one axis of a value with a batch, which is the first axis of the result; else None."""
    batch = output[:1]
    over, made = set(pair) & set(labels), set(pair) - set(labels)
    if labels[:1] != batch or batch in pair or len(pair) != 2 or len(over) != 1 or not made <= set(output) or over & set(output):
        return None
    axis, new = over.pop(), made.pop()
    matrix = weight if pair == new + axis else weight.t()
    result = labels.replace(axis, new)
    if labels[-1] == axis:
        return F.linear(value, matrix), result
    if len(labels) == 4 and labels[1] == axis:
        return F.conv2d(value, matrix[:, :, None, None]), result
    return None


def _matrix_product(left: Tensor, rows: str, right: Tensor, columns: str, output: str) -> Tensor | None:
    """A matrix product for every image and perhaps every channel, where all axes stand as it has them; else None."""
    summed = "".join(letter for letter in rows if letter in columns and letter not in output)
    shared = "".join(letter for letter in rows if letter in columns and letter in output)
    height, width = ("".join(letter for letter in labels if letter not in shared + summed) for labels in (rows, columns))
    turned = columns == shared + width + summed
    if not (summed and shared and height and width) or rows != shared + height + summed or output != shared + height + width:
        return None
    if not turned and columns != shared + summed + width:
        return None
    first = _joined(_joined(left, len(shared) + len(height), len(summed)), len(shared), len(height))
    parts = (width, summed) if turned else (summed, width)
    second = _joined(_joined(right, len(shared) + len(parts[0]), len(parts[1])), len(shared), len(parts[0]))
    product = first @ (second.transpose(-1, -2) if turned else second)
    for place, sizes in ((-1, _sizes(right, columns, width)), (-1 - len(width), _sizes(left, rows, height))):
        product = torch.unflatten(product, place, sizes) if len(sizes) > 1 else product
    return product


def _joined(value: Tensor, start: int, count: int) -> Tensor:
    """``count`` axes from ``start`` as one."""
    return value.flatten(start, start + count - 1) if count > 1 else value


def _sizes(value: Tensor, labels: str, letters: str) -> list[int]:
    return [value.shape[labels.index(letter)] for letter in letters]


def _product(tensors: Sequence[Tensor], inputs: Sequence[str]) -> tuple[Tensor, str]:
    """The product of all inputs with equal letters beside each other, the axes as the largest input has them."""
    order = max(inputs, key=len)
    if not set("".join(inputs)) <= set(order):
        raise NotImplementedError("a product that has more axes than its parts")
    total: Tensor | None = None
    for tensor, labels in zip(tensors, inputs, strict=True):
        places = sorted(range(len(labels)), key=lambda place: order.index(labels[place]))
        aligned = tensor if places == sorted(places) else tensor.permute(places)
        for axis, letter in enumerate(order):
            if letter not in labels:
                aligned = aligned.unsqueeze(axis)
        total = aligned if total is None else total * aligned
    assert total is not None
    return total, order


def _ordered(value: Tensor, labels: str, output: str) -> Tensor:
    """A value summed over the axes that the result has not, and its axes in the order of the result."""
    if gone := [axis for axis, letter in enumerate(labels) if letter not in output]:
        value = value.sum(gone)
    left = [letter for letter in labels if letter in output]
    places = [left.index(letter) for letter in output]
    return value if places == sorted(places) else value.permute(places)
