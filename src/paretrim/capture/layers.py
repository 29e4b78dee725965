"""Converters of layers with parameters, and of dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from paretrim.capture.call import Call
from paretrim.capture.cut import cut
from paretrim.capture.last import as_map
from paretrim.capture.remedies import remedy
from paretrim.capture.work import Value, View, Work
from paretrim.graph.operations.attributes import Pair
from paretrim.graph.types import Array, Attribute, FloatArray


def around(padding: Pair) -> tuple[int, int, int, int]:
    """Symmetric padding as (top, left, bottom, right)."""
    return (padding[0], padding[1], padding[0], padding[1])


def conv2d(work: Work, call: Call) -> Value:
    """A convolution of maps [C, H, W]."""
    source = work.read(call, call.source)
    path, weight = work.weight(call, call.arguments["weight"])
    tensors: dict[str, Array] = {"weight": weight} | bias_of(work, call)
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
        **call.fixed("weight"),
    }
    name = "" if call.fixed("weight") else path
    return work.emit(call, "conv2d", [source], shape=call.shape(), attributes=attributes, tensors=tensors, name=name)


def _conv1d(work: Work, call: Call) -> Value:
    """A convolution of one axis: of rows [C, L], or along the channels of one pixel."""
    view = work.view(call, call.source)
    path, weight = work.weight(call, call.arguments["weight"])
    if len(view.shape) != 2 or not view.plain:
        raise call.refused(
            f"a weight of shape {weight.shape} over {view.shape}; it takes rows [C, L], such as a map that is flattened or whose "
            "height is averaged, without permuting its axes"
        )
    steps = {*call.integers("stride"), *call.integers("dilation")}
    if view.shape[0] == 1 and weight.shape[:2] == (1, 1) and steps == {1}:
        return _along_channels(work, call, view, path, weight)
    base, rows = work.shapes[view.name], (view.shape[0], 1, view.shape[1])
    (stride,), (dilation,), padding = call.integers("stride"), call.integers("dilation"), call.arguments["padding"]
    reach = dilation * (weight.shape[2] - 1) if padding == "same" else 0
    before, after = (reach // 2, reach - reach // 2) if isinstance(padding, str) else call.integers("padding") * 2
    still = weight.shape[2] == stride == 1 and before == after == 0 and base[0] == view.shape[0]
    source = view.name if still and len(base) == 3 else work.settled(call, replace(view, shape=rows))
    attributes: dict[str, Attribute] = {
        "stride": (1, stride),
        "padding": (0, before, 0, after),
        "dilation": (1, dilation),
        "groups": call.integer("groups"),
    }
    tensors: dict[str, Array] = {"weight": weight[:, :, None, :]} | bias_of(work, call)
    shape = (len(weight), *work.shapes[source][1:]) if source == view.name and still else (len(weight), 1, call.shape()[1])
    made = work.emit(call, "conv2d", [source], shape=shape, attributes=attributes, tensors=tensors, name=path)
    return View(made.name, call.shape())


def _along_channels(work: Work, call: Call, view: View, path: str, weight: FloatArray) -> View:
    """Along the channels of one pixel, as in efficient channel attention: a layer with one group per channel.

    The k neighbours of every channel are arranged next to each other, so that its group reads them.
    """
    reach, count = weight.shape[2], call.shape()[1]
    padding = call.arguments["padding"]
    named = {"same": (reach - 1) // 2, "valid": 0}
    before = named[padding] if isinstance(padding, str) else call.integers("padding")[0]
    after = count + reach - 1 - view.shape[1] - before
    pixel = work.settled(call, replace(view, shape=(view.shape[1], 1, 1)))
    around: dict[str, Attribute] = {"before": (before, 0, 0), "after": (after, 0, 0)}
    padded = work.emit(call, "pad", [pixel], shape=(count + reach - 1, 1, 1), attributes=around)
    shifted = [cut(work, call, padded.name, 0, start=i, stop=i + count, step=1).name for i in range(reach)]
    joined = work.emit(call, "concat", shifted, shape=(reach * count, 1, 1))
    beside = work.emit(call, "channel_shuffle", [joined.name], shape=joined.shape, attributes={"groups": reach})
    tensors: dict[str, Array] = {name: np.repeat(value, count, axis=0) for name, value in bias_of(work, call).items()}
    tensors["weight"] = np.repeat(weight.reshape(1, reach, 1, 1), count, axis=0)
    attributes: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": count}
    made = work.emit(call, "conv2d", [beside.name], shape=(count, 1, 1), attributes=attributes, tensors=tensors, name=path)
    return View(made.name, call.shape())


def _linear(work: Work, call: Call) -> Value:
    """A linear layer; on a channels-last map it becomes a 1x1 convolution."""
    seen = work.view(call, call.source, may_be_last=True)
    if seen.last or (len(seen.shape) > 1 and seen.plain and seen.shape[:-1] == (1,) * (len(seen.shape) - 1)):
        return _linear_over_channels(work, call)
    source = work.read(call, call.source)
    if len(work.shapes[source]) != 1:
        raise call.refused(f"a linear layer over the last axis of {work.shapes[source]}; flatten first")
    path, weight = work.weight(call, call.arguments["weight"])
    return work.emit(call, "linear", [source], shape=call.shape(), tensors={"weight": weight} | bias_of(work, call), name=path)


def _linear_over_channels(work: Work, call: Call) -> View:
    value, seen = as_map(work, call, call.source)
    path, weight = work.weight(call, call.arguments["weight"])
    tensors: dict[str, Array] = {"weight": weight[:, :, None, None]} | bias_of(work, call)
    attributes: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    shape = (len(weight), *value.shape[1:])
    made = work.emit(call, "conv2d", [value.name], shape=shape, attributes=attributes, tensors=tensors, name=path)
    return replace(seen, name=made.name, shape=(*seen.shape[:-1], len(weight)))


def bias_of(work: Work, call: Call) -> dict[str, Array]:
    """The bias of a layer as a tensor of its node, if it has one."""
    if call.arguments["bias"] is None:
        return {}
    bias = work.constant(call.arguments["bias"])
    assert bias is not None, "a bias computed from activations is rejected earlier"
    return {"bias": bias.array}


def _batch_norm(work: Work, call: Call) -> Value:
    if work.constant(call.arguments["running_mean"]) is not None:
        call.require("training", False, "it uses batch statistics even in eval mode; pass training=self.training")
    call.no_effect("training")
    return normalised_by_constants(work, call)


def normalised_by_constants(work: Work, call: Call) -> View:
    """Every channel minus its running mean, over the root of its running variance."""
    view = work.view(call, call.source)
    flat = view.plain and len(view.shape) == 2 and view.shape[0] == work.shapes[view.name][0]  # [C, L], the pixels of a map
    source = view.name if flat else work.read(call, call.source)
    mean, variance = (work.constant(call.arguments[name]) for name in ("running_mean", "running_var"))
    if mean is None or variance is None:
        raise call.refused("it has no running statistics, so it cannot be folded; use track_running_stats=True")
    call.no_effect("momentum")
    channels = mean.tensor.numel()
    gamma, beta = (work.constant(call.arguments[name]) for name in ("weight", "bias"))
    tensors: dict[str, Array] = {
        "gamma": gamma.array if gamma else np.ones(channels, np.float32),
        "beta": beta.array if beta else np.zeros(channels, np.float32),
        "mean": mean.array,
        "variance": variance.array,
    }
    # A second use becomes a separate layer from here on, with the same values.
    path = mean.name.removesuffix(".running_mean")
    epsilon = {"epsilon": call.number("eps")}
    made = work.emit(call, "batch_norm", [source], shape=work.shapes[source], attributes=epsilon, tensors=tensors, name=path)
    return View(made.name, call.shape())


def _dropout(work: Work, call: Call) -> Value:
    view = work.view(call, call.source, may_be_last=True)
    source = view.name if view.plain or view.last else work.read(call, call.source)
    if call.number("p") > 0:
        call.require("train", False, "it drops values even in eval mode; use nn.Dropout, or pass training=self.training")
    call.no_effect("train")
    made = work.emit(call, "dropout", [source], shape=work.shapes[source], attributes={"probability": call.number("p")})
    return replace(view, name=made.name) if view.last else View(made.name, view.shape)


def _product(work: Work, call: Call) -> Value:
    """A product with a constant matrix [in, out] becomes a linear layer; a product of two activations is one of maps."""
    factor = call.arguments["other" if "other" in call.arguments else "mat2"]
    constant = work.constant(factor)
    if constant is None and work.constant(call.source) is None:
        return _product_of_maps(work, call, factor)
    if constant is None:
        return _product_from_the_left(work, call, factor)
    if constant.tensor.dim() != 2:
        raise call.refused(remedy(call.operation))
    source = work.read(call, call.source)
    if len(work.shapes[source]) != 1:
        raise call.refused(
            f"it multiplies the last axis of a map {work.shapes[source]} by a constant matrix, which is supported for vectors "
            "only; mix channels with nn.Conv2d(C, K, 1), rows or columns with a larger kernel, or flatten the input first"
        )
    path, weight = work.weight(call, factor)
    tensors: dict[str, Array] = {"weight": np.ascontiguousarray(weight.T)}
    return work.emit(call, "linear", [source], shape=call.shape(), tensors=tensors, name=path)


def _product_from_the_left(work: Work, call: Call, factor: object) -> Value:
    """A constant matrix [out, C] times channels [C, pixels]: a convolution of one pixel."""
    seen, matrix = work.view(call, factor), work.constant(call.source)
    base = work.shapes[seen.name]
    fits = seen.plain and len(base) == 3 and seen.shape == (base[0], base[1] * base[2])
    if not fits or matrix is None or matrix.tensor.dim() != 2:
        raise call.refused(
            f"its first operand is a constant and its second {seen.shape}; only a constant matrix times the channels [C, H * W] "
            "of a map is supported; use nn.Conv2d or nn.Linear"
        )
    path, weight = work.weight(call, call.source)
    attributes: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    tensors: dict[str, Array] = {"weight": weight[:, :, None, None]}
    made = work.emit(
        call, "conv2d", [seen.name], shape=(len(weight), *base[1:]), attributes=attributes, tensors=tensors, name=path
    )
    return View(made.name, call.shape())


def _product_of_maps(work: Work, call: Call, factor: object) -> Value:
    """A product of two activations [C, H, K] and [C, K, W], or [H, K] and [K, W], which are maps of one channel."""
    first, second = work.view(call, call.source), work.view(call, factor, may_be_turned=True)
    if len(first.shape) not in (2, 3) or len(first.shape) != len(second.shape) or first.shape[:-2] != second.shape[:-2]:
        raise call.refused(f"its operands are {first.shape} and {second.shape}; {remedy(call.operation)}")
    *channels, height, width = second.shape
    straight = replace(second, shape=(*channels, width, height), turned=False) if second.turned else second
    names = [work.settled(call, replace(view, shape=(1, *view.shape)[-3:])) for view in (first, straight)]
    attributes: dict[str, Attribute] = {"transposed": 1} if second.turned else {}
    made = work.emit(call, "matmul", names, shape=(1, *call.shape())[-3:], attributes=attributes)
    return replace(made, shape=call.shape())


LAYERS: Mapping[str, Callable[[Work, Call], Value]] = MappingProxyType(
    {
        "conv1d": _conv1d,
        "conv2d": conv2d,
        "linear": _linear,
        "matmul": _product,
        "mm": _product,
        "bmm": _product,
        "batch_norm": _batch_norm,
        "dropout": _dropout,
        "feature_dropout": _dropout,
    }
)

SAME = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
"""Operations that return their input itself in eval mode, so that a change in place affects both names."""
