"""Checks on a few images that a captured network computes the same as the module.

The module runs once on all the images and once on the first alone, the network once: a large one on the last image only. Only if
they differ is there a closer look: which layer differs first, and whether the module itself is nondeterministic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.fx import Interpreter
from torch.fx import Node as FxNode
from torch.utils._pytree import tree_leaves

from paretrim.capture.call import layer_of
from paretrim.capture.driver import CaptureResult, look_at
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

_Question = Callable[[str, Tensor, Tensor | None], bool]
"""Called with a layer's path, its result and its arguments."""

IMAGES = 2
"""Number of images to compare."""

LOOKED_AT = 64
"""Number of images that they are chosen from."""

LARGE = 4 * 10**9
"""Multiply-adds for one image above which the network computes only the last one: each takes a large part of a second."""

TOLERANCE = 1e-5
"""Largest difference in float32 that is certainly rounding, as a share of the largest value of a class."""

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


def _compare(found: CaptureResult, network: Network, images: Tensor) -> None:
    module = reading_copy(found.module)
    try:
        expected, alone = _returned(module, images), _returned(module, images[:1])
    except Exception as error:  # the user's own code
        raise UnsupportedOperation(
            f"{type(module).__name__} was captured, but fails on {len(images)} or 1 of the images, float32 "
            f"{list(images.shape[1:])}, in eval on the CPU: {reason_of(error)}"
        ) from error
    for output, single in zip(expected, alone, strict=True):
        if single.shape != (1, *output.shape[1:]):
            raise UnsupportedOperation(
                f"the network returns {list(single.shape)} for one image and {list(output.shape)} for {len(images)}; keep the "
                "batch as the first axis, for example with flatten(1) instead of squeeze()"
            )
    finite = torch.stack([torch.isfinite(output).flatten(1).all(1) for output in expected]).all(0)
    if not bool(finite.all()):
        bad = int((~finite).sum())
        place = _first_layer(module, images, lambda _, value, __: not bool(torch.isfinite(value).all()))
        raise UnsupportedOperation(
            f"the network returns NaN or infinity for {bad} of {len(images)} images, first in {place}; check its weights and "
            "the normalisation of the images"
        )
    first = tuple(output[:1] for output in expected)
    if _any(_apart, alone, first, TOLERANCE) and not _is_alone_rounding(found.module, images, _any(_apart, alone, first, _LOOSE)):
        _refuse_two_answers(module, images, expected)
    if found.graph.multiply_adds > LARGE:
        images, expected = images[-1:], tuple(output[-1:] for output in expected)
    result = _ended(found, network.outputs(images))
    far = _any(_apart_in_a_class, result, expected, _LOOSE)
    if _any(_apart_in_a_class, result, expected, TOLERANCE) and not _is_rounding(found, network, images, far):
        _refuse_another_under_capture(module, images)
        size = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(result, expected, strict=True))
        raise UnsupportedOperation(
            f"the captured network differs from the module: its result is off by {100 * size:.2g} % of the largest value, "
            f"first in {_where_they_part(found, network, module, images)}; write that layer differently, and please report this"
        )


