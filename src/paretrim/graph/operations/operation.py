"""What an operation is: its settings, its shape, its two meanings and what it does to grids and channels, in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paretrim.errors import UnsupportedOperation
from paretrim.graph.node import Array, Attribute, Float64Array, InputSpec, Node, ValueType
from paretrim.graph.operations.attributes import AttributeRule, Settings, Shape
from paretrim.graph.operations.channel_rules import ChannelRule
from paretrim.graph.windows import Values

GridRule = Literal["keeps", "requantizes", "float_only", "pixels", "enters", "leaves"]
"""What an operation does to a grid.

It *keeps* that of its one input, because it only moves or selects values; it *requantizes* to a grid of its own; it takes and
gives floats only (*float_only*); it turns *pixels* into floats; it *enters* the grids, from floats or pixels; or it *leaves*
them.
"""

Scaling = Literal["homogeneous", "product", "own", "near"]
"""How the size of a result follows the sizes of the inputs.

*homogeneous*: if the channels of the inputs are multiplied by factors above 0, so are those of the result. *product*: the same
for each input by itself, so sizes multiply. *own*: the result has a size of its own, or its tensors decide it. *near*: none of
these; the result is about as large as its largest input.
"""

Rescaling = Literal["none", "each", "sum", "product"]
"""Which input scales make the multipliers of a requantization: each of them, their sum, or their product."""


WorkRule = Literal["result", "weight", "window", "input", "depth"]
"""Multiply-adds of one image, as the budget of ``trimfile/SPEC.md`` counts them.

