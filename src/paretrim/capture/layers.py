"""Converters of layers with parameters, and of dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call, Pair
from paretrim.capture.work import Value, Work
from paretrim.graph.types import Array, Attribute


def around(padding: Pair) -> tuple[int, int, int, int]:
    """Padding (top, left, bottom, right) of the same amount on opposite sides."""
    return (padding[0], padding[1], padding[0], padding[1])


def _conv2d(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    path, weight = work.weight(call, call.arguments["weight"])
    tensors: dict[str, Array] = {"weight": weight} | _bias(work, call)
    dilation, padding = call.pair("dilation"), call.arguments["padding"]
    if isinstance(padding, str):
        reach = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        edges = (reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2)
    else:
        edges = around(call.pair("padding"))
    attributes: dict[str, Attribute] = {
        "stride": call.pair("stride"),
        "padding": edges,
        "dilation": dilation,
        "groups": call.integer("groups"),
    }
    return work.emit(call, "conv2d", [source], shape=call.shape(), attributes=attributes, tensors=tensors, name=path)


def _linear(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    if len(work.shapes[source]) != 1:
        raise call.refused(f"a linear layer over the last axis of {work.shapes[source]}; flatten first")
    path, weight = work.weight(call, call.arguments["weight"])
    return work.emit(call, "linear", [source], shape=call.shape(), tensors={"weight": weight} | _bias(work, call), name=path)


def _bias(work: Work, call: Call) -> dict[str, Array]:
    if call.arguments["bias"] is None:
        return {}
    bias = work.constant(call.arguments["bias"])
    assert bias is not None, "what computes a bias out of activations is refused where it stands"
    return {"bias": bias.array}


def _batch_norm(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    mean, variance = (work.constant(call.arguments[name]) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        raise call.refused("it keeps no running statistics, so it cannot be folded; use track_running_stats=True")
    channels = mean.tensor.numel()
    gamma, beta = (work.constant(call.arguments[name]) for name in ("weight", "bias"))
    tensors: dict[str, Array] = {
        "gamma": gamma.array if gamma else np.ones(channels, np.float32),
        "beta": beta.array if beta else np.zeros(channels, np.float32),
        "mean": mean.array,
        "variance": variance.array,
    }
    path = mean.name.removesuffix(".running_mean")
    if path in work.shapes:
        raise call.refused("it is applied twice with the same statistics; give each use its own BatchNorm")
    epsilon = {"epsilon": call.number("eps")}
    return work.emit(call, "batch_norm", [source], shape=call.shape(), attributes=epsilon, tensors=tensors, name=path)


def _dropout(work: Work, call: Call) -> Value:
    source = work.read(call, call.source)
    return work.emit(call, "dropout", [source], shape=work.shapes[source], attributes={"probability": call.number("p")})


LAYERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "conv2d": _conv2d,
        "linear": _linear,
        "batch_norm": _batch_norm,
        "dropout": _dropout,
        "feature_dropout": _dropout,
    }
)
