"""Checkpoints of a stage in progress and of finished candidates: one safetensors file each, with its own digest.

Written aside, synced and renamed; the one before is kept, so a kill or a full disk at any moment costs at most one epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from paretrim.errors import CorruptFile
from paretrim.files import write_atomically

FORMAT = 1


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts as one file, atomically, with a SHA-256 over both."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    metadata = {"format": str(FORMAT), "facts": text, "sha256": _digest(plain, text)}
    write_atomically(path, save_tensors(plain, metadata))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_state` wrote.

    Raises:
        CorruptFile: the file is truncated, altered or of another format.
    """
    content = path.read_bytes()
    try:
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        tensors = load_tensors(content)
        facts = json.loads(metadata["facts"])
    except Exception as error:  # safetensors and json raise a dozen kinds; all mean the same here
        raise CorruptFile(f"checkpoint '{path}' cannot be read ({error}); delete it to go on from the one before") from error
    if metadata.get("format") != str(FORMAT):
        raise CorruptFile(f"checkpoint '{path}' has format {metadata.get('format')}, this version reads {FORMAT}; delete it to start afresh")
    if metadata.get("sha256") != _digest(tensors, metadata["facts"]):
        raise CorruptFile(f"checkpoint '{path}' fails its SHA-256; delete it to go on from the one before")
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class Moment:
    """How far a stage has come: epochs finished and seconds of training so far."""

    epoch: int
    seconds: float


class Checkpoints:
    """The checkpoints of one stage in ``folder``, newest last; the two newest are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, moment: Moment) -> None:
        """Write the state after an epoch and drop all but the one before it."""
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        save_state(self._path(moment.epoch), tensors, {"epoch": moment.epoch, "seconds": moment.seconds})
        for path in self._paths()[:-2]:
            path.unlink()

    def newest(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Moment | None:
        """Restore the newest checkpoint that is whole into network and optimizer; None if there is none."""
        for path in reversed(self._paths()):
            try:
                tensors, facts = load_state(path)
            except CorruptFile:
                continue  # the one before is why two are kept
            network.load_state_dict({name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")})
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith("optimizer."):
                    _, index, key = name.split(".", 2)
                    states.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
            return Moment(int(facts["epoch"]), float(facts["seconds"]))
        return None

    def clear(self) -> None:
        """Remove all checkpoints: the stage is finished and its candidate is saved."""
        for path in self._paths():
            path.unlink()

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors")) if self.folder.is_dir() else []