One for each element of the *result*; the elements of the *weight* for each pixel of it; those of the *window* for each element of
it; one for each element of the result or of the *input*, whichever are more; or the width of the first input, the *depth* of a
matrix product, for each element of the result.
"""


@dataclass(frozen=True, eq=False)
class NodeCall:
    """One node about to be computed: the values and types of its inputs, and ``spec`` for operations that read pixels."""

    node: Node
    settings: Settings
    inputs: tuple[Values, ...]
    types: tuple[ValueType, ...]
    spec: InputSpec


Meaning = Callable[[NodeCall], Values]
Bounds = tuple[float | None, float | None]
ShapeRule = Callable[[Settings, Sequence[Shape], Mapping[str, Array]], Shape]


@dataclass(frozen=True, eq=False)
class Results:
    """What an operation can give on uint8 grids before it rounds onto its own; calibration chooses that grid by it.

    Both functions take the attributes and the types of the inputs.

    Attributes:
        possible: the results that an element can have, one array for each input or size of window; none where they are too many
            for single ones to matter.
        finest: the smallest change other than 0 that one step of one input makes in a result, or less.
    """

    possible: Callable[[Settings, Sequence[ValueType]], list[Float64Array]]
    finest: Callable[[Settings, Sequence[ValueType]], float]


@dataclass(frozen=True)
class TensorRule:
    """Type and form of a tensor.

    ``channels`` is [C], ``table`` [256], ``tables`` [C, 256]; ``weight`` has a form that the operation's shape rule checks.
    """

    dtype: Literal["float32", "int32", "int8", "uint8"]
    form: Literal["weight", "channels", "table", "tables"]
    optional: bool = False
    also: tuple[str, ...] = ()
    """Other types that it may have, of :data:`paretrim.graph.dtypes.TENSOR_TYPES`."""

    def shape_in(self, node: Node, name: str) -> Shape:
        """The shape that the tensor of this name must have in a node."""
        channels = node.type.shape[0]
        if self.form == "weight":
            return tuple(node.tensors[name].shape)
        return {"channels": (channels,), "table": (256,), "tables": (channels, 256)}[self.form]


@dataclass(frozen=True, eq=False)
class Operation:
    """Everything about one operation. ``docs/integer-graph.md`` defines what it computes.

    A fact without a default is one that no default would be safe for. ``tests/graph/test_operation_facts.py`` tries every fact.

    Attributes:
        name: in graphs and files.
        number: never changes, since ``.trim`` files store it.
        meaning: one line for a reader.
        shape: the shape of its result from its inputs' shapes; raises UnsupportedOperation if they do not fit.
        real: what it computes in floats; None if it exists in integer graphs only.
        integer: what it computes on grids; None if it exists in float graphs only.
        channels: which channels of the output come from which of the inputs; None if channels cannot be followed.
        grid: see :data:`GridRule`.
        scaling: see :data:`Scaling`. This and other functions of settings depend on a node's attributes.
        results: see :class:`Results`; None if it does not requantize, or if its tensors decide.
        arity: number of inputs; None for any number from 1.
        attributes: rules by name.
        check: what the rules of single attributes cannot say; raises UnsupportedOperation.
        rescaling: see :data:`Rescaling`.
        work: see :data:`WorkRule`.
        multiplies: what its weight multiplies: an input that is a *vector*, or the *windows* that slide over an image; None
            without a weight. A weight can be pruned and quantized.
        elementwise: each value of its result depends on the value at the same place of its one input, and on nothing else.
        same_values: its values are its input's in the same order, perhaps in another shape.
        ships: it may occur in a deployed graph; false for what is only for training.
        library: whether its float meaning asks a mathematics library, whose last bit differs between machines.
        bounds: for an activation that only bounds values, its lower and upper bound (None: none). A requantization before it
            takes it in.
        averaged: for one that selects the largest of several values, name and attributes of one that takes their mean or sum, if
            there is one.
        table: for one that on grids looks its result up, the table, by the types of its input and result.
        real_tensors: tensors by name where its input is float32.
        integer_tensors: tensors by name where its input is uint8.
    """

    name: str
    number: int
    meaning: str
    shape: ShapeRule
    real: Meaning | None
    integer: Meaning | None
    channels: ChannelRule | None
    grid: GridRule
    scaling: Callable[[Settings], Scaling]
    results: Results | None
    arity: int | None = 1
    attributes: Mapping[str, AttributeRule] = field(default_factory=dict)
    check: Callable[[Settings], None] = lambda _: None
    rescaling: Rescaling = "none"
    work: WorkRule = "result"
    multiplies: Literal["vector", "windows"] | None = None
    elementwise: bool = False
    same_values: bool = False
    ships: bool = True
    library: Callable[[Settings], bool] = lambda _: False
    bounds: Callable[[Settings], Bounds] | None = None
    averaged: Callable[[Settings], tuple[str, dict[str, Attribute]] | None] = lambda _: None
    table: Callable[[Settings, ValueType, ValueType, InputSpec], Array] | None = None
    real_tensors: Mapping[str, TensorRule] = field(default_factory=dict)
    integer_tensors: Mapping[str, TensorRule] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        """Whether it has a weight that can be pruned and quantized."""
        return self.multiplies is not None

    @property
    def normalizes(self) -> bool:
        """Whether it is a scale and shift of each channel from statistics, which a weighted operation before it takes in."""
        return "variance" in self.real_tensors

    @property
    def clamps(self) -> bool:
        """Whether its requantization has the clamp lo..hi, into which an activation after it is fused."""
        return "lo" in self.attributes

    def require_inputs(self, count: int) -> None:
        """Check the number of inputs.

        Raises:
            UnsupportedOperation: the operation takes another number.
        """
        if self.arity is None:
            if count < 1:
                raise UnsupportedOperation(f"{self.name} needs at least one input")
        elif count != self.arity:
            raise UnsupportedOperation(f"{self.name} takes {self.arity} inputs and was given {count}")


def always(scaling: Scaling) -> Callable[[Settings], Scaling]:
    """The same whatever the attributes."""
    return lambda _: scaling


# Shape rules that several families share.


def same_shape(_: Settings, shapes: Sequence[Shape], __: Mapping[str, Array]) -> Shape:
    """The shape of the first input."""
    return shapes[0]


def image_shape(op: str, shape: Shape) -> tuple[int, int, int]:
    """A shape that must be [C, H, W].

    Raises:
        UnsupportedOperation: it is not.
    """
    if len(shape) != 3:
        raise UnsupportedOperation(f"{op} needs an input [C, H, W] and was given {shape}")
    return shape[0], shape[1], shape[2]
