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

KEPT = 2
"""Checkpoints kept of a stage in progress: the newest, and the one before in case the newest cannot be read."""


def save_state(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts as one file, atomically, with a SHA-256 over both.

    Raises:
        OutOfSpace: the disk is full; what was there before is intact.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    metadata = {"format": str(FORMAT), "facts": text, "sha256": content_digest(plain, text)}
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
        found, expected = metadata["sha256"], content_digest(tensors, metadata["facts"])
    except Exception as error:  # safetensors and json raise a dozen kinds; all mean the same here
        raise CorruptFile(f"'{path}' cannot be read ({error}); delete it and run the same command again") from error
    if metadata.get("format") != str(FORMAT):
        raise CorruptFile(
            f"'{path}' has format {metadata.get('format')}, this version reads {FORMAT}; delete it and run the same command again"
        )
    if found != expected:
        raise CorruptFile(f"'{path}' fails its SHA-256; delete it and run the same command again")
    return tensors, facts


def content_digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256, hexadecimal, of names, types, shapes and values of tensors on the CPU, and of a text."""
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


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage in ``folder``, newest last; the two newest are kept."""

    folder: Path

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, moment: Moment) -> None:
        """Write the state after an epoch and drop all but the one before it.

        Raises:
            OutOfSpace: the disk is full; the checkpoints that were there are intact.
        """
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        save_state(self._path(moment.epoch), tensors, {"epoch": moment.epoch, "seconds": moment.seconds})
        for path in self._paths()[:-KEPT]:
            path.unlink()

    def newest(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Moment | None:
        """Restore the newest checkpoint that is whole into network and optimizer; None if there is none.

        Raises:
            CorruptFile: the checkpoint is whole and belongs to another network.
        """
        for path in reversed(self._paths()):
            try:
                tensors, facts = load_state(path)
            except CorruptFile:
                continue  # the one before is why two are kept
            try:
                network.load_state_dict(_part(tensors, "network."))
                optimizer.load_state_dict({**optimizer.state_dict(), "state": _optimizer_states(tensors, optimizer)})
                return Moment(int(facts["epoch"]), float(facts["seconds"]))
            except (KeyError, IndexError, ValueError, RuntimeError) as error:
                what = " ".join(str(error).split())
                raise CorruptFile(
                    f"'{path}' belongs to another network or version ({what:.300}); delete its folder to train this stage afresh"
                ) from error
        return None

    def clear(self) -> None:
        """Remove all checkpoints, and what a kill left half written: the stage is finished and its candidate is saved."""
        for path in (*self._paths(), *self.folder.glob(".*.part")):
            path.unlink()

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.safetensors"))


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_states(tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """Optimizer state by the number of its parameter, laid out in memory as the parameter is.

    A kernel may sum in another order over another layout; the resumed run must be the undisturbed one to the last bit.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        alike = torch.empty_like(parameter, requires_grad=False).copy_(tensor) if tensor.shape == parameter.shape else tensor
        states.setdefault(int(index), {})[key] = alike
    return states
