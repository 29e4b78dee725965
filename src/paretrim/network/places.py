"""Values of a network by the paths of the user's modules."""

from __future__ import annotations

import difflib

from paretrim.errors import InvalidRecipe
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import INPUT, Graph

PENULTIMATE = "penultimate"
"""The path that names the input of the last weighted layer: the features that a network classifies by."""


def value_at(graph: Graph, path: str) -> str:
    """The name of the value that the module at ``path`` returns: what its last operation computes.

    ``path`` is that of a module of the captured network, such as ``layer1.0``, or the name of a value. For a module
    that is called several times it is the last call. ``penultimate`` is the input of the last weighted layer, unless a module has
    that name.

    Raises:
        InvalidRecipe: there is no such module.
    """
    found = [node.name for node in graph.nodes if node.layer == path or node.layer.startswith(f"{path}.")]
    if found:
        return found[-1]
    if path == INPUT or any(node.name == path for node in graph.nodes):
        return path
    weighted = [node for node in graph.nodes if node.op in WEIGHTED]
    if path == PENULTIMATE and weighted:
        return weighted[-1].inputs[0]
    paths: set[str] = set()
    for parts in (node.layer.split(".") for node in graph.nodes if node.layer):
        paths.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    near = difflib.get_close_matches(path, sorted(paths), n=3, cutoff=0.3)
    hint = f"; near it are {', '.join(near)}" if near else ""
    raise InvalidRecipe(f"the network has no module '{path}'{hint}; name one by its path in the network, such as layer1.0")
