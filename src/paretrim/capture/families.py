"""Recognises whole families of networks that are not convolutional, and names the family in the error.

Checked operation by operation, a transformer would be rejected for a permutation of axes, which would not help its users.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch.fx import Node as FxNode

from paretrim.capture.call import call_of, is_aten, operation_of
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


def by_family(work: Work, nodes: Iterable[FxNode], error: UnsupportedOperation) -> UnsupportedOperation:
    """The error of an operation; of attention that is written out, one that says so and names the layer of its product."""
    known = [node for node in nodes if is_aten(node)]
    if any(operation_of(node) in ("softmax", "_softmax") for node in known):
        for node in known:
            constant = any(source in work.constants for source in node.all_input_nodes)
            if operation_of(node) in _PRODUCTS and not constant and len(node.all_input_nodes) > 1:
                return call_of(node).refused(_ATTENTION)
    return error
