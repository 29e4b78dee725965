"""Zeros as shares of the prunable weights and of all weights; the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, cast

from paretrim.history import StageOutcome


class CountedLayer(Protocol):
    """A weighted layer, counted."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""

    @property
    def zeros(self) -> int:
        """Weights that are zero."""

    @property
    def weights(self) -> int:
        """All weights."""


def prunable_sparsity(layers: Sequence[CountedLayer], history: Sequence[StageOutcome]) -> float | None:
    """Share of zeros in the layers that took part in pruning weights, in [0, 1]; None if no stage pruned weights.

    ``layers`` are all weighted layers in the order of the network. A layer takes part as
    :class:`paretrim.stages.prune.stage.Prune` says: not the first convolution, the last layer or a depthwise convolution, unless
    the stage's settings include it.
    """
    taken: set[int] = set()
    stages = [stage for outcome in history for stage in _prune_stages(outcome.settings)]
    for stage in stages:
        taken |= set(range(len(layers))) - _left_out(layers, stage)
    weights = sum(layers[i].weights for i in taken)
    return sum(layers[i].zeros for i in taken) / weights if weights else None


def _prune_stages(settings: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Settings of the stages that prune weights, including parts of simultaneous stages."""
    parts = settings.get("parts", ())
    for part in (settings, *cast(Sequence[Mapping[str, object]], parts)):
        if part.get("stage") == "prune" and part.get("pattern") != "channel":
            yield part


def _left_out(layers: Sequence[CountedLayer], stage: Mapping[str, object]) -> set[int]:
    convolutions = [i for i, layer in enumerate(layers) if len(layer.shape) == 4]
    first = convolutions[:1]
    depthwise = [i for i in convolutions[1:] if layers[i].shape[1] == 1]
    found = [] if stage.get("first") else first
    found = found if stage.get("last") else [*found, len(layers) - 1]
    return set(found if stage.get("depthwise") else [*found, *depthwise])
