"""A tiny network and its weights files, in every usual form and in some forged ones."""

import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn


def tiny() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 1), bn=nn.BatchNorm2d(2)))


def zeroed() -> nn.Module:
    network = tiny()
    for tensor in network.state_dict().values():
        tensor.zero_()
    return network


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def rewritten(source: Path, target: Path, *, compression: int = zipfile.ZIP_STORED, repeat: bool = False) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        if repeat:
            with pytest.warns(UserWarning, match="Duplicate name"):
                new.writestr(member.filename, b"another")
    return target


WRAPPED = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 7, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": {}},
    "net": lambda state: {"net": state, "acc": 93.1},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "compiled in parallel": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "wrapped module.": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "no counters": lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    "parameters": lambda state: {
        key: nn.Parameter(value, requires_grad=value.is_floating_point()) for key, value in state.items()
    },
}


def resnet_zoo_file(path: Path) -> Path:
    """A file as training scripts of 2018 wrote them: not zipped, from several GPUs, with the accuracy beside the weights."""
    state = OrderedDict((f"module.{key}", value) for key, value in tiny().state_dict().items() if "num_batches" not in key)
    torch.save({"state_dict": state, "best_prec1": 91.73}, path, _use_new_zipfile_serialization=False)
    return path


def safetensors_file(path: Path, header: object, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path
