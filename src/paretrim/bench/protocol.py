"""The measuring protocol: fresh processes on a quiet machine, an A/A copy, and a check that measuring changed nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import paretrim.errors
from paretrim.bench.effort import Effort
from paretrim.bench.machine import RUNTIME_PACKAGES, describe, runtime_version, standing, versions
from paretrim.bench.machine_load import disturbed, read_load, wait_until_quiet
from paretrim.bench.pinning import choose_cores, usable_cores
from paretrim.bench.sampling import ENOUGH, Images, differing
from paretrim.bench.types import Deployment, Load, Timing, TimingSession
from paretrim.bench.worker import PHASES, Job, ProcessSamples, write_job
from paretrim.errors import ExportMismatch, InvalidRecipe, ParetrimError, UnstableMachine
from paretrim.files import temporary_folder
from paretrim.visible import brief, suggestion

OPENER = "paretrim.deploy.runnable:open_outputs"
"""``open_outputs(path, runtime=..., threads=...)`` gives a callable: images [batch, C, H, W] -> outputs [batch, ...], a tuple."""

COPY_SUFFIX = " (A/A copy)"

# Threads of engines that do not take a number, and OpenMP teams that would spin into the call after.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "PYTHONHASHSEED": "random",
}


def measure(
    deployments: Sequence[Deployment],
    images: Images,
    *,
    baseline: str,
    effort: Effort,
    batch: int = 1,
    seed: int = 0,
    opener: str = OPENER,
    look: Callable[[], Load] = read_load,
) -> TimingSession:
    """Time ``deployments`` against each other, in one session, and keep every sample.

    Images are [n, C, H, W], given to the deployments as they are, ``batch`` at a time, drawn with replacement. ``baseline`` names
    one of the deployments; its file is opened a second time as the A/A copy. ``opener`` is ``module:function`` of what opens a
    deployment.

    Raises:
        InvalidRecipe: deployments, baseline, images or batch are not valid, or a file is missing.
        UnstableMachine: too few cores, or a process died or hung.
        ExportMismatch: a deployment raises, gives other outputs from process to process, or a file changed.
    """
    everyone = _with_copy(deployments, images, baseline=baseline, batch=batch, opener=opener)
    threads = max(deployment.threads for deployment in everyone)
    job = Job(everyone, opener, batch, effort, seed, choose_cores(threads, usable_cores()))
    digests = [digest(Path(deployment.path)) for deployment in everyone]
    machine, installed = describe(), versions()
    remarks: dict[str, list[int]] = {}
    sampled: list[ProcessSamples] = []
    loads: list[tuple[Load, Load]] = []
    patience = effort.gate_seconds
    with temporary_folder() as folder:
        write_job(job, images, folder)
        for process in range(effort.processes):
            said, waited = wait_until_quiet(patience, threads=threads, look=look)
            patience = max(patience - waited, 0.0)
            before, start = look(), time.monotonic()
            sampled.append(_run_process(job, folder, process))
            loads.append((before, look()))
            for text in said + disturbed(*loads[-1], seconds=time.monotonic() - start) + sampled[-1].noise:
                remarks.setdefault(text, []).append(process + 1)

    _same_outputs(everyone, [one.outputs for one in sampled])
    _same_files(everyone, digests)
    timings = [
        Timing(deployment, runtime_version(deployment.runtime), old, tuple(tuple(one.samples_ns[index]) for one in sampled))
        for index, (deployment, old) in enumerate(zip(everyone, digests, strict=True))
    ]
    return TimingSession(
        timings=tuple(timings[:-1]),
        copy=timings[-1],
        baseline=baseline,
        batch=batch,
        images=len(images),
        effort=effort,
        seed=seed,
        reference_ns=tuple(tuple(one.reference_ns) for one in sampled),
        waited=tuple(tuple(one.waited) for one in sampled),
        contention=tuple(tuple(one.contention) for one in sampled),
        loads=tuple(loads),
        machine=machine,
        versions=installed,
        noise=(
            *standing(),
            *_few(images),
            *_shared(sampled, effort),
            *(_by_process(text, found) for text, found in remarks.items()),
        ),
    )


def digest(path: Path) -> str:
    """SHA-256 of a deployed file; OpenVINO's ``.xml`` includes its ``.bin``."""
    state = hashlib.sha256()
    for part in (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,):
        if part.is_file():
            with part.open("rb") as file:
                state.update(hashlib.file_digest(file, "sha256").digest())
    return state.hexdigest()


