"""The one training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from paretrim.constraints import hold_masks_, weighted_layers
from paretrim.data.batches import Batch
from paretrim.errors import TrainingFailed
from paretrim.network import Network
from paretrim.train.budget import Budget, learning_rate_at
from paretrim.train.checkpoint import Checkpoints, Moment
from paretrim.train.losses import LossTerm, Outputs, cross_entropy
from paretrim.train.resources import Resources

TICKS = 100
"""A stage's ramps move this many times over its budget."""

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


@dataclass(frozen=True, eq=False)
class Plan:
    """What :func:`fit` does: minimise ``losses`` within ``budget``, calling ``advance`` with the progress.

    ``first_epoch`` is the run's epoch at which this stage starts: batches and augmentation are a function of it, so all orders of
    the same stages see the same images at the same time.
    """

    stage: str
    budget: Budget
    losses: Sequence[LossTerm]
    advance: Callable[[float], None]
    first_epoch: int = 0


def fit(network: Network, plan: Plan, resources: Resources, *, folder: Path | None = None, report: Report | None = None) -> float:
    """Train ``network`` in place and return the seconds spent, those before an interruption included.

    With a ``folder`` every epoch ends in a checkpoint, and a run that was killed goes on after the last one with the same result:
    the random streams of an epoch depend on seed and epoch alone.

    Raises:
        TrainingFailed: the loss is not finite, memory ran out, or the labels do not fit the logits. Checkpoints stay.
    """
    device = resources.execution.torch_device()
    network.to(device, memory_format=torch.channels_last)
    work = _Work(network, plan, resources, device)
    checkpoints = Checkpoints(folder) if folder else None
    resumed = checkpoints.newest(network, work.optimizer) if checkpoints else None
    done, seconds = (resumed.epoch, resumed.seconds) if resumed else (0, 0.0)
    started = time.monotonic() - seconds
    for epoch in range(done, plan.budget.epochs):
        with _explained(plan, epoch):
            work.epoch(epoch, started, report)
        if checkpoints:
            checkpoints.save(network, work.optimizer, Moment(epoch + 1, time.monotonic() - started))
    work.advance(1.0)
    hold_masks_(work.layers)
    network.eval()
    return time.monotonic() - started


class _Work:
    """What stays the same over the epochs of one stage."""

    def __init__(self, network: Network, plan: Plan, resources: Resources, device: torch.device) -> None:
        self.network, self.plan, self.resources, self.device = network, plan, resources, device
        self.losses = tuple(plan.losses) or (cross_entropy(plan.budget.label_smoothing),)
        self.names = tuple(sorted({name for term in self.losses for name in term.features}))
        self.batches = resources.train(plan.budget.batch_size)
        self.optimizer = make_optimizer(network, plan.budget)
        self.layers = list(weighted_layers(network).values())
        features: Callable[[Tensor], dict[str, Tensor]] = lambda x: network.features(x, self.names)  # noqa: E731 - compiled below
        self.features = torch.compile(features) if resources.execution.compile else features

    def advance(self, progress: float) -> None:
        """Move the stage's ramps. The last epochs of a quantized network train with the statistics that will be folded."""
        self.plan.advance(progress)
        frozen = bool(self.network.quantizers()) and progress >= self.plan.budget.freeze_batchnorm
        for batch_norm in self.network.batch_norms().values():
            batch_norm.frozen = frozen

    def epoch(self, epoch: int, started: float, report: Report | None) -> None:
        """One pass over the training data."""
        steps = len(self.batches)
        total = steps * self.plan.budget.epochs
        torch.manual_seed(self.resources.seed * 1_000_003 + self.plan.first_epoch + epoch)
        self.network.train()
        seen = torch.zeros((), device=self.device)
        right, loss_sum = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for step, batch in enumerate(self._batches(epoch)):
            position = epoch * steps + step
            if position % max(1, total // TICKS) == 0:
                self.advance(position / total)
            loss, logits = self.step(batch, epoch, position / total)
            right += (logits.argmax(1) == batch.labels).sum()
            loss_sum += loss * len(batch.labels)
            seen += len(batch.labels)
            if step % CHECK_EVERY == 0 or step == steps - 1:
                mean = float(loss_sum / seen)
                self._check(mean, epoch, step)
                if report:
                    elapsed = time.monotonic() - started
                    left = elapsed * (total - position - 1) / (position + 1)
                    report(Tick(self.plan.stage, epoch + 1, self.plan.budget.epochs, step + 1, steps, mean, float(right / seen), left))

    def step(self, batch: Batch, epoch: int, progress: float) -> tuple[Tensor, Tensor]:
        """One optimizer step; the detached loss and logits."""
        rate = learning_rate_at(progress, self.plan.budget)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        teacher_logits = None
        if any(term.needs_teacher for term in self.losses):
            if self.resources.teacher is None:
                raise TrainingFailed(f"stage '{self.plan.stage}' distils, and there is no teacher; name one in the recipe")
            teacher_logits = self.resources.teacher.logits(batch, self.plan.first_epoch + epoch)
        with self.resources.execution.autocast():
            found = self.features(batch.inputs)
        logits = found[self.network.structure.output]
        outputs = Outputs(logits, batch.labels, teacher_logits, found)
        loss = sum((term.weight_at(progress) * term.function(outputs) for term in self.losses), logits.new_zeros((), dtype=torch.float32))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.plan.budget.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.budget.clip_norm)
        self.optimizer.step()
        hold_masks_(self.layers)
        return loss.detach(), logits.detach()

    def _batches(self, epoch: int) -> Iterator[Batch]:
        classes = self.network.structure.nodes[-1].type.shape[0]
        for batch in self.batches.epoch(self.plan.first_epoch + epoch):
            if batch.labels.device.type == "cpu" and int(batch.labels.max()) >= classes:
                raise TrainingFailed(f"label {int(batch.labels.max())} in a batch, and the network has {classes} outputs (0..{classes - 1})")
            yield batch

    def _check(self, loss: float, epoch: int, step: int) -> None:
        if loss - loss != 0:  # infinite or not a number
            raise TrainingFailed(
                f"the loss became {loss} in epoch {epoch + 1}, step {step + 1}; lower the learning rate "
                f"({self.plan.budget.learning_rate}) or set clip_norm in the budget. The last checkpoint is intact"
            )


def make_optimizer(network: nn.Module, budget: Budget) -> torch.optim.Optimizer:
    """The budget's optimizer; weight decay on weights alone."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": budget.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if budget.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=budget.learning_rate)
    nesterov = budget.nesterov and budget.momentum > 0
    return torch.optim.SGD(groups, lr=budget.learning_rate, momentum=budget.momentum, nesterov=nesterov)


class _explained:  # noqa: N801 - reads as a statement
    """Turns out-of-memory errors into one sentence with the next step."""

    def __init__(self, plan: Plan, epoch: int) -> None:
        self.plan, self.epoch = plan, epoch

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
            isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        )
        if memory:
            raise TrainingFailed(
                f"memory ran out in epoch {self.epoch + 1} with batches of {self.plan.budget.batch_size}; halve batch_size in the "
                "budget and run the same command again. The last checkpoint is intact"
            ) from error
