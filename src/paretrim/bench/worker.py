"""One fresh process of a measuring session: ``python -m paretrim.bench.worker FOLDER PROCESS``.

Reads ``job.json`` and ``images.npy`` from the folder and leaves ``result-PROCESS.json`` there, never anything on standard
output, where engines like to write. ``where`` always holds the phase and the deployment, so that the parent can name it even
if this process is killed. Torch is never imported.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from paretrim.bench.effort import Effort
from paretrim.bench.machine_load import KEPT_WAITING, OWN_WAIT_LIMIT, waited_ns
from paretrim.bench.pinning import open_pinned, pinned_to
from paretrim.bench.sampling import (
    ENOUGH,
    Images,
    Inference,
    ReferenceWork,
    busy_after,
    differing,
    make_schedule,
    no_garbage_collection,
    outputs_of,
    time_rounds,
    warm_up,
)
from paretrim.bench.types import Deployment
from paretrim.errors import ExportMismatch, InvalidRecipe, ParetrimError

PHASES = ("starting", "opening", "warming up", "checking", "timing", "checking again")
Where = npt.NDArray[np.int32]
Opener = Callable[..., Inference]

SPIN_SECONDS = 0.002
"""CPU time in the 20 ms after a call above which a deployment is said to spin."""


@dataclass(frozen=True)
class Job:
    """Everything a worker needs; ``deployments`` includes the copy of the baseline, ``cores`` are ordered, the caller's first."""

    deployments: tuple[Deployment, ...]
    opener: str
    batch: int
    effort: Effort
    seed: int
    cores: tuple[int, ...]


@dataclass(frozen=True)
class ProcessSamples:
    """The results of one process: what :class:`Rounds` holds, ``outputs[deployment][image]`` and remarks."""

    samples_ns: list[list[int]]
    reference_ns: list[int]
    waited: list[float]
    contention: list[float]
    outputs: list[list[list[float]]]
    noise: list[str]


def write_job(job: Job, images: Images, folder: Path) -> None:
    """Write the folder a worker reads."""
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    np.save(folder / "images.npy", images, allow_pickle=False)


def read_job(folder: Path) -> tuple[Job, Images]:
    """Read back what :func:`write_job` wrote."""
    raw = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    job = Job(
        deployments=tuple(Deployment(**deployment) for deployment in raw["deployments"]),
        opener=raw["opener"],
        batch=raw["batch"],
        effort=Effort(**raw["effort"]),
        seed=raw["seed"],
        cores=tuple(raw["cores"]),
    )
    return job, np.load(folder / "images.npy", allow_pickle=False)


def find_opener(name: str) -> Opener:
    """Import the function named ``module:function``.

    Raises:
        InvalidRecipe: there is no such function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidRecipe(
            f"opener '{name}' cannot be imported ({error}); give 'module:function' of an importable function"
        ) from error
    return cast(Opener, found)


def sample(job: Job, images: Images, process: int, where: Where) -> ProcessSamples:
    """Open, warm up, check, time and check again; ``where`` is kept up to date.

    Raises:
        ExportMismatch: a deployment's outputs changed while it was timed.
    """
    opener = find_opener(job.opener)
    rounds = make_schedule(
        job.seed, process, deployments=len(job.deployments), rounds=job.effort.rounds, images=len(images), batch=job.batch
    )
    first = np.ascontiguousarray(images[rounds.draws[0]])
    batches = [np.ascontiguousarray(images[rows]) for rows in rounds.draws[:ENOUGH]]
    opened, noise = _opened(job, opener, first, batches, where)
    before = _outputs(job, opened, images, where, "checking")
    where[0] = PHASES.index("timing")
    reference = ReferenceWork(job.cores[1:])
    with no_garbage_collection():
        timed = time_rounds(
            opened,
            images,
            rounds,
            job.effort,
            reference=reference.alone,
            contention=reference.contention,
            waited=waited_ns,
            mark=lambda deployment: where.__setitem__(1, deployment),
        )
    share = sum(timed.waited) / len(timed.waited)
    if share > OWN_WAIT_LIMIT:
        noise.append(f"{KEPT_WAITING} {share:.0%} of the time (limit {OWN_WAIT_LIMIT:.0%})")
    after = _outputs(job, opened, images, where, "checking again")
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        where[1] = index
        changed = differing(old, new)
        if changed:
            raise ExportMismatch(
                f"the outputs of {changed} of {len(old)} images changed while it was timed; its runtime is not deterministic "
                "or corrupts memory, so its time means nothing; choose another runtime"
            )
    return ProcessSamples(timed.samples_ns, timed.reference_ns, timed.waited, timed.contention, before, noise)


def _opened(job: Job, opener: Opener, first: Images, batches: list[Images], where: Where) -> tuple[list[Inference], list[str]]:
    """Every deployment opened and warm, in the job's order; and what was noticed meanwhile. Most threads are opened first."""
    calls: dict[int, Inference] = {}
    noise: list[str] = []
    for index in sorted(range(len(job.deployments)), key=lambda index: -job.deployments[index].threads):
        deployment = job.deployments[index]

        def open_and_call(deployment: Deployment = deployment) -> Inference:
            call = opener(Path(deployment.path), runtime=deployment.runtime, threads=deployment.threads)
            call(first)
            return call

        where[:] = PHASES.index("opening"), index
        calls[index] = open_pinned(open_and_call, job.cores[: deployment.threads])
        where[:] = PHASES.index("warming up"), index
        if not warm_up(calls[index], batches, job.effort):
            noise.append(f"deployment '{deployment.name}' did not settle within {job.effort.warmup_limit_seconds:g} s of warm-up")
        if not pinned_to(job.cores[0]):
            noise.append(f"deployment '{deployment.name}' moved its caller to other cores; switch off its runtime's own pinning")
        if busy_after(calls[index], first) > SPIN_SECONDS:
            noise.append(f"deployment '{deployment.name}' keeps threads spinning after a call; they disturb the call after it")
    return [calls[index] for index in range(len(job.deployments))], noise


def main(arguments: list[str]) -> int:
    """Run one process of a session; return 0 if it left samples and 1 if it left an error for the parent to raise."""
    folder, process = Path(arguments[0]), int(arguments[1])
    job, images = read_job(folder)
    where = np.memmap(folder / "where", dtype=np.int32, mode="r+", shape=(2,))
    try:
        result: dict[str, object] = asdict(sample(job, images, process, where))
    except ParetrimError as error:
        result = {"kind": type(error).__name__, "message": str(error)}
    except Exception as error:  # an engine may raise anything
        result = {"kind": "", "message": f"{type(error).__name__}: {error}"}
    aside = folder / f"result-{process}.part"
    aside.write_text(json.dumps(result), encoding="utf-8")
    aside.replace(folder / f"result-{process}.json")
    return int("kind" in result)


def _outputs(job: Job, calls: list[Inference], images: Images, where: Where, phase: str) -> list[list[list[float]]]:
    found = []
    for index, call in enumerate(calls):
        where[:] = PHASES.index(phase), index
        found.append(outputs_of(call, images, batch=job.batch, count=job.effort.checked))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
