"""What a stage may use while it trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from paretrim.data.batches import Batch, Batches
from paretrim.errors import DataUnavailable, InvalidRecipe
from paretrim.network.network import Network
from paretrim.train.execution import Execution
from paretrim.train.task import CLASSIFICATION, Task


class Teacher(Protocol):
    """The network that distillation learns from."""

    @property
    def bytes_per_image(self) -> int:
        """Bytes per image and epoch on disk, if anything is stored."""
        ...

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Teacher logits [N, K] float32 for this batch of the run's epoch ``epoch``, without gradient."""
        ...

    def outputs(self, batch: Batch, epoch: int) -> tuple[Tensor, ...]:
        """Every output [N, ...] of the teacher, float32, without gradient."""
        ...

    def values(self, batch: Batch, epoch: int, names: Sequence[str], /) -> Mapping[str, Tensor]:
        """What the teacher's modules with these paths return for this batch, [N, ...] float32, without gradient."""
        ...

    def shape_at(self, path: str) -> tuple[int, ...]:
        """Shape, without the batch, of what the teacher's module at ``path`` returns."""
        ...

    def trainable(self) -> Network:
        """A copy of its network, to train it on."""
        ...


@dataclass(frozen=True, eq=False)
class Resources:
    """What a stage gets. There is no test data here, so no stage can look at it.

    ``train`` makes training batches of the budget's batch size; ``calibration`` holds normalised training images float32
    [M, C, H, W] and ``calibration_labels`` their labels [M, ...], None if there are none; ``seed`` feeds every random stream.
    ``images`` is the size of the training set if batches carry positions in it, as a memory bank needs, else None. ``task``
    says what the network learns. ``early`` gives the dense network as it was after some epochs of its training, None if it
    was not trained here. ``teachers`` are those with names; ``teacher`` is the mean of all.
    """

    train: Callable[[int], Batches]
    validation: Batches
    calibration: Tensor
    execution: Execution
    seed: int
    teacher: Teacher | None = None
    calibration_labels: Tensor | None = None
    images: int | None = None
    task: Task = CLASSIFICATION
    early: Callable[[int], Network] | None = None
    teachers: Mapping[str, Teacher] = field(default_factory=dict)

    def teacher_named(self, name: str) -> Teacher | None:
        """The teacher with this name; without a name the mean of all of them, None if there is no teacher.

        Raises:
            InvalidRecipe: none has the name.
        """
        if name and name not in self.teachers:
            known = f"known are {', '.join(self.teachers)}" if self.teachers else "the recipe names none"
            raise InvalidRecipe(f"there is no teacher '{name}'; {known}; give one of [[teachers]] this name")
        return self.teachers[name] if name else self.teacher

    def indexed_images(self) -> int:
        """The size of the training set, for methods that remember something about each image.

        Raises:
            InvalidRecipe: batches carry no positions.
        """
        if self.images is None:
            raise InvalidRecipe(
                "a loss remembers every training image, and the loader does not say which image is which; give it "
                "paretrim.IndexedDataset(dataset) in place of its data set, or choose another loss"
            )
        return self.images

    def labelled_calibration(self) -> tuple[Tensor, Tensor]:
        """Calibration images float32 [M, C, H, W] and their labels [M].

        Raises:
            DataUnavailable: there are no labels.
        """
        if self.calibration_labels is None:
            raise DataUnavailable(
                "calibration images have no labels here, and this stage needs a loss on them; give Resources calibration_labels"
            )
        return self.calibration, self.calibration_labels
