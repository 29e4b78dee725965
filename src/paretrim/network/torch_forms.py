"""What torch does for each operation: with gradients on floats, and bit for bit on integers. A new operation gets a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import Node
from paretrim.network import float_forms, integer_forms, layers
from paretrim.network.float_forms import Layer
from paretrim.network.integer_forms import Integers

RealForm = Callable[[Settings, Layer, list[Tensor]], Tensor]
IntegerForm = Callable[[Integers, Node, list[Tensor]], Tensor]


@dataclass(frozen=True)
class TorchForm:
    """What torch does for an operation; None if such graphs do not hold it, or if the network computes it itself.

    ``layer`` makes the module that holds a node's tensors or state, for operations that have any.
    """

    real: RealForm | None
    integer: IntegerForm | None
    layer: Callable[[Node, layers.TensorOf], nn.Module] | None = None


def real_form(node: Node) -> RealForm:
    """What torch does for a node of a float graph.

    Raises:
        UnsupportedOperation: float graphs have no such operation.
    """
    form = TORCH_FORMS[node.op].real
    if form is None:
        raise UnsupportedOperation(f"node '{node.name}' (layer '{node.layer}') is '{node.op}', which no float graph holds")
    return form


def integer_form(node: Node) -> IntegerForm:
    """What torch does for a node of an integer graph.

    Raises:
        UnsupportedOperation: integer graphs have no such operation.
    """
    form = TORCH_FORMS[node.op].integer
    if form is None:
        raise UnsupportedOperation(f"node '{node.name}' (layer '{node.layer}') is '{node.op}', which no integer graph holds")
    return form


def _clamp(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    return inputs[0].clamp(settings.number("minimum"), settings.number("maximum"))


def _adaptive(settings: Settings, _: Layer, inputs: list[Tensor]) -> Tensor:
    return F.adaptive_avg_pool2d(inputs[0], settings.pair("output_size"))


def _moving(form: RealForm) -> TorchForm:
    """The form of an operation that only moves or selects values: the same on floats and on integers."""
    return TorchForm(form, lambda network, node, inputs: form(network.settings[node.name], None, inputs))


TORCH_FORMS: Mapping[str, TorchForm] = MappingProxyType(
    {
        "normalize": TorchForm(None, None),  # torch is given normalised images
        "quantize": TorchForm(None, integer_forms.quantize),
        "dequantize": TorchForm(None, integer_forms.dequantize),
        "conv2d": TorchForm(float_forms.conv2d, None, layers.weighted),  # IntegerNetwork splits weights whose sums are large
        "linear": TorchForm(float_forms.linear, None, layers.weighted),
        "batch_norm": TorchForm(float_forms.module, integer_forms.batch_norm, layers.normalisation),
        "relu": TorchForm(lambda _, __, inputs: F.relu(inputs[0]), integer_forms.relu),
        "clamp": TorchForm(_clamp, None),
        "pointwise": TorchForm(float_forms.pointwise, integer_forms.pointwise),
        "add": TorchForm(lambda _, __, inputs: inputs[0] + inputs[1], integer_forms.add),
        "mul": TorchForm(lambda _, __, inputs: inputs[0] * inputs[1], integer_forms.mul),
        "matmul": TorchForm(float_forms.matmul, integer_forms.matmul),
        "concat": TorchForm(lambda _, __, inputs: torch.cat(inputs, dim=1), integer_forms.concat),
        "slice": _moving(float_forms.cut),
        "pad": TorchForm(float_forms.pad, integer_forms.pad),
        "channel_shuffle": _moving(float_forms.channel_shuffle),
        "pixel_shuffle": _moving(float_forms.pixel_shuffle),
        "pixel_unshuffle": _moving(float_forms.pixel_unshuffle),
        "flatten": _moving(lambda _, __, inputs: inputs[0].flatten(1)),
        "unflatten": _moving(lambda _, __, inputs: inputs[0][:, :, None, None]),
        "dropout": TorchForm(float_forms.module, None, layers.dropout),
        "max_pool": TorchForm(float_forms.max_pool, integer_forms.max_pool),
        "avg_pool": TorchForm(float_forms.avg_pool, integer_forms.window_average),
        "adaptive_avg_pool": TorchForm(_adaptive, integer_forms.adaptive_average),
    }
)

IN_PLACE: Mapping[str, RealForm] = MappingProxyType(
    {
        "relu": lambda _, __, inputs: inputs[0].relu_(),
        "clamp": lambda settings, _, inputs: inputs[0].clamp_(settings.number("minimum"), settings.number("maximum")),
    }
)
"""The same results written over the input, without new memory. Only if neither a gradient nor another node needs the input."""

OWN_MEMORY = WEIGHTED | {"batch_norm", "add"}
"""Operations whose result is never a view of another value, so that it may be overwritten."""
