"""The integer graph computed by torch, bit for bit as the reference interpreter: accuracy of the integers that will ship.

Values are whole numbers in float tensors. A float32 sum of whole numbers is exact as long as it stays below 2**24, whatever the
order; a convolution that might exceed that is split over its input channels. On a GPU, where fast convolutions round (TF32,
Winograd), everything is float64. Layers that compute in float32 are not torch's: ``float_layers.py`` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paretrim.errors import UnsupportedOperation
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.channel_rules import groups_of
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.storage import from_bytes, to_bytes
from paretrim.graph.types import INPUT, Array, Graph, Node, ValueType
from paretrim.network import float_layers
from paretrim.network.convolution import convolve
from paretrim.network.torch_forms import integer_form
from paretrim.torch_settings import usual_settings

_EXACT = 2**24
"""Float32 holds every whole number up to here."""


class IntegerNetwork(nn.Module):
    """Evaluates an integer graph that takes normalised float32 images [N, C, H, W]; outputs float32 [N, ...].

    It never changes: it can be copied and pickled, and the copy gives the same bits.

    Raises:
        UnsupportedOperation: the graph takes pixels, or is not quantized.
    """

    def __init__(self, graph: Graph, device: torch.device) -> None:
        super().__init__()
        if graph.input.takes_pixels or not graph.quantized:
            raise UnsupportedOperation(
                "only an integer graph that takes normalised images can be evaluated here; freeze a quantized "
                "network without a spec"
            )
        self.graph, self.device = graph, device
        self.types: Mapping[str, ValueType] = graph.types
        self.settings: Mapping[str, Settings] = {node.name: settings_of(node) for node in graph.nodes}
        self.real = torch.float32 if device.type == "cpu" else torch.float64
        layers = [node for node in graph.nodes if node.op in WEIGHTED]
        self._weights = {node.name: self._parts(node) for node in layers if self._reads_integers(node)}
        self._floats = {
            node.name: float_layers.weighted_layer(node, self.types[node.inputs[0]])
            for node in layers
            if not self._reads_integers(node)
        }

    def __reduce__(self) -> tuple[Callable[..., IntegerNetwork], tuple[object, ...]]:
        """Pickle the graph: the rest is made from it."""
        return _restored, (to_bytes(self.graph), self.device, self.training)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits float32 [N, K] of normalised images; a tuple of all outputs if there are several."""
        found = self.outputs(images)
        return found[0] if len(found) == 1 else found

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Every output float32 [N, ...] of normalised images."""
        with usual_settings(), torch.no_grad():
            return self._outputs(images)

    def _outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        values = {INPUT: images.float()}
        last = {name: node.name for node in self.graph.nodes for name in node.inputs}
        for node in self.graph.nodes:
            values[node.name] = self._compute(node, [values[name] for name in node.inputs])
            for name in set(node.inputs):
                if last[name] == node.name and name not in self.graph.outputs:
                    del values[name]
        return tuple(values[name].float() for name in self.graph.outputs)

    def _compute(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self._floats:
            return self._floats[node.name](inputs[0])
        if node.op in WEIGHTED:
            return self._weighted(node, inputs[0])
        if not node.type.quantized and not self._reads_integers(node):
            types = tuple(self.types[name] for name in node.inputs)
            return float_layers.other_layer(node, inputs, types, self.graph.input)
        return integer_form(node)(self, node, inputs)

    def _reads_integers(self, node: Node) -> bool:
        return self.types[node.inputs[0]].quantized

    def tensor(self, array: Array) -> Tensor:
        """An array as a tensor of the type that whole numbers are computed in."""
        return torch.from_numpy(np.array(array)).to(self.device, self.real)

    def _parts(self, node: Node) -> tuple[Tensor, ...]:
        """The weight, cut along its input channels so that the sum of each part is exact."""
        weight = node.tensors["weight"].astype(np.int64)
        bound = int(np.abs(weight).reshape(len(weight), -1).sum(1).max()) * 255
        if bound < _EXACT or self.real == torch.float64:
            return (self.tensor(weight),)
        if groups_of(node) != 1:
            return (self.tensor(weight).double(),)
        count = min(-(-bound // _EXACT) * 2, weight.shape[1])
        return tuple(self.tensor(part) for part in np.array_split(weight, count, axis=1))

    def _weighted(self, node: Node, value: Tensor) -> Tensor:
        source = self.types[node.inputs[0]]
        centered = value - source.zero_point
        settings, slides = self.settings[node.name], OPERATIONS[node.op].multiplies == "windows"
        parts = self._weights[node.name]
        rows = (-1, *[1] * (value.dim() - 2))
        # float64 holds sum and bias exactly; one rounding to float32 follows, as from an int32.
        total = torch.from_numpy(node.tensors["bias"].astype(np.float64)).to(self.device).reshape(rows)
        sizes = [part.shape[1] * groups_of(node) for part in parts]
        for weight, part in zip(parts, torch.split(centered, sizes, dim=1), strict=True):
            exact = part.to(weight.dtype)
            total = total + (convolve(exact, weight, None, settings) if slides else F.linear(exact, weight))
        accumulator = total.float()
        scales = np.float32(source.scale) * node.tensors["weight_scale"].astype(np.float32)
        if not node.type.quantized:
            return accumulator * torch.from_numpy(scales).to(self.device).reshape(rows)
        multiplier = torch.from_numpy(scales / np.float32(node.type.scale)).to(self.device).reshape(rows)
        return self.requantize(accumulator, multiplier, node)

    def requantize(self, accumulator: Tensor, multiplier: Tensor | float, node: Node) -> Tensor:
        """``requant`` of ``docs/integer-graph.md`` on whole numbers in float32."""
        settings = self.settings[node.name]
        steps = torch.round(accumulator.float() * multiplier) + node.type.zero_point
        return steps.clamp(settings.integer("lo"), settings.integer("hi")).to(self.real)


def _restored(content: bytes, device: torch.device, training: bool) -> IntegerNetwork:
    made = IntegerNetwork(from_bytes(content), device)
    made.train(training)
    return made
