"""What a run will take, before anything starts: a few real training steps of each stage are timed and scaled up."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from paretrim.data.batches import Batch, Batches
from paretrim.errors import located
from paretrim.finetune import FineTune
from paretrim.network import Network
from paretrim.pipeline import Start
from paretrim.progress import duration
from paretrim.prune.stage import CHANNEL, Prune
from paretrim.stage import Stage
from paretrim.together import Together
from paretrim.train.budget import Budget
from paretrim.train.evaluate import accuracy
from paretrim.train.fit import Plan, Tick, fit
from paretrim.train.resources import Resources
from paretrim.train.teacher import StoredTeacher

TIMED_STEPS = 3
"""Real steps that are taken of each kind of stage; the first warms up and is not timed."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage: ``seconds`` is predicted, from ``step_seconds`` measured here; ``begin_seconds`` is pruning or calibration."""

    name: str
    epochs: int
    steps: int
    batch_size: int
    step_seconds: float
    begin_seconds: float
    seconds: float


@dataclass(frozen=True)
class Prediction:
    """Stages of all candidates in order, and the most bytes the run folder will hold."""

    stages: tuple[PlannedStage, ...]
    parameters: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Predicted training time."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True, eq=False)
class _Few:
    """The first batches of every epoch."""

    batches: Batches
    count: int
    sample_shape: tuple[int, int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sample_shape", self.batches.sample_shape)

    def __len__(self) -> int:
        return min(self.count, len(self.batches))

    def epoch(self, number: int, /) -> Iterator[Batch]:
        """The first ``count`` batches of an epoch."""
        return itertools.islice(self.batches.epoch(number), self.count)


def predict(
    start: Start, recipes: Sequence[Sequence[Stage]], *, dense: Budget | None = None, teacher: Network | None = None
) -> Prediction:
    """Predict time and disk of training ``recipes`` (sequences of stages that all start from the dense network).

    Every kind of stage is begun and trained for :data:`TIMED_STEPS` steps on a private copy, in the order in which it first
    occurs; later stages of the same kind, batch size and predecessors are taken to be as fast. The run itself is not touched.

    Raises:
        ParetrimError: a stage cannot begin or train; the run would fail in the same place.
    """
    logits = StoredTeacher(teacher or start.network, start.execution, images=0, classes=start.classes, folder=None)
    resources = start.resources(logits)
    evaluation = _evaluation_seconds(start)
    known: dict[tuple[object, ...], tuple[Network, PlannedStage]] = {}
    planned: list[PlannedStage] = []
    chains: list[Sequence[Stage]] = [[FineTune(budget=dense)]] if dense else []
    for chain in (*chains, *recipes):
        network = start.network
        kinds: tuple[tuple[object, ...], ...] = ()
        for position, stage in enumerate(chain, start=1):
            kinds = (*kinds, _kind(stage))
            key = kinds
            if key not in known:
                with located(f"planning stage {position} ({stage.name})"):
                    known[key] = _timed(network, stage, resources, evaluation=evaluation)
            network, like = known[key]
            planned.append(_scaled(like, stage, resources, evaluation=evaluation))
    if dense:
        planned[0] = replace(planned[0], name="dense")
    return Prediction(tuple(planned), _parameters(start.network), _disk(start, recipes))


def describe(prediction: Prediction) -> str:
    """The plan as lines of text."""
    rows = [f"  {'stage':<28} {'epochs':>6} {'steps':>8} {'ms a step':>10} {'predicted':>12}"]
    for stage in prediction.stages:
        step = f"{1000 * stage.step_seconds:.1f}" if stage.epochs else "–"
        rows.append(
            f"  {stage.name:<28} {stage.epochs:>6} {stage.epochs * stage.steps:>8} {step:>10} {duration(stage.seconds):>12}"
        )
    total = f"{prediction.epochs} epochs, about {duration(prediction.seconds)} of training"
    return "\n".join(
        [
            f"plan: {len(prediction.stages)} stages, {total}, at most {prediction.disk_bytes / 1e6:.1f} MB on disk, "
            f"{prediction.parameters:,} parameters",
            *rows,
        ]
    )


def _kind(stage: Stage) -> tuple[object, ...]:
    """What decides how fast a step is, as far as a prediction cares. Zeros cost nothing in training.

    Removed channels make the steps after them faster; the first share of them in the run stands for all.
    """
    inner = tuple(_kind(part) for part in stage.parts) if isinstance(stage, Together) else ()
    removes = isinstance(stage, Prune) and stage.pattern == CHANNEL
    return (stage.name, stage.budget.batch_size, stage.budget.epochs > 0, removes, inner)


def _timed(network: Network, stage: Stage, resources: Resources, *, evaluation: float) -> tuple[Network, PlannedStage]:
    """Begin the stage and take a few steps; the network as it then is, for the stage after it."""
    began = time.monotonic()
    begun = stage.begin(network, resources)
    begin_seconds = time.monotonic() - began
    moments: list[tuple[int, float]] = []

    def told(tick: Tick) -> None:
        moments.append((tick.step, time.monotonic()))

    if stage.budget.epochs:
        few = replace(resources, train=lambda size: _Few(resources.train(size), TIMED_STEPS))
        # Ramps would move at each of these few steps, and move a hundred times in a whole budget: only their ends are taken.
        plan = Plan(
            stage.name,
            replace(stage.budget, epochs=1),
            stage.losses(few),
            lambda progress: stage.advance(begun, progress) if progress in (0.0, 1.0) else None,
        )
        fit(begun, plan, few, report=told)
    steps = moments[-1][0] - moments[0][0] if moments else 0
    # An epoch of a single step has nothing but its warm-up; the whole of it is then the best guess.
    per_step = (moments[-1][1] - moments[0][1]) / steps if steps else 0.0
    like = PlannedStage(stage.name, 0, 0, stage.budget.batch_size, per_step, begin_seconds, 0.0)
    return begun, _scaled(like, stage, resources, evaluation=evaluation)


def _scaled(like: PlannedStage, stage: Stage, resources: Resources, *, evaluation: float) -> PlannedStage:
    """The stage at its full length, with steps as fast as those of ``like``."""
    epochs = stage.budget.epochs
    steps = len(resources.train(stage.budget.batch_size)) if epochs else 0
    seconds = like.begin_seconds + epochs * steps * like.step_seconds + evaluation
    return replace(like, name=_name(stage), epochs=epochs, steps=steps, seconds=seconds)


def _name(stage: Stage) -> str:
    return "+".join(_name(part) for part in stage.parts) if isinstance(stage, Together) else stage.name


def _evaluation_seconds(start: Start) -> float:
    """Predicted time of one pass over the validation images."""
    first = _Few(start.validation, 1)
    began = time.monotonic()
    accuracy(start.network, first.epoch(0), start.execution.torch_device())
    return (time.monotonic() - began) * len(start.validation)


def _parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _disk(start: Start, recipes: Sequence[Sequence[Stage]]) -> int:
    """Upper bound of what stays: candidates with masks, their files, two checkpoints with momentum, stored teacher logits."""
    weights = 4 * _parameters(start.network)
    stages = sum(len(stages) for stages in recipes)
    distilled = max((_distilled_epochs(stages) for stages in recipes), default=0)
    logits = distilled * (start.images or 0) * start.classes * 2
    candidate, files, checkpoints = 1.25 * weights, 2 * weights, 2 * 3.25 * weights
    return math.ceil((stages + 1) * (candidate + files) + checkpoints + logits)


def _distilled_epochs(stages: Sequence[Stage]) -> int:
    return sum(stage.budget.epochs for stage in stages if "distill" in _name(stage).split("+"))
