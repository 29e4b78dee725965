"""Which channels of a network can be removed together, and the smaller network without them.

Every value carries one channel identity per channel (per feature after ``flatten``). Operations pass identities on, permute
or repeat them, or unite two of them: an ``add`` can lose a channel only in both its inputs at once. United
identities form a *class*, the smallest unit that can be removed. Classes that occur in the same values equally often form a
*coupled set*, such as the channels of all residual outputs of one stage: a value consists of whole sets, so it
never becomes empty while every set keeps a channel.

Removing a class equals zeroing the columns of the weights that read it. Zeroing the rows (weight, bias, ``batch_norm`` vectors)
that produce it is not always the same: a function on the way that does not map 0 to 0, such as a sigmoid, leaves a
constant that the smaller network lacks.

Float graphs, NumPy only. Source: the dependency graph of Fang et al. 2023 (DepGraph, arXiv 2301.12900), on operations of the
graph instead of modules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from paretrim.errors import InvalidRecipe, UnsupportedOperation, WeightsMismatch
from paretrim.graph.operations.channel_rules import Channels, Identities
from paretrim.graph.operations.table import OPERATIONS, WEIGHTED
from paretrim.graph.types import INPUT, Float64Array, Graph, IntArray

ChannelAllocation = Literal["uniform", "global"]


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

    def producers_of(self, members: IntArray) -> tuple[str, ...]:
        """The producers of any of these classes, in graph order."""
        return tuple(name for name in self.producers if np.isin(self.classes[name], members).any())


def channel_groups(graph: Graph) -> ChannelGroups:
    """Find the channels of a float graph that can only be removed together.

    Raises:
        UnsupportedOperation: the graph is quantized, or combines values in a way in which channels cannot be followed.
    """
    identities = Identities()
    values = {INPUT: identities.fresh(graph.input.shape[0])}
    fixed: list[tuple[IntArray, str]] = [(values[INPUT], "channels of the network's input")]
    shapes = {name: kind.shape for name, kind in graph.types.items()}
    for node in graph.nodes:
        if node.type.quantized:
            raise UnsupportedOperation(
                f"node '{node.name}' (layer '{node.layer}') is quantized; remove channels from the float graph before lowering it"
            )
        inputs = [values[name] for name in node.inputs]
        rule = OPERATIONS[node.op].channels
        if rule is None:
            raise UnsupportedOperation(
                f"node '{node.name}' (layer '{node.layer}') is '{node.op}'; channels are followed in float graphs only, before "
                "lowering"
            )
        if reason := rule.holds(node):
            fixed.append((inputs[0], reason))
        values[node.name] = rule.outputs(Channels(node, inputs, shapes[node.inputs[0]], identities))
        if len(values[node.name]) != node.type.shape[0]:
            raise UnsupportedOperation(
                f"node '{node.name}' ({node.op}, layer '{node.layer}') has shape {node.type.shape}, but its inputs make "
                f"{len(values[node.name])} channels"
            )
    fixed.extend((values[name], "outputs of the network") for name in graph.outputs)
    return _classes(graph, values, fixed, identities)


def _classes(
    graph: Graph, values: Mapping[str, IntArray], fixed: list[tuple[IntArray, str]], identities: Identities
) -> ChannelGroups:
    """Number the classes and sort the removable ones into coupled sets."""
    roots = np.array([identities.root(i) for i in range(len(identities.parents))], dtype=np.int64)
    _, numbers = np.unique(roots, return_inverse=True)
    classes = {name: numbers[ids] for name, ids in values.items()}
    frozen: dict[int, str] = {}
    for ids, reason in fixed:
        for index in np.unique(numbers[ids]).tolist():
            frozen.setdefault(index, reason)
    # The values a class occurs in, and how often, identify its coupled set.
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


def group_scores(groups: ChannelGroups, row_norms: Mapping[str, Float64Array], *, mean: bool = False) -> Float64Array:
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
    scores: Float64Array,
    sparsity: float,
    *,
    allocation: ChannelAllocation,
    multiple_of: int = 1,
    minimum: int = 1,
    keys: Sequence[Float64Array] | None = None,
) -> IntArray:
    """Classes to remove, ascending: the lowest scores of every coupled set; among equal scores the lower index stays.

    Args:
        groups: from :func:`channel_groups`.
        scores: one finite score per class, the larger stay; see :func:`group_scores`.
        sparsity: share of removable classes to remove, in [0, 1).
        allocation: ``uniform`` removes ``round(sparsity * n)`` of each set of n; ``global`` removes ``round(sparsity * all)``,
            the lowest over all sets after dividing each set's scores by their mean.
        multiple_of: survivors of each set are rounded up to a multiple of this, at most to n.
        minimum: each set keeps at least this many; takes precedence over the sparsity.
        keys: for ``global``, used in place of the scores to compare sets: for each set the keys of its channels, best first
            and never rising.

    Raises:
        InvalidRecipe: an argument is outside its range or the scores do not fit.
    """
    _check_choice(groups, scores, sparsity, allocation, multiple_of, minimum)
    ordered = best_first(groups, scores)
    if allocation == "uniform":
        stay = [len(members) - round(sparsity * len(members)) for members in ordered]
    else:
        stay = _global_survivors(ordered, _relative(ordered, scores) if keys is None else keys, sparsity, minimum)
    removed = [np.empty(0, dtype=np.int64)]
    for members, count in zip(ordered, stay, strict=True):
        removed.append(members[math.ceil(max(count, minimum) / multiple_of) * multiple_of :])
    return np.sort(np.concatenate(removed))


def best_first(groups: ChannelGroups, scores: Float64Array) -> list[IntArray]:
    """The classes of every coupled set, the largest score first; among equal scores the lower index."""
    return [members[np.argsort(-scores[members], kind="stable")] for members in groups.sets]


def _relative(ordered: Sequence[IntArray], scores: Float64Array) -> list[Float64Array]:
    """Scores of every set divided by their mean, in its order."""
    return [scores[members] / (float(scores[members].mean()) or 1.0) for members in ordered]


def _check_choice(
    groups: ChannelGroups, scores: Float64Array, sparsity: float, allocation: str, multiple_of: int, minimum: int
) -> None:
    if not 0 <= sparsity < 1:
        raise InvalidRecipe(f"channel sparsity {sparsity} is not in [0, 1); a network needs channels, so 1 is not allowed")
    if allocation not in get_args(ChannelAllocation):
        raise InvalidRecipe(
            f"channel allocation '{allocation}' is unknown; choose one of {', '.join(get_args(ChannelAllocation))}"
        )
    for name, value in (("multiple_of", multiple_of), ("minimum", minimum)):
        if value < 1:
            raise InvalidRecipe(f"{name} {value} of channel pruning is below 1; every set of channels keeps at least one")
    if scores.shape != (groups.count,) or not np.isfinite(scores).all():
        raise InvalidRecipe(
            f"channel scores of shape {scores.shape} with {int((~np.isfinite(scores)).sum())} that are not finite; "
            f"give one finite score for each of the {groups.count} classes"
        )


def _global_survivors(ordered: list[IntArray], keys: Sequence[Float64Array], sparsity: float, minimum: int) -> list[int]:
    """How many of each set stay when one threshold on the keys decides."""
    if not ordered:
        return []
    total = sum(len(members) for members in ordered)
    candidates = [members[minimum:] for members in ordered]
    relative = np.concatenate([some[minimum:] for some in keys])
    owner = np.repeat(np.arange(len(ordered)), [len(members) for members in candidates])
    kept = max(0, len(relative) - round(sparsity * total))
    chosen = np.lexsort((np.concatenate(candidates), -relative))[:kept]
    extra = np.bincount(owner[chosen], minlength=len(ordered))
    return [min(minimum, len(members)) + int(more) for members, more in zip(ordered, extra, strict=True)]
