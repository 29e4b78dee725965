"""What a file is that was given as weights and holds none that can be read, from its first bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

_BEGINNINGS: Mapping[bytes, str] = MappingProxyType(
    {
        b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself; fetch the file with: git lfs pull",
        b"\x1f\x8b": "it is compressed with gzip; unpack it with gunzip",
        b"BZh": "it is compressed with bzip2; unpack it with bunzip2",
        b"\xfd7zXZ": "it is compressed with xz; unpack it with unxz",
        b"\x89HDF": "it is an HDF5 file, as Keras writes; load it there and convert its arrays to a torch state_dict",
        b"GGUF": "it is a GGUF file, which holds language models; give the weights of a convolutional network",
    }
)

_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)

TORCHSCRIPT = (
    "it is a TorchScript archive, which is a program; save its weights where you trust it: "
    "python -c \"import torch; torch.save(torch.jit.load('OLD').state_dict(), 'NEW.pt')\""
)


_CONVERT = {
    "a tar archive of torch before 0.1.10": "w = torch.load('OLD', weights_only=False)",
    "a plain pickle": "w = pickle.loads(pathlib.Path('OLD').read_bytes())",
    "an archive of NumPy arrays": "w = dict(numpy.load('OLD'))",
}
"""Other formats in which weights are found, each with the Python that reads it where the file is trusted."""


def convertible(kind: str) -> str:
    """Why a format is not read, with the command that makes it one that is."""
    return (
        f"it is {kind}, which is not read because loading it may run code from it; if you trust it, convert it: "
        f"python -c \"import numpy, pathlib, pickle, torch; {_CONVERT[kind]}; w = w.get('state_dict', w); "
        "torch.save({k: torch.as_tensor(v) for k, v in w.items()}, 'NEW.pt')\""
    )


def reason(content: bytes) -> str:
    """Why the content of a file that begins like none with weights cannot be read, and what to do."""
    if not content:
        return "it is empty; download or save it again"
    if _PAGE.match(content):
        return "it is a web page, perhaps the message of a failed download; download the file itself"
    for beginning, said in _BEGINNINGS.items():
        if content.startswith(beginning):
            return said
    return (
        "it is neither a safetensors file nor a zip archive or older file of torch.save; "
        "if it is in another format, load it where you trust it and save its state_dict again"
    )
