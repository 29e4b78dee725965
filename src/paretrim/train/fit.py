"""The one training loop."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from paretrim.data.batches import Batch
from paretrim.errors import TrainingFailed
from paretrim.network.constraints import first_not_finite, hold_masks_, weighted_layers
from paretrim.network.places import value_at
from paretrim.train.budget import Budget, learning_rate_at
from paretrim.train.checkpoint import Checkpoints, Moment, form_of
from paretrim.train.execution import lay_out_
from paretrim.train.losses import LossTerm, Outputs, with_a_goal
from paretrim.train.training import Step, Training
from paretrim.train.units import units_of

TICKS = 100
"""A stage's ramps move this many times over its budget, and at the first step of every epoch."""

CHECK_EVERY = 25
"""Steps between looks at the loss: on a GPU each look waits for the device."""


@dataclass(frozen=True)
class Tick:
    """Where training stands, for progress bars and logs. ``accuracy`` is the running one on training batches."""

    stage: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    seconds_left: float


Report = Callable[[Tick], None]


def _ignore(_: object) -> None:
    """Nothing is observed."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`fit` does: minimise ``losses`` within ``budget``.

    ``advance`` is called with the progress, ``observe`` with every step between its backward pass and the optimizer.
    ``first_epoch`` is the run's epoch at which this stage starts: batches and augmentation are a function of it, so all orders of
    the same stages see the same images at the same time.
    """

    stage: str
    budget: Budget
    losses: Sequence[LossTerm]
    advance: Callable[[float], None]
    first_epoch: int = 0
    observe: Callable[[Step], None] = field(default=_ignore)


