"""Running stages: ``run_stage``, and a folder in which no finished work is lost.

Everything is stored under a key made of what decides it (network, data, seed, stages so far), so the same command resumes after a
kill, and recipes that begin with the same stages share them.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from paretrim.digest import digest_of
from paretrim.errors import InvalidRecipe, TrainingFailed, located, reason_of
from paretrim.files import require_space
from paretrim.history import StageOutcome
from paretrim.metric import ACCURACY
from paretrim.models.spec import ModelSpec
from paretrim.network.constraints import first_not_finite, layer_bits, sparsity, weight_bits
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.own_code import sources_in
from paretrim.run.candidate import Candidate, kept_candidate, load_candidate, save_candidate
from paretrim.run.recipe import stage_settings, teacher_settings
from paretrim.run.start import Start
from paretrim.run.teacher_spec import TeacherSpec
from paretrim.run.teachers import Teaching, Tutor, check_losses, key_of_teaching, resources_for
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.lottery import require_early
from paretrim.stages.stage import Stage
from paretrim.torch_settings import usual_settings
from paretrim.train.budget import Budget
from paretrim.train.checkpoint import KEPT, clear_checkpoints
from paretrim.train.evaluate import evaluate
from paretrim.train.execution import lay_out_, own_random_stream
from paretrim.train.fit import Plan, Report, fit
from paretrim.train.resources import Resources
from paretrim.train.task import CLASSIFICATION
from paretrim.train.training import Training

StageCallback = Callable[[str, Candidate], None]
"""Called after every stage with its name and result."""


@usual_settings()
def run_stage(
    candidate: Candidate,
    stage: Stage,
    resources: Resources,
    *,
    folder: Path | None = None,
    report: Report | None = None,
    value_before: float | None = None,
) -> Candidate:
    """Put ``stage`` on a private copy of the candidate's network, train it within its budget, and add to the history.

    The candidate given is not changed. With a ``folder``, training keeps checkpoints there and resumes after an interruption.
    ``value_before`` is the metric on the validation images of a candidate without history, if it is known.

    Raises:
        ParetrimError: any of the stage's or the training loop's errors, with the stage's name before it.
    """
    before = candidate.history[-1].value_after if candidate.history else value_before
    if before is None:
        before = _validate(candidate, resources)
    with located(f"stage {len(candidate.history) + 1} ({stage.name})"), _solvable():
        began = time.monotonic()
        with own_random_stream(resources.seed, -1 - candidate.epochs, resources.execution.torch_device()):
            training = stage.begin(candidate.network, resources)
        network = training.network
        if folder is not None and training.extra:
            require_space(folder, math.ceil((KEPT + 1) * (_checkpoint_bytes(network) + extra_bytes(training))))
        began_seconds = time.monotonic() - began
        plan = Plan(
            stage=stage.name,
            budget=stage.budget,
            losses=stage.losses(resources),
            advance=lambda progress: stage.advance(training, progress),
            first_epoch=candidate.epochs,
            observe=lambda step: stage.observe(training, step),
        )
        seconds = fit(training, plan, folder=folder, report=report)
        settle_(network)
        spoilt = first_not_finite(network)
        if spoilt is not None:
            raise TrainingFailed(f"'{spoilt}' holds NaN or infinity at the end of the stage; check the weights it began with")
        lay_out_(network, torch.contiguous_format)  # as if it came from disk: a resumed run must not differ in the last bit
        made = replace(candidate, network=network)
        after = _validate(made, resources)
    outcome = StageOutcome(
        name=stage.name,
        settings=stage_settings(stage),
        epochs=stage.budget.epochs,
        seconds=began_seconds + seconds,
        sparsity=sparsity(network),
        bits=weight_bits(network),
        value_before=before,
        value_after=after,
        layer_bits=_where_they_differ(layer_bits(network)),
        metric=None if resources.task.metric == ACCURACY else resources.task.metric,
    )
    return replace(made, history=(*candidate.history, outcome)).with_integers(made.integers)


@contextlib.contextmanager
def _solvable() -> Iterator[None]:
    """Turn torch's errors about systems of equations, as some stages solve them, into a message with the next step."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("linalg."):
            raise
        raise TrainingFailed(
            f"the equations of a layer cannot be solved ({reason_of(error)}), since its weights or inputs are too large or not "
            "finite; lower the learning rate, or check the weights that the stage began with"
        ) from error


def _where_they_differ(bits: dict[str, int]) -> dict[str, int] | None:
    return bits if len(set(bits.values())) > 1 else None


def first_candidate(start: Start) -> Candidate:
    """The network of a start before any stage."""
    return Candidate(start.network, mean=start.spec.mean or start.mean, std=start.spec.std or start.std, resize=start.resize)


