"""Attributes and shape rules of every operation: the one place that knows which settings an operation takes and what comes out.

Shapes are written without the batch: ``(C, H, W)`` or ``(F,)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import Array, Attribute, Node

Shape = tuple[int, ...]
Pair = tuple[int, int]
Edges = tuple[int, int, int, int]

LARGEST = 2**31 - 1
"""No extent, and no number of elements of a value, may exceed this: an index always fits into int32."""


@dataclass(frozen=True)
class AttributeRule:
    """What one attribute may be. Integers lie in ``minimum`` .. :data:`LARGEST`; ``length`` is that of a tuple."""

    kind: Literal["int", "ints", "float", "str"]
    length: int = 0
    minimum: int = 0
    default: Attribute | None = None
    required: bool = True


def _optional(rule: AttributeRule, default: Attribute | None) -> AttributeRule:
    return AttributeRule(rule.kind, rule.length, rule.minimum, default, required=False)


_PAIR = AttributeRule("ints", 2, 1)
_EDGES = AttributeRule("ints", 4)
_TRIPLE = AttributeRule("ints", 3)
_COUNT = AttributeRule("int", minimum=1)
_INDEX = AttributeRule("int")
_NUMBER = AttributeRule("float")
_ONES, _NO_EDGES = _optional(_PAIR, (1, 1)), _optional(_EDGES, (0, 0, 0, 0))
_FIXED = {"fixed": _optional(_INDEX, 0)}
_CLAMP = {"lo": _optional(_INDEX, 0), "hi": _optional(_INDEX, 255)}

ATTRIBUTES: Mapping[str, Mapping[str, AttributeRule]] = MappingProxyType(
    {
        "normalize": {},
        "quantize": {},
        "dequantize": {},
        "conv2d": {"stride": _ONES, "padding": _NO_EDGES, "dilation": _ONES, "groups": _optional(_COUNT, 1)} | _FIXED | _CLAMP,
        "linear": _CLAMP,
        "batch_norm": {"epsilon": _optional(_NUMBER, None)} | _CLAMP,
        "relu": {},
        "clamp": {"minimum": _optional(_NUMBER, None), "maximum": _optional(_NUMBER, None)},
        "pointwise": {"function": AttributeRule("str"), "constant": _optional(_NUMBER, None)},
        "add": _CLAMP,
        "mul": _CLAMP,
        "concat": {},
        "slice": {"axis": _INDEX, "start": _INDEX, "stop": _INDEX, "step": _optional(_COUNT, 1)},
        "pad": {"before": _TRIPLE, "after": _TRIPLE},
        "channel_shuffle": {"groups": _COUNT},
        "flatten": {},
        "unflatten": {},
        "dropout": {"probability": _NUMBER},
        "max_pool": {"window": _PAIR, "stride": _PAIR, "padding": _NO_EDGES, "dilation": _ONES},
        "avg_pool": {"window": _PAIR, "stride": _PAIR, "padding": _NO_EDGES, "count_padding": _NO_EDGES} | _CLAMP,
        "adaptive_avg_pool": {"output_size": _PAIR} | _CLAMP,
    }
)
"""Attributes of every operation. One that is left out has its default; ``None`` as default means the setting does not apply."""


@dataclass(frozen=True)
class Settings:
    """Checked attributes of one node, read by kind."""

    values: Mapping[str, Attribute]

    def integer(self, name: str) -> int:
        """An integer attribute."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """A tuple attribute."""
        value = self.values[name]
        assert isinstance(value, tuple)
        return value

    def pair(self, name: str) -> Pair:
        """A (vertical, horizontal) attribute."""
        vertical, horizontal = self.integers(name)
        return vertical, horizontal

    def edges(self, name: str) -> Edges:
        """A (top, left, bottom, right) attribute."""
        top, left, bottom, right = self.integers(name)
        return top, left, bottom, right

    def number(self, name: str) -> float | None:
        """A float attribute, None where it is left out."""
        return self.required_number(name) if name in self.values else None

    def required_number(self, name: str) -> float:
        """A float attribute of an operation that cannot do without."""
        value = self.values[name]
        assert isinstance(value, int | float)
        return float(value)

    def text(self, name: str) -> str:
        """A string attribute."""
        value = self.values[name]
        assert isinstance(value, str)
        return value


def read_attributes(op: str, attributes: Mapping[str, Attribute]) -> Settings:
    """Check the attributes of an operation and fill in what was left out.

    Raises:
        UnsupportedOperation: an attribute is unknown, missing, of the wrong kind or out of range.
    """
    rules = ATTRIBUTES[op]
    unknown = sorted(set(attributes) - set(rules))
    if unknown:
        raise UnsupportedOperation(f"{op} has unknown attributes {unknown}; it takes {sorted(rules) or 'none'}")
    values: dict[str, Attribute] = {}
    for name, rule in rules.items():
        if name in attributes:
            _check_attribute(op, name, attributes[name], rule)
            values[name] = attributes[name]
        elif rule.required:
            raise UnsupportedOperation(f"{op} lacks the attribute '{name}'")
        elif rule.default is not None:
            values[name] = rule.default
    return Settings(MappingProxyType(values))


def settings_of(node: Node) -> Settings:
    """The attributes of a node, checked by :func:`read_attributes`."""
    return read_attributes(node.op, node.attributes)


def _check_attribute(op: str, name: str, value: Attribute, rule: AttributeRule) -> None:
    def whole(item: object) -> bool:
        return isinstance(item, int) and not isinstance(item, bool) and rule.minimum <= item <= LARGEST

    if rule.kind == "int":
        good, wanted = whole(value), f"an integer from {rule.minimum}"
    elif rule.kind == "ints":
        good = isinstance(value, tuple) and len(value) == rule.length and all(whole(item) for item in value)
        wanted = f"{rule.length} integers from {rule.minimum}"
    elif rule.kind == "float":
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        wanted = "a finite number"
    else:
        good, wanted = isinstance(value, str), "a string"
    if not good:
        raise UnsupportedOperation(f"{op} has {name} = {value!r}; it must be {wanted}")


def infer_shape(
    op: str, attributes: Mapping[str, Attribute], input_shapes: Sequence[Shape], tensors: Mapping[str, Array]
) -> Shape:
    """Shape of what an operation computes from its inputs' shapes. Only the shapes of ``tensors`` matter.

    >>> infer_shape("max_pool", {"window": (2, 2), "stride": (2, 2)}, [(16, 32, 32)], {})
    (16, 16, 16)

    Raises:
        UnsupportedOperation: the inputs do not fit the operation; the message says which rule is broken.
    """
    settings = read_attributes(op, attributes)
    wanted = {"add": 2, "mul": 2}.get(op, 1)
    if op == "concat":
        if len(input_shapes) < 1:
            raise UnsupportedOperation("concat needs at least one input")
    elif len(input_shapes) != wanted:
        raise UnsupportedOperation(f"{op} takes {wanted} inputs and was given {len(input_shapes)}")
    shape = _RULES[op](settings, input_shapes, tensors)
    if any(extent < 1 for extent in shape) or math.prod(shape) > LARGEST:
        raise UnsupportedOperation(
            f"{op} of {list(input_shapes)} would have the shape {shape}; extents must be 1 or more and fit int32"
        )
    return shape


_Rule = Callable[[Settings, Sequence[Shape], Mapping[str, Array]], Shape]


def _image(op: str, shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UnsupportedOperation(f"{op} needs an input [C, H, W] and was given {shape}")
    return shape[0], shape[1], shape[2]


def tensor_shape(op: str, tensors: Mapping[str, Array], name: str, dimensions: int) -> Shape:
    """Shape of a tensor that an operation needs.

    Raises:
        UnsupportedOperation: it is missing or has another number of dimensions.
    """
    if name not in tensors:
        raise UnsupportedOperation(f"{op} lacks the tensor '{name}'")
    shape = tuple(int(extent) for extent in tensors[name].shape)
    if len(shape) != dimensions:
        raise UnsupportedOperation(f"{op} has a {name} of shape {shape}; it must have {dimensions} dimensions")
    return shape


def _slide(op: str, shape: tuple[int, int, int], window: Pair, settings: Settings, *, inside: bool) -> Pair:
    """Extents after sliding a window; ``inside`` demands that every window touches the image itself."""
    stride, (top, left, bottom, right) = settings.pair("stride"), settings.edges("padding")
    dilation = settings.pair("dilation") if "dilation" in settings.values else (1, 1)
    result = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        extent, reach = shape[axis + 1], (window[axis] - 1) * dilation[axis] + 1
        padded = extent + before + after
        if padded > LARGEST or reach > padded:
            raise UnsupportedOperation(
                f"{op} with a window that reaches {reach} does not fit an extent of {extent} padded to {padded}"
            )
        if inside and max(before, after) >= reach:
            raise UnsupportedOperation(f"{op} pads {before} and {after}; a window that reaches {reach} would see padding only")
        result.append((padded - reach) // stride[axis] + 1)
    padded_size = shape[0] * (shape[1] + top + bottom) * (shape[2] + left + right)
    if padded_size > LARGEST:
        raise UnsupportedOperation(f"{op} pads its input to {padded_size} elements, more than int32 can index")
    return result[0], result[1]


def _convolution(settings: Settings, shapes: Sequence[Shape], tensors: Mapping[str, Array]) -> Shape:
    image = _image("conv2d", shapes[0])
    outputs, depth, height, width = tensor_shape("conv2d", tensors, "weight", 4)
    groups = settings.integer("groups")
    if min(outputs, depth, height, width) < 1:
        raise UnsupportedOperation(f"conv2d has an empty weight of shape {(outputs, depth, height, width)}")
    if depth * groups != image[0] or outputs % groups:
        raise UnsupportedOperation(
            f"conv2d weight {(outputs, depth, height, width)} in {groups} groups does not fit {image[0]} input channels"
        )
    return (outputs, *_slide("conv2d", image, (height, width), settings, inside=False))


def _linear(_: Settings, shapes: Sequence[Shape], tensors: Mapping[str, Array]) -> Shape:
    outputs, features = tensor_shape("linear", tensors, "weight", 2)
    if shapes[0] != (features,):
        raise UnsupportedOperation(f"linear weight {(outputs, features)} does not fit the input {shapes[0]}; flatten it first")
    return (outputs,)


def _same(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    return shapes[0]


def _add(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if shapes[0] == shapes[1]:
        return shapes[0]
    raise UnsupportedOperation(f"add needs two equal shapes and was given {shapes[0]} and {shapes[1]}")


def _mul(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    first, second = shapes
    if first == second:
        return first
    for whole, factor in ((first, second), (second, first)):
        if len(whole) == 3 and factor == (whole[0], 1, 1):
            return whole
    raise UnsupportedOperation(f"mul needs equal shapes, or [C, 1, 1] against [C, H, W], and was given {first} and {second}")


def _concat(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if any(not shape or shape[1:] != shapes[0][1:] for shape in shapes):
        raise UnsupportedOperation(f"concat joins channels of equal maps and was given {list(shapes)}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _slice(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    axis, start, stop, step = (settings.integer(name) for name in ("axis", "start", "stop", "step"))
    if axis >= len(shapes[0]) or not start < stop <= shapes[0][axis]:
        raise UnsupportedOperation(f"slice {start}:{stop}:{step} of axis {axis} leaves the input {shapes[0]}")
    return (*shapes[0][:axis], (stop - start - 1) // step + 1, *shapes[0][axis + 1 :])


def _pad(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image = _image("pad", shapes[0])
    before, after = settings.integers("before"), settings.integers("after")
    return tuple(extent + first + last for extent, first, last in zip(image, before, after, strict=True))


def _shuffle(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image, groups = _image("channel_shuffle", shapes[0]), settings.integer("groups")
    if image[0] % groups:
        raise UnsupportedOperation(f"channel_shuffle in {groups} groups does not divide {image[0]} channels")
    return image


def _flatten(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    return (math.prod(shapes[0]),)


def _unflatten(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    if len(shapes[0]) == 1:
        return (*shapes[0], 1, 1)
    raise UnsupportedOperation(f"unflatten needs an input [C] and was given {shapes[0]}")


def _pool(op: str) -> _Rule:
    def rule(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
        image = _image(op, shapes[0])
        if op == "avg_pool":
            padding, counted = settings.edges("padding"), settings.edges("count_padding")
            if any(count > pad for count, pad in zip(counted, padding, strict=True)):
                raise UnsupportedOperation(
                    f"avg_pool counts {counted} of the padding {padding}; it cannot count more than there is"
                )
        return (image[0], *_slide(op, image, settings.pair("window"), settings, inside=True))

    return rule


def _adaptive(settings: Settings, shapes: Sequence[Shape], _: Mapping[str, Array]) -> Shape:
    image, size = _image("adaptive_avg_pool", shapes[0]), settings.pair("output_size")
    return (image[0], *size)


_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "conv2d": _convolution,
        "linear": _linear,
        "add": _add,
        "mul": _mul,
        "concat": _concat,
        "slice": _slice,
        "pad": _pad,
        "channel_shuffle": _shuffle,
        "flatten": _flatten,
        "unflatten": _unflatten,
        "max_pool": _pool("max_pool"),
        "avg_pool": _pool("avg_pool"),
        "adaptive_avg_pool": _adaptive,
    }
    | dict.fromkeys(("normalize", "quantize", "dequantize", "batch_norm", "relu", "clamp", "pointwise", "dropout"), _same)
)