def fit(training: Training, plan: Plan, *, folder: Path | None = None, report: Report | None = None) -> float:
    """Train the network, and the modules beside it, in place and return the seconds spent, those before an interruption included.

    With a ``folder`` every epoch ends in a checkpoint, and a run that was killed goes on after the last one with the same result
    to the last bit: what an epoch does is a function of the state it begins with, the seed and its number. ``advance`` may
    replace layers: the optimizer follows, and keeps what it knows of parameters that stay.

    Raises:
        TrainingFailed: the loss is not finite, memory ran out, the labels do not fit the logits, or a loss wants a teacher and
            there is none. Checkpoints stay.
        InvalidRecipe: a loss wants a value of a module that the network, or the teacher, does not have.
        CorruptFile: the folder holds checkpoints of another network.
        OutOfSpace: the disk is full. The checkpoint before stays.
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
    for epoch in range(done, plan.budget.epochs):
        with _own_random_stream(resources.seed, plan.first_epoch + epoch, device), _explained(epoch, work):
            work.epoch(epoch, started, report)
        if checkpoints:
            checkpoints.save(training, work.optimizer, Moment(epoch + 1, time.monotonic() - started))
    work.advance(1.0)
    hold_masks_(work.layers)
    network.eval()
    return time.monotonic() - started


class _Work:
    """What stays the same over the epochs of one stage."""

    def __init__(self, training: Training, plan: Plan, device: torch.device) -> None:
        network, resources = training.network, training.resources
        self.training, self.network, self.plan, self.resources, self.device = training, network, plan, resources, device
        self.losses = with_a_goal(plan.losses, plan.budget.label_smoothing)
        if any(term.is_taught for term in self.losses) and resources.teacher is None:
            raise TrainingFailed(f"stage '{plan.stage}' learns from a teacher and there is none; name one in the recipe")
        paths = sorted({path for term in self.losses for path in term.features})
        self.places = {path: value_at(network.structure, path) for path in paths}
        names = tuple(self.places.values())
        self.teacher_paths = tuple(sorted({path for term in self.losses for path in term.teacher_features}))
        self.batches = resources.train(plan.budget.batch_size)
        self.images_per_batch = 0
        units = units_of(network, resources.calibration)
        self.logits_unit = 2.0**units.logits
        self.units = {name: units.parameters.get(parameter, 0) for name, parameter in network.named_parameters()}
        self.optimizer = self.make_optimizer()
        self.layers = list(weighted_layers(network).values())

        def features(x: Tensor) -> dict[str, Tensor]:
            return network.features(x, names)

        self.features = torch.compile(features) if resources.execution.compile else features

    def make_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the parameters that there are now; a parameter keeps its unit by its name."""
        named = dict(self.network.named_parameters())
        units: dict[Tensor, int] = {parameter: self.units.get(name, 0) for name, parameter in named.items()}
        return make_optimizer((*named.values(), *self.training.extra.parameters()), self.plan.budget, units)

    def resume(self, checkpoints: Checkpoints) -> tuple[int, float]:
        """Go on after the newest checkpoint: epochs done and seconds they took, 0 where there is none."""
        found = checkpoints.newest(self.training, self.make_optimizer)
        if found is None:
            return 0, 0.0
        moment, self.optimizer = found
        self.layers = list(weighted_layers(self.network).values())
        return moment.epoch, moment.seconds

    def advance(self, progress: float) -> None:
        """Move the stage's ramps. The last epochs of a quantized network train with the statistics that will be folded."""
        self.plan.advance(progress)
        self.follow_layers()
        self.keep_statistics(bool(self.network.quantizers()) and progress >= self.plan.budget.freeze_batchnorm)

    def follow_layers(self) -> None:
        """Where the stage has replaced layers, train those that are there; of parameters that stay nothing is forgotten."""
        self.layers = list(weighted_layers(self.network).values())
        known = {parameter for group in self.optimizer.param_groups for parameter in group["params"]}
        if known == {*self.network.parameters(), *self.training.extra.parameters()}:
            return
        before, self.optimizer = self.optimizer, self.make_optimizer()
        lay_out_(self.network, torch.channels_last)
        self.network.train()
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in before.state:
                    self.optimizer.state[parameter] = before.state[parameter]

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
        right, loss_sum = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for step, batch in enumerate(self._batches(epoch)):
            position = epoch * steps + step
            if step == 0 or position % every == 0:  # step 0: what is not in a checkpoint is the same after a resumption
                self.advance(position / total)
            if len(batch.labels) == 1 < self.images_per_batch:
                self.keep_statistics(True)  # a last batch of one image has no statistics; the next epoch sets this back
            loss, logits = self.step(batch, epoch, position)
            right += (logits.argmax(1) == batch.labels).sum()
            loss_sum += loss * len(batch.labels)
            seen += len(batch.labels)
            if step % CHECK_EVERY == 0 or step == steps - 1:
                mean = float(loss_sum) / seen
                self._check(mean, epoch, step)
                if report:
                    elapsed = time.monotonic() - started
                    left = elapsed * (total - position - 1) / (position + 1)
                    accuracy = float(right) / seen
                    report(Tick(self.plan.stage, epoch + 1, self.plan.budget.epochs, step + 1, steps, mean, accuracy, left))
        self._check_weights(epoch)

    def step(self, batch: Batch, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """One optimizer step, the ``number``-th of the stage; the detached loss and logits."""
        progress = number / (len(self.batches) * self.plan.budget.epochs)
        rate = learning_rate_at(progress, self.plan.budget)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["unit"]
        outputs = self._outputs(batch, epoch)
        loss = outputs.logits.new_zeros((), dtype=torch.float32)
        for term in self.losses:
            loss = loss + term.weight_at(progress) * term.function(outputs)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.plan.observe(Step(batch, loss.detach(), progress, epoch, number))
        count_in_units_(self.optimizer)
        if self.plan.budget.clip_norm:
            nn.utils.clip_grad_norm_(self._parameters(), self.plan.budget.clip_norm)
        self.optimizer.step()
        hold_masks_(self.layers)
        return loss.detach(), outputs.logits.detach()

    def _outputs(self, batch: Batch, epoch: int) -> Outputs:
        """What network and teacher make of a batch."""
        teacher, teacher_logits = self.resources.teacher, None
        teacher_features: Mapping[str, Tensor] = {}
        if teacher is not None and any(term.needs_teacher for term in self.losses):
            teacher_logits = teacher.logits(batch, self.plan.first_epoch + epoch)
        if teacher is not None and self.teacher_paths:
            teacher_features = teacher.values(batch, self.teacher_paths)
        with self.resources.execution.autocast():
            found = self.features(batch.inputs)
        logits = found[self.network.structure.output]
        if self.logits_unit != 1:
            logits = logits / self.logits_unit
            teacher_logits = None if teacher_logits is None else teacher_logits / self.logits_unit
        return Outputs(
            logits=logits,
            labels=batch.labels,
            teacher_logits=teacher_logits,
            features={path: found[name].float() for path, name in self.places.items()},
            layers=tuple(self.layers),
            teacher_features=teacher_features,
            indices=batch.indices,
            extra=self.training.extra,
        )

    def _parameters(self) -> Iterator[nn.Parameter]:
        yield from self.network.parameters()
        yield from self.training.extra.parameters()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The epoch's batches. Labels of data in memory were checked when they were read; looking again would wait for a GPU."""
        classes = self.network.structure.types[self.network.structure.output].shape[0]
        for batch in self.batches.epoch(self.plan.first_epoch + epoch):
            self.images_per_batch = max(self.images_per_batch, len(batch.labels))
            if batch.indices is None or batch.labels.device.type == "cpu":
                low, high = int(batch.labels.min()), int(batch.labels.max())
                if low < 0 or high >= classes:
                    raise TrainingFailed(
                        f"labels {low}..{high} in a batch, and the network has {classes} outputs (0..{classes - 1}); "
                        "check the labels, or give the network as many outputs as there are classes"
                    )
            yield batch

    def _check(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            raise TrainingFailed(f"the loss became {loss} by epoch {epoch + 1}, step {step + 1}; {self._calmer()}")

    def _check_weights(self, epoch: int) -> None:
        """The last steps of an epoch may spoil weights and statistics of BatchNorm without any loss telling."""
        spoilt = first_not_finite(self.network) or first_not_finite(self.training.extra)
        if spoilt is not None:
            raise TrainingFailed(
                f"weights or statistics became infinite or NaN in epoch {epoch + 1}; {self._calmer()}. The first is '{spoilt}'"
            )

    def _calmer(self) -> str:
        rate = self.plan.budget.learning_rate
        return f"lower the learning rate ({rate}) or set clip_norm in the budget. The last checkpoint is intact"


_USUAL: Mapping[Tensor, int] = MappingProxyType({})


def make_optimizer(parameters: Iterable[Tensor], budget: Budget, units: Mapping[Tensor, int] = _USUAL) -> torch.optim.Optimizer:
    """The budget's optimizer; weight decay on weights alone.

    ``units`` are the exponents of two of parameters whose unit is not 1. A group has a ``unit``, by which its learning rate is
    multiplied, its weight decay divided, and its gradients multiplied in :func:`count_in_units_`: the same as training
    the parameters divided by it.
    """
    members: dict[tuple[bool, int], list[Tensor]] = defaultdict(list, {(True, 0): [], (False, 0): []})
    for parameter in parameters:
        members[parameter.dim() > 1, units.get(parameter, 0)].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": found, "unit": 2.0**exponent, "weight_decay": budget.weight_decay / 2.0**exponent if decays else 0.0}
        for (decays, exponent), found in members.items()
    ]
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=budget.learning_rate)
    nesterov = budget.nesterov and budget.momentum > 0
    return torch.optim.SGD(groups, lr=budget.learning_rate, momentum=budget.momentum, nesterov=nesterov)


def count_in_units_(optimizer: torch.optim.Optimizer) -> None:
    """Make gradients those by parameters that are counted in their group's unit."""
    for group in optimizer.param_groups:
        if group["unit"] != 1:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(group["unit"])


@contextmanager
def _own_random_stream(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Torch's random stream (dropout, a user's loader) as a function of seed and epoch; the caller's stream is given back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed * 1_000_003 + epoch)
        yield


@contextmanager
def _explained(epoch: int, work: _Work) -> Iterator[None]:
    """Turns what torch says about memory and about batches of one image into a sentence with the next step."""
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if "Expected more than 1 value per channel" in str(error):
            raise TrainingFailed(
                "BatchNorm on maps of one pixel cannot train on batches of one image; set batch_size to 2 or more"
            ) from error
        # CUDA and Python have exceptions of their own for this, the CPU allocator only a text
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "can't allocate memory" not in str(error):
            raise
        raise TrainingFailed(
            f"memory ran out in epoch {epoch + 1} with batches of {work.images_per_batch} images; make batches half as large "
            "(batch_size in the budget) and run the same command again. The last checkpoint is intact"
        ) from error
