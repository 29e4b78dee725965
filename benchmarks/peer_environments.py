"""A separate Python environment with pinned versions for every peer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from peer_cases import ENVIRONMENTS, HERE

from paretrim.bench.machine import versions
from paretrim.errors import MissingDependency

INSTALLED = "installed.json"
TOLD_LINES = 3


def interpreter(name: str, folder: Path) -> Path:
    """The Python of an environment, created below ``folder`` unless it exists with exactly these versions.

    Raises:
        MissingDependency: a package cannot be installed.
    """
    if name == HERE:
        return Path(sys.executable)
    place, pins = folder / name, ENVIRONMENTS[name]
    python = place / "bin" / "python"
    marker = place / INSTALLED
    if marker.is_file() and json.loads(marker.read_text())["pins"] == list(pins):
        return python
    shutil.rmtree(place, ignore_errors=True)
    log = folder / f"{name}.log"
    folder.mkdir(parents=True, exist_ok=True)
    made = _told([sys.executable, "-m", "venv", str(place)], log) and _told([str(python), "-m", "pip", "install", *pins], log)
    if not made:
        said = " / ".join(log.read_text(errors="replace").strip().splitlines()[-TOLD_LINES:])
        shutil.rmtree(place, ignore_errors=True)
        raise MissingDependency(
            f"the environment '{name}' ({', '.join(pins)}) cannot be made with {sys.executable}: {said}; all that pip said is in "
            f"'{log}'; fix the cause and run the command again, or name other cases with --cases"
        )
    marker.write_text(json.dumps({"pins": pins, "versions": _installed(python)}))
    return python


def versions_of(name: str, folder: Path) -> Mapping[str, str]:
    """Versions of the packages in an existing environment."""
    if name == HERE:
        return versions()
    found: Mapping[str, str] = json.loads((folder / name / INSTALLED).read_text())["versions"]
    return found


def variables(threads: int) -> dict[str, str]:
    """Environment variables of a peer's processes: those of this one without Python's, with the number of threads set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return kept | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def _told(command: Sequence[str], log: Path) -> bool:
    with log.open("w") as output:
        return subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, env=variables(1)).returncode == 0


def _installed(python: Path) -> dict[str, str]:
    """The requested packages, and those dependencies that may change a result."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], capture_output=True, text=True, check=True)
    wanted = {pin.partition("==")[0] for pins in ENVIRONMENTS.values() for pin in pins}
    return {one["name"]: one["version"] for one in json.loads(listed.stdout) if one["name"] in wanted}
