"""A network on its way through the stages, and its form on disk."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paretrim.errors import CorruptFile, ParetrimError
from paretrim.graph.structure import graph_of, structure_of
from paretrim.graph.types import Graph
from paretrim.history import StageOutcome
from paretrim.network.constraints import all_finite, key_of, set_mask_, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.grids import ActivationQuantizer, Grid, WeightQuantizer
from paretrim.network.network import Network
from paretrim.train.checkpoint import load_state, save_state


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network and what was done to it. Masks and quantizers are read from the network, never stored twice.

    ``mean`` and ``std`` are what its images were normalised with, in units of pixel / 255; empty where that is not known.
    ``resize`` is the short side in pixels that they were resized to before their centre was cut out, 0 where that is not known.
    """

    network: Network
    history: tuple[StageOutcome, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: int = 0
    _frozen: tuple[object, Graph | None] = field(default=(None, None), init=False, repr=False)
    """The state of the network when it was frozen, and what came of it."""

    @property
    def integers(self) -> Graph | None:
        """The integer graph of a quantized network, taking normalised images; None for any other network.

        It is frozen once, at its first use, and again if the network has been trained in the meantime. Validation, judging and
        deployment share it.

        Raises:
            ParetrimError: see :func:`paretrim.network.freeze.freeze`.
        """
        state, (known, graph) = self._state(), self._frozen
        if known != state:
            graph = freeze(self.network) if self.network.quantizers() else None
            object.__setattr__(self, "_frozen", (state, graph))
        return graph

    def with_integers(self, integers: Graph | None) -> Candidate:
        """The same candidate with an integer graph that is known already."""
        same = dataclasses.replace(self)
        object.__setattr__(same, "_frozen", (same._state(), integers))
        return same

    def _state(self) -> tuple[tuple[int, int], ...]:
        """What changes whenever a tensor of the network is replaced or written to."""
        tensors = itertools.chain(self.network.parameters(), self.network.buffers())
        return tuple((id(tensor), tensor._version) for tensor in tensors)

    @property
    def epochs(self) -> int:
        """Epochs trained so far, over all stages."""
        return sum(stage.epochs for stage in self.history)


def save_candidate(candidate: Candidate, path: Path) -> None:
    """Write network, masks, quantizers and history as one file, atomically."""
    network = candidate.network
    activations = {name: quantizer.scales for name, quantizer in network.quantizers().items()}
    weights = {
        name: {"bits": layer.quantizer.bits, "scales": layer.quantizer.scales}
        for name, layer in weighted_layers(network).items()
        if layer.quantizer is not None
    }
    facts = {
        "structure": structure_of(network.graph()),
        "activations": activations,
        "weights": weights,
        "history": [dataclasses.asdict(stage) for stage in candidate.history],
        **({"mean": candidate.mean, "std": candidate.std} if candidate.std else {}),
        **({"resize": candidate.resize} if candidate.resize else {}),
    }
    save_state(path, network.state_dict(), facts)


def load_candidate(path: Path) -> Candidate:
    """Read what :func:`save_candidate` wrote; no code of the user's network is needed.

    Raises:
        CorruptFile: the file is damaged or its parts do not fit each other.
    """
    tensors, facts = load_state(path)
    try:
        network = _restored(tensors, facts)
        history = tuple(StageOutcome(**stage) for stage in facts["history"])
        mean, std = (tuple(map(float, facts.get(key, ()))) for key in ("mean", "std"))
        resize = int(facts.get("resize", 0))
    except (KeyError, TypeError, ValueError, RuntimeError, ParetrimError) as error:
        raise CorruptFile(f"'{path}' does not hold a candidate ({error}); delete it and run the same command again") from error
    return Candidate(network.eval(), history, mean, std, resize)


def _restored(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Network:
    by_node: dict[str, dict[str, Any]] = {}
    for node in facts["structure"]["nodes"]:
        key = key_of(str(node["name"]))
        by_node[node["name"]] = {name: tensors[f"layers.{key}.{name}"].numpy() for name in node["tensors"]}
    network = Network(graph_of(facts["structure"], by_node))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not all_finite(tensor):
            raise CorruptFile(f"tensor '{name}' holds NaN or infinity")
    for name, layer in weighted_layers(network).items():
        mask = _typed(tensors, f"layers.{key_of(name)}.mask", torch.bool)
        if mask is not None:
            set_mask_(layer, mask)
        layer.alive = _vector(tensors, f"layers.{key_of(name)}.alive", len(layer.weight))
        if name in facts["weights"]:
            settings = facts["weights"][name]
            layer.quantizer = WeightQuantizer(layer.weight.detach(), bits=int(settings["bits"]), scales=settings["scales"])
            place = f"layers.{key_of(name)}.quantizer"
            layer.quantizer.price = _vector(tensors, f"{place}.price", len(layer.weight))
            layer.quantizer.lengths = _vector(tensors, f"{place}.lengths", layer.quantizer.top + 1)
    for name, batch_norm in network.batch_norms().items():
        batch_norm.alive = _vector(tensors, f"layers.{key_of(name)}.alive", len(batch_norm.gamma))
    for name, scales in facts["activations"].items():
        network.set_grid_(name, ActivationQuantizer(Grid(1.0, 0), scales=scales))
    network.load_state_dict(
        {name: tensor.to(torch.float32) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    )
    return network


def _vector(tensors: Mapping[str, Tensor], key: str, count: int) -> Tensor | None:
    """So many float32 under ``key``, if there are any."""
    found = _typed(tensors, key, torch.float32)
    if found is not None and found.shape != (count,):
        raise ValueError(f"'{key}' has shape {tuple(found.shape)} and must have {(count,)}")
    return found


def _typed(tensors: Mapping[str, Tensor], key: str, dtype: torch.dtype) -> Tensor | None:
    """The tensor under ``key``, if there is one; of another type it would be calculated with in another way."""
    found = tensors.get(key)
    if found is not None and found.dtype is not dtype:
        raise ValueError(f"'{key}' is {found.dtype} and must be {dtype}")
    return found
