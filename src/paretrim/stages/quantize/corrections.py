"""Corrects the shift of means and variances caused by quantization, without training.

Layers are corrected first to last: each reads the outputs of the corrected layers before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paretrim.graph.fusion import Fusion, fuse
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.shapes import settings_of
from paretrim.network.constraints import WeightedLayer, weighted_layers
from paretrim.network.layers import BatchNorm
from paretrim.network.network import Network
from paretrim.network.torch_forms import real_form
from paretrim.stages.layer_inputs import inputs_of_both, shift_outputs_

LARGEST_VALUE = 2**26
"""Maximum size of a network's largest value over all images; large networks use fewer images."""


@dataclass(frozen=True, eq=False)
class LayerPair:
    """A weighted layer of the quantized network and the same layer of the float network, with their inputs.

    ``inputs`` are pairs of batches [N, ...]: the inputs of the quantized and of the float layer.
    """

    run: Fusion
    layer: WeightedLayer
    norm: BatchNorm | None
    float_layer: WeightedLayer
    float_norm: BatchNorm | None
    inputs: Sequence[tuple[Tensor, Tensor]]

    def results(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The outputs of the quantized and of the float layer, before BatchNorm, batch by batch."""
        form, settings = real_form(self.run.head), settings_of(self.run.head)
        for quantized, floating in self.inputs:
            yield form(settings, self.layer, [quantized]), form(settings, self.float_layer, [floating])


def pairs(network: Network, reference: Network, images: Tensor) -> Iterator[LayerPair]:
    """Every layer that trains, first to last, with its inputs on normalised images float32 [M, C, H, W].

    The caller may change the current layer of the quantized ``network``: later layers then get its new output.
    """
    largest = max(kind.size for kind in network.structure.types.values())
    runs = {run.head.name: run for run in fuse(network.structure) if run.head.op in WEIGHTED}
    layers, norms = weighted_layers(network), network.batch_norms()
    others, other_norms = weighted_layers(reference), reference.batch_norms()
    for node, inputs in inputs_of_both(network, reference, images[: max(1, LARGEST_VALUE // largest)]):
        if not layers[node.name].weight.requires_grad:
            continue
        norm = runs[node.name].batch_norm
        yield LayerPair(
            run=runs[node.name],
            layer=layers[node.name],
            norm=norms[norm.name] if norm else None,
            float_layer=others[node.name],
            float_norm=other_norms[norm.name] if norm else None,
            inputs=inputs,
        )


def affine_of(norm: BatchNorm | None, channels: int) -> tuple[Tensor, Tensor]:
    """Factor and offset [C] float64 of a BatchNorm in evaluation mode; 1 and 0 if there is none."""
    if norm is None:
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    factor, offset = norm.affine()
    return factor.cpu(), offset.cpu()


def correct_bias_(network: Network, reference: Network, images: Tensor) -> None:
    """Give every layer's outputs the mean that they have in the float network: empirical bias correction.

    The difference of the means over images and positions, for each channel before its activation, goes into the mean of the
    BatchNorm after the layer, which training takes anew, or into the layer's bias. A layer with neither is not changed.

    Source: Nagel et al. 2019 (DFQ, arXiv 1906.04721) section 4.2 and appendix D.
    """
    for pair in pairs(network, reference, images):
        own, other = (moments_by_channel(part)[0] for part in zip(*pair.results(), strict=True))
        factor, offset = affine_of(pair.norm, len(own))
        wanted, shift = affine_of(pair.float_norm, len(own))
        missing = (wanted * other + shift) - (factor * own + offset)
        before_norm = torch.where(factor == 0, 0.0, missing / factor)
        shift_outputs_(pair.layer, pair.norm, before_norm.to(pair.layer.weight))


def reestimate_batchnorm_(network: Network, reference: Network, images: Tensor) -> None:
    """Adjust the statistics of every BatchNorm after a layer to the shift of its input caused by quantization.

    The mean changes by the difference of the means on the images, the variance by the ratio of the variances. So the few images
    only measure what quantization changed, and do not replace the statistics of all training images.

    Source: Sun et al. 2019, "Hybrid 8-bit floating point (HFP8) training and inference for deep neural networks" (NeurIPS),
    section 4.1, where statistics are recomputed from many batches.
    """
    for pair in pairs(network, reference, images):
        if pair.norm is None:
            continue
        (mean, variance), (float_mean, float_variance) = (moments_by_channel(part) for part in zip(*pair.results(), strict=True))
        pair.norm.mean.add_((mean - float_mean).to(pair.norm.mean))
        ratio = torch.where((variance > 0) & (float_variance > 0), variance / float_variance, 1.0)
        pair.norm.variance.mul_(ratio.to(pair.norm.variance))


def moments_by_channel(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance by channel, float64 [C] each, over images and positions of parts [N, C, ...]."""
    count = sum(part.numel() // part.shape[1] for part in parts)
    axes = [axis for axis in range(parts[0].dim()) if axis != 1]
    mean = torch.stack([part.double().sum(axes) for part in parts]).sum(0) / count
    spread = mean.reshape(1, -1, *[1] * (parts[0].dim() - 2))
    squares = torch.stack([(part.double() - spread).square().sum(axes) for part in parts]).sum(0)
    return mean.cpu(), (squares / max(count - 1, 1)).cpu()
