"""Which channels of a network can be removed together, and the smaller network without them.

Every value carries one channel identity per channel (per feature after ``flatten``). Operations pass identities on, permute
or repeat them, or declare two of them the same: an ``add`` can only lose a channel in both its inputs. Identities that are the
same form a *class*, the smallest thing that can be removed. Classes that occur in the same values equally often form a
*coupled set*, such as the channels of all residual outputs of one stage: a value is made of whole sets, so a value never
empties while every set keeps a channel.

Removing a class equals zeroing the columns of the weights that read it. Zeroing the rows (weight, bias, ``batch_norm`` vectors)
that produce it is not always the same: a function on the way that does not map 0 to 0, like a sigmoid, leaves a constant behind
that the smaller network lacks.

Float graphs, NumPy only. Source: the dependency graph of Fang et al. 2023 (DepGraph, arXiv 2301.12900), on operations of the
graph instead of modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from paretrim.errors import InvalidRecipe, UnsupportedOperation, WeightsMismatch
from paretrim.graph.types import INPUT, WEIGHTED, Graph, Node

IntArray = npt.NDArray[np.int64]
DoubleArray = npt.NDArray[np.float64]
Allocation = Literal["uniform", "global"]

_PASSING = frozenset(
    {
        "normalize",
        "batch_norm",
        "relu",
        "clamp",
        "pointwise",
        "dropout",
        "unflatten",
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
    }
)
"""Operations whose output channel c is made from input channel c."""


@dataclass(frozen=True, eq=False)
class ChannelGroups:
    """The classes of channels of a graph, numbered from 0 in the order in which the graph first meets them.

    Attributes:
        classes: for every value, the class of each of its channels. For a ``conv2d`` or ``linear`` these are its output rows.
        producers: names of the ``conv2d`` and ``linear`` nodes, in graph order.
        frozen: classes that cannot be removed, with the reason.
        sets: the removable classes by coupled set, each ascending.
    """

    classes: Mapping[str, IntArray]
    producers: tuple[str, ...]
    frozen: Mapping[int, str]
    sets: tuple[IntArray, ...]

    @property
    def count(self) -> int:
        """Number of classes, frozen ones included."""
        return 1 + max(int(classes.max()) for classes in self.classes.values())

    def rows(self, index: int) -> tuple[tuple[str, int], ...]:
        """The producers' rows (node, output index) that class ``index`` consists of; none for channels made by ``pad``."""
        return tuple((name, int(row)) for name in self.producers for row in np.flatnonzero(self.classes[name] == index))


class _Identities:
    """A union-find over channel identities; the smallest identity of a class is its root."""

    def __init__(self) -> None:
        self.parents: list[int] = []

    def fresh(self, count: int) -> IntArray:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64)

    def root(self, identity: int) -> int:
        parents = self.parents
        while parents[identity] != identity:
            parents[identity] = parents[parents[identity]]
            identity = parents[identity]
        return identity

    def unite(self, left: IntArray, right: IntArray) -> None:
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self.root(a), self.root(b)))
            self.parents[high] = low

    def unite_groups(self, identities: IntArray, groups: int) -> None:
        """The same relative position in every one of ``groups`` equal runs becomes one class."""
        runs = identities.reshape(groups, -1)
        for run in runs[1:]:
            self.unite(runs[0], run)


def channel_groups(graph: Graph) -> ChannelGroups:
    """Find out which channels of a float graph live or die together.

    Raises:
        UnsupportedOperation: the graph is quantized, or combines values in a way that channels cannot follow.
    """
    identities = _Identities()
    values = {INPUT: identities.fresh(graph.input.shape[0])}
    fixed: list[tuple[IntArray, str]] = [(values[INPUT], "channels of the network's input")]
    shapes = {name: kind.shape for name, kind in graph.types.items()}
    for node in graph.nodes:
        if node.type.quantized:
            raise UnsupportedOperation(
                f"node '{node.name}' (layer '{node.layer}') is quantized; remove channels from the float graph before lowering it"
            )
        inputs = [values[name] for name in node.inputs]
        if node.op == "slice" and node.attributes["axis"] == 0 and (step := attribute_number(node, "step")) != 1:
            fixed.append((inputs[0], f"channels taken in steps of {step} by '{node.name}'"))
        if node.op == "flatten":
            values[node.name] = np.repeat(inputs[0], math.prod(shapes[node.inputs[0]][1:]))
        else:
            values[node.name] = _outputs(node, inputs, identities)
        if len(values[node.name]) != node.type.shape[0]:
            raise UnsupportedOperation(
                f"node '{node.name}' ({node.op}, layer '{node.layer}') has shape {node.type.shape}, but its inputs make "
                f"{len(values[node.name])} channels"
            )
    fixed.append((values[graph.output], "outputs of the network"))
    return _classes(graph, values, fixed, identities)


