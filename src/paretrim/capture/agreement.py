"""Checks on a few images that a captured network computes the same as the module.

The module runs once on all the images and once on the first alone, the network once: a large one on the first image only. Only if
they differ is there a closer look, in float64. If that is no rounding either, it finds which layer differs first, and whether
the module itself is nondeterministic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paretrim.capture.driver import CaptureResult, look_at
from paretrim.capture.first_difference import TOLERANCE, apart, first_layer, outputs_by_layer, where_they_part
from paretrim.capture.private import private_copy, reading_copy
from paretrim.capture.program import captured_flags, refusing_to_end, silence
from paretrim.capture.quick import without_collections
from paretrim.errors import UnsupportedOperation, reason_of
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import Graph
from paretrim.network.network import Network
from paretrim.torch_settings import alone, usual_settings

_ENDS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"softmax": lambda x: x.softmax(1), "log_softmax": lambda x: x.log_softmax(1), "log": torch.log}
)
"""Operations that a captured network may leave out at its end."""

_Distance = Callable[[Tensor, Tensor, float], bool]
"""Whether two results differ by more than a tolerance."""

IMAGES = 2
"""Number of images to compare."""

LOOKED_AT = 64
"""Number of images that they are chosen from."""

LARGE = 4 * 10**9
"""Multiply-adds for one image above which the network computes only the first one: each takes a large part of a second."""

_EXACT = 1e-6
"""The same in float64, used if float32 exceeds its tolerance; the weights stay rounded to float32."""

_ROUNDINGS = 32.0
"""How many times the effect of one random rounding of all weights the computed weights may have.

They come from several float32 operations, and the error of a channel's mean or deviation moves all of its weights together.
"""

_LOOSE = 1e-3
"""The same in float32 for modules that do not run in float64."""


@usual_settings()
@without_collections()
def captured_network(
    module: nn.Module, shape: tuple[int, ...], *, classes: Sequence[str] = (), images: Tensor | None = None
) -> Network:
    """Capture a module, and compare the network with it on the first of ``images`` [N, C, H, W], normalised.

    Without images, random ones from a fixed seed are used. The caller's random state is not changed.

    Raises:
        UnsupportedOperation: the module cannot be captured, has nothing to compress, returns NaN or infinity, is
            nondeterministic, or the captured network differs from it; the message names the first layer.
    """
    found = look_at(module, shape, classes=classes)
    _require_weights(found.graph)
    network = Network(found.graph, owned=True)  # shares the memory of the private module, which ends here
    if images is None:
        images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    with alone(), torch.random.fork_rng([]), torch.no_grad(), silence(), refusing_to_end(found.module):
        _compare(found, network.eval(), _most_varied(images).detach().float().cpu())
    return network.train()


def _most_varied(images: Tensor) -> Tensor:
    """The images with the highest variance among the first ones: a blank image would hide differences."""
    first = images[:LOOKED_AT]
    spread = first.detach().float().flatten(1).std(1, correction=0)
    return first[spread.topk(min(IMAGES, len(first))).indices.sort().values.to(first.device)]


def _require_weights(graph: Graph) -> None:
    if not any(node.op in WEIGHTED for node in graph.nodes):
        raise UnsupportedOperation("the network has no convolution and no linear layer, so it has nothing to compress")


@dataclass(frozen=True, eq=False)
class _Case:
    """Images, and what the module returns for them."""

    images: Tensor
    expected: tuple[Tensor, ...]


def _compare(found: CaptureResult, network: Network, images: Tensor) -> None:
    module = reading_copy(found.module)
    try:
        together, alone = (_Case(part, _returned(module, part)) for part in (images, images[:1]))
    except Exception as error:  # the user's own code
        raise UnsupportedOperation(
            f"{type(module).__name__} was captured, but fails on {len(images)} or 1 of the images, float32 "
            f"{list(images.shape[1:])}, in eval on the CPU: {reason_of(error)}"
        ) from error
    _require_usable(module, together, alone)
    differ = _alone_apart(together.expected, alone.expected, TOLERANCE)
    large = found.graph.multiply_adds > LARGE
    cases = (together, alone) if differ else (alone,) if large else (together,)
    if all(_agree(found, network, case, TOLERANCE) for case in cases):
        return  # if the module differs, the network differs as much, and it computes every image by itself
    exact = _in_float64(found.module, cases)
    if differ:
        many, one = (together.expected, alone.expected) if exact is None else exact
        if _alone_apart(many, one, _LOOSE if exact is None else _EXACT):
            _refuse_two_answers(module, together)
    at = -1 if large else 0
    case = cases[at]
    if not _is_rounding(found, network, case, None if exact is None else exact[at]):
        _refuse_another_under_capture(module, case.images)
        result = _ended(found, network.outputs(case.images))
        size = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(result, case.expected, strict=True))
        raise UnsupportedOperation(
            f"the captured network differs from the module: its result is off by {100 * size:.2g} % of the largest value, "
            f"first in {where_they_part(found, network, module, case.images)}; write that layer differently, and please report "
            "this"
        )


def _require_usable(module: nn.Module, together: _Case, alone: _Case) -> None:
    """Refuse outputs without the batch as their first axis, and those that are not finite."""
    for output, single in zip(together.expected, alone.expected, strict=True):
        if single.shape != (1, *output.shape[1:]):
            raise UnsupportedOperation(
                f"the network returns {list(single.shape)} for one image and {list(output.shape)} for {len(together.images)}; "
                "keep the batch as the first axis, for example with flatten(1) instead of squeeze()"
            )
    finite = torch.stack([torch.isfinite(output).flatten(1).all(1) for output in together.expected]).all(0)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        place = first_layer(module, together.images, lambda _, value, __: not bool(torch.isfinite(value).all()))
        raise UnsupportedOperation(
            f"the network returns NaN or infinity for {bad} of {len(finite)} images, first in {place}; check its weights and "
            "the normalisation of the images"
        )


def _returned(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a module on a copy of the images, in the order in which it is captured."""
    return tuple(leaf for leaf in tree_leaves(module(images.clone())) if leaf is not None)


