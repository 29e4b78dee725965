"""Paretrim and other toolkits on the same checkpoints, data and CPU.

    python benchmarks/peers.py --weights FOLDER [--data DIR] [--networks resnet20,resnet56] [--cases NAME,...] [--seeds 3]
                               [--folder runs/peers]
    python benchmarks/peers.py --latency [--folder runs/peers]
    python benchmarks/peers.py --markdown

A case is a short script in ``benchmarks/peers/``, user code as the peer's documentation recommends it. It runs in its own
environment, which the command creates below ``--folder`` with pinned versions. It gets the trained network as ``model.onnx`` and
``model.safetensors`` (``cifar10_<network>.safetensors`` of ``--weights``) and 512 training images, drawn again for every seed, as
``calibration.npz``; those that train also get the training images. Its file is opened in the runtime that the peer recommends and
evaluated on all test images, one at a time.

Each line goes to ``results/peers.jsonl`` as soon as it is known; the same call continues after an interruption. A case runs again
if its script has changed. ``--latency`` times the files below ``--folder``, interleaved, on a quiet machine. ``--markdown``
writes docs/studies/peers.md from the lines alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from peer_cases import CASES, HERE, SCRIPTS, Case
from peer_environments import interpreter, variables, versions_of
from peer_files import drawn, hand_over, normalized
from peer_latency import time_files
from peer_lines import AbsentLine, Line, Origin, ResultLine, append, read
from peer_page import PAGE, RESULTS, page_of

from paretrim.bench.machine import describe, source_commit
from paretrim.bench.machine_load import read_load
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.errors import InvalidRecipe, MissingDependency, ParetrimError
from paretrim.models.spec import ModelSpec, build

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the pretrained networks were trained with."""

NETWORKS = ("resnet20", "resnet56")
TEST_IMAGES, TEST_LABELS, TRAINING = "test-images.npy", "test-labels.npy", "training.npz"


class PeerFailed(ParetrimError):
    """A peer's script, or its runtime, ended with an error."""


@dataclass(frozen=True)
class Place:
    """The folders of one run of the command."""

    root: Path

    @property
    def environments(self) -> Path:
        """One for each peer."""
        return self.root / "environments"

    def given(self, network: str, seed: int) -> Path:
        """The inputs of every case."""
        return self.root / "given" / f"{network}-{seed}"

    def work(self, case: Case, network: str, seed: int) -> Path:
        """The working folder of a case, with its files."""
        return self.root / "work" / f"{network}-{seed}" / case.name


def origin_of(case: Case, place: Place, busy: float) -> Origin:
    """The origin of a line of the case; an environment that could not be created has no versions."""
    machine = describe()
    made = case.environment == HERE or (place.environments / case.environment).is_dir()
    return Origin(
        cpu=machine.cpu,
        cores=machine.cores,
        system=machine.system,
        versions=versions_of(case.environment, place.environments) if made else {},
        commit=source_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        load=busy,
    )


def prepare(networks: Sequence[str], seeds: Sequence[int], given: argparse.Namespace, place: Place) -> None:
    """Write the inputs of the cases, and the test images that only the judge sees, if they do not exist yet."""
    wanted = [(network, seed) for network in networks for seed in seeds if not place.given(network, seed).is_dir()]
    if not wanted and (place.root / TEST_LABELS).is_file() and (place.root / TRAINING).is_file():
        return
    data = load(DataSpec(name="cifar10", folder=given.data))
    place.root.mkdir(parents=True, exist_ok=True)
    if not (place.root / TEST_LABELS).is_file():  # another call may be reading them
        np.save(place.root / TEST_IMAGES, normalized(data.test, MEAN, STD).numpy())
        np.save(place.root / TEST_LABELS, data.test.labels.numpy())
    if not (place.root / TRAINING).is_file():
        np.savez(place.root / TRAINING, images=data.train.images.numpy(), labels=data.train.labels.numpy())
    for network, seed in wanted:
        if given.weights is None:
            raise InvalidRecipe(f"--weights is not given; name a folder that holds cifar10_{network}.safetensors")
        weights = Path(given.weights) / f"cifar10_{network}.safetensors"
        model = build(ModelSpec(network, str(weights)), classes=len(data.classes), channels=3)
        few = data.train.select(drawn(len(data.train), seed))
        aside = place.given(network, seed).with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        hand_over(model, normalized(few, MEAN, STD), few.labels, aside)
        aside.rename(place.given(network, seed))


def run_command(command: Sequence[str | Path], folder: Path, log: Path) -> tuple[float, float]:
    """Run a command in ``folder``; wall time and CPU time of it and its children, in seconds.

    Raises:
        PeerFailed: it ended with an error.
    """
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=variables(1))
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - start
    if process.returncode:
        said = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise PeerFailed(
            f"'{Path(command[1]).name}' ended with {process.returncode}, and said last: {said}; all it said: '{log}'"
        )
    return wall_s, usage.ru_utime + usage.ru_stime