def _with_copy(
    deployments: Sequence[Deployment], images: Images, *, baseline: str, batch: int, opener: str
) -> tuple[Deployment, ...]:
    """Check the request and append the A/A copy."""
    names = [deployment.name for deployment in deployments]
    if baseline not in names:
        raise InvalidRecipe(
            f"the baseline '{baseline}' is none of the deployments ({', '.join(names) or 'there are none'}); name one of them"
        )
    for deployment in deployments:
        if names.count(deployment.name) > 1:
            raise InvalidRecipe(
                f"{names.count(deployment.name)} deployments are named '{deployment.name}'; give each a name of its own"
            )
        if deployment.name == baseline + COPY_SUFFIX:
            raise InvalidRecipe(f"the name '{deployment.name}' is kept for the baseline's copy; give the deployment another")
        if opener == OPENER and deployment.runtime not in RUNTIME_PACKAGES:
            hint = suggestion(deployment.runtime, tuple(RUNTIME_PACKAGES), "known")
            raise InvalidRecipe(f"deployment '{deployment.name}': there is no runtime {brief(deployment.runtime)}; {hint}")
        if not Path(deployment.path).is_file():
            raise InvalidRecipe(f"deployment '{deployment.name}': there is no file '{deployment.path}'; deploy it first")
    if images.ndim != 4 or not len(images) or images.dtype not in (np.uint8, np.float32):
        raise InvalidRecipe(f"images are {images.dtype} {images.shape}; give uint8 or float32 [n, C, H, W] with n of at least 1")
    if batch < 1:
        raise InvalidRecipe(f"the batch is {batch}; it must be 1 or more")
    first = deployments[names.index(baseline)]
    return (*deployments, replace(first, name=baseline + COPY_SUFFIX))


def _few(images: Images) -> list[str]:
    few = f"{len(images)} distinct images; {ENOUGH} or more keep caches and branch predictors from learning them"
    return [few] if len(images) < ENOUGH else []


def _shared(sampled: Sequence[ProcessSamples], effort: Effort) -> list[str]:
    share = float(np.mean([ratio > 1 + effort.shared for one in sampled for ratio in one.contention]))
    said = f"what the system calls cores was one physical core {share:.0%} of the time"
    return [f"{said}: their threads shared it, as a host may place virtual CPUs"] if share else []


def _by_process(text: str, processes: Sequence[int]) -> str:
    """One remark for all the processes that made it."""
    return f"process{'es' if len(processes) > 1 else ''} {', '.join(str(process) for process in processes)}: {text}"


def _run_process(job: Job, folder: Path, process: int) -> ProcessSamples:
    """Run one worker to its end and read its samples, or raise what went wrong, naming the deployment."""
    where = folder / "where"
    where.write_bytes(np.zeros(2, np.int32).tobytes())
    # The worker can import what this process can: it gets the same path, but none of this process's state.
    # -P keeps a stray module in the current folder from shadowing one of Python's.
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(part or str(Path.cwd()) for part in sys.path)}
    command = [sys.executable, "-P", "-m", "paretrim.bench.worker", str(folder), str(process)]
    errors = folder / f"stderr-{process}.txt"
    with errors.open("wb") as stderr:
        try:
            status = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=job.effort.timeout_seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            limit = f"{job.effort.timeout_seconds:g} s"
            raise UnstableMachine(
                f"{_place(job, where, process)}: not finished after {limit}, stopped; if it is only slow, raise timeout_seconds"
            ) from error
    result = folder / f"result-{process}.json"
    if not result.exists():
        lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f"; it said: {lines[-1]}" if lines else ""
        raise UnstableMachine(
            f"{_place(job, where, process)}: the process {_ending(status)}{said}; "
            "open this file alone to see why, and check the memory"
        )
    found = json.loads(result.read_text(encoding="utf-8"))
    if "kind" in found:
        raise _kind(found["kind"])(f"{_place(job, where, process)}: {found['message']}")
    return ProcessSamples(**found)


def _place(job: Job, where: Path, process: int) -> str:
    phase, index = np.frombuffer(where.read_bytes(), np.int32)
    place = f"measuring process {process + 1} of {job.effort.processes}"
    if not phase:
        return f"{place}, starting"
    deployment = job.deployments[index]
    unit = "thread" if deployment.threads == 1 else "threads"
    what = f"deployment '{deployment.name}' ({deployment.path} in {deployment.runtime}, {deployment.threads} {unit})"
    return f"{place}, {PHASES[phase]} {what}"


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status} and left no samples"


def _kind(name: str) -> type[ParetrimError]:
    """Type of a deliberate error by name; anything else that an engine raises means that the file does not run."""
    found = vars(paretrim.errors).get(name, ExportMismatch)
    return found if isinstance(found, type) and issubclass(found, ParetrimError) else ExportMismatch


def _same_files(deployments: Sequence[Deployment], digests: Sequence[str]) -> None:
    for deployment, old in zip(deployments, digests, strict=True):
        if digest(Path(deployment.path)) != old:
            raise ExportMismatch(
                f"deployment '{deployment.name}': '{deployment.path}' changed while it was measured; measure again"
            )


def _same_outputs(deployments: Sequence[Deployment], outputs: Sequence[list[list[list[float]]]]) -> None:
    """Every process must have computed the same thing, the copy the same as the baseline."""
    for process, found in enumerate(outputs):
        for index, deployment in enumerate(deployments):
            other = differing(outputs[0][index], found[index])
            if other:
                raise ExportMismatch(
                    f"deployment '{deployment.name}' ({deployment.path}): the outputs of {other} of {len(found[index])} images "
                    f"differ between process 1 and process {process + 1}; its runtime is not deterministic, so its time means "
                    "nothing; choose another runtime"
                )
