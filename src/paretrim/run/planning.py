"""Predicts the time and disk of a run: a few real training steps of each stage are timed and scaled up."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from paretrim.data.batches import Batch, Batches
from paretrim.errors import located
from paretrim.graph.taps import weights_on_padding
from paretrim.metric import ACCURACY, Metric
from paretrim.network.constraints import weighted_layers
from paretrim.network.network import Network
from paretrim.run.pipeline import disk_bytes, extra_bytes
from paretrim.run.start import Start
from paretrim.run.teachers import Teaching, resources_for
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.patterns import CHANNEL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.stages.together import Together, stage_label
from paretrim.train.budget import Budget
from paretrim.train.evaluate import evaluate
from paretrim.train.fit import Plan, fit
from paretrim.train.resources import Resources
from paretrim.train.training import Step, Training

TIMED_STEPS = 6
"""Real steps of each kind of stage. The first warms up; the median of the others ignores a single slow one."""


@dataclass(frozen=True)
class PlannedStage:
    """One stage of a candidate, whose name is empty if there is only one candidate.

    ``seconds`` is predicted, from ``step_seconds`` measured here; ``begin_seconds`` is pruning or calibration. All three are 0
    if the stage is ``finished`` by an earlier run, ``shared`` with a candidate above that begins with the same stages, or
    ``unpredicted``: it belongs to a candidate without training, and a run was about to do it anyway.
    """

    candidate: str
    name: str
    epochs: int
    steps: int
    batch_size: int
    step_seconds: float
    begin_seconds: float
    seconds: float
    finished: bool = False
    shared: bool = False
    unpredicted: bool = False


@dataclass(frozen=True)
class PlannedTiming:
    """The most measuring that latencies take: ``sessions``, each with its processes and rounds, with up to ``files`` files.

    It is counted, not predicted: how long a session warms up and waits depends on how quiet the machine is then.
    """

    sessions: int
    files: int
    processes: int
    rounds: int


@dataclass(frozen=True)
class Prediction:
    """Stages of all candidates in order, and the most bytes the run folder will hold.

    ``value`` is the ``metric`` of the dense network on the first ``images`` validation images; None if
    it is yet to be trained, or nothing is left to do. ``zeros`` are the shares of zeros that its stages ask for:
    of the prunable weights, and what that makes of all.
    ``on_padding`` of the weights only ever multiply padding.
    ``timing`` comes on top of all times; None if latency is not measured. Everything else happens once for each of ``seeds``.
    """

    stages: tuple[PlannedStage, ...]
    parameters: int
    disk_bytes: int
    classes: int | None
    value: float | None = None
    images: int = 0
    seeds: int = 1
    zeros: tuple[tuple[float, float], ...] = ()
    timing: PlannedTiming | None = None
    metric: Metric = ACCURACY
    on_padding: int = 0

    @property
    def seconds(self) -> float:
        """Predicted training time of what is left, of all seeds."""
        return self.seeds * sum(stage.seconds for stage in self.stages)

    @property
    def epochs(self) -> int:
        """Epochs of all stages and seeds, finished or not; shared ones once."""
        return self.seeds * sum(stage.epochs for stage in self.stages if not stage.shared)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return all(stage.finished or stage.shared for stage in self.stages)


@dataclass(frozen=True, eq=False)
class _FirstBatches:
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


@dataclass(eq=False)
class _Planner:
    """Plans chains of stages one after the other.

    ``known`` has the stages timed so far, by kind and what came before; ``checked`` also those that are as fast as one of them,
    with their settings; ``met`` the beginnings of chains. ``evaluation`` is the seconds of a pass over the validation images.
    """

    resources: Resources
    evaluation: float
    known: dict[tuple[object, ...], tuple[Training, PlannedStage]] = field(default_factory=dict)
    checked: set[tuple[object, str]] = field(default_factory=set)
    met: set[tuple[object, ...]] = field(default_factory=set)

    def chain(
        self, name: str, stages: Sequence[Stage], done: int, network: Network, *, predicted: bool, of: str
    ) -> Iterator[PlannedStage]:
        """The stages of candidate ``name``: ``done`` are finished and give ``network``; ``of`` tells alike chains apart."""
        before: frozenset[str] = frozenset()
        for position, stage in enumerate(stages, start=1):
            key = (_kind(stage), before)
            before |= _effects(stage)
            beginning = (of, *map(repr, stages[:position]))
            shared = beginning in self.met
            self.met.add(beginning)
            if position <= done or not predicted:
                idle = _idle(name, stage, self.resources)
                yield replace(
                    idle, shared=shared, finished=not shared and position <= done, unpredicted=not shared and position > done
                )
                continue
            with located(f"planning stage {position} ({stage.name})"):
                if key not in self.known:
                    self.known[key] = _timed(network, stage, self.resources, evaluation=self.evaluation)
                elif (key, _like(stage)) not in self.checked:
                    stage.begin(network, self.resources)
                elif isinstance(stage, Prune):
                    stage.require_prunable(network)
            self.checked.add((key, _like(stage)))
            begun, like = self.known[key]
            network = begun.network
            scaled = _scaled(like, stage, self.resources, evaluation=self.evaluation)
            yield replace(_idle(name, stage, self.resources), shared=True) if shared else replace(scaled, candidate=name)


def predict(
    start: Start,
    recipes: Mapping[str, Sequence[Stage]],
    *,
    dense: Budget | None = None,
    teacher: Teaching = None,
    dense_finished: bool = False,
    finished: Mapping[str, tuple[int, Network]] = MappingProxyType({}),
    untrained: bool = True,
) -> Prediction:
    """Predict time and disk of training ``recipes`` (by name, stages that start from the dense network).

    Every kind of stage is begun and trained for :data:`TIMED_STEPS` steps on a private copy, in the order in which it first
    occurs; later stages of the same kind, batch size and predecessors are assumed to be as fast. The run itself is not touched.

    Args:
        start: what the run begins with.
        recipes: stages by the name of the candidate they make.
        dense: how the dense network is trained first; None if it need not be.
        teacher: a network for distillation; None for the dense one.
        dense_finished: ``start`` holds the trained dense network already.
        finished: for recipes that an earlier run has begun, how many stages are done and the network to continue with.
        untrained: whether to predict recipes in which nothing is left to train. To time their stages is to do them, so a run that
            comes next leaves them out. Where training comes first they are begun all the same, to find errors before it.

    Raises:
        ParetrimError: a stage cannot begin or train; the run would fail in the same place.
    """
    resources = resources_for(start, teacher, None)
    if dense:
        resources = replace(resources, early=lambda _epoch: start.network)  # as large as the early one, which does not exist yet
    chains = [(name, stages, *finished.get(name, (0, start.network))) for name, stages in recipes.items()]
    from_scratch = [FineTune(budget=dense)] if dense else []
    if dense:
        chains.insert(0, ("", from_scratch, int(dense_finished), start.network))
    to_train = dense is not None and not dense_finished
    left = any(done < len(stages) for _, stages, done, _ in chains)
    evaluation, score, images = _evaluated(start) if left else (0.0, None, 0)
    planner = _Planner(resources, evaluation)
    planned: list[PlannedStage] = []
    for name, stages, done, network in chains:
        predicted = untrained or to_train or any(stage.budget.epochs for stage in stages[done:])
        planned += planner.chain(name, stages, done, network, predicted=predicted, of="dense" if stages is from_scratch else "")
    if dense:
        planned[0] = replace(planned[0], name="dense")
    if to_train:
        score, images = None, 0
    extra = max((extra_bytes(begun) for begun, _ in planner.known.values()), default=0)
    disk = disk_bytes(start, list(recipes.values()), resources, extra=extra)
    zeros = _zeros(start.network, list(recipes.values()))
    return Prediction(
        tuple(planned),
        _parameters(start.network),
        disk,
        start.guessed_among,
        score,
        images,
        zeros=zeros,
        metric=start.task.metric,
        on_padding=sum(weights_on_padding(start.network.graph(shared=True)).values()),
    )


def for_seeds(prediction: Prediction, seeds: int) -> Prediction:
    """The prediction for several seeds, which share nothing."""
    return replace(prediction, seeds=seeds, disk_bytes=seeds * prediction.disk_bytes)


def _kind(stage: Stage) -> tuple[object, ...]:
    """What determines the speed of a stage's own steps in a prediction; see :func:`_effects` for later stages."""
    inner = tuple(_kind(part) for part in stage.parts) if isinstance(stage, Together) else ()
    return (stage.name, stage.budget.batch_size, stage.budget.epochs > 0, _effects(stage), inner)


