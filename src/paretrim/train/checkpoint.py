"""Checkpoints of a stage in progress and of finished candidates: one safetensors file each, with its own digest.

Written aside, synced and renamed; the previous one is kept, so a kill or a full disk at any moment costs at most one epoch.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from paretrim.digest import digest_of
from paretrim.errors import CorruptFile, ParetrimError
from paretrim.files import DAMAGE, read_regular, write_atomically
from paretrim.network.network import Network
from paretrim.network.state import facts_of, network_of
from paretrim.train.execution import lay_out_
from paretrim.train.training import Training

FORMAT = 1

KEPT = 2
"""Checkpoints kept of a stage in progress: the newest, and the previous one in case the newest cannot be read."""


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
    content = read_regular(path, at_most=sys.maxsize)
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        _require_own(header, path)
        metadata = header["__metadata__"]
        tensors = load_tensors(content)
        facts = json.loads(metadata["facts"])
        found, expected = metadata["sha256"], content_digest(tensors, metadata["facts"])
    except CorruptFile:
        raise
    except Exception as error:  # safetensors and json raise a dozen types; all mean the same here
        raise CorruptFile(f"'{path}' cannot be read ({error}); delete it and run the same command again") from error
    if metadata.get("format") != str(FORMAT):
        raise CorruptFile(
            f"'{path}' has format {metadata.get('format')}, this version reads {FORMAT}; delete it and run the same command again"
        )
    if found != expected:
        raise CorruptFile(f"'{path}' fails its SHA-256; delete it and run the same command again")
    return tensors, facts


def _require_own(header: Mapping[str, Mapping[str, object]], path: Path) -> None:
    """Refuse a whole safetensors file without a trace of what :func:`save_state` adds; a damaged one has some."""
    ours = {"facts", "sha256"} & header.get("__metadata__", {}).keys()
    if not ours and all("dtype" in entry for name, entry in header.items() if name != "__metadata__"):
        raise CorruptFile(
            f"'{path}' is a safetensors file that Paretrim did not write, such as the weights of a network; give a "
            "candidate.safetensors of a run folder, and weights with --weights or as the recipe's weights"
        )


def content_digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """SHA-256, hexadecimal, of names, types, shapes and values of tensors on the CPU, and of a text."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        # A contiguous tensor may have any stride along an axis of 1, and torch cannot view such a row as bytes.
        row = tensor.contiguous().as_strided((tensor.numel(),), (1,))
        digest.update(row.view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class Moment:
    """How far a stage has come: epochs finished, seconds of training so far, and exponents of the units of its parameters."""

    epoch: int
    seconds: float
    units: Mapping[str, int] = field(default_factory=dict)


OptimizerAt = Callable[[Moment], torch.optim.Optimizer]
"""Makes the optimizer for the network as it was at a moment."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one stage in ``folder``, newest last; the two newest are kept.

    ``begun`` is the form of the network when the stage began (:func:`form_of`): a stage may change layers as it trains, so the
    network in a checkpoint may have another form and still belong to this run.
    """

    folder: Path
    begun: str

    def save(self, training: Training, optimizer: torch.optim.Optimizer, moment: Moment) -> None:
        """Write the state after an epoch and delete all but the previous one.

        Raises:
            OutOfSpace: the disk is full; the checkpoints that were there are intact.
        """
        network = training.network
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        tensors |= {f"extra.{name}": tensor for name, tensor in training.extra.state_dict().items()}
        for name, parameter in _named_parameters(training):
            state = optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{name}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
        facts = {"epoch": moment.epoch, "seconds": moment.seconds, "begun": self.begun, "network": facts_of(network)}
        facts["units"] = dict(moment.units)
        save_state(self._path(moment.epoch), tensors, facts)
        for path in _paths(self.folder)[:-KEPT]:
            path.unlink()

    def newest(self, training: Training, optimizer_at: OptimizerAt) -> tuple[Moment, torch.optim.Optimizer] | None:
        """Restore the newest checkpoint that is whole into the training; None if there is none.

        ``optimizer_at`` makes the optimizer of the network as it then is.

        Raises:
            CorruptFile: the checkpoint is whole and belongs to another network.
        """
        for path in reversed(_paths(self.folder)):
            try:
                tensors, facts = load_state(path)
            except CorruptFile:
                continue  # this is why two are kept
            try:
                if facts["begun"] != self.begun:
                    raise ValueError("the stage began with other layers")
                _restore_(training.network, _part(tensors, "network."), facts["network"])
                _restore_extra_(training.extra, _part(tensors, "extra."))
                moment = Moment(int(facts["epoch"]), float(facts["seconds"]), facts["units"])
                optimizer = optimizer_at(moment)
                _restore_optimizer_(optimizer, dict(_named_parameters(training)), _part(tensors, "optimizer."))
                return moment, optimizer
            except (*DAMAGE, RuntimeError, ParetrimError) as error:
                what = " ".join(str(error).split())
                raise CorruptFile(
                    f"'{path}' belongs to another network or version ({what:.300}); delete its folder to train this stage again"
                ) from error
        return None

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.safetensors"


def clear_checkpoints(folder: Path) -> None:
    """Remove all checkpoints and half-written files: the stage is finished and its candidate is saved."""
    for path in (*_paths(folder), *folder.glob(".*.part")):
        path.unlink()


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("epoch-*.safetensors"))


def form_of(network: Network) -> str:
    """A digest of a network's structure, masks and grids, and of the shapes of its tensors; not of their values."""
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    return digest_of({"shapes": shapes, **facts_of(network)})


def _restore_(network: Network, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Make the network the stored one; if its layers are the same, in its present tensors."""
    state = network.state_dict()
    same = state.keys() == tensors.keys() and all(state[name].shape == tensor.shape for name, tensor in tensors.items())
    if not same or facts != json.loads(json.dumps(facts_of(network))):
        device = next(network.parameters()).device
        network.become_(network_of(tensors, facts).to(device))
        lay_out_(network, torch.channels_last)
    network.load_state_dict(tensors)


def _restore_extra_(extra: nn.ModuleDict, tensors: Mapping[str, Tensor]) -> None:
    """Restore the tensors of the stage's own modules; the stage may have changed shapes, or created what was None."""
    modules = dict(extra.named_modules())
    for place, tensor in tensors.items():
        path, _, name = place.rpartition(".")
        before = getattr(modules.get(path), name, None)
        if isinstance(before, nn.Parameter) and before.shape != tensor.shape:
            setattr(modules[path], name, nn.Parameter(torch.empty_like(tensor, device=before.device), before.requires_grad))
        elif path in modules and not isinstance(before, nn.Parameter):
            setattr(modules[path], name, tensor)
    extra.load_state_dict(tensors)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _named_parameters(training: Training) -> Iterator[tuple[str, nn.Parameter]]:
    for part, module in (("network", training.network), ("extra", training.extra)):
        for name, parameter in module.named_parameters():
            yield f"{part}.{name}", parameter


def _restore_optimizer_(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Restore the optimizer's state by parameter names, with the memory layout of the parameters.

    Kernels may sum in another order over another layout, and a resumed run must equal an uninterrupted one to the last bit.
    """
    states: dict[nn.Parameter, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        name, _, key = place.rpartition(".")
        parameter = parameters[name]
        alike = torch.empty_like(parameter, requires_grad=False).copy_(tensor) if tensor.shape == parameter.shape else tensor
        states.setdefault(parameter, {})[key] = alike
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_number = {number: states[parameter] for number, parameter in enumerate(members) if parameter in states}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_number})
