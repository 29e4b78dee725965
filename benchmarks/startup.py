"""From a deployed file to its first logits, in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from estimates import median
from networks import CHANNELS
from runtime_lines import Origin, StartupLine

STARTS = 11

PROGRAM = """
import json, sys, time
begun = time.perf_counter()
import numpy
import paretrim.runtime
file, threads, channels, size = sys.argv[1], *map(int, sys.argv[2:])
image = numpy.full((1, channels, size, size), 128, numpy.uint8)
imported = time.perf_counter()
session = paretrim.runtime.load(file, threads=threads)
session(image)
done = time.perf_counter()
found = {"import_ms": imported - begun, "first_result_ms": done - imported}
print(json.dumps({name: 1000 * seconds for name, seconds in found.items()} | {"cached": session.network.choices_were_used}))
"""
"""The file is opened as anyone would. What NumPy and the runtime take to import, with any other program, is counted apart."""


def start(file: Path, threads: int, size: int) -> dict[str, float]:
    """One fresh process: ``import_ms``, ``first_result_ms`` and whether kernels chosen earlier were ``cached``."""
    command = [sys.executable, "-P", "-c", PROGRAM, str(file), str(threads), str(CHANNELS), str(size)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def startup_lines(
    network: str,
    files: Mapping[str, Mapping[float, Path]],
    threads: Sequence[int],
    size: int,
    origin: Origin,
    starts: int = STARTS,
) -> Iterator[StartupLine]:
    """A line for every file, given by kind and share of zeros, on every number of threads."""
    for kind, by_zeros in files.items():
        for zeros, file in by_zeros.items():
            for count in threads:
                first, *others = (start(file, count, size) for _ in range(starts + 1))
                if not all(other["cached"] for other in others):
                    raise RuntimeError(f"{file.name}: kernels chosen by an earlier start were not used again")
                result = median([other["first_result_ms"] for other in others])
                yield StartupLine(
                    network=network,
                    zeros=zeros,
                    threads=count,
                    file=kind,
                    file_bytes=file.stat().st_size,
                    first_result_ms=result.value,
                    first_result_ms_low=result.low,
                    first_result_ms_high=result.high,
                    import_ms=float(np.median([other["import_ms"] for other in others])),
                    first_start_ms=None if first["cached"] else first["first_result_ms"],
                    starts=starts,
                    origin=origin,
                )
