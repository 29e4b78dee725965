"""A network's decisions on batches it does not learn from, and their metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import CorruptFile, DataUnavailable, UnsupportedOperation
from paretrim.graph.interpreter import depends_on_library
from paretrim.graph.types import Graph
from paretrim.network.constraints import weighted_layers
from paretrim.network.evaluation_mode import evaluating
from paretrim.network.freeze import freeze
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.runtime import plan
from paretrim.train.execution import fast_batches
from paretrim.train.task import CLASSIFICATION, Task

_LARGE_VALUE = 2**18
"""Size of a value from which a pass over it, as torch makes for every BatchNorm and activation, no longer fits the caches."""

_FEW_PRODUCTS = 150
"""Multiply-adds per number of all values, up to which those passes take so long that the native runtime, which makes none, is
faster than torch: MobileNetV2 has 15, DenseNet-121 58, ResNet-50 108. ResNet-18 with 216 is as fast in torch, VGG faster."""

_Forward = Callable[[Tensor], tuple[Tensor, ...]]
"""Normalised images [N, C, H, W] to every output [N, ...]."""


def predictions(
    network: Network,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    task: Task = CLASSIFICATION,
    integers: Graph | None = None,
    in_torch: bool = False,
) -> tuple[Tensor, Tensor]:
    """Decisions of the task and labels, [N, ...] each, on the CPU: of classes int64 [N]. The mode of the network is restored.

    A network that is not quantized computes in float32: in torch, or on a CPU in the native runtime if that is faster and
    ``in_torch`` is not set (it is when a file is to be compared with torch). A quantized one is judged by the integers that
    will ship, bit for bit those of the reference interpreter, not by the float simulation that it trains with: in the native
    runtime on a CPU, in torch on a GPU. ``integers`` is its integer graph, if it is known already.

    Raises:
        DataUnavailable: there are no batches, or labels do not fit the network.
    """
    network.to(device)
    found, labels = [], []
    with evaluating(network):
        if network.quantizers():
            judged = _integers(integers or freeze(network), device)
        else:
            judged = _floats(network, device, in_torch=in_torch)
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for batch in batches:
                outputs = tuple(output.float().cpu().numpy() for output in judged(batch.inputs.to(device)))
                found.append(torch.from_numpy(task.decide(outputs)))
                labels.append(batch.labels.cpu())
    if not found:
        raise DataUnavailable("there are no images to evaluate on; give validation data with at least one batch")
    known = torch.cat(labels)
    task.check_labels(known, network.structure.output_shapes, "the images to evaluate on have")
    return torch.cat(found), known


def _floats(network: Network, device: torch.device, *, in_torch: bool) -> _Forward:
    """The native runtime if it is faster, else the network itself, with fast batch sizes and memory layout."""
    if device.type == "cpu" and not in_torch and _is_faster_natively(network):
        session = _session(freeze(network))
        if session is not None:
            return session

    def judged(images: Tensor) -> tuple[Tensor, ...]:
        parts = [network.outputs(part) for part in fast_batches(network, images)]
        return tuple(torch.cat(output) for output in zip(*parts, strict=True))

    return judged


def _is_faster_natively(network: Network) -> bool:
    """Whether a float network has large values with few multiply-adds each, and computes the same as its frozen graph."""
    if any(layer.quantizer is not None for layer in weighted_layers(network).values()):
        return False
    if any(norm.gate is not None for norm in network.batch_norms().values()):
        return False
    graph = network.graph(weights=False)
    sizes = [kind.size for kind in graph.types.values()]
    return max(sizes) >= _LARGE_VALUE and graph.multiply_adds <= _FEW_PRODUCTS * sum(sizes) and not depends_on_library(graph)


def _session(graph: Graph) -> _Forward | None:
    """The native runtime for a graph that takes normalised images; None if it cannot run it."""
    try:
        session = plan(graph, threads=torch.get_num_threads(), measure=False)
    except (UnsupportedOperation, CorruptFile):
        return None  # the check of the deployed file says why
    return lambda images: tuple(map(torch.from_numpy, session.outputs(images.float().numpy())))


def _integers(graph: Graph, device: torch.device) -> _Forward:
    """What computes the outputs of an integer graph that takes normalised images; both ways give the same bits."""
    session = _session(graph) if device.type == "cpu" else None
    return session or IntegerNetwork(graph, device).outputs


def evaluate(
    network: Network,
    batches: Iterable[Batch],
    device: torch.device,
    *,
    task: Task = CLASSIFICATION,
    integers: Graph | None = None,
) -> float:
    """The task's metric, for classification the share of right top-1 classes; ``integers`` as in :func:`predictions`.

    Raises:
        DataUnavailable: there are no batches, or labels do not fit the network.
    """
    found, labels = predictions(network, batches, device, task=task, integers=integers)
    return worth(task, found, labels)


def worth(task: Task, decisions: Tensor, labels: Tensor) -> float:
    """The task's metric of these decisions."""
    return task.value(task.score(decisions.numpy(), labels.numpy()))