def run_case(case: Case, network: str, seed: int, place: Place) -> ResultLine:
    """Run the script and evaluate the file that it writes.

    Raises:
        MissingDependency: the environment cannot be created.
        PeerFailed: the script or the runtime ended with an error.
    """
    python = interpreter(case.environment, place.environments)
    busy = read_load().average or 0.0
    work = place.work(case, network, seed)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for file in (*place.given(network, seed).iterdir(), place.root / TRAINING):
        (work / file.name).symlink_to(file.resolve())
    wall_s = cpu_s = 0.0
    if case.script:
        wall_s, cpu_s = run_command([python, SCRIPTS / case.script], work, work / "script.log")
    opened = case.files[0]
    images = (place.root / TEST_IMAGES).resolve()
    judge: list[str | Path] = [python, SCRIPTS / "serve.py", case.runtime, opened, "1", images, "logits.npy"]
    run_command(judge, work, work / "judge.log")
    labels = np.load(place.root / TEST_LABELS)
    correct = int((np.load(work / "logits.npy").argmax(axis=1) == labels).sum())
    return ResultLine(
        case=case.name,
        network=network,
        seed=seed,
        correct=correct,
        images=len(labels),
        file_bytes=sum((work / file).stat().st_size for file in case.files),
        file_digest=digest_of_file(work / opened),
        wall_s=round(wall_s, 2),
        cpu_s=round(cpu_s, 2),
        user_lines=case.user_lines,
        script=case.digest,
        origin=origin_of(case, place, busy),
    )


def digest_of_file(path: Path) -> str:
    """The first half of its SHA-256."""
    return sha256(path.read_bytes()).hexdigest()[:32]


def outcome_of(case: Case, network: str, seed: int, place: Place) -> ResultLine | AbsentLine:
    """The result, or why there is none."""
    try:
        return run_case(case, network, seed, place)
    except (MissingDependency, PeerFailed) as error:
        busy = read_load().average or 0.0
        reason = str(error).replace(str(place.root), "FOLDER")
        return AbsentLine(case.name, network, seed, reason, case.digest, origin_of(case, place, busy))


def told(line: Line) -> str:
    """A line for the terminal."""
    start = f"{line.case}, {line.network}, seed {line.seed}"
    if isinstance(line, ResultLine):
        accuracy = 100 * line.correct / line.images
        return (
            f"{start}: {accuracy:.2f} %, {line.file_bytes:,} bytes, {line.cpu_s:.1f} CPU seconds, {line.user_lines} lines of code"
        )
    return f"{start}: {line.reason}" if isinstance(line, AbsentLine) else f"{start}: {line.p50_ms:.3f} ms"


def measure(given: argparse.Namespace, cases: Sequence[Case]) -> int:
    """Run every case that has no line from the current version of its script; return 1 if one of them could not run."""
    place, networks = Place(given.folder), given.networks.split(",")
    seeds = range(given.seeds)
    prepare(networks, seeds, given, place)
    there = {(line.case, line.network, line.seed, line.script) for line in read(given.results) if isinstance(line, ResultLine)}
    failed = False
    for network in networks:
        for case in cases:
            for seed in seeds if case.script else seeds[:1]:
                if (case.name, network, seed, case.digest) in there:
                    continue
                line = outcome_of(case, network, seed, place)
                append(given.results, line)
                print(told(line), flush=True)
                failed |= isinstance(line, AbsentLine)
                if isinstance(line, AbsentLine):
                    break  # other calibration images would not help
    return int(failed)


def time_all(given: argparse.Namespace, cases: Sequence[Case]) -> int:
    """Time the files of the first seed, all files of a network in one session."""
    place = Place(given.folder)
    for network in given.networks.split(","):
        known = {
            line.case: line
            for line in read(given.results)
            if isinstance(line, ResultLine) and (line.network, line.seed) == (network, 0)
        }
        served = []
        for case in cases:
            path = place.work(case, network, 0) / case.files[0]
            if case.name not in known:
                continue
            if not path.is_file() or digest_of_file(path) != known[case.name].file_digest:
                raise InvalidRecipe(
                    f"'{path}' is not the file of the results; name the --folder it was made in, or make it again"
                )
            python, images = interpreter(case.environment, place.environments), (place.root / TEST_IMAGES).resolve()
            command: list[str | Path] = [python, SCRIPTS / "serve.py", case.runtime, path.resolve(), "1", images]
            served.append((case, known[case.name], command))
        for line in time_files(served, lambda case: origin_of(case, place, read_load().average or 0.0)):
            append(given.results, line)
            print(told(line), flush=True)
    return 0


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--cases", default=",".join(case.name for case in CASES), help="names, comma-separated")
    parser.add_argument("--weights", help="folder of cifar10_<network>.safetensors")
    parser.add_argument("--data", help="folder of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=3, help="draws of calibration images")
    parser.add_argument("--folder", type=_absolute, default="runs/peers")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--latency", action="store_true", help="time the existing files")
    parser.add_argument("--markdown", action="store_true", help="only write the page")
    return parser.parse_args(words)


def _absolute(path: str) -> Path:
    """The absolute path, because the scripts of the cases run in other folders."""
    return Path(path).resolve()


def chosen(names: str) -> list[Case]:
    """The cases of these names.

    Raises:
        InvalidRecipe: a name is unknown.
    """
    known = {case.name: case for case in CASES}
    for name in names.split(","):
        if name not in known:
            raise InvalidRecipe(f"--cases names '{name}'; known are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def main(words: Sequence[str] | None = None) -> int:
    """Measure, time, or write the page."""
    given = parse(words)
    try:
        if given.markdown:
            PAGE.write_text(page_of(read(given.results)), encoding="utf-8")
            return 0
        cases = chosen(given.cases)
        return time_all(given, cases) if given.latency else measure(given, cases)
    except ParetrimError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
