"""Deployed files, their checks, and their metric on the test set."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from paretrim import trimfile
from paretrim.bench.machine import RUNTIME_PACKAGES, describe, source_commit, versions
from paretrim.bench.types import Latency
from paretrim.deploy.layer_check import check_layers, same
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import ELSEWHERE, NATIVE, OF_ONNX_FILES, Runnable, compared, in_batches, open_runnable
from paretrim.errors import CorruptFile, ExportMismatch, OutOfSpace, ParetrimError
from paretrim.graph.entropy import summarize_weights
from paretrim.graph.interpreter import affordable_images, affordable_share, depends_on_library
from paretrim.graph.interpreter import run_outputs as interpret
from paretrim.graph.types import FloatArray, Graph, InputSpec
from paretrim.graph.windows import Values
from paretrim.metric import ACCURACY
from paretrim.network.freeze import freeze, with_input
from paretrim.network.network import unshared
from paretrim.results.outcome import Evaluation, Origin, Outcome
from paretrim.results.run_folder import (
    ONNX_FILE,
    ONNX_PROBLEM,
    TRIM_FILE,
    is_as_written,
    keep_digest,
    keep_onnx_problem,
    onnx_problem_in,
)
from paretrim.run.candidate import Candidate
from paretrim.run.recipe import Recipe, canonical
from paretrim.run.start import Start, TestSet
from paretrim.runtime import load as open_session
from paretrim.train.evaluate import predictions
from paretrim.train.task import CLASSIFICATION, Task, TaskArray, agreement, is_right
from paretrim.train.tasks import task_named
from paretrim.trimfile import Provenance
from paretrim.trimfile.provenance import image_facts, task_facts

EXACT_IMAGES = 32
"""Images on which the native runtime must give the bits of the reference interpreter; fewer for a large network."""

UNCHECKED, UNCHECKED_ONNX = "unchecked.trim", "unchecked.onnx"
"""Names of files that have not passed their check yet; a file that fails it keeps this name."""


@dataclass(frozen=True, eq=False)
class DeployedFiles:
    """The files of one candidate.

    ``trim`` runs natively and in the reference interpreter; ``onnx`` in ONNX Runtime and OpenVINO. If the ONNX
    file could not be written or failed its check, it is None and ``onnx_problem`` says why.
    """

    graph: Graph
    onnx: Path | None
    trim: Path
    onnx_problem: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.trim.parent

    def delivered_onnx(self) -> Path:
        """The ONNX file.

        Raises:
            ExportMismatch: there is none.
        """
        if self.onnx is None:
            raise ExportMismatch(
                f"there is no ONNX file of '{self.trim}': {self.onnx_problem}; the .trim file was checked and runs in paretrim"
            )
        return self.onnx


@dataclass(frozen=True, kw_only=True)
class Judgement(Evaluation):
    """The metric of a candidate and its files on the test set, with the score of every image.

    For a quantized network the training framework computes the integers (:mod:`paretrim.network.integer_network`), as the native
    runtime does from the ``.trim`` file. ``right`` holds the task's score of the deployed file for every test image, in base64,
    for comparisons image by image: one bit each if scores are right or wrong, else float64 of the shape ``scores``.
    """

    right: str
    scores: Sequence[int] | None = None

    def image_scores(self) -> TaskArray:
        """The task's score of each test image, [N, ...]: for classification, whether it is right."""
        content = base64.b64decode(self.right)
        if self.scores is not None:
            return np.frombuffer(content, np.float64).reshape(self.scores)
        return np.unpackbits(np.frombuffer(content, np.uint8), count=self.test_images).astype(bool)


def deploy(candidate: Candidate, start: Start, folder: Path, *, recipe: str = "") -> DeployedFiles:
    """Freeze the candidate and write its files into ``folder``; intact files from earlier are reused.

    The ONNX file is delivered only if it passes its check; the ``.trim`` file does not depend on it. ``recipe`` is the digest
    that the ``.trim`` file stores beside what the stages did. It stores no times, so that the same network with the same history
    gives the same file. Files also keep how their images were prepared, if the candidate knows.

    Raises:
        ExportMismatch: the ``.trim`` file does not compute what the graph defines.
        CorruptFile: it does not hold that graph.
    """
    onnx, trim = folder / ONNX_FILE, folder / TRIM_FILE
    if (kept := _kept(onnx, trim)) is not None:
        return kept
    graph = _shipped(candidate, start.spec)
    images = as_the_file_takes(start.calibration[: affordable_images(graph, EXACT_IMAGES)], start.spec)
    history = tuple(replace(stage, seconds=0.0) for stage in candidate.history)
    unchecked = folder / UNCHECKED
    facts = image_facts(candidate.mean, candidate.std, candidate.resize, pixels=graph.input.takes_pixels)
    task = start.task
    if task != CLASSIFICATION:
        facts |= task_facts(task.name, task.metric)
    threads = torch.get_num_threads()
    # The weights in it are compared by check_trim.
    trimfile.write(graph, unchecked, Provenance(recipe, history, facts), threads=threads, check_weights=False)
    expected = check_trim(graph, unchecked, images)
    unchecked.replace(trim)
    # Copied only now, into memory that the check has given back: memory that is new costs much more.
    return _with_onnx(DeployedFiles(unshared(graph), onnx, trim), (images, expected), facts, classes=task == CLASSIFICATION)


