"""The float graph under construction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.fx import Node as FxNode

from paretrim.capture.call import Call, is_in_place
from paretrim.graph.names import printable
from paretrim.graph.types import Array, Attribute, FloatArray, Node, ValueType


@dataclass(frozen=True)
class View:
    """A value of the graph with another shape (without the batch) that is not yet a node.

    ``shuffled`` is the number of groups if axes (groups, C/groups) have been swapped. ``never_wins`` is padding (top, left,
    bottom, right) with minus infinity, already part of ``shape``. ``spread`` says that the value, whose sizes are those of
    ``shape`` or 1, is broadcast to ``shape``. ``turned`` says that its last two axes are swapped, and ``last`` that the channels
    of a map [C, H, W] come last.
    """

    name: str
    shape: tuple[int, ...]
    shuffled: int = 0
    never_wins: tuple[int, int, int, int] = (0, 0, 0, 0)
    spread: bool = False
    turned: bool = False
    last: bool = False

    @property
    def plain(self) -> bool:
        """Whether it has exactly the elements of the value, in memory order."""
        return not (self.shuffled or any(self.never_wins) or self.spread or self.turned or self.last)


Value = View | tuple[View, ...]


@dataclass(frozen=True)
class Constant:
    """A parameter or buffer of the module, or a tensor computed from several, with the name of the first."""

    name: str
    tensor: torch.Tensor

    @property
    def memory(self) -> int:
        """Address of its storage: the same for constants that share memory."""
        return self.tensor.untyped_storage().data_ptr()

    @property
    def array(self) -> FloatArray:
        """Its values in float32; shares the memory of the private module, which is never written, if it is contiguous."""
        found = self.tensor.detach().to(torch.float32).cpu()
        numbers: FloatArray = found.numpy()
        return numbers if found.is_contiguous() else np.array(numbers)


@dataclass
class Work:
    """The graph under construction, and the graph value for each value of the exported program.

    Attributes:
        constants: parameters and buffers by their placeholder, and values computed only from them.
        nodes: the graph so far.
        shapes: of every value of the graph.
        known: the graph value for a value of the program.
        memory: for every value of the program, the values that share its memory; in-place operations change them all.
        tensors: for every value of the program, the values that are the same tensor under another name.
        changed: memory of constants that the network changes while it runs.
        owners: for every weight, the parts of it that layers use.
        repeated: weights that several layers of the graph use; each layer has a copy.
        left_out: operations at the end of the network that do not change the class and are not in the graph.
        returned: number of values that the network returns.
    """

    constants: dict[FxNode, Constant]
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    known: dict[FxNode, Value] = field(default_factory=dict)
    memory: dict[FxNode, list[FxNode]] = field(default_factory=dict)
    tensors: dict[FxNode, list[FxNode]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    owners: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    left_out: list[FxNode] = field(default_factory=list)
    returned: int = 1

    def emit(
        self,
        call: Call,
        op: str,
        inputs: Sequence[str],
        *,
        shape: tuple[int, ...],
        attributes: Mapping[str, Attribute] | None = None,
        tensors: Mapping[str, Array] | None = None,
        name: str = "",
    ) -> View:
        """Add a node and return its value; its name is ``name``, or that of its layer and operation."""
        wanted = printable(name or f"{call.layer}.{op}".removeprefix("."))
        unique, count = wanted, 2
        while unique in self.shapes:
            unique, count = f"{wanted}_{count}", count + 1
        self.nodes.append(
            Node(unique, op, tuple(inputs), ValueType(shape), attributes or {}, tensors or {}, printable(call.layer))
        )
        self.shapes[unique] = shape
        return View(unique, shape)

    def view(self, call: Call, argument: object, *, may_be_turned: bool = False, may_be_last: bool = False) -> View:
        """The value of an argument, which must be an activation."""
        value = self.known.get(argument) if isinstance(argument, FxNode) else None
        if (constant := self.constant(argument)) is not None:
            raise call.refused(
                f"'{constant.name}' is the same for every image but is used like an activation; a parameter, buffer or other "
                "constant tensor can be a weight, the other side of a sum, product, maximum, minimum or choice, or additional "
                "channels in torch.cat"
            )
        if isinstance(argument, FxNode) and isinstance(argument.meta.get("val"), torch.SymInt):
            raise call.refused("it computes with the number of images in a batch, and a file computes every image by itself")
        if not isinstance(value, View):
            raise call.refused(f"its argument {argument} is not an activation of the network")
        if value.turned and not may_be_turned:
            raise call.refused(
                "it reads a transposed map; only the second operand of a matrix product may be transposed, directly before the "
                "product"
            )
        if value.last and not may_be_last:
            raise call.refused(
                "it reads a channels-last map, which only layer norm, linear layers, unary functions, sums, products, slices and "
                "concatenated channels can; "
                "permute the channels back to the front"
            )
        if value.spread and isinstance(argument, FxNode):
            value = self.known[argument] = self._settled(call, value)
        return value

    def read(self, call: Call, argument: object) -> str:
        """Name of the value of an argument; a pending view becomes a node."""
        view = self.view(call, argument)
        settled = self._settled(call, view)
        if settled != view and isinstance(argument, FxNode):
            self.known[argument] = settled
        return settled.name

    def elements(self, call: Call, argument: object) -> View:
        """The value of an argument for an elementwise operation.

        Like :meth:`read`, but it may keep a shape that no node has, such as maps [P, C, H, W] stacked in one of [P * C, H, W].
        """
        view = self.view(call, argument, may_be_last=True)
        if view.last:
            return view
        if len(view.shape) > 3:
            stacked = replace(view, shape=(math.prod(view.shape[:-2]), *view.shape[-2:]))
            return View(self._settled(call, stacked).name, view.shape)
        base = self.shapes[view.name]
        flat = len(view.shape) == 1 and not is_in_place(call.node)  # an overwritten value is also read in its own shape
        if not view.plain or view.shape == base or flat or view.shape == (base[0], 1, 1):
            name = self.read(call, argument)
            return View(name, self.shapes[name])
        return view

    def operand(self, call: Call, argument: object) -> View:
        """Like :meth:`elements`, but returns a broadcast value before broadcasting."""
        value = self.known.get(argument) if isinstance(argument, FxNode) else None
        if isinstance(value, View) and value.spread:
            return View(value.name, self.shapes[value.name])
        return self.elements(call, argument)

    def spread(self, call: Call, view: View, shape: tuple[int, ...]) -> View:
        """A value [C, H, W] whose sizes are those of ``shape`` or 1, or a vector [1], broadcast to ``shape``."""
        if len(shape) == 1:
            single = View(self.settled(call, View(view.name, (1, 1, 1))), (1, 1, 1))
            repeated = self.mixed(call, single, np.ones((shape[0], 1), np.float32))
            return self.emit(call, "flatten", [repeated.name], shape=shape)
        if view.shape[1:] != shape[1:]:
            wide = (view.shape[0], *shape[1:])
            attributes: dict[str, Attribute] = {"output_size": shape[1:]}
            view = self.emit(call, "adaptive_avg_pool", [view.name], shape=wide, attributes=attributes)
        return view if view.shape == shape else self.mixed(call, view, np.ones((shape[0], 1), np.float32))

    def mixed(self, call: Call, view: View, shares: FloatArray) -> View:
        """Channels [K, H, W] as weighted sums of those of a value [C, H, W], with weights [K, C]: a fixed convolution."""
        shape = (len(shares), *view.shape[1:])
        still: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, "fixed": 1}
        weight: dict[str, Array] = {"weight": shares[:, :, None, None]}
        return self.emit(call, "conv2d", [view.name], shape=shape, attributes=still, tensors=weight)

    def settled(self, call: Call, view: View) -> str:
        """Name of a value with the shape of this view, which becomes a node if necessary."""
        return self._settled(call, view).name

    def _settled(self, call: Call, view: View) -> View:
        base = self.shapes[view.name]
        if view.spread:
            return self.spread(call, View(view.name, base), view.shape)
        if any(view.never_wins):
            raise call.refused("it reads a value padded with -inf, which only a max pooling without padding can; pad with zeros")
        if view.shuffled:
            if view.shape != base:
                raise call.refused(
                    f"it reads a permuted tensor of shape {view.shape} before it is reshaped back to {base}; reshape it first"
                )
            return self.emit(call, "channel_shuffle", [view.name], shape=base, attributes={"groups": view.shuffled})
        if view.shape == base:
            return view
        if len(view.shape) == 1 and view.shape[0] == math.prod(base):
            return self.emit(call, "flatten", [view.name], shape=view.shape)
        if len(base) == 1 and view.shape == (base[0], 1, 1):
            return self.emit(call, "unflatten", [view.name], shape=view.shape)
        if view.plain and len(view.shape) == 3 and len(base) in (1, 3):
            return self._reshaped(call, view)
        raise call.refused(f"it reads a tensor of shape {base} as {view.shape}; only vectors and maps [C, H, W] can be read")

    def _reshaped(self, call: Call, view: View) -> View:
        """A map of another shape with its values in the same order: all values become channels, and these all pixels."""
        base, pixels, ones = self.shapes[view.name], view.shape[1:], (math.prod(view.shape), 1, 1)
        value = View(view.name, base)
        if len(base) == 1:
            value = self.emit(call, "unflatten", [value.name], shape=ones)
        elif base != ones:
            value = self.emit(call, "pixel_unshuffle", [value.name], shape=ones, attributes={"factor": base[1:]})
        if pixels == (1, 1):
            return value
        return self.emit(call, "pixel_shuffle", [value.name], shape=view.shape, attributes={"factor": pixels})

    def constant(self, argument: object) -> Constant | None:
        """The constant of an argument, or None."""
        return self.constants.get(argument) if isinstance(argument, FxNode) else None

    def weight(self, call: Call, argument: object) -> tuple[str, FloatArray]:
        """Layer path and value of a weight; a weight that another layer already uses is recorded and copied."""
        found = self.constant(argument)
        if found is None:
            raise call.refused("its weight is computed from activations; only a constant weight is supported")
        parts = self.owners.setdefault(found.name, [])
        if found.name not in self.repeated and not all(_are_apart(found.tensor, other) for other in parts):
            self.repeated.append(found.name)
        parts.append(found.tensor)
        return found.name.split(".parametrizations.")[0].removesuffix(".weight"), found.array

    def overwrite(self, call: Call, value: Value, before: Value | None) -> None:
        """Make the first argument of an in-place operation, ``before`` until now, the new value for later readers.

        The same goes for views of the whole value in another shape. Views of a part of it must not be read again.
        """
        target = call.source
        if not isinstance(target, FxNode):
            return
        same = self.tensors.get(target, [target])
        for other in self.memory.get(target, []):
            if other in same:
                continue
            shown = self.known.get(other)
            showing = isinstance(shown, View) and isinstance(before, View) and _hold_the_same(before, shown)
            if showing and _in_one_memory(target, other) and isinstance(value, View) and value.plain:
                assert isinstance(shown, View)
                self.known[other] = replace(value, shape=shown.shape)
            elif any(call.node < user for user in other.users):
                if _in_one_memory(target, other):
                    where, instead = "shares its memory", "use the out-of-place form"
                else:
                    where = "shares its memory unless torch has to copy it, which depends on the layout of the images"
                    instead = "use .clone() if you need a copy, else the out-of-place form"
                raise call.refused(f"it overwrites '{target}', and '{other}', which {where}, is read afterwards; {instead}")
        for other in same:
            self.known[other] = value

    def share_memory(self, node: FxNode, source: object, *, same: bool = False) -> None:
        """Record that ``node`` may be a view of ``source``, or is the same tensor."""
        if isinstance(source, FxNode):
            _join(self.memory, node, source)
            if same:
                _join(self.tensors, node, source)


def _in_one_memory(first: FxNode, second: FxNode) -> bool:
    """Whether two values certainly share memory: a reshape, for example, may have copied."""
    storages = [node.meta["val"].untyped_storage()._cdata for node in (first, second)]
    return bool(storages[0] == storages[1])


def _hold_the_same(first: View, second: View) -> bool:
    """Whether two views have the same elements in the same order."""
    return first.name == second.name and first.plain and second.plain


def _are_apart(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are disjoint parts of the same tensor."""
    if first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr():
        return False
    one, other = (
        torch.arange(part.untyped_storage().nbytes() // part.element_size()).as_strided(
            part.shape, part.stride(), part.storage_offset()
        )
        for part in (first, second)
    )
    return not bool(torch.isin(one, other).any())


def _join(groups: dict[FxNode, list[FxNode]], node: FxNode, source: FxNode) -> None:
    members = groups.setdefault(source, [source])
    members.append(node)
    groups[node] = members
