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
    """A value of the graph seen under another shape (without the batch), not yet written down as a node.

    ``shuffled`` is the number of groups once axes (groups, C/groups) have been swapped. ``never_wins`` is padding (top, left,
    bottom, right) with minus infinity, already part of ``shape``. ``spread`` says that the value, whose extents are those of
    ``shape`` or 1, is repeated to ``shape``. ``turned`` says that its last two axes have changed places, and
    ``last`` that the channels of a map [C, H, W] come last.
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
        """Whether it holds the numbers of the value in the order of memory, and nothing else."""
        return not (self.shuffled or any(self.never_wins) or self.spread or self.turned or self.last)


Value = View | tuple[View, ...]


@dataclass(frozen=True)
class Constant:
    """A parameter or buffer of the module, or a tensor made from such, which then has the name of its first."""

    name: str
    tensor: torch.Tensor

    @property
    def memory(self) -> int:
        """Where its numbers lie: two that share memory have the same."""
        return self.tensor.untyped_storage().data_ptr()

    @property
    def array(self) -> FloatArray:
        """Its numbers in float32, in the memory of the private module, which is not written to, if they lie there in order."""
        found = self.tensor.detach().to(torch.float32).cpu()
        numbers: FloatArray = found.numpy()
        return numbers if found.is_contiguous() else np.array(numbers)


@dataclass
class Work:
    """Nodes so far, and what each value of the exported program has become.

    Attributes:
        constants: parameters and buffers by their placeholder, and what is computed from them alone.
        nodes: the graph so far.
        shapes: of every value of the graph.
        known: what a value of the program is in the graph.
        memory: for every value of the program, the values that share its memory; in-place operations change them all.
        tensors: for every value of the program, the values that are the same tensor under another name.
        changed: memory of constants that the network changes while it runs.
        owners: for every weight, the parts of it that layers have.
        repeated: weights that several layers of the graph have, each a copy of its own.
        left_out: operations at the end of the network that change no class, and are not written down.
        returned: how many values the network returns.
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
        """Add a node and return its value; it is called ``name``, or after its layer and operation."""
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
        """The value behind an argument, which must be an activation."""
        value = self.known.get(argument) if isinstance(argument, FxNode) else None
        if (constant := self.constant(argument)) is not None:
            raise call.refused(
                f"'{constant.name}' is the same for every image, and is used like an activation; a parameter, buffer or other "
                "fixed tensor can be a weight, or one number per channel in a sum, product, maximum or minimum, but no channels "
                "of its own beside those of the image, like the coordinates of CoordConv"
            )
        if not isinstance(value, View):
            raise call.refused(f"its argument {argument} is not an activation of the network")
        if value.turned and not may_be_turned:
            raise call.refused(
                "it reads a transposed map; only the second operand of a matrix product may be transposed, so transpose it right "
                "before the product"
            )
        if value.last and not may_be_last:
            raise call.refused(
                "it reads a map whose channels come last; layer norm, a linear layer, functions of one value, sums and products "
                "do, and for others permute the channels back in front"
            )
        if value.spread and isinstance(argument, FxNode):
            value = self.known[argument] = self._settled(call, value)
        return value

    def read(self, call: Call, argument: object) -> str:
        """Name of the value behind an argument, with a pending view written down as a node."""
        view = self.view(call, argument)
        settled = self._settled(call, view)
        if settled != view and isinstance(argument, FxNode):
            self.known[argument] = settled
        return settled.name

    def elements(self, call: Call, argument: object) -> View:
        """The value behind an argument for an operation that treats every number by itself.

        As :meth:`read`, but it may keep a shape that no node has, such as maps [P, C, H, W] stacked in one of [P * C, H, W].
        """
        view = self.view(call, argument, may_be_last=True)
        if view.last:
            return view
        if len(view.shape) > 3:
            stacked = replace(view, shape=(math.prod(view.shape[:-2]), *view.shape[-2:]))
            return View(self._settled(call, stacked).name, view.shape)
        base = self.shapes[view.name]
        flat = len(view.shape) == 1 and not is_in_place(call.node)  # overwritten, it is also seen in its own shape
        if not view.plain or view.shape == base or flat or view.shape == (base[0], 1, 1):
            name = self.read(call, argument)
            return View(name, self.shapes[name])
        return view

    def operand(self, call: Call, argument: object) -> View:
        """As :meth:`elements`, but what is repeated to a larger shape is given as it is before."""
        value = self.known.get(argument) if isinstance(argument, FxNode) else None
        if isinstance(value, View) and value.spread:
            return View(value.name, self.shapes[value.name])
        return self.elements(call, argument)

    def spread(self, call: Call, view: View, shape: tuple[int, ...]) -> View:
        """A value [C, H, W] whose extents are those of ``shape`` or 1, repeated to ``shape``."""
        if view.shape[1:] != shape[1:]:
            wide = (view.shape[0], *shape[1:])
            attributes: dict[str, Attribute] = {"output_size": shape[1:]}
            view = self.emit(call, "adaptive_avg_pool", [view.name], shape=wide, attributes=attributes)
        return view if view.shape == shape else self.mixed(call, view, np.ones((shape[0], 1), np.float32))

    def mixed(self, call: Call, view: View, shares: FloatArray) -> View:
        """Channels [K, H, W] as sums of those of a value [C, H, W] in shares [K, C]: a convolution that no stage trains."""
        shape = (len(shares), *view.shape[1:])
        still: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, "fixed": 1}
        weight: dict[str, Array] = {"weight": shares[:, :, None, None]}
        return self.emit(call, "conv2d", [view.name], shape=shape, attributes=still, tensors=weight)

    def settled(self, call: Call, view: View) -> str:
        """Name of a value that has the shape of this view, which is written down as a node if need be."""
        return self._settled(call, view).name

    def _settled(self, call: Call, view: View) -> View:
        base = self.shapes[view.name]
        if view.spread:
            return self.spread(call, View(view.name, base), view.shape)
        if any(view.never_wins):
            raise call.refused("it reads what was padded with -inf, which only a max pooling without padding may; pad with zeros")
        if view.shuffled:
            if view.shape != base:
                raise call.refused(
                    f"a permuted tensor of shape {view.shape} is used before it is {base} again; reshape it back first"
                )
            return self.emit(call, "channel_shuffle", [view.name], shape=base, attributes={"groups": view.shuffled})
        if view.shape == base:
            return view
        if len(view.shape) == 1 and view.shape[0] == math.prod(base):
            return self.emit(call, "flatten", [view.name], shape=view.shape)
        if len(base) == 1 and view.shape == (base[0], 1, 1):
            return self.emit(call, "unflatten", [view.name], shape=view.shape)
        raise call.refused(
            f"it sees a tensor of shape {base} as {view.shape}; only flattening to one axis and back to [C, 1, 1] is known"
        )

    def constant(self, argument: object) -> Constant | None:
        """The parameter or buffer behind an argument, else None."""
        return self.constants.get(argument) if isinstance(argument, FxNode) else None

    def weight(self, call: Call, argument: object) -> tuple[str, FloatArray]:
        """Layer path and value of a weight; one that another layer has already is noted, and becomes a copy."""
        found = self.constant(argument)
        if found is None:
            raise call.refused("its weight is computed from activations or other tensors; only a plain parameter is known")
        parts = self.owners.setdefault(found.name, [])
        if found.name not in self.repeated and not all(_are_apart(found.tensor, other) for other in parts):
            self.repeated.append(found.name)
        parts.append(found.tensor)
        return found.name.split(".parametrizations.")[0].removesuffix(".weight"), found.array

    def overwrite(self, call: Call, value: Value, before: Value | None) -> None:
        """Let the first argument of an in-place operation, ``before`` until now, be the new value, for later readers.

        So is everything that shows the whole of it in another shape. What shows a part of it must not be read again.
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
                    where, instead = "lies in the same memory", "use the form that is not in place"
                else:
                    where = "lies in the same memory unless torch has to copy it, which depends on the layout of the images"
                    instead = "use .clone() where a copy is meant, else the form that is not in place"
                raise call.refused(f"it overwrites '{target}', and '{other}', which {where}, is read afterwards; {instead}")
        for other in same:
            self.known[other] = value

    def share_memory(self, node: FxNode, source: object, *, same: bool = False) -> None:
        """Note that ``node`` may be a view of ``source``, or is the same tensor."""
        if isinstance(source, FxNode):
            _join(self.memory, node, source)
            if same:
                _join(self.tensors, node, source)


def _in_one_memory(first: FxNode, second: FxNode) -> bool:
    """Whether two values share memory for certain: a reshape, for one, may also have copied."""
    storages = [node.meta["val"].untyped_storage()._cdata for node in (first, second)]
    return bool(storages[0] == storages[1])


def _hold_the_same(first: View, second: View) -> bool:
    """Whether two views show the same numbers in the same order."""
    return first.name == second.name and first.plain and second.plain


def _are_apart(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors are different parts of one."""
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