def _outputs(node: Node, inputs: list[IntArray], identities: _Identities) -> IntArray:
    """Identities of a node's channels from those of its inputs (all but ``flatten``, which needs the input's shape)."""
    first = inputs[0]
    if node.op in WEIGHTED:
        return _weighted_outputs(node, first, identities)
    if node.op in ("add", "mul"):
        second = inputs[1]
        if len(first) != len(second):
            raise UnsupportedOperation(
                f"node '{node.name}' ({node.op}, layer '{node.layer}') combines {len(first)} with {len(second)} channels; "
                "channels can be followed only where both have as many"
            )
        identities.unite(first, second)
        return first
    if node.op == "concat":
        return np.concatenate(inputs)
    if node.op == "slice":
        return first[channel_slice(node, len(first))] if node.attributes["axis"] == 0 else first
    if node.op == "pad":
        before, after = attribute_numbers(node, "before")[0], attribute_numbers(node, "after")[0]
        return np.concatenate([identities.fresh(before), first, identities.fresh(after)])
    if node.op == "channel_shuffle":
        groups = attribute_number(node, "groups")
        identities.unite_groups(first, groups)
        return first.reshape(groups, -1).T.reshape(-1)
    if node.op in _PASSING:
        return first
    raise UnsupportedOperation(
        f"node '{node.name}' (layer '{node.layer}') is '{node.op}'; channels are followed in float graphs only, before lowering"
    )


