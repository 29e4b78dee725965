"""Which nodes of a float graph become one operation of the integer graph, and which values therefore carry a grid of their own.

Training and freezing share this module, so fake quantizers sit exactly where the integer graph will requantize.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from paretrim.graph.operations.table import BOUNDING, GRID_PRESERVING, NORMALIZING, OPERATIONS, TRAINING_ONLY, WEIGHTED
from paretrim.graph.types import INPUT, Graph, Node

_PASSING = GRID_PRESERVING | TRAINING_ONLY
"""Operations whose result is on the grid of their input."""


@dataclass(frozen=True)
class Fusion:
    """A run of nodes computed as one: ``head``, then perhaps a folded BatchNorm, then perhaps a ReLU or clamp."""

    head: Node
    batch_norm: Node | None = None
    activation: Node | None = None

    @property
    def end(self) -> Node:
        """The last node; its value is the one that exists in the integer graph."""
        return self.activation or self.batch_norm or self.head


def fuse(graph: Graph) -> tuple[Fusion, ...]:
    """Partition the nodes of a float graph into runs, in topological order of their ends."""
    consumers = graph.consumers()
    taken: set[str] = set()

    def only_reader(node: Node, ops: frozenset[str]) -> Node | None:
        readers = consumers[node.name]
        alone = len(readers) == 1 and node.name not in graph.outputs and readers[0].op in ops and len(readers[0].inputs) == 1
        return readers[0] if alone else None

    runs = {}
    for node in graph.nodes:
        if node.name in taken:
            continue
        batch_norm = only_reader(node, NORMALIZING) if node.op in WEIGHTED else None
        so_far = batch_norm or node
        activation = only_reader(so_far, BOUNDING) if OPERATIONS[node.op].clamps else None
        taken.update(member.name for member in (batch_norm, activation) if member)
        run = Fusion(node, batch_norm, activation)
        runs[run.end.name] = run
    return tuple(runs[node.name] for node in graph.nodes if node.name in runs)


@dataclass(frozen=True)
class NormBehind:
    """The BatchNorm that normalises the channels of a weighted layer behind what only moves pixels.

    ``moves`` lie between the two, in order; ``places`` is how many channels of the layer become pixels of one: a transposed
    convolution has one channel for every place in a block.
    """

    head: Node
    moves: tuple[Node, ...]
    batch_norm: Node
    places: int


def norms_behind_moves(graph: Graph) -> tuple[NormBehind, ...]:
    """Those of a float graph: layer, ``pixel_shuffle`` or slices of rows and columns, BatchNorm, each read by the next alone."""
    consumers = graph.consumers()
    found = []
    for head in (node for node in graph.nodes if node.op in WEIGHTED):
        moves: list[Node] = []
        places, at = 1, head
        while len(consumers[at.name]) == 1 and at.name not in graph.outputs:
            (at,) = consumers[at.name]
            if at.op in NORMALIZING and moves:
                found.append(NormBehind(head, tuple(moves), at, places))
            rule = OPERATIONS[at.op].channels
            spread = rule.spread(at) if rule else None
            if spread is None:
                break
            places *= spread
            moves.append(at)
    return tuple(found)


def needed_inputs(graph: Graph) -> frozenset[str]:
    """Values read on the way to an output."""
    read: set[str] = set()
    for node in reversed(graph.nodes):
        if node.name in read or node.name in graph.outputs:
            read.update(node.inputs)
    return frozenset(read)


def stays_float(run: Fusion, graph: Graph, read: frozenset[str]) -> bool:
    """Whether lowering leaves its value in float32: a weighted layer whose value is an output and not in :func:`needed_inputs`.

    This holds only for vectors, such as logits: a map goes on a grid and is dequantized, since its kernels write uint8.
    """
    end = run.end
    is_logits = end.name in graph.outputs and end.name not in read and len(end.type.shape) == 1
    return is_logits and run.head.op in WEIGHTED and run.activation is None


def grid_values(graph: Graph, real: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the values that need a grid of their own, the input first.

    Left out are values that keep the grid of their input (max pooling, slices, ReLU, ...), the logits of a final weighted layer,
    which stay float32, and values passed between layers of ``real``, the weighted nodes that compute in float32.
    """
    read, consumers = needed_inputs(graph), graph.consumers()

    def between(run: Fusion) -> bool:
        readers = consumers[run.end.name]
        return run.head.name in real and bool(readers) and all(reader.name in real for reader in readers)

    own = (
        run.end.name
        for run in fuse(graph)
        if run.head.op not in _PASSING and not stays_float(run, graph, read) and not between(run)
    )
    return (INPUT, *own)


def values_of_few_levels(graph: Graph, real: Collection[str] = ()) -> tuple[str, ...]:
    """The values of :func:`grid_values` whose levels can be fewer than 256: the integer graph clamps them or looks them up.

    Left out are the input and concatenations.
    """
    own = frozenset(grid_values(graph, real))

    def bounded(head: Node) -> bool:
        return OPERATIONS[head.op].clamps or OPERATIONS[head.op].table is not None or head.op in BOUNDING

    return tuple(run.end.name for run in fuse(graph) if run.end.name in own and bounded(run.head))


def grid_holders(graph: Graph) -> dict[str, str]:
    """For the input and every value that exists in the integer graph, the value whose grid it is on.

    The logits of a final weighted layer have none.
    """
    own = frozenset(grid_values(graph))
    holders = {INPUT: INPUT}
    for run in fuse(graph):
        name = run.end.name
        if name in own:
            holders[name] = name
        elif run.head.op in _PASSING:
            holders[name] = holders[run.head.inputs[0]]
    return holders
