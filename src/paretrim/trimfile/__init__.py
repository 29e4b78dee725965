"""The ``.trim`` file: a whole deployed network, small, and safe to read from untrusted sources.

``SPEC.md`` in this folder defines the format; reading and writing are native.

>>> from paretrim import trimfile
>>> trimfile.write(graph, "model.trim")  # doctest: +SKIP
>>> graph = trimfile.read("model.trim")  # doctest: +SKIP
"""

from paretrim.trimfile.file import TrimFile, from_bytes, open_file, read, to_bytes, write
from paretrim.trimfile.inspection import Inspection, LayerSize, inspect
from paretrim.trimfile.provenance import Provenance

__all__ = [
    "Inspection",
    "LayerSize",
    "Provenance",
    "TrimFile",
    "from_bytes",
    "inspect",
    "open_file",
    "read",
    "to_bytes",
    "write",
]
