"""Provenance: where the network comes from."""

from __future__ import annotations

import json
import math
from typing import Any

from spec_reader.cursor import require


def read_provenance(content: bytes) -> dict[str, Any] | None:
    """The object, if it has exactly the right keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "a key stands in it twice")
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise ValueError(f"it holds {constant}")

    def whole(digits: str) -> int:
        require(-(2**63) <= int(digits) < 2**63, "a whole number leaves 64 bits")
        return int(digits)

    def finite(digits: str) -> float:
        require(math.isfinite(float(digits)), "a number is not finite")
        return float(digits)

    text = content.decode()
    if not text:
        return None
    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=whole, parse_float=finite)
        require(depth(found) <= 64, "it is nested more than 64 deep")
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    json.dumps(found, ensure_ascii=False).encode()  # halves of characters cannot be
    require(isinstance(found, dict) and type(found.get("format")) is int, "it has no format")
    require(found["format"] == 1, "it is of another format than 1")
    require(set(found) == {"format", "recipe", "history", "measured"}, f"its keys are {sorted(found)}")
    kinds = isinstance(found["recipe"], str), isinstance(found["history"], list), isinstance(found["measured"], dict)
    require(all(kinds), "its recipe is a text, its history a list, what was measured an object")
    require(all(isinstance(value, str | int | float) for value in found["measured"].values()), "a measure is no number or text")
    require(all(is_stage(stage) for stage in found["history"]), "a stage has other keys or values")
    return dict(found)


def depth(value: object) -> int:
    """Depth of nested arrays and objects."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def is_stage(stage: object) -> bool:
    """Whether an object of the history has exactly the right keys and types."""
    numbers = "seconds", "sparsity", "accuracy_before", "accuracy_after"
    if not isinstance(stage, dict) or set(stage) != {"name", "settings", "epochs", "bits", *numbers}:
        return False
    finite = all(type(stage[key]) in (int, float) and abs(stage[key]) < math.inf for key in numbers)
    whole = all(type(stage[key]) is int for key in ("epochs", "bits"))
    return finite and whole and isinstance(stage["name"], str) and isinstance(stage["settings"], dict)