def _validate(candidate: Candidate, resources: Resources) -> float:
    device = resources.execution.torch_device()
    return evaluate(candidate.network, resources.validation.epoch(0), device, task=resources.task, integers=candidate.integers)


@usual_settings()
def train_dense(start: Start, budget: Budget | None, folder: Path, *, report: Report | None = None) -> Start:
    """The start with its network trained further; unchanged if there is no budget."""
    if budget is None:
        return start
    stage = FineTune(budget=budget)
    with located("training the dense network"):
        trained = _stored(
            start, _dense_key(start, stage), first_candidate(start), stage, start.resources(None), folder=folder, report=report
        )
    return replace(start, network=trained.network, early=_early(start, stage, folder))


def _early(start: Start, stage: FineTune, folder: Path) -> Callable[[int], Network]:
    """The network as it was after a number of epochs of its dense training, to the last bit.

    It is trained again for those few epochs when it is first needed, and stored beside the trained one.
    """

    def at(epoch: int) -> Network:
        if epoch > stage.budget.epochs:
            raise InvalidRecipe(
                f"the network after epoch {epoch} of its dense training is needed, but that has only {stage.budget.epochs}; name "
                "an earlier epoch"
            )
        path = _place(folder, _dense_key(start, stage)).parent / f"early-{epoch:05d}" / "candidate.safetensors"
        if kept_candidate(path) is None:
            training = Training(copy.deepcopy(start.network), start.resources(None))
            plan = Plan(stage.name, stage.budget, stage.losses(training.resources), advance=lambda _: None, stop=epoch)
            fit(training, plan, folder=path.parent)
            lay_out_(training.network, torch.contiguous_format)
            save_candidate(Candidate(training.network), path)
        clear_checkpoints(path.parent)
        return load_candidate(path).network

    return at


@usual_settings()
def run_stages(
    start: Start,
    stages: Sequence[Stage],
    folder: Path,
    *,
    teacher: Teaching = None,
    report: Report | None = None,
    finished: StageCallback | None = None,
) -> tuple[Candidate, ...]:
    """The candidates after 0, 1, 2, ... stages; those finished in an earlier run are read from ``folder``.

    Args:
        start: the dense network and its data.
        stages: in order.
        folder: where candidates, checkpoints and teacher logits are kept.
        teacher: a network for distillation, or several teachers; None for the dense one.
        report: called with the progress while training.
        finished: called after every stage with its name and the candidate it gives.

    Raises:
        OutOfSpace: the folder cannot hold what the run will write.
        ParetrimError: any error of a stage.
    """
    if start.early is None:
        require_early(stages, None)
    root, *keys = _keys(start, stages, teacher)
    resources = resources_for(start, teacher, folder / "teachers" / root)
    check_losses(start, stages, resources)
    require_space(folder, disk_bytes(start, [stages], resources))
    candidates = [first_candidate(start)]
    for key, stage in zip(keys, stages, strict=True):
        candidates.append(_stored(start, key, candidates[-1], stage, resources, folder=folder, report=report))
        if finished:
            finished(stage.name, candidates[-1])
    return tuple(candidates)


@usual_settings()
def trained_tutors(start: Start, tutors: Sequence[Tutor], folder: Path, *, report: Report | None = None) -> tuple[Tutor, ...]:
    """The teachers ready to teach: trained as their budgets say, and with their stages run. What ``folder`` holds is read.

    Raises:
        ParetrimError: any error of their training or of a stage.
    """
    ready = []
    for tutor in tutors:
        with located(f"teacher '{tutor.spec.name}'"):
            begin = start if tutor.start is None else train_dense(tutor.start, tutor.spec.dense, folder, report=report)
            network = (
                run_stages(begin, tutor.spec.stages, folder, report=report)[-1].network if tutor.spec.stages else begin.network
            )
        ready.append(replace(tutor, network=network))
    return tuple(ready)


def finished_stages(start: Start, stages: Sequence[Stage], folder: Path, *, teacher: Teaching = None) -> tuple[int, Network]:
    """How many of the first stages an earlier run has stored in ``folder``, and the network to continue with.

    Nothing is trained. A damaged candidate is not stored: its stage runs again.
    """
    found = (kept_candidate(_place(folder, key)) for key in _keys(start, stages, teacher)[1:])
    networks = [start.network, *(one.network for one in itertools.takewhile(lambda one: one is not None, found) if one)]
    return len(networks) - 1, networks[-1]