def _effects(stage: Stage) -> frozenset[str]:
    """Effects of a stage that make later steps slower or faster. Zeros have none in training.

    Removed channels make them faster; the first channel sparsity in the run stands for all.
    """
    if isinstance(stage, Together):
        return frozenset().union(*map(_effects, stage.parts))
    if isinstance(stage, Prune):
        return frozenset({"channels"} if stage.pattern == CHANNEL else ())
    return frozenset({"grids"} if isinstance(stage, Quantize) else ())


def _like(stage: Stage) -> str:
    """What a stage does, not for how long. Whether pruning can begin at another sparsity is known without beginning it."""
    idle = {"budget", "sparsity"} if isinstance(stage, Prune) else {"budget"}
    return repr([(one.name, getattr(stage, one.name)) for one in fields(stage) if one.name not in idle])


def _idle(candidate: str, stage: Stage, resources: Resources) -> PlannedStage:
    """A stage without times."""
    epochs = stage.budget.epochs
    steps = len(resources.train(stage.budget.batch_size)) if epochs else 0
    return PlannedStage(candidate, stage_label(stage), epochs, steps, stage.budget.batch_size, 0.0, 0.0, 0.0)


def _timed(network: Network, stage: Stage, resources: Resources, *, evaluation: float) -> tuple[Training, PlannedStage]:
    """Begin the stage and take a few steps; returns its training, whose network is that of the next stage."""
    began = time.monotonic()
    begun = stage.begin(network, resources)
    begin_seconds = time.monotonic() - began
    moments = [time.monotonic()]

    def observe(step: Step) -> None:
        stage.observe(begun, step)
        float(step.loss)  # waits for an asynchronous device
        moments.append(time.monotonic())

    if stage.budget.epochs:
        few = replace(resources, train=lambda size: _FirstBatches(resources.train(size), TIMED_STEPS))
        # Ramps would move at each of these few steps, but move only a hundred times in a whole budget: take only their ends.
        plan = Plan(
            stage.name,
            replace(stage.budget, epochs=1),
            stage.losses(few),
            lambda progress: stage.advance(begun, progress) if progress in (0.0, 1.0) else None,
            observe=observe,
        )
        moments[0] = time.monotonic()
        fit(replace(begun, resources=few), plan)
    like = PlannedStage("", stage.name, 0, 0, stage.budget.batch_size, step_seconds(moments), begin_seconds, 0.0)
    return begun, _scaled(like, stage, resources, evaluation=evaluation)


