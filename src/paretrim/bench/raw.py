"""Raw samples on disk: one ``.npz`` with the numbers as arrays and everything else as JSON. Data only, never pickle.

The same session gives the same bytes. Members are stored uncompressed, so no array can claim more memory than the file has.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paretrim.bench.effort import Effort
from paretrim.bench.types import Deployment, Load, Machine, Timing, TimingSession
from paretrim.errors import CorruptFile, InvalidRecipe
from paretrim.files import write_atomically

Numbers = npt.NDArray[Any]

FORMAT = 2
READ = (1, 2)
MEMBERS: Mapping[str, np.dtype[Any]] = {
    "session": np.dtype("uint8"),
    "samples_ns": np.dtype("<i8"),
    "reference_ns": np.dtype("<i8"),
    "waited": np.dtype("<f8"),
    "together": np.dtype("<f8"),
}
"""Arrays of the file: UTF-8 JSON; samples [deployment, process, round] with the A/A copy last; reference times [process,
boundary]; waits [process, window]; ``together``: the contention [process, boundary], which format 1 lacks."""


def save_session(session: TimingSession, path: Path) -> None:
    """Write a session, atomically.

    Raises:
        OutOfSpace: the disk is full.
    """
    everyone = (*session.timings, session.copy)
    known = asdict(session)
    text = {
        "format": FORMAT,
        # Files call deployments "arms", as the first version did.
        "arms": [asdict(t.deployment) | {"runtime_version": t.runtime_version, "sha256": t.sha256} for t in everyone],
        **{key: known[key] for key in ("baseline", "batch", "images", "effort", "seed", "loads", "machine", "noise")},
        "versions": dict(session.versions),
    }
    encoded = json.dumps(text, sort_keys=True, ensure_ascii=True, allow_nan=False).encode()
    arrays = {
        "session": np.frombuffer(encoded, np.uint8),
        "samples_ns": np.array([t.samples_ns for t in everyone], "<i8"),
        "reference_ns": np.array(session.reference_ns, "<i8"),
        "waited": np.array(session.waited, "<f8"),
        "together": np.array(session.contention, "<f8"),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            # A ZipInfo made by hand carries 1980 as its date: the clock stays out of the bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    write_atomically(path, buffer.getvalue())


def load_session(path: Path) -> TimingSession:
    """Read a session back.

    Raises:
        CorruptFile: the file is not one that :func:`save_session` wrote, or was damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            text = json.loads(_member(archive, "session", path.stat().st_size).tobytes())
            if text["format"] not in READ:
                raise ValueError(f"it has format {text['format']} and this version reads up to {FORMAT}; update Paretrim")
            names = [name for name in MEMBERS if name != "together" or text["format"] == FORMAT]
            arrays = {name: _member(archive, name, path.stat().st_size) for name in names}
        return _session(text, arrays)
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        InvalidRecipe,
    ) as error:
        raise CorruptFile(
            f"'{path}' is not a file of raw latency samples ({type(error).__name__}: {error}); "
            "measure again, or fetch the file again"
        ) from error


def _member(archive: zipfile.ZipFile, name: str, file_bytes: int) -> npt.NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > file_bytes:
        raise ValueError(f"array '{name}' is compressed or says {info.file_size} bytes in a file of {file_bytes}")
    content = io.BytesIO(archive.read(info))
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"array '{name}' is not in version 1.0 of NumPy's format")
    shape, column_major, dtype = np.lib.format.read_array_header_1_0(content)
    rest = content.read()
    if column_major or dtype != MEMBERS[name] or len(rest) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"array '{name}' says {dtype} {shape} and holds {len(rest)} bytes")
    return np.frombuffer(rest, dtype).reshape(shape)


def _session(text: dict[str, object], arrays: Mapping[str, Numbers]) -> TimingSession:
    samples, reference, waited = arrays["samples_ns"], arrays["reference_ns"], arrays["waited"]
    contention = arrays.get("together", np.ones(reference.shape))
    deployments, effort = _list(text["arms"]), Effort(**_dict(text["effort"]))
    names = [deployment["name"] for deployment in deployments]
    if text["baseline"] not in names[:-1]:
        raise ValueError(f"its baseline {text['baseline']!r} is none of its deployments {names[:-1]}")
    windows = -(-effort.rounds // effort.window)
    for array, shape in (
        (samples, (len(deployments), effort.processes, effort.rounds)),
        (reference, (effort.processes, windows + 1)),
        # 0 is a fine share and -1, or no number, is not.
        (np.where(waited >= 0, 1, 0), (effort.processes, windows)),
        (contention, (effort.processes, windows + 1)),
    ):
        if array.shape != shape or not (array > 0).all():
            raise ValueError(f"an array has shape {array.shape} and should hold {shape} positive times or shares")
    timings = [
        Timing(
            Deployment(
                name=deployment["name"], path=deployment["path"], runtime=deployment["runtime"], threads=deployment["threads"]
            ),
            deployment["runtime_version"],
            deployment["sha256"],
            tuple(tuple(row) for row in samples[index].tolist()),
        )
        for index, deployment in enumerate(deployments)
    ]
    machine = _dict(text["machine"])
    return TimingSession(
        timings=tuple(timings[:-1]),
        copy=timings[-1],
        baseline=str(text["baseline"]),
        batch=_int(text["batch"]),
        images=_int(text["images"]),
        effort=effort,
        seed=_int(text["seed"]),
        reference_ns=tuple(tuple(row) for row in reference.tolist()),
        waited=tuple(tuple(row) for row in waited.tolist()),
        contention=tuple(tuple(row) for row in contention.tolist()),
        loads=tuple((Load(**before), Load(**after)) for before, after in _list(text["loads"])),
        machine=Machine(**(machine | {"isa": tuple(machine["isa"])})),
        versions=_dict(text["versions"]),
        noise=tuple(str(word) for word in _list(text["noise"])),
    )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} where a list belongs")
    return value


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where an object belongs")
    return value


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} where a whole number belongs")
    return value