def _kept(onnx: Path, trim: Path) -> DeployedFiles | None:
    """The files of an earlier run, if they are there and intact."""
    problem = None if onnx.exists() else onnx_problem_in(trim.parent, versions())
    if not trim.exists() or not (problem or is_as_written(onnx)):
        return None
    try:
        return DeployedFiles(trimfile.read(trim), None if problem else onnx, trim, problem)
    except CorruptFile:  # the candidate is there to write the file again
        return None


def _with_onnx(
    deployed: DeployedFiles, known: tuple[Values, Sequence[FloatArray]], facts: Mapping[str, str], *, classes: bool
) -> DeployedFiles:
    """The same with the ONNX file written and checked, or without it and why; ``known`` are images and their outputs."""
    images, expected = known
    onnx, unchecked = deployed.folder / ONNX_FILE, deployed.folder / UNCHECKED_ONNX
    try:
        export_onnx(deployed.graph, unchecked, facts=facts)
        check_onnx(deployed.graph, unchecked, images, expected, threads=torch.get_num_threads(), classes=classes)
    except OutOfSpace:
        raise
    except ParetrimError as error:
        keep_onnx_problem(deployed.folder, str(error), versions())
        onnx.unlink(missing_ok=True)
        return replace(deployed, onnx=None, onnx_problem=str(error))
    keep_digest(unchecked, onnx)
    unchecked.replace(onnx)
    (deployed.folder / ONNX_PROBLEM).unlink(missing_ok=True)
    return deployed


def _shipped(candidate: Candidate, spec: InputSpec) -> Graph:
    """The graph that ships, before its weights are copied."""
    return freeze(candidate.network, spec, shared=True) if candidate.integers is None else with_input(candidate.integers, spec)


def as_the_file_takes(inputs: Tensor, spec: InputSpec) -> Values:
    """Normalised images as a deployed file takes them: as they are, or turned back into the pixels they came from."""
    images: npt.NDArray[np.float32] = inputs.cpu().numpy()
    if not spec.takes_pixels:
        return images
    mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    pixels: npt.NDArray[np.uint8] = np.clip(np.rint((images * std + mean) * 255), 0, 255).astype(np.uint8)
    return pixels


def check_trim(graph: Graph, trim: Path, images: Values) -> tuple[FloatArray, ...]:
    """The file, opened by the runtime it is for, gives the bits of the reference interpreter on the graph in memory.

    Its weights, as decoded from the disk, are compared with those of the graph. All kernels give the same bits, so the runtime
    need not measure which of them are fast. Of a large float network the interpreter computes some channels of every layer.
    Gives the outputs for these images.
    """
    threads = torch.get_num_threads()
    runnable = open_session(trim, threads=threads, measure=False, known=graph)
    if affordable_share(graph) < 1:
        return check_layers(graph, images, runnable, threads=threads)
    found = runnable.outputs(images)
    expected = interpret(graph, images, threads=threads)
    exact = not depends_on_library(graph)
    if not all(same(one, other, exact=exact) for one, other in zip(found, expected, strict=True)):
        pairs = zip(zip(*found, strict=True), zip(*expected, strict=True), strict=False)
        agree = sum(all(one.tobytes() == other.tobytes() for one, other in zip(*pair, strict=True)) for pair in pairs)
        raise ExportMismatch(
            f"'{trim}' in {runnable.runtime} {runnable.version} gives the outputs of the reference interpreter on {agree} of "
            f"{len(images)} images, and bit for bit on all is expected; please report this network"
        )
    return found


