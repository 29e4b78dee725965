"""Finds the first layer in which a module and its captured network, or two runs of a module, differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn
from torch.fx import Interpreter
from torch.fx import Node as FxNode

from paretrim.capture.call import layer_of
from paretrim.capture.driver import CaptureResult
from paretrim.network.network import Network

TOLERANCE = 1e-5
"""Largest difference in float32 that is certainly rounding, as a share of the largest value of a class."""

_Question = Callable[[str, Tensor, Tensor | None], bool]
"""Called with a layer's path, its result and its arguments."""


def apart(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether two results differ by more than this share of the largest number, or in shape."""
    if found.shape != expected.shape:
        return True
    size = expected.abs().amax() if expected.numel() else torch.zeros(())
    return not bool(((found - expected).abs() <= tolerance * size).all())


def where_they_part(found: CaptureResult, network: Network, module: nn.Module, images: Tensor) -> str:
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
        return expected is not None and apart(value.flatten(), expected.flatten(), TOLERANCE)

    return first_layer(module, images, parts)


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
                if apart(ours.flatten(), value.flatten().float(), TOLERANCE):
                    self.parted = n
        return value


def outputs_by_layer(module: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The last output of every layer that returns a tensor."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor, _: Tensor | None) -> None:
        outputs[name] = value.clone()

    with _listening(module, keep):
        module(images.clone())
    return outputs


def first_layer(module: nn.Module, images: Tensor, is_it: _Question) -> str:
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