def finished_dense(start: Start, budget: Budget | None, folder: Path) -> Start | None:
    """The same start with its network trained, if that needs no training or an earlier run has stored it in ``folder``."""
    if budget is None:
        return start
    found = kept_candidate(_place(folder, _dense_key(start, FineTune(budget=budget))))
    if found is None:
        return None
    return replace(start, network=found.network, early=_early(start, FineTune(budget=budget), folder))


def _keys(start: Start, stages: Sequence[Stage], teacher: Teaching) -> list[str]:
    """The key of the start, then of the candidate after every stage."""
    keys = [digest_of({"start": start.key(), "teacher": key_of_teaching(teacher)})]
    for stage in stages:
        keys.append(digest_of({"parent": keys[-1], "stage": stage_settings(stage), **_own_code([stage])}))
    return keys


def deployed_key(
    start: Start, stages: Sequence[Stage], *, teacher: ModelSpec | None = None, teachers: Sequence[TeacherSpec] = ()
) -> str:
    """What decides the deployed files of a candidate; ``teacher`` and ``teachers`` are those that a recipe names."""
    written: dict[str, object] = {"mean": start.mean, "std": start.std} if start.std else {}
    if start.resize and not start.spec.takes_pixels:  # if files take pixels, their data set already has it
        written["resize"] = start.resize
    if teachers:
        written["teachers"] = [teacher_settings(one) for one in teachers]
    return digest_of(
        {
            "start": start.key(),
            "teacher": None if teacher is None else dataclasses.asdict(teacher),
            "stages": [stage_settings(stage) for stage in stages],
            **written,
            **_own_code(stages),
        }
    )


def _own_code(stages: Sequence[Stage]) -> dict[str, object]:
    """Digests of the source of the user's stages, losses, scores and grids, which affect the outcome as settings do."""
    found = sources_in(tuple(stages))
    return {"own_code": found} if found else {}


def _dense_key(start: Start, stage: Stage) -> str:
    return digest_of({"start": start.key(), "stage": stage_settings(stage)})


def _place(folder: Path, key: str) -> Path:
    return folder / "stages" / key / "candidate.safetensors"


def _stored(
    start: Start, key: str, candidate: Candidate, stage: Stage, resources: Resources, *, folder: Path, report: Report | None
) -> Candidate:
    """The result of ``stage`` from the folder, or computed and stored there; in both cases as read back.

    How images are prepared is not part of the key: a result that was stored with other numbers, or none, is written again.
    """
    path = _place(folder, key)
    made, stored = None, kept_candidate(path)
    if stored is None:
        known = start.value if candidate.network is start.network else None
        made = run_stage(candidate, stage, resources, folder=path.parent, report=report, value_before=known)
        save_candidate(made, path)
        stored = load_candidate(path)
    clear_checkpoints(path.parent)
    found = replace(stored, mean=candidate.mean, std=candidate.std, resize=candidate.resize)
    told = (found.mean, found.std, found.resize)
    if (found.std or found.resize) and told != (stored.mean, stored.std, stored.resize):
        save_candidate(found, path)
    return found if made is None else found.with_integers(made.integers)


def _checkpoint_bytes(network: Network) -> float:
    """Bytes of a network in a checkpoint: weights, momentum and masks."""
    return 3.25 * 4 * sum(parameter.numel() for parameter in network.parameters())


def extra_bytes(training: Training) -> int:
    """Bytes in a checkpoint of the modules that a stage trains beside the network: parameters, momentum and buffers."""
    return sum(2 * one.nbytes for one in training.extra.parameters()) + sum(one.nbytes for one in training.extra.buffers())


def disk_bytes(start: Start, chains: Sequence[Sequence[Stage]], resources: Resources, *, extra: int = 0) -> int:
    """The most bytes that a folder will hold for chains of stages that begin with the same network and share its teacher.

    Candidates with masks and their deployed files, checkpoints with momentum, and the teacher's outputs by epoch. ``extra`` is
    the most that a checkpoint holds for a stage's own modules, which are known once the stage has begun.
    """
    weights = 4 * sum(parameter.numel() for parameter in start.network.parameters())
    candidate, files, checkpoint = 1.25 * weights, 2 * weights, _checkpoint_bytes(start.network) + extra
    learned = max((_taught_epochs(stages, resources) for stages in chains), default=0)
    each = (2 if start.task == CLASSIFICATION else 4) * start.classes
    each = each if resources.teacher is None else resources.teacher.bytes_per_image
    logits = learned * (start.images or 0) * each
    return math.ceil((sum(map(len, chains)) + 1) * (candidate + files) + (KEPT + 1) * checkpoint + logits)


def _taught_epochs(stages: Sequence[Stage], resources: Resources) -> int:
    return sum(stage.budget.epochs for stage in stages if any(term.needs_teacher for term in stage.losses(resources)))
