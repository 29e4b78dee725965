"""From any ``nn.Module`` to the neutral float graph, through ``torch.export`` with a free batch dimension.

A network is captured once, before anything else happens to it; every stage then works on the captured form. So an operation
outside the graph is refused by name before a minute has been spent training, and what is trained is what is frozen.
To support a further ATen operation add a function and a row in :data:`_CONVERTERS`.
"""

from __future__ import annotations

import copy
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import Node as FxNode

from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import INPUT, Array, Attribute, Graph, InputSpec, Node, ValueType


@dataclass(frozen=True)
class _View:
    """A value of the graph seen under another shape (without the batch), not yet written down as a node.

    ``shuffled`` is the number of groups once axes (groups, C/groups) have been swapped.
    """

    name: str
    shape: tuple[int, ...]
    shuffled: int = 0


Value = _View | tuple[_View, ...]


@dataclass
class _Capture:
    """The graph under construction."""

    tensors: Mapping[str, tuple[str, torch.Tensor]]
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    env: dict[FxNode, Value] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)

    def emit(
        self,
        fx: FxNode,
        op: str,
        inputs: Sequence[str],
        *,
        shape: Sequence[int],
        attributes: Mapping[str, Attribute] | None = None,
        tensors: Mapping[str, Array] | None = None,
        name: str = "",
    ) -> _View:
        """Add a node and return its value."""
        layer = _layer(fx)
        wanted = name or (f"{layer}.{op}" if layer else op)
        unique, count = wanted, 2
        while unique in self.shapes:
            unique, count = f"{wanted}_{count}", count + 1
        kind = ValueType(tuple(int(size) for size in shape))
        self.nodes.append(Node(unique, op, tuple(inputs), kind, attributes or {}, tensors or {}, layer))
        self.shapes[unique] = kind.shape
        return _View(unique, kind.shape)

    def view(self, fx: FxNode, argument: Any) -> _View:
        """The value behind an argument of ``fx``, which must be an activation."""
        value = self.env.get(argument) if isinstance(argument, FxNode) else None
        if not isinstance(value, _View):
            raise _unsupported(fx, f"argument {argument} is not an activation of the network")
        return value

    def read(self, fx: FxNode, argument: Any) -> str:
        """Name of the value behind an argument, with a pending view written down as a node."""
        view = self.view(fx, argument)
        base = self.shapes[view.name]
        if view.shuffled:
            if view.shape != base:
                raise _unsupported(fx, f"a permuted tensor of shape {view.shape} is used before it is {base} again")
            return self._settle(argument, self.emit(fx, "channel_shuffle", [view.name], shape=base, attributes={"groups": view.shuffled}))
        if view.shape == base:
            return view.name
        if len(view.shape) == 1 and view.shape[0] == math.prod(base):
            return self._settle(argument, self.emit(fx, "flatten", [view.name], shape=view.shape))
        if len(base) == 1 and view.shape == (base[0], 1, 1):
            return self._settle(argument, self.emit(fx, "unflatten", [view.name], shape=view.shape))
        raise _unsupported(fx, f"it sees a tensor of shape {base} as {view.shape}; only flattening to one axis and back to [C, 1, 1] is known")

    def _settle(self, argument: FxNode, view: _View) -> str:
        self.env[argument] = view
        return view.name

    def constant(self, argument: Any) -> tuple[str, torch.Tensor] | None:
        """Name and tensor behind a parameter or buffer argument, else None."""
        return self.tensors.get(argument.name) if isinstance(argument, FxNode) else None

    def weight(self, fx: FxNode, argument: Any) -> tuple[str, Array]:
        """Layer path and value of a weight; refuses one that another layer already uses."""
        found = self.constant(argument)
        if found is None:
            raise _unsupported(fx, "its weight is computed from activations or other tensors; only a plain parameter is known")
        name, tensor = found
        path = name.removesuffix(".weight")
        if name in self.owners:
            raise _unsupported(fx, f"it shares the weight '{name}' with '{self.owners[name]}'; give each its own copy")
        self.owners[name] = path
        return path, _array(tensor)


