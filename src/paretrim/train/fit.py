"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from paretrim.data.batches import Batch, TrainBatches
from paretrim.errors import DataUnavailable, TrainingFailed
from paretrim.metric import ACCURACY, Metric, accuracy_of
from paretrim.network.constraints import first_not_finite, hold_masks_, paced_values, weighted_layers
from paretrim.network.places import value_at
from paretrim.train.budget import Budget, learning_rate_at
from paretrim.train.checkpoint import Checkpoints, Moment, form_of
from paretrim.train.execution import lay_out_, own_random_stream
from paretrim.train.losses import LossTerm, Outputs, with_a_goal
from paretrim.train.optimizer import (
    count_in_units_,
    hidden_weights,
    look_ahead_,
    make_optimizer,
    parameters_of,
    remake_optimizer,
    see_through_masks_,
    step_within_,
    take_dense_gradients_,
)
from paretrim.train.resources import Teacher
from paretrim.train.training import Step, Training
from paretrim.train.units import units_of

TICKS = 100
"""A stage's ramps move this many times over its budget, and at the first step of every epoch."""

CHECK_EVERY = 25
"""Steps between reads of the loss: on a GPU each read waits for the device."""


@dataclass(frozen=True)
class Tick:
    """How far training has come, for progress bars and logs. ``value`` is the running value of ``metric`` on training batches."""

    stage: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    value: float
    seconds_left: float
    metric: Metric = ACCURACY

    @property
    def accuracy(self) -> float:
        """``value`` where the metric is accuracy; AttributeError where it is another."""
        return accuracy_of(self.value, self.metric)


Report = Callable[[Tick], None]


def _ignore(_: object) -> None:
    """Observe nothing."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`fit` does: minimise ``losses`` within ``budget``.

    ``advance`` is called with the progress, ``observe`` with every step between its backward pass and the optimizer.
    ``first_epoch`` is the run's epoch at which this stage starts: batches and augmentation are a function of it, so all orders of
    the same stages see the same images at the same time. After ``stop`` epochs it ends, wherever in the budget that is.
    """

    stage: str
    budget: Budget
    losses: Sequence[LossTerm]
    advance: Callable[[float], None]
    first_epoch: int = 0
    stop: int | None = None
    observe: Callable[[Step], None] = field(default=_ignore)


def fit(training: Training, plan: Plan, *, folder: Path | None = None, report: Report | None = None) -> float:
    """Train the network, and the modules beside it, in place; return the seconds spent, also those before an interruption.

    With a ``folder`` every epoch ends in a checkpoint, and a run that was killed resumes from the last one with the same result
    to the last bit: what an epoch does is a function of the state it begins with, the seed and its number. ``advance`` and
    ``observe`` may replace layers: the optimizer follows, and keeps its state of the parameters that stay.

    Raises:
        TrainingFailed: the loss is not finite, memory ran out, the labels do not fit the logits, or a loss needs a teacher and
            there is none. Checkpoints stay.
        InvalidRecipe: a loss needs a value of a module that the network, or the teacher, does not have.
        CorruptFile: the folder holds checkpoints of another network.
        OutOfSpace: the disk is full. The previous checkpoint stays.
    """
    network, resources = training.network, training.resources
    device = resources.execution.torch_device()
    network.to(device)
    training.extra.to(device).train()
    lay_out_(network, torch.channels_last)
    checkpoints = Checkpoints(folder, form_of(network)) if folder else None
    work = _Work(training, plan, device)
    done, seconds = work.resume(checkpoints) if checkpoints else (0, 0.0)
    started = time.monotonic() - seconds
    for epoch in range(done, plan.budget.epochs if plan.stop is None else plan.stop):
        with own_random_stream(resources.seed, plan.first_epoch + epoch, device), _explained(epoch, work):
            work.epoch(epoch, started, report)
        if checkpoints:
            checkpoints.save(training, work.optimizer, Moment(epoch + 1, time.monotonic() - started, work.units))
    if plan.stop is None:
        with own_random_stream(resources.seed, plan.first_epoch + plan.budget.epochs, device):
            work.advance(1.0)
    hold_masks_(work.layers.values())
    network.eval()
    return time.monotonic() - started