def step_seconds(moments: Sequence[float]) -> float:
    """What a step takes, from when the first of a few begins and when each is done; a single one is all warm-up, none takes 0."""
    first, *others = [after - before for before, after in itertools.pairwise(moments)] or [0.0]
    return statistics.median(others or [first])


def _scaled(like: PlannedStage, stage: Stage, resources: Resources, *, evaluation: float) -> PlannedStage:
    """The stage at full length, with steps as fast as those of ``like``."""
    epochs = stage.budget.epochs
    steps = len(resources.train(stage.budget.batch_size)) if epochs else 0
    seconds = like.begin_seconds + epochs * steps * like.step_seconds + evaluation
    return replace(like, name=stage_label(stage), epochs=epochs, steps=steps, seconds=seconds)


def _evaluated(start: Start) -> tuple[float, float, int]:
    """Predicted seconds of one pass over the validation images, and the metric's value on the first of them."""
    first = list(_FirstBatches(start.validation, 1).epoch(0))
    began = time.monotonic()
    found = evaluate(start.network, first, start.execution.torch_device(), task=start.task)
    return (time.monotonic() - began) * len(start.validation), found, sum(len(batch.labels) for batch in first)


def _parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _zeros(network: Network, recipes: Sequence[Sequence[Stage]]) -> tuple[tuple[float, float], ...]:
    """Zeros that stages prune in the dense network: as shares of the prunable weights and of all, each pair once."""
    weights = {name: layer.weight.numel() for name, layer in weighted_layers(network).items()}
    found: dict[tuple[float, float], None] = {}
    for stages in recipes:
        parts = [part for stage in stages for part in (stage.parts if isinstance(stage, Together) else (stage,))]
        most: dict[frozenset[str], float] = {}
        for part in parts:
            if isinstance(part, Prune) and part.pattern != CHANNEL:
                names = frozenset(part.layers_of(network))
                # What an earlier stage has pruned stays pruned, so a later one that asks for less adds nothing.
                most[names] = share = max(part.sparsity, most.get(names, 0.0))
                found[share, share * sum(weights[name] for name in names) / sum(weights.values())] = None
    return tuple(found)