def capture(module: nn.Module, shape: tuple[int, ...], *, classes: Sequence[str] = ()) -> Graph:
    """Write an ``nn.Module`` down as a float graph. The module itself is not touched.

    Args:
        module: takes float32 [N, C, H, W] (normalised images), returns logits [N, K].
        shape: [C, H, W] of one image; the captured network takes it normalised.
        classes: names of the K classes, kept in the deployed file.

    Raises:
        UnsupportedOperation: the module cannot be exported, or uses an operation the graph does not have; the message names the
            layer.
    """
    private = copy.deepcopy(module).cpu().float().eval()
    sample = torch.zeros(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exported = torch.export.export(private, (sample,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        except Exception as error:  # torch.export raises dozens of kinds; the first line says what it met
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UnsupportedOperation(
                f"{type(module).__name__} could not be captured with one input of shape [N, {', '.join(map(str, shape))}] and a free "
                f"batch size: {first}. Data-dependent control flow and fixed batch sizes are the usual causes"
            ) from error
    state = {**dict(exported.state_dict), **exported.constants}
    signature = exported.graph_signature
    sources = {**signature.inputs_to_parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    work = _Capture({placeholder: (name, state[name]) for placeholder, name in sources.items()})
    work.shapes[INPUT] = shape
    output = ""
    for fx in exported.graph.nodes:
        if fx.op == "placeholder" and fx.name not in sources:
            work.env[fx] = _View(INPUT, shape)
        elif fx.op == "call_function":
            _convert(work, fx)
        elif fx.op == "output":
            output = _output(work, fx, signature.user_outputs)
    nodes = tuple(work.nodes)
    _check_logits(nodes, output, len(classes))
    return _without_dead(Graph(InputSpec(shape), nodes, output, tuple(classes)))


def _output(work: _Capture, fx: FxNode, wanted: Sequence[Any]) -> str:
    results = [node for node in fx.args[0] if node.name in wanted]  # type: ignore[union-attr]
    if len(results) != 1:
        raise UnsupportedOperation(f"the network returns {len(results)} tensors; it must return the logits [N, classes] alone")
    return work.read(fx, results[0])


def _check_logits(nodes: Sequence[Node], output: str, classes: int) -> None:
    shape = next((node.type.shape for node in nodes if node.name == output), ())
    if len(shape) != 1:
        raise UnsupportedOperation(f"the network returns a tensor [N, {', '.join(map(str, shape))}]; it must return logits [N, classes]")
    if classes and shape[0] != classes:
        raise UnsupportedOperation(
            f"the network returns {shape[0]} logits and the data has {classes} classes; build the network with {classes} outputs"
        )


def _without_dead(graph: Graph) -> Graph:
    alive = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name in alive))


def _convert(work: _Capture, fx: FxNode) -> None:
    name = str(fx.target)
    if fx.target is operator.getitem:
        parts = work.env.get(fx.args[0])  # type: ignore[arg-type]
        if not isinstance(parts, tuple):
            raise _unsupported(fx, "an element is taken from something that is not a split tensor")
        work.env[fx] = parts[int(fx.args[1])]  # type: ignore[arg-type]
        return
    if name.startswith(("aten.sym_size", "aten._assert", "aten.sym_constrain")) or not name.startswith("aten."):
        if name.startswith("aten.") or "val" not in fx.meta or not isinstance(fx.meta["val"], torch.Tensor):
            return
        raise _unsupported(fx, f"'{name}' is not an ATen operation")
    operation = name.removeprefix("aten.").split(".")[0]
    in_place = operation.endswith("_")
    converter = _CONVERTERS.get(operation.removesuffix("_"))
    if converter is None:
        raise _unsupported(fx, f"operation '{name}' is outside the graph (known: {', '.join(sorted(_CONVERTERS))})")
    value = converter(work, fx)
    work.env[fx] = value
    if in_place and isinstance(fx.args[0], FxNode):
        work.env[fx.args[0]] = value  # whoever reads the overwritten tensor later sees the new values


def _unsupported(fx: FxNode, why: str) -> UnsupportedOperation:
    return UnsupportedOperation(f"layer '{_layer(fx) or 'the network itself'}' ({fx.target}): {why}")


def _layer(fx: FxNode) -> str:
    stack = fx.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    return str(path).removeprefix("L['self'].").removeprefix("L['self']")


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().to(torch.float32).cpu().numpy().copy()


def _argument(fx: FxNode, index: int, name: str, default: Any) -> Any:
    if len(fx.args) > index:
        return fx.args[index]
    return fx.kwargs.get(name, default)


def _shape(fx: FxNode) -> tuple[int, ...]:
    """Shape of the result without the batch; everything but the batch must be a plain number."""
    sizes = fx.meta["val"].shape[1:]
    if not all(isinstance(size, int) for size in sizes):
        raise _unsupported(fx, f"its result [{', '.join(map(str, fx.meta['val'].shape))}] mixes the batch with another axis")
    return tuple(int(size) for size in sizes)


def _pair(value: Any) -> tuple[int, int]:
    items = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return (items[0], items[-1])


def _around(padding: tuple[int, int]) -> tuple[int, int, int, int]:
    return (padding[0], padding[1], padding[0], padding[1])


def _conv2d(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    path, weight = work.weight(fx, fx.args[1])
    tensors: dict[str, Array] = {"weight": weight}
    bias = work.constant(_argument(fx, 2, "bias", None))
    if bias is not None:
        tensors["bias"] = _array(bias[1])
    dilation = _pair(_argument(fx, 5, "dilation", 1))
    padding = _argument(fx, 4, "padding", 0)
    if isinstance(padding, str):
        reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        around = (reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
    else:
        around = _around(_pair(padding))
    attributes: dict[str, Attribute] = {
        "stride": _pair(_argument(fx, 3, "stride", 1)),
        "padding": around,
        "dilation": dilation,
        "groups": int(_argument(fx, 6, "groups", 1)),
    }
    return work.emit(fx, "conv2d", [source], shape=_shape(fx), attributes=attributes, tensors=tensors, name=path)


def _linear(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    if len(work.shapes[source]) != 1:
        raise _unsupported(fx, f"a linear layer over the last axis of {work.shapes[source]}; flatten first")
    path, weight = work.weight(fx, fx.args[1])
    tensors: dict[str, Array] = {"weight": weight}
    bias = work.constant(_argument(fx, 2, "bias", None))
    if bias is not None:
        tensors["bias"] = _array(bias[1])
    return work.emit(fx, "linear", [source], shape=_shape(fx), tensors=tensors, name=path)


def _batch_norm(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    gamma, beta, mean, variance = (work.constant(argument) for argument in fx.args[1:5])
    if mean is None or variance is None:
        raise _unsupported(fx, "it keeps no running statistics, so it cannot be folded; use track_running_stats=True")
    channels = mean[1].numel()
    tensors: dict[str, Array] = {
        "gamma": _array(gamma[1]) if gamma else np.ones(channels, np.float32),
        "beta": _array(beta[1]) if beta else np.zeros(channels, np.float32),
        "mean": _array(mean[1]),
        "variance": _array(variance[1]),
    }
    path = mean[0].removesuffix(".running_mean")
    if path in work.shapes:
        raise _unsupported(fx, "it is applied twice with the same statistics; give each use its own BatchNorm")
    return work.emit(fx, "batch_norm", [source], shape=_shape(fx), attributes={"epsilon": float(fx.args[7])}, tensors=tensors, name=path)  # type: ignore[arg-type]


def _affine(work: _Capture, fx: FxNode, source: str, name: str, tensor: torch.Tensor, *, scales: bool, invert: bool) -> Value:
    """Adding or multiplying by a per-channel constant tensor: a BatchNorm with statistics 0 and 1."""
    shape = work.shapes[source]
    per_channel = (shape[0], *[1] * (len(shape) - 1))
    if tensor.numel() != 1 and tuple(tensor.shape)[-len(shape) :] != per_channel:
        raise _unsupported(fx, f"the constant '{name}' of shape {tuple(tensor.shape)} is not one number per channel of {shape}")
    flat = tensor.detach().float().reshape(-1)
    values = flat.expand(shape[0]).clone()
    if scales:
        gamma, beta = (1.0 / values if invert else values), torch.zeros_like(values)
    else:
        gamma, beta = torch.ones_like(values), (-values if invert else values)
    one, zero = np.ones(shape[0], np.float32), np.zeros(shape[0], np.float32)
    tensors: dict[str, Array] = {"gamma": _array(gamma), "beta": _array(beta), "mean": zero, "variance": one}
    return work.emit(fx, "batch_norm", [source], shape=shape, attributes={"epsilon": 0.0}, tensors=tensors)


def _pointwise(work: _Capture, fx: FxNode, source: str, function: str, constant: float | None = None) -> Value:
    attributes: dict[str, Attribute] = {"function": function}
    if constant is not None:
        attributes["constant"] = float(constant)
    return work.emit(fx, "pointwise", [source], shape=work.shapes[source], attributes=attributes, name=f"{_layer(fx)}.{function}".lstrip("."))


def _arithmetic(work: _Capture, fx: FxNode, *, scales: bool, invert: bool) -> Value:
    """Addition, subtraction, multiplication and division: two activations, or one and a number or constant tensor."""
    left, right = fx.args[0], fx.args[1]
    if float(fx.kwargs.get("alpha", 1)) != 1:  # type: ignore[arg-type]
        raise _unsupported(fx, f"alpha = {fx.kwargs['alpha']} is not known; scale the second operand first")
    if not isinstance(work.env.get(left), _View) and not invert:  # type: ignore[arg-type]
        left, right = right, left
    if isinstance(right, (int, float)):
        source = work.read(fx, left)
        value = (1.0 / right if scales else -float(right)) if invert else float(right)
        return _pointwise(work, fx, source, "mul_constant" if scales else "add_constant", value)
    constant = work.constant(right)
    if constant is not None:
        return _affine(work, fx, work.read(fx, left), constant[0], constant[1], scales=scales, invert=invert)
    if invert:
        raise _unsupported(fx, "subtracting or dividing one activation by another is not known")
    first, second = work.read(fx, left), work.read(fx, right)
    shapes = work.shapes[first], work.shapes[second]
    if scales and shapes[0] != shapes[1] and shapes[0][1:] == (1, 1):
        first, second = second, first
    wide, narrow = work.shapes[first], work.shapes[second]
    if wide != narrow and not (scales and narrow == (wide[0], 1, 1)):
        raise _unsupported(fx, f"operands of shapes {shapes[0]} and {shapes[1]}; only [C, 1, 1] broadcasts, in a product")
    return work.emit(fx, "mul" if scales else "add", [first, second], shape=_shape(fx))


def _relu(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    return work.emit(fx, "relu", [source], shape=work.shapes[source], name=_layer(fx) if _is_leaf(fx, "relu") else "")


def _is_leaf(fx: FxNode, word: str) -> bool:
    return word in _layer(fx).rsplit(".", 1)[-1].lower()


def _clamp(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    default = (-1.0, 1.0) if "hardtanh" in str(fx.target) else (0.0, 6.0) if "relu6" in str(fx.target) else (None, None)
    minimum, maximum = _argument(fx, 1, "min_val", default[0]), _argument(fx, 2, "max_val", default[1])
    if minimum == 0 and maximum is None:
        return work.emit(fx, "relu", [source], shape=work.shapes[source])
    if minimum is None or maximum is None:
        bound = minimum if maximum is None else maximum
        return _pointwise(work, fx, source, "clamp_min" if maximum is None else "clamp_max", float(bound))
    attributes: dict[str, Attribute] = {"minimum": float(minimum), "maximum": float(maximum)}
    return work.emit(fx, "clamp", [source], shape=work.shapes[source], attributes=attributes)


def _scalar_function(function: str, constant: str = "", default: float = 0.0) -> Callable[[_Capture, FxNode], Value]:
    def convert(work: _Capture, fx: FxNode) -> Value:
        value = _argument(fx, 1, constant, default) if constant else None
        if function == "elu" and value != 1 or function == "softplus" and len(fx.args) > 1:
            raise _unsupported(fx, f"{function} with parameters {fx.args[1:]}; only the default form is known")
        if function == "gelu" and fx.kwargs.get("approximate", "none") != "none":
            raise _unsupported(fx, "the tanh approximation of GELU is not known; use approximate='none'")
        return _pointwise(work, fx, work.read(fx, fx.args[0]), function, None if function == "elu" else value)

    return convert


def _dropout(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    return work.emit(fx, "dropout", [source], shape=work.shapes[source], attributes={"probability": float(fx.args[1])})  # type: ignore[arg-type]


def _concat(work: _Capture, fx: FxNode) -> Value:
    if int(_argument(fx, 1, "dim", 0)) % (len(_shape(fx)) + 1) != 1:
        raise _unsupported(fx, "concatenation along another axis than the channels")
    return work.emit(fx, "concat", [work.read(fx, part) for part in fx.args[0]], shape=_shape(fx))  # type: ignore[union-attr]


def _cut(work: _Capture, fx: FxNode, source: str, axis: int, start: int, stop: int, step: int) -> _View:
    shape = list(work.shapes[source])
    if (start, stop, step) == (0, shape[axis], 1):
        return _View(source, tuple(shape))
    shape[axis] = len(range(start, stop, step))
    attributes: dict[str, Attribute] = {"axis": axis, "start": start, "stop": stop, "step": step}
    return work.emit(fx, "slice", [source], shape=shape, attributes=attributes)


def _slice(work: _Capture, fx: FxNode) -> Value:
    dimension = int(_argument(fx, 1, "dim", 0))
    start, stop, step = _argument(fx, 2, "start", None), _argument(fx, 3, "end", None), int(_argument(fx, 4, "step", 1))
    if dimension == 0:
        if start in (None, 0) and (stop is None or not isinstance(stop, int) or stop >= 2**31):
            return work.view(fx, fx.args[0])
        raise _unsupported(fx, "the batch is sliced")
    source = work.read(fx, fx.args[0])
    axis = dimension % (len(work.shapes[source]) + 1) - 1
    begin, end, _ = slice(start, stop, step).indices(work.shapes[source][axis])
    return _cut(work, fx, source, axis, begin, end, step)


def _chunk(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    axis = int(_argument(fx, 2, "dim", 0)) % (len(work.shapes[source]) + 1) - 1
    if axis < 0:
        raise _unsupported(fx, "the batch is split")
    sizes = [int(part.shape[axis + 1]) for part in fx.meta["val"]]
    starts = np.cumsum([0, *sizes]).tolist()
    return tuple(_cut(work, fx, source, axis, a, b, 1) for a, b in zip(starts, starts[1:], strict=False))


def _pad(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    amounts = [int(v) for v in fx.args[1]]  # type: ignore[union-attr]
    mode, value = (fx.args[2] if len(fx.args) > 2 else "constant"), _argument(fx, 3, "value", 0)
    if isinstance(mode, (int, float)):
        mode, value = "constant", mode
    if mode != "constant" or value not in (None, 0, 0.0):
        raise _unsupported(fx, f"padding mode {mode} with value {value}; only zeros are known")
    if len(work.shapes[source]) != 3 or len(amounts) > 6 or min(amounts) < 0:
        raise _unsupported(fx, f"padding {amounts} of a tensor of shape {work.shapes[source]}; it must be non-negative and leave the batch alone")
    amounts += [0] * (6 - len(amounts))
    before, after = (amounts[4], amounts[2], amounts[0]), (amounts[5], amounts[3], amounts[1])
    return work.emit(fx, "pad", [source], shape=_shape(fx), attributes={"before": before, "after": after})


def _window(work: _Capture, fx: FxNode, source: str, *, dilation: tuple[int, int]) -> tuple[dict[str, Attribute], tuple[int, int]]:
    """Window attributes with ceil mode expressed as further padding below and to the right."""
    window = _pair(fx.args[1])
    given = _argument(fx, 2, "stride", None)
    stride = _pair(given) if given not in (None, [], ()) else window
    padding = _pair(_argument(fx, 3, "padding", 0))
    sizes, results = work.shapes[source][1:], _shape(fx)[1:]
    extra = [
        max((results[i] - 1) * stride[i] + dilation[i] * (window[i] - 1) + 1 - sizes[i] - padding[i], padding[i]) for i in (0, 1)
    ]
    attributes: dict[str, Attribute] = {"window": window, "stride": stride, "padding": (*padding, *extra)}
    return attributes, padding


def _max_pool(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    dilation = _pair(_argument(fx, 4, "dilation", 1))
    attributes, _ = _window(work, fx, source, dilation=dilation)
    return work.emit(fx, "max_pool", [source], shape=_shape(fx), attributes=attributes | {"dilation": dilation})


def _avg_pool(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    if _argument(fx, 6, "divisor_override", None) is not None:
        raise _unsupported(fx, "divisor_override is not known")
    attributes, padding = _window(work, fx, source, dilation=(1, 1))
    counted = _around(padding) if _argument(fx, 5, "count_include_pad", True) else (0, 0, 0, 0)
    return work.emit(fx, "avg_pool", [source], shape=_shape(fx), attributes=attributes | {"count_padding": counted})


def _adaptive_avg_pool(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    size = _shape(fx)[1:]
    if size == work.shapes[source][1:]:
        return _View(source, work.shapes[source])
    return work.emit(fx, "adaptive_avg_pool", [source], shape=_shape(fx), attributes={"output_size": (size[0], size[1])})


def _mean(work: _Capture, fx: FxNode) -> Value:
    source = work.read(fx, fx.args[0])
    axes = {int(axis) % 4 for axis in (fx.args[1] if isinstance(fx.args[1], (list, tuple)) else [fx.args[1]])}
    if len(work.shapes[source]) != 3 or axes != {2, 3}:
        raise _unsupported(fx, f"a mean over axes {sorted(axes)} of {work.shapes[source]}; only the mean over height and width is known")
    shape = (work.shapes[source][0], 1, 1)
    pooled = work.emit(fx, "adaptive_avg_pool", [source], shape=shape, attributes={"output_size": (1, 1)})
    return _View(pooled.name, _shape(fx))


def _reshape(work: _Capture, fx: FxNode) -> Value:
    view = work.view(fx, fx.args[0])
    shape = _shape(fx)
    if math.prod(shape) != math.prod(view.shape):
        raise _unsupported(fx, f"{view.shape} becomes {shape}: the batch is mixed with another axis")
    return _View(view.name, shape, view.shuffled)


def _transpose(work: _Capture, fx: FxNode) -> Value:
    view = work.view(fx, fx.args[0])
    rank = len(view.shape) + 1
    if str(fx.target).startswith("aten.permute"):
        order = [int(axis) % rank for axis in fx.args[1]]  # type: ignore[union-attr]
    else:
        order = list(range(rank))
        a, b = int(fx.args[1]) % rank, int(fx.args[2]) % rank  # type: ignore[arg-type]
        order[a], order[b] = order[b], order[a]
    if order == list(range(rank)):
        return view
    base = work.shapes[view.name]
    if order != [0, 2, 1, 3, 4] or len(base) != 3 or view.shape[2:] != base[1:] or view.shuffled:
        raise _unsupported(fx, f"axes are permuted to {order}; only the channel shuffle [N, g, C/g, H, W] -> [N, C/g, g, H, W] is known")
    return _View(view.name, _shape(fx), view.shape[0])


def _identity(work: _Capture, fx: FxNode) -> Value:
    return work.view(fx, fx.args[0])


def _expand(work: _Capture, fx: FxNode) -> Value:
    view = work.view(fx, fx.args[0])
    if _shape(fx) != view.shape and view.shape != (_shape(fx)[0], 1, 1):
        raise _unsupported(fx, f"{view.shape} is expanded to {_shape(fx)}; only [C, 1, 1] broadcasts")
    return view


def _cast(work: _Capture, fx: FxNode) -> Value:
    if fx.meta["val"].dtype != torch.float32:
        raise _unsupported(fx, f"activations are cast to {fx.meta['val'].dtype}; capture a float32 network")
    return work.view(fx, fx.args[0])


_CONVERTERS: Mapping[str, Callable[[_Capture, FxNode], Value]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "relu6": _clamp,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "sigmoid": _scalar_function("sigmoid"),
    "silu": _scalar_function("silu"),
    "hardsigmoid": _scalar_function("hardsigmoid"),
    "hardswish": _scalar_function("hardswish"),
    "tanh": _scalar_function("tanh"),
    "gelu": _scalar_function("gelu"),
    "elu": _scalar_function("elu", "alpha", 1.0),
    "leaky_relu": _scalar_function("leaky_relu", "negative_slope", 0.01),
    "softplus": _scalar_function("softplus"),
    "add": lambda work, fx: _arithmetic(work, fx, scales=False, invert=False),
    "sub": lambda work, fx: _arithmetic(work, fx, scales=False, invert=True),
    "mul": lambda work, fx: _arithmetic(work, fx, scales=True, invert=False),
    "div": lambda work, fx: _arithmetic(work, fx, scales=True, invert=True),
    "cat": _concat,
    "slice": _slice,
    "chunk": _chunk,
    "split": _chunk,
    "split_with_sizes": _chunk,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "mean": _mean,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "transpose": _transpose,
    "permute": _transpose,
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
    "expand": _expand,
    "expand_as": _expand,
    "to": _cast,
}
