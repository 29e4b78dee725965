"""The user's names of a network's outputs, in the graph and the files that ship."""

from __future__ import annotations

from dataclasses import replace

from paretrim.graph.names import free_name
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import Graph, Node

LOGITS = "logits"
"""Name of the output of a network that has one."""


def output_names(graph: Graph) -> tuple[str, ...]:
    """What the outputs of a network are called, in files and for users."""
    return (LOGITS,) if len(graph.outputs) == 1 else graph.output_names or graph.outputs


def with_user_names(graph: Graph) -> Graph:
    """The same graph, in which every output has its name of ``output_names``; another value of that name is renamed.

    A layer that is renamed keeps its own name as its path.
    """
    if not graph.output_names:
        return graph
    renamed = dict(zip(graph.outputs, graph.output_names, strict=True))
    taken = {*graph.types, *graph.output_names}
    for node in graph.nodes:
        if node.name not in renamed and node.name in graph.output_names:
            renamed[node.name] = free_name(node.name, taken)
            taken.add(renamed[node.name])
    nodes = tuple(
        replace(
            node,
            name=renamed.get(node.name, node.name),
            inputs=tuple(renamed.get(name, name) for name in node.inputs),
            layer=node.name if node.op in WEIGHTED and renamed.get(node.name, node.name) != node.name else node.layer,
        )
        for node in graph.nodes
    )
    return replace(graph, nodes=nodes, outputs=graph.output_names, output_names=())


def layer_name(graph: Graph, node: Node) -> str:
    """What a layer of a deployed graph is called in tables: its path, where an output has taken its name."""
    gave_way = len(graph.outputs) > 1 and node.name.rstrip("_") in graph.outputs
    return (node.layer or node.name) if gave_way else node.name