def judge(
    candidate: Candidate,
    deployed: DeployedFiles,
    test: TestSet,
    start: Start,
    *,
    onnx_runtime: str = ELSEWHERE,
    threads: int | None = None,
    logits: FloatArray | None = None,
) -> Judgement:
    """The metric of the files themselves on the whole test set, beside the number of the training framework.

    Every file is run once, on ``threads`` threads: by default as many as torch uses. ``logits`` [N, K] are those of a
    classifier's ``.trim`` file for the test images, if they are known already.

    A network is judged by its ``.trim`` file in the native runtime, and its ONNX file in ``onnx_runtime`` beside it.
    """
    task = start.task
    device, threads = start.execution.torch_device(), threads or torch.get_num_threads()
    trained, _ = predictions(
        candidate.network, test.batches.epoch(0), device, task=task, integers=candidate.integers, in_torch=True
    )
    elsewhere, problems = _elsewhere(deployed.onnx, test.images, task, onnx_runtime=onnx_runtime, threads=threads)
    exported = elsewhere.get(onnx_runtime)
    if logits is None:
        # All kernels give the same bits, so none need be measured.
        shipped = decisions(open_session(deployed.trim, threads=threads, measure=False), test.images, task)
    else:
        shipped = task.decide((logits,))
    scores = task.score(shipped, test.labels)

    def worth(found: TaskArray) -> float:
        return task.value(task.score(found, test.labels))

    return Judgement(
        trained_value=worth(trained.numpy()),
        deployed_value=task.value(scores),
        agreement=agreement(task, shipped, trained.numpy()),
        test_images=len(test.labels),
        runtime=NATIVE,
        onnx_value=None if exported is None else worth(exported),
        onnx_agreement=None if exported is None else agreement(task, exported, shipped),
        onnx_runtime=None if exported is None else onnx_runtime,
        onnx_agreements={
            name: agreement(task, found, shipped if name == onnx_runtime else shipped[compared(len(shipped))])
            for name, found in elsewhere.items()
        }
        or None,
        onnx_problems=problems or None,
        right=base64.b64encode((np.packbits(scores) if is_right(scores) else scores.astype(np.float64)).tobytes()).decode(),
        scores=None if is_right(scores) else scores.shape,
    )


def _elsewhere(
    onnx: Path | None, images: Values, task: Task, *, onnx_runtime: str, threads: int
) -> tuple[dict[str, TaskArray], dict[str, str]]:
    """Decisions of the ONNX file in every runtime that is installed, and why it does not run in others.

    Runtimes other than ``onnx_runtime`` get only the images of :func:`paretrim.deploy.runnable.compared`.
    """
    found, problems = {}, {}
    for runtime in OF_ONNX_FILES:
        if onnx is None or RUNTIME_PACKAGES[runtime] not in versions():
            continue
        try:
            runnable = open_runnable(onnx, runtime=runtime, threads=threads)
            found[runtime] = decisions(runnable, images if runtime == onnx_runtime else images[compared(len(images))], task)
        except ParetrimError as error:
            problems[runtime] = str(error)
    return found, problems


def decisions(runnable: Runnable, images: Values, task: Task = CLASSIFICATION) -> TaskArray:
    """Decisions of a deployed file on images, [N, ...], run in batches."""
    return np.concatenate([task.decide(runnable.outputs(part)) for part in in_batches(images)])


def outcome_of(
    candidate: Candidate, deployed: DeployedFiles, judgement: Judgement, *, origin: Origin, latencies: Sequence[Latency] = ()
) -> Outcome:
    """One line for the results store."""
    layers = summarize_weights(deployed.graph)
    file_bytes = None if deployed.onnx is None else deployed.onnx.stat().st_size
    above_entropy = sum(layer.bytes - layer.entropy_bytes for layer in layers)
    return Outcome(
        **vars(origin),
        **{one.name: getattr(judgement, one.name) for one in fields(Evaluation)},
        file=None if deployed.onnx is None else deployed.onnx.name,
        file_bytes=file_bytes,
        entropy_bytes=None if file_bytes is None else file_bytes - above_entropy,
        weights=sum(layer.weights for layer in layers),
        zeros=sum(layer.zeros for layer in layers),
        layers=layers,
        latencies=tuple(latencies),
        history=candidate.history,
        machine=describe(),
        versions=versions(),
        commit=source_commit(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        trim_bytes=deployed.trim.stat().st_size,
        onnx_problem=deployed.onnx_problem,
        classes=deployed.graph.output_shapes[0][0] if origin.metric is None else None,
    )


def origin_of(recipe: Recipe, study: str, *, label: str) -> Origin:
    """The origin of an outcome of this recipe, which tables call ``label``."""
    return Origin(
        study=study,
        recipe=recipe.digest,
        label=label,
        order=recipe.order,
        seed=recipe.seed,
        data=recipe.data.name,
        network=recipe.model.network,
        settings=canonical(recipe),
        metric=None if (metric := task_named(recipe.task).metric) == ACCURACY else metric,
    )


def with_latencies(outcome: Outcome, latencies: Sequence[Latency]) -> Outcome:
    """The same outcome with these latencies in place of its own."""
    return replace(outcome, latencies=tuple(latencies), machine=describe(), versions=versions())
