"""The captured network as an ``nn.Module`` that can be trained: it walks the nodes of the float graph.

Layers keep the user's names (``layer1.0.conv1``). Fake quantizers are on the values that the integer graph will requantize, so
``freeze`` only has to round what is already there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from paretrim.graph.fold import merge_pads
from paretrim.graph.operations.attributes import Settings
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.graph.types import INPUT, Array, Graph, Node
from paretrim.network.constraints import WeightedLayer, key_of, name_of
from paretrim.network.grids import ActivationGrid
from paretrim.network.layers import BatchNorm, copied, taken_over
from paretrim.network.places import value_at
from paretrim.network.torch_forms import IN_PLACE, OWN_MEMORY, TORCH_FORMS, real_form

_INPUT_KEY = key_of(INPUT)


@dataclass(frozen=True, eq=False)
class _GraphStep:
    """One node as it is computed: its checked attributes, and the values that no later step reads.

    ``key`` is that of its layer and of its grid. ``disposable``: its input is one of those values and has memory of its own,
    which the result may reuse.
    """

    node: Node
    key: str
    settings: Settings
    finished: tuple[str, ...]
    disposable: bool

    def __deepcopy__(self, memo: object) -> _GraphStep:
        return self  # nothing in it changes


class Network(nn.Module):
    """A trainable network built from a float graph. ``structure`` is that graph without its tensors.

    Its tensors are copies; with ``owned`` it takes over those arrays of the graph that it can, which nobody else may change.
    """

    def __init__(self, graph: Graph, *, owned: bool = False) -> None:
        super().__init__()
        self.structure = replace(graph, nodes=tuple(replace(node, tensors={}) for node in graph.nodes))
        self.layers = nn.ModuleDict()
        tensor_of = taken_over() if owned else copied
        for node in graph.nodes:
            layer = TORCH_FORMS[node.op].layer
            if layer is not None:
                self.layers[key_of(node.name)] = layer(node, tensor_of)
        self.grids = nn.ModuleDict()
        self._set_steps_()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits [N, K] of normalised images [N, C, H, W]; a tuple of all outputs [N, ...] if there are several."""
        found = self.outputs(x)
        return found[0] if len(found) == 1 else found

    def outputs(self, x: Tensor) -> tuple[Tensor, ...]:
        """Every output [N, ...] of normalised images [N, C, H, W]."""
        found = self.features(x, ())
        return tuple(found[name] for name in self.structure.outputs)

    def features(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The values with these names, and the outputs under theirs."""
        kept = {*names, *self.structure.outputs}
        values = {INPUT: self._on_grid(_INPUT_KEY, x)}
        found = {INPUT: values[INPUT]} if INPUT in kept else {}
        for step in self._steps_for(x, kept):
            name = step.node.name
            values[name] = self._computed(step, values, kept)
            if name in kept:
                found[name] = values[name]
            for finished in step.finished:
                del values[finished]
        return found

    def walk(self, x: Tensor) -> Iterator[tuple[Node, Tensor]]:
        """Compute layer by layer: every weighted node with its input, before it is computed.

        The layer may be changed before the next one is requested; later values are computed with the changed layer.
        """
        values = {INPUT: self._on_grid(_INPUT_KEY, x)}
        for step in self._steps:
            if step.node.op in WEIGHTED:
                yield step.node, values[step.node.inputs[0]]
            values[step.node.name] = self._computed(step, values, set())
            for finished in step.finished:
                del values[finished]

    def _computed(self, step: _GraphStep, values: Mapping[str, Tensor], kept: set[str]) -> Tensor:
        """The result of a step on its grid; it may reuse the memory of an input that no later step needs."""
        node, inputs = step.node, [values[name] for name in step.node.inputs]
        layers = self.layers
        layer = layers[step.key] if step.key in layers else None  # noqa: SIM401  a ModuleDict has no get
        overwrite = not torch.is_grad_enabled() and step.disposable and kept.isdisjoint(node.inputs)
        form = IN_PLACE[node.op] if overwrite else real_form(node)
        return self._on_grid(step.key, form(step.settings, layer, inputs))

    def _steps_for(self, x: Tensor, kept: set[str]) -> tuple[_GraphStep, ...]:
        """The steps to run: on a CPU without gradients, convolutions pad their input, faster and with the same result."""
        fast = x.device.type == "cpu" and not torch.is_grad_enabled() and self._merged_pads.isdisjoint(kept)
        return self._fast_steps if fast and not any(key_of(name) in self.grids for name in self._merged_pads) else self._steps

    def _set_steps_(self) -> None:
        merged = merge_pads(self.structure)
        self._steps, self._fast_steps = _steps(self.structure), _steps(merged)
        self._merged_pads = frozenset(self.structure.types) - frozenset(merged.types)

    def shape_at(self, path: str) -> tuple[int, ...]:
        """Shape, without the batch, of what the module at ``path`` returns; see :func:`paretrim.network.places.value_at`.

        Raises:
            InvalidRecipe: there is no such module.
        """
        return self.structure.types[value_at(self.structure, path)].shape

    def _on_grid(self, key: str, x: Tensor) -> Tensor:
        grids = self.grids
        return cast(Tensor, grids[key](x)) if key in grids else x

    def set_grid_(self, name: str, quantizer: ActivationGrid) -> None:
        """Put a fake quantizer on the value ``name``."""
        self.grids[key_of(name)] = cast(nn.Module, quantizer)

    def quantizers(self) -> dict[str, ActivationGrid]:
        """Activation quantizers by the name of their value."""
        return {name_of(key): cast(ActivationGrid, module) for key, module in self.grids.items()}

    def batch_norms(self) -> dict[str, BatchNorm]:
        """BatchNorm layers by name."""
        return {name_of(key): module for key, module in self.layers.items() if isinstance(module, BatchNorm)}

    def become_(self, other: Network) -> None:
        """Take over the structure, layers and grids of ``other``; for stages that end with a smaller network."""
        self.structure, self.layers, self.grids = other.structure, other.layers, other.grids
        self._set_steps_()

    def graph(self, *, weights: bool = True, shared: bool = False) -> Graph:
        """The float graph with the present tensors: weights masked, not rounded; BatchNorm not folded.

        Without ``weights`` those of convolutions and linear layers are zeros of the right shape. With ``shared``, arrays may lie
        in the memory of parameters and change with them; ``unshared`` copies those that are to be kept.
        """
        arrays = (self._arrays(node.name, weights=weights) for node in self.structure.nodes)
        nodes = tuple(replace(node, tensors=own) for node, own in zip(self.structure.nodes, arrays, strict=True))
        graph = replace(self.structure, nodes=nodes)
        return graph if shared else unshared(graph)

    def _arrays(self, name: str, *, weights: bool) -> dict[str, Array]:
        if key_of(name) not in self.layers:
            return {}
        module = self.layers[key_of(name)]
        if isinstance(module, WeightedLayer):
            shape = tuple(module.weight.shape)
            arrays = {"weight": _numpy(module.masked_weight()) if weights else np.broadcast_to(np.float32(0), shape)}
            bias = module.effective_bias()
            return arrays if bias is None else arrays | {"bias": _numpy(bias)}
        if isinstance(module, BatchNorm):
            alive = 1.0 if module.alive is None else module.alive
            return {
                "gamma": _numpy(module.gamma * alive),
                "beta": _numpy(module.beta * alive),
                "mean": _numpy(module.mean),
                "variance": _numpy(module.variance),
            }
        return {}


def _numpy(tensor: Tensor) -> Array:
    return cast(Array, tensor.detach().cpu().numpy())


def unshared(graph: Graph) -> Graph:
    """The same graph with arrays that nobody else changes."""

    def own(array: Array) -> Array:
        return array if array.flags.owndata or not array.flags.writeable else array.copy()

    nodes = (replace(node, tensors={name: own(array) for name, array in node.tensors.items()}) for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _steps(graph: Graph) -> tuple[_GraphStep, ...]:
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    own = {node.name for node in graph.nodes if node.op in OWN_MEMORY}
    return tuple(
        _GraphStep(
            node,
            key_of(node.name),
            settings_of(node),
            tuple(name for name in dict.fromkeys(node.inputs) if last[name] == index),
            node.op in IN_PLACE and last[node.inputs[0]] == index and node.inputs[0] in own,
        )
        for index, node in enumerate(graph.nodes)
    )
