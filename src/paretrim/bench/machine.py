"""The machine, and whether latency can be measured on it, from the system's own files; nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from paretrim.bench.machine_load import PROC, STOPPED, read_load, unquiet
from paretrim.bench.pinning import CPUS, can_pin, usable_cores
from paretrim.bench.types import Machine

QUOTA = Path("/sys/fs/cgroup/cpu.max")

FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""CPU features that decide which kernels run, x86 and Arm."""

PACKAGES = ("paretrim", "numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf", "safetensors")
"""Packages whose version may change a number."""

COMPILERS = ("cc", "gcc", "g++", "clang", "clang++")

RUNTIME_PACKAGES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "paretrim": "paretrim",
    "reference": "numpy",
}
"""The package whose version is a runtime's version; the reference interpreter's speed is NumPy's."""


def describe(proc: Path = PROC) -> Machine:
    """Describe the CPU, its features, the memory and the system."""
    text = _text(proc / "cpuinfo")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set()
    memory = re.search(r"^MemTotal:\s*(\d+) kB", _text(proc / "meminfo"), re.MULTILINE)
    return Machine(
        cpu=name[1].strip() if name else platform.processor() or platform.machine() or "unknown",
        cores=len(usable_cores()),
        isa=tuple(feature for feature in FEATURES if feature in present),
        memory_bytes=int(memory[1]) * 1024 if memory else 0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def versions() -> dict[str, str]:
    """Versions of the installed packages that may change a number; absent ones are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def source_commit() -> str:
    """Commit of the source this runs from, with ``+`` for uncommitted changes; empty outside a checkout."""
    source = Path(__file__).resolve().parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=source, capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"], cwd=source, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def runtime_version(runtime: str) -> str:
    """Version of the package behind a runtime, or ``unknown``."""
    return versions().get(RUNTIME_PACKAGES.get(runtime, runtime), "unknown")


def governors(cpus: Path = CPUS) -> tuple[str, ...]:
    """Frequency governors of the usable cores, each once; empty if the system has none (most virtual machines)."""
    found = {_text(cpus / f"cpu{core}" / "cpufreq" / "scaling_governor").strip() for core in usable_cores()}
    return tuple(sorted(found - {""}))


def quiet(*, threads: int = 1, proc: Path = PROC, cpus: Path = CPUS) -> list[str]:
    """Reasons not to measure here and now; an empty list means the machine is quiet."""
    return unquiet(read_load(proc), threads=threads) + standing(cpus=cpus)


def standing(*, cpus: Path = CPUS, quota: Path = QUOTA) -> list[str]:
    """Reasons not to measure on this machine at any time: no pinning, a changing clock, a quota of CPU time."""
    said = [] if can_pin() else ["threads are not pinned: this system does not allow it"]
    said.extend(
        f"the frequency governor is '{name}'; 'performance' keeps the clock steady"
        for name in governors(cpus)
        if name != "performance"
    )
    limit = re.match(r"(\d+) (\d+)", _text(quota))
    if limit and int(limit[1]) < int(limit[2]) * len(usable_cores()):
        share = int(limit[1]) / int(limit[2])
        said.append(f"{STOPPED} whenever it has used {share:g} CPUs' worth of time; measure without that quota")
    return said


def doctor(proc: Path = PROC) -> dict[str, object]:
    """Everything ``paretrim doctor`` says about this machine, ready for JSON."""
    machine = describe(proc)
    return {
        "machine": asdict(machine),
        "vnni": machine.has_vnni,
        "weight_bits": 8 if machine.has_dot_product else 7,
        "advice": (
            "8-bit weights: this CPU multiplies 8-bit integers and adds them in 32 bits"
            if machine.has_dot_product
            else "7-bit weights (-63..63) for OpenVINO: without VNNI it adds pairs of uint8 x int8 products in 16 bits, and "
            "saturates; 8-bit weights are exact in paretrim, and in ONNX Runtime with session.x64quantprecision = 1"
        ),
        "governors": list(governors()),
        "load": asdict(read_load(proc)),
        "unquiet": quiet(proc=proc),
        "versions": versions(),
        "compilers": compilers(),
    }


def compilers() -> dict[str, str]:
    """First version line of every C and C++ compiler on the path, by command."""
    found = {}
    for command in COMPILERS:
        path = shutil.which(command)
        if path:
            environment = os.environ | {"LC_ALL": "C"}
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=20, env=environment)
            found[command] = next(iter(said.stdout.splitlines()), "")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