def _weighted_outputs(node: Node, inputs: IntArray, identities: _Identities) -> IntArray:
    """Fresh identities for the rows of a weight, tied to each other or to the inputs where the groups ask for it."""
    rows, columns = node.tensors["weight"].shape[:2]
    groups = attribute_number(node, "groups") if node.op == "conv2d" else 1
    if len(inputs) != columns * groups or rows % groups:
        raise UnsupportedOperation(
            f"node '{node.name}' (layer '{node.layer}') has a weight of shape {node.tensors['weight'].shape} in {groups} groups, "
            f"which does not fit an input of {len(inputs)} channels"
        )
    if is_depthwise(node):
        return np.repeat(inputs, rows // groups)
    outputs = identities.fresh(rows)
    # A smaller grouped convolution needs equal groups, so every group loses the same positions.
    identities.unite_groups(inputs, groups)
    identities.unite_groups(outputs, groups)
    return outputs


def _classes(
    graph: Graph, values: Mapping[str, IntArray], fixed: list[tuple[IntArray, str]], identities: _Identities
) -> ChannelGroups:
    """Number the classes and sort the removable ones into coupled sets."""
    roots = np.array([identities.root(i) for i in range(len(identities.parents))], dtype=np.int64)
    _, numbers = np.unique(roots, return_inverse=True)
    classes = {name: numbers[ids] for name, ids in values.items()}
    frozen: dict[int, str] = {}
    for ids, reason in fixed:
        for index in np.unique(numbers[ids]).tolist():
            frozen.setdefault(index, reason)
    # What a class occurs in, and how often, tells its coupled set.
    occurrences: list[list[tuple[str, int]]] = [[] for _ in range(int(numbers.max()) + 1)]
    for name, members in classes.items():
        for index, times in zip(*(part.tolist() for part in np.unique(members, return_counts=True)), strict=True):
            occurrences[index].append((name, times))
    sets: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for index, places in enumerate(occurrences):
        if index not in frozen:
            sets.setdefault(tuple(places), []).append(index)
    producers = tuple(node.name for node in graph.nodes if node.op in WEIGHTED)
    return ChannelGroups(classes, producers, frozen, tuple(np.array(members, dtype=np.int64) for members in sets.values()))


def group_scores(groups: ChannelGroups, row_norms: Mapping[str, DoubleArray], *, mean: bool = False) -> DoubleArray:
    """Importance of every class, float64 [classes]: the root of the sum of squares of its producers' rows.

    Args:
        groups: from :func:`channel_groups`.
        row_norms: for every producer the norm of each output row, [Co].
        mean: divide the sum by the number of rows, so that classes made by many layers do not outrank the others.

    Returns:
        Scores; 0 for classes that no row produces (the input's channels, channels made by ``pad``).

    Raises:
        WeightsMismatch: a producer's norms are missing or have another length.

    Source: Fang et al. 2023, group-level pruning with the L2 norm, arXiv 2301.12900.
    """
    total, rows = np.zeros(groups.count), np.zeros(groups.count)
    for name in groups.producers:
        members = groups.classes[name]
        if name not in row_norms or np.shape(row_norms[name]) != members.shape:
            given = f"of shape {np.shape(row_norms[name])}" if name in row_norms else "missing"
            raise WeightsMismatch(
                f"row norms of node '{name}' are {given}; give one norm for each of its {len(members)} output rows"
            )
        np.add.at(total, members, np.square(row_norms[name], dtype=np.float64))
        np.add.at(rows, members, 1)
    return np.sqrt(total / np.maximum(rows, 1) if mean else total)


def choose(
    groups: ChannelGroups,
    scores: DoubleArray,
    sparsity: float,
    *,
    allocation: Allocation,
    multiple_of: int = 1,
    minimum: int = 1,
) -> IntArray:
    """Classes to remove, ascending: the lowest scores of every coupled set; of equal scores the lower index stays.

    Args:
        groups: from :func:`channel_groups`.
        scores: one finite score per class, larger stays; see :func:`group_scores`.
        sparsity: share of removable classes to remove, in [0, 1).
        allocation: ``uniform`` removes ``round(sparsity * n)`` of each set of n; ``global`` removes ``round(sparsity * all)``,
            the lowest over all sets after dividing each set's scores by their mean.
        multiple_of: survivors of each set are rounded up to a multiple of this, at most to n.
        minimum: at least so many of each set stay, which comes before the sparsity.

    Raises:
        InvalidRecipe: an argument is outside its range or the scores do not fit.
    """
    _check_choice(groups, scores, sparsity, allocation, multiple_of, minimum)
    ordered = [members[np.argsort(-scores[members], kind="stable")] for members in groups.sets]
    if allocation == "uniform":
        stay = [len(members) - round(sparsity * len(members)) for members in ordered]
    else:
        stay = _global_survivors(ordered, scores, sparsity, minimum)
    removed = [np.empty(0, dtype=np.int64)]
    for members, count in zip(ordered, stay, strict=True):
        removed.append(members[math.ceil(max(count, minimum) / multiple_of) * multiple_of :])
    return np.sort(np.concatenate(removed))


def _check_choice(
    groups: ChannelGroups, scores: DoubleArray, sparsity: float, allocation: str, multiple_of: int, minimum: int
) -> None:
    if not 0 <= sparsity < 1:
        raise InvalidRecipe(f"channel sparsity {sparsity} is not in [0, 1); a network needs channels, so 1 is not allowed")
    if allocation not in get_args(Allocation):
        raise InvalidRecipe(f"channel allocation '{allocation}' is unknown; choose one of {', '.join(get_args(Allocation))}")
    for name, value in (("multiple_of", multiple_of), ("minimum", minimum)):
        if value < 1:
            raise InvalidRecipe(f"{name} {value} of channel pruning is below 1; every set of channels keeps at least one")
    if scores.shape != (groups.count,) or not np.isfinite(scores).all():
        raise InvalidRecipe(
            f"channel scores of shape {scores.shape} with {int((~np.isfinite(scores)).sum())} that are not finite; "
            f"give one finite score for each of the {groups.count} classes"
        )


def _global_survivors(ordered: list[IntArray], scores: DoubleArray, sparsity: float, minimum: int) -> list[int]:
    """How many of each set stay when one threshold on scores relative to their set's mean decides."""
    if not ordered:
        return []
    total = sum(len(members) for members in ordered)
    candidates = [members[minimum:] for members in ordered]
    means = [float(scores[members].mean()) or 1.0 for members in ordered]
    relative = np.concatenate([scores[members] / mean for members, mean in zip(candidates, means, strict=True)])
    owner = np.repeat(np.arange(len(ordered)), [len(members) for members in candidates])
    kept = max(0, len(relative) - round(sparsity * total))
    chosen = np.lexsort((np.concatenate(candidates), -relative))[:kept]
    extra = np.bincount(owner[chosen], minlength=len(ordered))
    return [min(minimum, len(members)) + int(more) for members, more in zip(ordered, extra, strict=True)]


def is_depthwise(node: Node, shape: tuple[int, ...] | None = None) -> bool:
    """Whether every input channel is a group of its own, so that the outputs belong to it.

    ``shape`` is that of the weight, for a node that does not hold it.
    """
    if node.op != "conv2d" or attribute_number(node, "groups") == 1:
        return False
    return (shape or node.tensors["weight"].shape)[1] == 1


def channel_slice(node: Node, channels: int) -> slice:
    """Bounds of a ``slice`` node along axis 0, within 0 to ``channels``."""
    bounds = slice(attribute_number(node, "start"), attribute_number(node, "stop"), attribute_number(node, "step"))
    return slice(*bounds.indices(channels))


def attribute_number(node: Node, name: str) -> int:
    """An attribute that is an integer; ``step`` and ``groups`` are 1 where they are left out."""
    value = node.attributes.get(name, 1) if name in ("step", "groups") else node.attributes[name]
    assert isinstance(value, int), f"'{name}' of node '{node.name}' is not an integer"
    return value


def attribute_numbers(node: Node, name: str) -> tuple[int, ...]:
    """An attribute that is a tuple of integers."""
    value = node.attributes[name]
    assert isinstance(value, tuple), f"'{name}' of node '{node.name}' is not a tuple"
    return value
