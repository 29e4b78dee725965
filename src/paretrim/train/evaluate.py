"""Accuracy of a network on batches it does not learn from."""

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


def predictions(
    network: Network, batches: Iterable[Batch], device: torch.device, *, integers: Graph | None = None
) -> tuple[Tensor, Tensor]:
    """Top-1 classes and labels, int64 [N] each, on the CPU. The mode of the network is restored.

    A network that is not quantized computes in float32. A quantized one is judged by the integers that will ship, bit for bit
    those of the reference interpreter, not by the float simulation of them that it trains with: in the native runtime on a CPU,
    in torch on a GPU. ``integers`` is its integer graph, where that is known already.

    Raises:
        DataUnavailable: there are no batches, or a label is none of the network's classes.
    """
    training = network.training
    network.eval().to(device)
    judged = _integers(integers or freeze(network), device) if network.quantizers() else _floats(network)
    outputs = network.structure.types[network.structure.output].shape[0]
    found, labels = [], []
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for batch in batches:
            found.append(judged(batch.inputs.to(device)).argmax(1).cpu())
            labels.append(batch.labels.cpu())
    network.train(training)
    if not found:
        raise DataUnavailable("there are no images to evaluate on; give validation data with at least one batch")
    known = torch.cat(labels)
    if int(known.min()) < 0 or int(known.max()) >= outputs:
        raise DataUnavailable(
            f"the images to evaluate on have labels {int(known.min())}..{int(known.max())} and the network has {outputs} outputs "
            f"(0..{outputs - 1}); correct the labels"
        )
    return torch.cat(found), known


def _floats(network: Network) -> Callable[[Tensor], Tensor]:
    """The network itself, in the batches and layout that are fast."""
    return lambda images: torch.cat([network(part) for part in fast_batches(network, images)])


def _integers(graph: Graph, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What computes the logits of an integer graph that takes normalised images; both ways give the same bits."""
    if device.type == "cpu":
        try:
            session = plan(graph, threads=torch.get_num_threads(), measure=False)
        except (UnsupportedOperation, CorruptFile):
            pass  # not for the native runtime; the check of the deployed file says why
        else:
            return lambda images: torch.from_numpy(session(images.float().numpy()))
    return IntegerNetwork(graph, device)


def accuracy(network: Network, batches: Iterable[Batch], device: torch.device, *, integers: Graph | None = None) -> float:
    """Share of right top-1 classes in [0, 1]; ``integers`` as in :func:`predictions`.

    Raises:
        DataUnavailable: there are no batches.
    """
    found, labels = predictions(network, batches, device, integers=integers)
    return float((found == labels).double().mean())
