"""A network's decisions on batches it does not learn from, and their metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import CorruptFile, DataUnavailable, UnsupportedOperation
from paretrim.graph.types import Graph
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.runtime import plan
from paretrim.train.execution import fast_batches
from paretrim.train.task import CLASSIFICATION, Task

_Judged = Callable[[Tensor], tuple[Tensor, ...]]
"""Normalised images [N, C, H, W] to every output [N, ...]."""


def predictions(
    network: Network,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    task: Task = CLASSIFICATION,
    integers: Graph | None = None,
) -> tuple[Tensor, Tensor]:
    """Decisions of the task and labels, [N, ...] each, on the CPU: of classes int64 [N]. The mode of the network is restored.

    A network that is not quantized computes in float32. A quantized one is judged by the integers that will ship, bit for bit
    those of the reference interpreter, not by the float simulation of them that it trains with: in the native runtime on a CPU,
    in torch on a GPU. ``integers`` is its integer graph, where that is known already.

    Raises:
        DataUnavailable: there are no batches, or labels do not fit the network.
    """
    training = network.training
    network.eval().to(device)
    judged = _integers(integers or freeze(network), device) if network.quantizers() else _floats(network)
    found, labels = [], []
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for batch in batches:
            outputs = tuple(output.float().cpu().numpy() for output in judged(batch.inputs.to(device)))
            found.append(torch.from_numpy(task.decide(outputs)))
            labels.append(batch.labels.cpu())
    network.train(training)
    if not found:
        raise DataUnavailable("there are no images to evaluate on; give validation data with at least one batch")
    known = torch.cat(labels)
    task.check_labels(known, network.structure.output_shapes, "the images to evaluate on have")
    return torch.cat(found), known


def _floats(network: Network) -> _Judged:
    """The network itself, in the batches and layout that are fast."""

    def judged(images: Tensor) -> tuple[Tensor, ...]:
        parts = [network.outputs(part) for part in fast_batches(network, images)]
        return tuple(torch.cat(output) for output in zip(*parts, strict=True))

    return judged


def _integers(graph: Graph, device: torch.device) -> _Judged:
    """What computes the outputs of an integer graph that takes normalised images; both ways give the same bits."""
    if device.type == "cpu":
        try:
            session = plan(graph, threads=torch.get_num_threads(), measure=False)
        except (UnsupportedOperation, CorruptFile):
            pass  # not for the native runtime; the check of the deployed file says why
        else:
            return lambda images: tuple(map(torch.from_numpy, session.outputs(images.float().numpy())))
    return IntegerNetwork(graph, device).outputs


def evaluate(
    network: Network,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    task: Task = CLASSIFICATION,
    integers: Graph | None = None,
) -> float:
    """The task's metric: of classification the share of right top-1 classes; ``integers`` as in :func:`predictions`.

    Raises:
        DataUnavailable: there are no batches, or labels do not fit the network.
    """
    found, labels = predictions(network, batches, device, task=task, integers=integers)
    return worth(task, found, labels)


def worth(task: Task, decisions: Tensor, labels: Tensor) -> float:
    """The task's metric of these decisions."""
    return task.value(task.score(decisions.numpy(), labels.numpy()))