class _Work:
    """What stays the same over the epochs of one stage."""

    def __init__(self, training: Training, plan: Plan, device: torch.device) -> None:
        network, resources = training.network, training.resources
        self.training, self.network, self.plan, self.resources, self.device = training, network, plan, resources, device
        self.losses = with_a_goal(plan.losses, plan.budget.label_smoothing, resources.task)
        self.teachers: dict[str, Teacher] = {}
        for name in dict.fromkeys(term.teacher for term in self.losses if term.is_taught):
            teacher = resources.teacher_named(name)
            if teacher is None:
                raise TrainingFailed(f"stage '{plan.stage}' learns from a teacher and there is none; name one in the recipe")
            self.teachers[name] = teacher
        self.paths = sorted({path for term in self.losses for path in term.features})
        self.batches = resources.train(plan.budget.batch_size)
        self.images_per_batch = 0
        units = units_of(network, resources.calibration)
        self.output_units = tuple(2.0**unit for unit in units.outputs)
        self.units = {name: units.parameters.get(parameter, 0) for name, parameter in network.named_parameters()}
        self.optimizer = self.make_optimizer()
        self.look_at_layers()

    def look_at_layers(self) -> None:
        """Find the layers and values of the network as it is now."""
        network = self.network
        self.structure, self.layers, self.paced = network.structure, weighted_layers(network), paced_values(network)
        self.trained = self._identities()
        self.places = {path: value_at(network.structure, path) for path in self.paths}
        names = tuple(self.places.values())

        def features(x: Tensor) -> dict[str, Tensor]:
            return network.features(x, names)

        self.features = torch.compile(features) if self.resources.execution.compile else features

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the present parameters; a parameter keeps its unit by its name."""
        network, named = self.network, dict(self.network.named_parameters())
        units: dict[Tensor, int] = {parameter: self.units.get(name, 0) for name, parameter in named.items()}
        biases, hidden = [one.beta for one in network.batch_norms().values()], hidden_weights(weighted_layers(network))
        return make_optimizer((*named.values(), *self.training.extra.parameters()), self.plan.budget, units, biases, hidden)

    def resume(self, checkpoints: Checkpoints) -> tuple[int, float]:
        """Continue from the newest checkpoint: epochs done and the seconds they took, 0 if there is none."""

        def optimizer_at(moment: Moment) -> torch.optim.Optimizer:
            self.units = dict(moment.units)
            return self.make_optimizer()

        found = checkpoints.newest(self.training, optimizer_at)
        if found is None:
            return 0, 0.0
        moment, self.optimizer = found
        self.look_at_layers()
        return moment.epoch, moment.seconds

    def advance(self, progress: float) -> None:
        """Move the stage's ramps. The last epochs of a quantized network train with the statistics that will be folded."""
        self.plan.advance(progress)
        self.layers = weighted_layers(self.network)
        self.follow_layers()
        self.keep_statistics(bool(self.network.quantizers()) and progress >= self.plan.budget.freeze_batchnorm)

    def follow_layers(self) -> None:
        """If the stage has replaced layers, train the new ones; nothing is forgotten about parameters that stay."""
        if self.structure is self.network.structure and self.trained == self._identities():
            return
        for module in (self.network, self.training.extra):
            module.to(self.device).train()
        lay_out_(self.network, torch.channels_last)
        found = units_of(self.network, self.resources.calibration).parameters
        for name, parameter in self.network.named_parameters():
            self.units.setdefault(name, found.get(parameter, 0))
        self.optimizer = remake_optimizer(self.optimizer, self.make_optimizer())
        self.look_at_layers()

    def keep_statistics(self, kept: bool) -> None:
        """Whether BatchNorm normalises with its running statistics and leaves them as they are."""
        for batch_norm in self.network.batch_norms().values():
            batch_norm.frozen = kept

    def epoch(self, epoch: int, started: float, report: Report | None) -> None:
        """One pass over the training data."""
        steps = len(self.batches)
        total = steps * self.plan.budget.epochs
        every = max(1, total // TICKS)
        self.network.train()
        seen = 0
        shown, loss_sum = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for step, batch in enumerate(self._batches(epoch)):
            position = epoch * steps + step
            if step == 0 or position % every == 0:  # step 0: a resumed run must match in what checkpoints do not hold
                self.advance(position / total)
            if len(batch.labels) == 1 < self.images_per_batch:
                self.keep_statistics(True)  # a final batch of one image has no statistics; the next epoch resets this
            loss, outputs = self.step(batch, epoch, position)
            shown += self.resources.task.running(outputs, batch.labels)
            loss_sum += loss * len(batch.labels)
            seen += len(batch.labels)
            if step % CHECK_EVERY == 0 or step == steps - 1:
                mean = float(loss_sum) / seen
                self._check(mean, epoch, step)
                if report:
                    left = (time.monotonic() - started) * (total - position - 1) / (position + 1)
                    value, metric = float(shown) / seen, self.resources.task.metric
                    epochs = self.plan.budget.epochs
                    report(Tick(self.plan.stage, epoch + 1, epochs, step + 1, steps, mean, value, left, metric))
        self._check_weights(epoch)

    def step(self, batch: Batch, epoch: int, number: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One optimizer step, the ``number``-th of the stage; the detached loss and outputs."""
        progress = number / (len(self.batches) * self.plan.budget.epochs)
        if self.training.dense_gradients:
            see_through_masks_(self.layers, through=True)
        outputs = self._outputs(batch)
        taught = {name: self._beside(outputs, name, batch, epoch) for name in self.teachers}
        loss = outputs.logits.new_zeros((), dtype=torch.float32)
        for term in self.losses:
            loss = loss + term.weight_at(progress) * term.function(taught.get(term.teacher, outputs))
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        dense = take_dense_gradients_(self.layers) if self.training.dense_gradients else {}
        self.plan.observe(Step(batch, loss.detach(), progress, epoch, number, dense))
        self.follow_layers()
        count_in_units_(self.optimizer)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(progress, self.plan.budget) * group["unit"] * group["rate"]
        if self.plan.budget.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters(), self.plan.budget.clip_norm)
        with self.resources.execution.autocast():
            step_within_(self.optimizer, self.paced)
        if self.plan.budget.lookahead and (number + 1) % self.plan.budget.lookahead == 0:
            look_ahead_(self.optimizer, progress)
        hold_masks_(self.layers.values())
        return loss.detach(), tuple(output.detach() for output in outputs.outputs)

    def _outputs(self, batch: Batch) -> Outputs:
        """The network's outputs for a batch, as losses see them."""
        with self.resources.execution.autocast():
            found = self.features(batch.inputs)
        logits, *others = self._in_units(tuple(found[name] for name in self.network.structure.outputs))
        return Outputs(
            logits=logits,
            labels=batch.labels,
            features={path: found[name].float() for path, name in self.places.items()},
            layers=tuple(self.layers.values()),
            indices=batch.indices,
            extra=self.training.extra,
            others=tuple(others),
            inputs=batch.inputs,
        )

    def _beside(self, outputs: Outputs, name: str, batch: Batch, epoch: int) -> Outputs:
        """The same outputs, with those of the teacher of this name."""
        terms = [term for term in self.losses if term.is_taught and term.teacher == name]
        paths = tuple(sorted({path for term in terms for path in term.teacher_features}))
        teacher, number = self.teachers[name], self.plan.first_epoch + epoch
        asked = any(term.needs_teacher for term in terms)
        logits = self._in_units(teacher.outputs(batch, number)) if asked else ()
        return replace(
            outputs,
            teacher_logits=logits[0] if logits else None,
            teacher_others=logits[1:],
            teacher_features=teacher.values(batch, number, paths) if paths else {},
        )

    def _in_units(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Outputs counted in their units."""
        units = self.output_units[: len(outputs)]  # empty for a teacher that is not used
        return tuple(output if unit == 1 else output / unit for output, unit in zip(outputs, units, strict=True))

    def _parameters(self) -> list[Tensor]:
        return parameters_of(self.network) + parameters_of(self.training.extra)

    def _identities(self) -> frozenset[int]:
        """Of all parameters; the optimizer keeps them, so none comes back for another parameter."""
        return frozenset(map(id, self._parameters()))

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches. Labels of data in memory were checked when they were read; checking again would wait for a GPU."""
        shapes = self.network.structure.output_shapes
        for batch in self.batches.epoch(self.plan.first_epoch + epoch):
            self.images_per_batch = max(self.images_per_batch, len(batch.labels))
            if batch.labels.device.type == "cpu" or not isinstance(self.batches, TrainBatches):
                try:
                    self.resources.task.check_labels(batch.labels, shapes, "a batch has")
                except DataUnavailable as error:
                    raise TrainingFailed(str(error)) from error
            yield batch

    def _check(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            raise TrainingFailed(f"the loss became {loss} by epoch {epoch + 1}, step {step + 1}; {self._calmer()}")

    def _check_weights(self, epoch: int) -> None:
        """Check weights and BatchNorm statistics: the last steps of an epoch may spoil them without the loss showing it."""
        spoilt = first_not_finite(self.network) or first_not_finite(self.training.extra)
        if spoilt is not None:
            raise TrainingFailed(
                f"weights or statistics became infinite or NaN in epoch {epoch + 1}; {self._calmer()}. The first is '{spoilt}'"
            )

    def _calmer(self) -> str:
        rate = self.plan.budget.learning_rate
        return f"lower the learning rate ({rate}) or set clip_norm in the budget. The last checkpoint is intact"


@contextmanager
def _explained(epoch: int, work: _Work) -> Iterator[None]:
    """Turn torch's errors about memory and about batches of one image into messages with the next step."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if "Expected more than 1 value per channel" in str(error):
            raise TrainingFailed(
                "BatchNorm on maps of one pixel cannot train on batches of one image; set batch_size to 2 or more"
            ) from error
        # CUDA and Python have exceptions for this, the CPU allocator only a message
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise TrainingFailed(
            f"memory ran out in epoch {epoch + 1} with batches of {work.images_per_batch} images; make batches half as large "
            "(batch_size in the budget) and run the same command again. The last checkpoint is intact"
        ) from error
