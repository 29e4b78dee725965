"""Recognises networks that are not convolutional as a whole, and names their kind in the error.

Read operation by operation, a transformer would be refused for the axes that it permutes, which tells its users nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, operation_of
from paretrim.capture.work import Work

_ATTENTION = (
    "this is attention, as in transformers, which is not supported: its products of activations have no place in the "
    "file; take a convolutional network"
)
_RECURRENCE = (
    "this is a recurrent layer, which is not supported: a file computes every image at once, without a state from step to step; "
    "take a convolutional network"
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

_PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum", "mm")
"""Products of matrices; of two activations, around a softmax, they are attention written out."""


def refuse_other_families(work: Work, nodes: Iterable[FxNode]) -> None:
    """Refuse attention and recurrence by name, before any single operation is.

    Raises:
        UnsupportedOperation: there is one; the message names its layer.
    """
    known = [node for node in nodes if is_aten(node)]
    weighs = any(operation_of(node) in ("softmax", "_softmax") for node in known)
    for node in known:
        why = _FAMILIES.get(operation_of(node))
        of_activations = operation_of(node) in _PRODUCTS and not any(source in work.constants for source in node.all_input_nodes)
        if why is None and weighs and of_activations and len(node.all_input_nodes) > 1:
            why = _ATTENTION
        if why is not None:
            raise call_of(node).refused(why)
