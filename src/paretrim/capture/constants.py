"""What a network computes from its parameters alone: weights that are standardised or normalised each time they are used.

The result is a constant like any other, so such a network is captured with the weights that it convolves with. From then on those
are what is trained, pruned and quantized, and no longer what they were computed from.
"""

from __future__ import annotations

import operator

import torch
from torch.fx import Node as FxNode
from torch.fx.node import map_arg

from paretrim.capture.call import is_in_place
from paretrim.capture.work import Constant, Work


def is_constant(work: Work, node: FxNode) -> bool:
    """Whether the value of a node is known before any image is seen; it is then among the constants.

    An operation all of whose tensors are constants is computed here. One that overwrites its input is left alone.
    """
    if node in work.constants:
        return True
    sources = node.all_input_nodes
    renames = str(node.target).startswith("aten.detach")
    if not sources or not all(source in work.constants for source in sources) or (is_in_place(node) and not renames):
        return False
    assert callable(node.target)
    with torch.no_grad():
        args, keywords = map_arg((node.args, node.kwargs), lambda source: work.constants[source].tensor)
        result = node.target(*args, **keywords)
    name = work.constants[sources[0]].name
    if isinstance(result, torch.Tensor):
        work.constants[node] = Constant(name, result)
        return True
    parts = [user for user in node.users if user.target is operator.getitem]
    for part in parts:
        work.constants[part] = Constant(name, result[part.args[1]])
    return len(parts) == len(node.users)
