"""The structure of a graph, without its tensors, as plain JSON values and back; strict in both directions."""

from __future__ import annotations

import json
from collections.abc import Mapping

from paretrim.errors import CorruptFile
from paretrim.graph.dtypes import ELEMENT_TYPES, KNOWN
from paretrim.graph.types import Array, Attribute, Graph, InputSpec, Node, ValueType

_NODE_KEYS = {"name", "op", "inputs", "type", "attributes", "tensors", "layer"}


def parse_strictly(text: str | bytes, place: str) -> object:
    """The value of a JSON text without repeated keys, NaN, infinity, whole numbers above 64 bits or lone surrogates.

    ``place`` begins the message of an error.

    Raises:
        CorruptFile: it is not such a text.
    """

    def refuse(constant: str) -> None:
        raise CorruptFile(f"{place} holds {constant}; numbers are finite")

    def whole(digits: str) -> int:
        value = int(digits)
        if not -(2**63) <= value < 2**63:
            raise CorruptFile(f"{place} holds an integer of {len(digits)} digits, beyond int64")
        return value

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise CorruptFile(f"{place} repeats a key among {sorted(key for key, _ in pairs)[:10]}")
        return result

    try:
        value: object = json.loads(text, parse_constant=refuse, parse_int=whole, object_pairs_hook=unique)
        # An escape can be a lone surrogate, and 1e999 is infinity: neither could be written back.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{place} is not valid JSON: {error}") from error


def structure_of(graph: Graph) -> dict[str, object]:
    """Everything but the arrays; a node lists the names of its tensors."""
    return {
        "input": {"shape": list(graph.input.shape), "mean": list(graph.input.mean), "std": list(graph.input.std)},
        "nodes": [_node_structure(node) for node in graph.nodes],
        **({"output": graph.output} if len(graph.outputs) == 1 else {"outputs": list(graph.outputs)}),
        "classes": list(graph.classes),
        **({"output_names": list(graph.output_names)} if graph.output_names else {}),
    }


def _node_structure(node: Node) -> dict[str, object]:
    kind = node.type
    return {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        "type": {"shape": list(kind.shape), "dtype": kind.dtype, "scale": float(kind.scale), "zero_point": int(kind.zero_point)},
        "attributes": {name: list(value) if isinstance(value, tuple) else value for name, value in node.attributes.items()},
        "tensors": sorted(node.tensors),
        "layer": node.layer,
    }


def graph_of(structure: object, tensors: Mapping[str, Mapping[str, Array]]) -> Graph:
    """The graph of a structure and the tensors of its nodes by name.

    Raises:
        CorruptFile: a key is missing or unknown, a value has the wrong type, or the tensors are not those the nodes list.
        UnsupportedOperation: the nodes do not form a graph.
    """
    several = isinstance(structure, dict) and "outputs" in structure
    named = {"output_names"} if isinstance(structure, dict) and "output_names" in structure else set()
    top = _mapping(structure, "the structure", {"input", "nodes", "outputs" if several else "output", "classes", *named})
    outputs = _texts(top["outputs"], "the outputs") if several else (_text(top["output"], "the output"),)
    given = _mapping(top["input"], "the input", {"shape", "mean", "std"})
    spec = InputSpec(
        _integers(given["shape"], "the input shape"), _numbers(given["mean"], "the mean"), _numbers(given["std"], "the std")
    )
    nodes = tuple(_node(item, tensors) for item in _list(top["nodes"], "nodes"))
    stray = sorted(set(tensors) - {node.name for node in nodes})
    if stray:
        raise CorruptFile(f"it has tensors of nodes that do not exist: {stray[:10]}")
    names = _texts(top.get("output_names", []), "the names of outputs")
    return Graph(spec, nodes, outputs, _texts(top["classes"], "classes"), names)


def _node(structure: object, tensors: Mapping[str, Mapping[str, Array]]) -> Node:
    given = _mapping(structure, "a node", _NODE_KEYS)
    name = _text(given["name"], "a node name")
    place = f"node {name[:100]!r}"
    kind = _mapping(given["type"], f"{place}: the type", {"shape", "dtype", "scale", "zero_point"})
    shape = _integers(kind["shape"], f"{place}: the shape")
    scale, zero_point = _number(kind["scale"], f"{place}: the scale"), _integer(kind["zero_point"], f"{place}: the zero point")
    if kind["dtype"] not in tuple(ELEMENT_TYPES):  # a tuple, because it may be anything, a list too
        raise CorruptFile(f"{place}: its dtype is {kind['dtype']!r}; a value is {KNOWN}")
    value = ValueType(shape, str(kind["dtype"]), scale, zero_point)
    own = tensors.get(name, {})
    listed = _texts(given["tensors"], f"{place}: tensors")
    if sorted(listed) != sorted(own):
        raise CorruptFile(f"{place}: it lists the tensors {sorted(listed)} and the file holds {sorted(own)}")
    return Node(
        name=name,
        op=_text(given["op"], f"{place}: the operation"),
        inputs=_texts(given["inputs"], f"{place}: inputs"),
        type=value,
        attributes=_attributes(given["attributes"], place),
        tensors=own,
        layer=_text(given["layer"], f"{place}: the layer"),
    )


def _attributes(value: object, place: str) -> dict[str, Attribute]:
    if not isinstance(value, dict):
        raise CorruptFile(f"{place}: attributes are {type(value).__name__}, not an object")
    result: dict[str, Attribute] = {}
    for name, item in value.items():
        if isinstance(item, bool | int | float | str):
            result[name] = item
        else:
            result[name] = _integers(item, f"{place}: attribute '{name}'")
    return result


def _mapping(value: object, place: str, keys: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or set(value) != keys:
        found = sorted(value) if isinstance(value, dict) else type(value).__name__
        raise CorruptFile(f"{place} is {found}; it must have exactly {sorted(keys)}")
    return value


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise CorruptFile(f"{place}: {type(value).__name__} is given where a list is expected")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise CorruptFile(f"{place}: {value!r} is given where a string is expected")
    return value


def _integer(value: object, place: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise CorruptFile(f"{place}: {value!r} is given where an integer is expected")
    return value


def _number(value: object, place: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e38:
        raise CorruptFile(f"{place}: {value!r} is given where a number of float32 is expected")
    return float(value)


def _texts(value: object, place: str) -> tuple[str, ...]:
    return tuple(_text(item, place) for item in _list(value, place))


def _integers(value: object, place: str) -> tuple[int, ...]:
    return tuple(_integer(item, place) for item in _list(value, place))


def _numbers(value: object, place: str) -> tuple[float, ...]:
    return tuple(_number(item, place) for item in _list(value, place))
