"""Values that a stranger could put anywhere in nested tables and lists."""

import copy


def places(value, place=()):
    """Every place in nested tables and lists, inner nodes and the whole too."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, (*place, key))


def with_value(whole, place, value):
    """A copy with another value at a place."""
    changed = copy.deepcopy(whole)
    *way, last = place
    inner = changed
    for key in way:
        inner = inner[key]
    inner[last] = value
    return changed
