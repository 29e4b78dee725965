"""Installs the device of ``second_device.cpp`` in this process, and what a table of runs leaves on either device."""

from __future__ import annotations

import types
from pathlib import Path

import torch
from torch.utils.cpp_extension import load

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "second-device"
NAME = "second"


def install() -> torch.device:
    """Build the device if need be (half a minute, once) and make it known to PyTorch as ``second:0``. For whole processes."""
    build = BUILD / torch.__version__
    build.mkdir(parents=True, exist_ok=True)
    load("second_device", [str(HERE / "second_device.cpp")], build_directory=str(build), extra_cflags=["-O1"])
    torch.utils.rename_privateuse1_backend(NAME)
    module = types.ModuleType("torch.second")
    members = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "manual_seed_all": lambda _seed: None,
        "_is_in_bad_fork": lambda: False,
        "get_amp_supported_dtype": lambda: [torch.bfloat16],
    }
    vars(module).update(members)
    torch._register_device_module(NAME, module)
    return torch.device(NAME, 0)
