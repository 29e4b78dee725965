"""Recognises whole families of networks that are not convolutional, and names the family in the error.

Checked operation by operation, a transformer would be rejected for a permutation of axes, which would not help its users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, layer_of, modules_of, operation_of
from paretrim.capture.work import Work
from paretrim.errors import UnsupportedOperation

_ATTENTION = (
    "this is attention, as in transformers, which is not supported: a file cannot express its products of activations; use a "
    "convolutional network"
)
_RECURRENCE = (
    "this is a recurrent layer, which is not supported: a file has no state from step to step; use a convolutional network"
)

_FAMILIES: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_native_multi_head_attention",
            "_transformer_encoder_layer_fwd",
            "_scaled_dot_product_flash_attention_for_cpu",
        ),
        _ATTENTION,
    )
    | dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _RECURRENCE
    )
)

_OF_MAPS = ("channel", "spatial", "split", "coord", "squeeze", "pool", "gate", "cbam", "eca", "pixel", "kernel")
"""In names of classes whose attention weighs channels or places of maps, which convolutional networks do."""

_PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum", "mm")
"""Matrix products; with two activations and a softmax in between they are attention."""


def refuse_other_families(nodes: Iterable[FxNode]) -> None:
    """Reject ready-made attention and recurrence by name, before any single operation is checked.

    Raises:
        UnsupportedOperation: there is one; the message names its layer.
    """
    for node in nodes:
        if is_aten(node) and (why := _FAMILIES.get(operation_of(node))) is not None:
            raise call_of(node).refused(why)


def by_family(work: Work, nodes: Iterable[FxNode], error: UnsupportedOperation, refused: FxNode) -> UnsupportedOperation:
    """The error of the refused operation; of attention that is written out, one that says so and names its layer.

    Attention without softmax is recognised by two products of activations in the layer of the refused operation. Where only the
    name of a class says attention, the error stays and adds it.
    """
    known = [node for node in nodes if is_aten(node)]
    products = [node for node in known if _multiplies_activations(work, node)]
    if products and any(operation_of(node) in ("softmax", "_softmax") for node in known):
        return call_of(products[0]).refused(_ATTENTION)
    if sum(layer_of(node) == layer_of(refused) for node in products) > 1:
        return call_of(refused).refused(_ATTENTION)
    if (layer := next(filter(None, map(_attends, known)), None)) is not None:
        return UnsupportedOperation(f"{error}; layer '{layer}' looks like attention, as in transformers, which is not supported")
    return error


def _multiplies_activations(work: Work, node: FxNode) -> bool:
    constant = any(source in work.constants for source in node.all_input_nodes)
    return operation_of(node) in _PRODUCTS and not constant and len(node.all_input_nodes) > 1


def _attends(node: FxNode) -> str | None:
    """Path of the module of a class with attention in its name, other than that of channels or places, that a node is in."""
    for path, kind in modules_of(node):
        name = kind.rpartition(".")[2].lower()
        if ("attention" in name or "attn" in name) and not any(word in name for word in _OF_MAPS):
            return path
    return None
