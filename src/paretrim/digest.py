"""The one digest of JSON-able facts that names things by their content."""

from __future__ import annotations

import hashlib
import json


def digest_of(facts: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of JSON-able facts in canonical form."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
