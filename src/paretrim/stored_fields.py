"""Fields of stored dataclasses that were added or renamed after results had been stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import Any

LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of a field that was added after results of its dataclass had been stored.

At its default, which must mean what held before the field existed, it is left out when stored, so earlier results can still be
read and found.
"""


def once_called(name: str) -> Mapping[str, str]:
    """Metadata of a field that had another name when results of its dataclass were first stored."""
    return MappingProxyType({"earlier": name})


@cache
def earlier_names(kind: type) -> Mapping[str, str]:
    """Current name of every renamed field of a dataclass, by its earlier name."""
    return {one.metadata["earlier"]: one.name for one in fields(kind) if "earlier" in one.metadata}


def under_todays_names(facts: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Stored facts of a dataclass, with renamed fields under their current names."""
    return {earlier_names(kind).get(name, name): value for name, value in facts.items()}