def _ended(found: CaptureResult, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs as the module returns them, including the final operations that the captured network leaves out."""
    for operation in found.left_out:
        outputs = tuple(map(_ENDS[operation], outputs))
    return outputs


def _agree(found: CaptureResult, network: Network, case: _Case, tolerance: float) -> bool:
    """Whether the network returns what the module does."""
    return not _any(_apart_in_a_class, _ended(found, network.outputs(case.images)), case.expected, tolerance)


def _alone_apart(together: tuple[Tensor, ...], alone: tuple[Tensor, ...], tolerance: float) -> bool:
    """Whether the first of several images has other outputs alone."""
    return _any(apart, alone, tuple(output[:1] for output in together), tolerance)


def _any(distance: _Distance, found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> bool:
    """Whether any output differs."""
    return any(distance(one, other, tolerance) for one, other in zip(found, expected, strict=True))


def _apart_in_a_class(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two results [N, classes] differ by more than this share of the largest logit of a class, or in shape.

    Differences are measured relative to at least the median of all logits. They are measured per class, so that a class with
    huge logits does not hide differences in the others.
    """
    if found.shape != expected.shape:
        return True
    return not bool(((found - expected).abs() <= tolerance * _sizes(expected)).all())


def _sizes(values: Tensor) -> Tensor:
    """The largest absolute value of each class over all images, at least the median of all."""
    return values.abs().amax(0).clamp_min(float(values.abs().median()))


def _refuse_two_answers(module: nn.Module, case: _Case) -> None:
    earlier = outputs_by_layer(module, case.images)
    if _any(apart, _returned(module, case.images), case.expected, TOLERANCE):
        place = first_layer(
            module, case.images, lambda name, value, _: name in earlier and apart(value, earlier[name], TOLERANCE)
        )
        raise UnsupportedOperation(
            f"two runs of the network on the same images differ, first in {place}: it is random in eval mode, or keeps state "
            "between calls; make it deterministic"
        )
    raise UnsupportedOperation(
        "the network's result for an image depends on the other images of its batch, but a file computes every image "
        "separately; remove what mixes the images"
    )


def _refuse_another_under_capture(module: nn.Module, images: Tensor) -> None:
    """Reject a module whose result depends on whether it is being captured; names the first layer that does."""
    expected, earlier = _returned(module, images), outputs_by_layer(module, images)
    with captured_flags():
        if not _any(apart, _returned(module, images), expected, TOLERANCE):
            return
        place = first_layer(module, images, lambda name, value, _: name in earlier and apart(value, earlier[name], TOLERANCE))
    raise UnsupportedOperation(
        f"the network computes something different while it is being captured, first in {place}: it checks "
        "torch.compiler.is_compiling(), is_exporting() or similar; make it compute the same in both cases"
    )


def _in_float64(module: nn.Module, cases: tuple[_Case, ...]) -> list[tuple[Tensor, ...]] | None:
    """What the module returns in float64 for every case; None if it does not run in float64."""
    with suppress(Exception):  # a module may insist on float32
        exact = private_copy(module).double()
        return [_returned(exact, case.images.double()) for case in cases]
    return None


def _is_rounding(found: CaptureResult, network: Network, case: _Case, expected: tuple[Tensor, ...] | None) -> bool:
    """Whether both agree in float64: then the difference is only float32 rounding, amplified by the network.

    Weights that the module computes, standardised ones for instance, are rounded to float32 in the network but not in the
    module, and a deep network amplifies that. So a difference also counts as rounding if it is no larger than what rounding every
    weight once more would make. Of a module without float64 (``expected`` is None) small differences count as rounding.
    """
    if expected is not None:
        with suppress(Exception):  # a network may insist on float32
            images = case.images.double()
            exact_network = copy.deepcopy(network).double()
            exact = _ended(found, exact_network.outputs(images))
            if not _any(_apart_in_a_class, exact, expected, _EXACT):
                return True
            rounded = _ended(found, _with_rounding_(exact_network).outputs(images))
            noise = (_sizes(c - a) for a, c in zip(exact, rounded, strict=True))
            return all(
                bool(((a - b).abs() <= _EXACT * _sizes(b) + _ROUNDINGS * most).all())
                for a, b, most in zip(exact, expected, noise, strict=True)
            )
    return _agree(found, network, case, _LOOSE)


def _with_rounding_(network: Network) -> Network:
    """Moves every weight by at most half a unit in the last place of float32, the same at every call."""
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.rand(parameter.shape, generator=drawn, dtype=parameter.dtype) * 2 - 1
            parameter.mul_(1 + 2.0**-24 * noise)
    return network