def _returned(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """The outputs of a module on a copy of the images, in the order in which it is captured."""
    return tuple(leaf for leaf in tree_leaves(module(images.clone())) if leaf is not None)


def _ended(found: CaptureResult, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Outputs as the module returns them, including the final operations that the captured network leaves out."""
    for operation in found.left_out:
        outputs = tuple(map(_ENDS[operation], outputs))
    return outputs


def _any(apart: _Distance, found: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> bool:
    """Whether any output differs."""
    return any(apart(one, other, tolerance) for one, other in zip(found, expected, strict=True))


def _apart(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two results differ by more than this share of the largest number, or in shape."""
    if found.shape != expected.shape:
        return True
    size = expected.abs().amax() if expected.numel() else torch.zeros(())
    return not bool(((found - expected).abs() <= tolerance * size).all())


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


def _refuse_two_answers(module: nn.Module, images: Tensor, expected: tuple[Tensor, ...]) -> None:
    earlier = _outputs(module, images)
    if _any(_apart, _returned(module, images), expected, TOLERANCE):
        place = _first_layer(module, images, lambda name, value, _: name in earlier and _apart(value, earlier[name], TOLERANCE))
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
    expected, earlier = _returned(module, images), _outputs(module, images)
    with captured_flags():
        if not _any(_apart, _returned(module, images), expected, TOLERANCE):
            return
        place = _first_layer(module, images, lambda name, value, _: name in earlier and _apart(value, earlier[name], TOLERANCE))
    raise UnsupportedOperation(
        f"the network computes something different while it is being captured, first in {place}: it checks "
        "torch.compiler.is_compiling(), is_exporting() or similar; make it compute the same in both cases"
    )


def _is_alone_rounding(module: nn.Module, images: Tensor, far: bool) -> bool:
    """Whether an image alone and among others gives the same in float64: torch adds up in another order for another batch."""
    with suppress(Exception):  # a module may insist on float32
        exact = private_copy(module).double()
        whole, alone = _returned(exact, images.double()), _returned(exact, images[:1].double())
        return not _any(_apart, alone, tuple(output[:1] for output in whole), _EXACT)
    return not far


def _is_rounding(found: CaptureResult, network: Network, images: Tensor, far: bool) -> bool:
    """Whether both agree in float64: then the difference is only float32 rounding, amplified by the network.

    Weights that the module computes, standardised ones for instance, are rounded to float32 in the network but not in the
    module, and a deep network amplifies that. So a difference also counts as rounding if it is no larger than what rounding every
    weight once more would make.
    """
    with suppress(Exception):  # a module may insist on float32
        expected = _returned(private_copy(found.module).double(), images.double())
        exact_network = copy.deepcopy(network).double()
        exact = _ended(found, exact_network.outputs(images.double()))
        if not _any(_apart_in_a_class, exact, expected, _EXACT):
            return True
        rounded = _ended(found, _with_rounding_(exact_network).outputs(images.double()))
        noise = (_sizes(c - a) for a, c in zip(exact, rounded, strict=True))
        return all(
            bool(((a - b).abs() <= _EXACT * _sizes(b) + _ROUNDINGS * most).all())
            for a, b, most in zip(exact, expected, noise, strict=True)
        )
    return not far


def _with_rounding_(network: Network) -> Network:
    """Moves every weight by at most half a unit in the last place of float32, the same at every call."""
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.rand(parameter.shape, generator=drawn, dtype=parameter.dtype) * 2 - 1
            parameter.mul_(1 + 2.0**-24 * noise)
    return network


def _where_they_part(found: CaptureResult, network: Network, module: nn.Module, images: Tensor) -> str:
    """The first operation of the program whose result differs in the network, else the first layer that differs."""
    names = {view.name for view in found.values.values()}
    ours = network.features(images, tuple(names))
    program = _Recorder(found.program, ours, found)
    program.run(*(images.clone() if tensor is None else tensor for tensor in found.inputs))
    if program.parted is not None:
        return f"layer '{layer_of(program.parted) or 'the network itself'}' ({program.parted.target})"
    leaves = {name for name, part in module.named_modules() if not any(part.children())}

    def parts(name: str, value: Tensor, given: Tensor | None) -> bool:
        # A layer without an operation in the program returns its input.
        expected = program.layers.get(name, given if name in leaves else None)
        return expected is not None and _apart(value.flatten(), expected.flatten(), TOLERANCE)

    return _first_layer(module, images, parts)


class _Recorder(Interpreter):
    """Runs the program and compares its values with those of the network."""

    def __init__(self, program: torch.fx.GraphModule, ours: dict[str, Tensor], found: CaptureResult) -> None:
        super().__init__(program)
        self.ours, self.found = ours, found
        self.parted: FxNode | None = None
        self.layers: dict[str, Tensor] = {}

    def run_node(self, n: FxNode) -> object:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op == "call_function":
            self.layers[layer_of(n)] = value.clone()
            view = self.found.values.get(n)
            if self.parted is None and view is not None and view.plain:
                ours = self.ours[view.name]
                if _apart(ours.flatten(), value.flatten().float(), TOLERANCE):
                    self.parted = n
        return value


def _outputs(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The last output of every layer that returns a tensor."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor, _: Tensor | None) -> None:
        outputs[name] = value.clone()

    with _listening(module, keep):
        module(images.clone())
    return outputs


def _first_layer(module: nn.Module, images: Tensor, is_it: _Question) -> str:
    """The first layer that returns a tensor for which ``is_it`` is true."""
    hits: list[str] = []

    def look(name: str, value: Tensor, given: Tensor | None) -> None:
        if not hits and is_it(name, value, given):
            hits.append(name)

    with _listening(module, look):
        module(images.clone())
    return f"layer '{hits[0]}'" if hits and hits[0] else "the network itself"


@contextmanager
def _listening(module: nn.Module, listener: Callable[[str, Tensor, Tensor | None], None]) -> Iterator[None]:
    """Call ``listener`` for every tensor that a layer returns, within the context."""
    handles = []
    for name, part in module.named_modules():

        def hook(_module: nn.Module, inputs: tuple[object, ...], output: object, *, name: str = name) -> None:
            given = inputs[0] if inputs else None
            if isinstance(output, Tensor):
                listener(name, output, given if isinstance(given, Tensor) else None)

        with suppress(Exception):  # a layer that takes no hooks is covered by the layers around it
            handles.append(part.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
