"""A teacher whose largest probabilities alone are stored on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import CorruptFile, InvalidRecipe
from paretrim.network.network import Network
from paretrim.train.checkpoint import load_state, save_state
from paretrim.train.teacher import StoredTeacher

ABOUT = "about.safetensors"
"""The file of a store that says whose probabilities it holds."""

LEAST = 2.0**-24
"""The least probability that is returned, half of the least positive float16, so that its logarithm is finite."""

WORDS = {"teacher": "another teacher", "data": "other data or another augmentation", "seed": "another seed", "top": "another top"}


@dataclass(frozen=True)
class StoreOrigin:
    """What a store depends on: digests of the teacher and of the data with their augmentation, and the seed of the batches.

    The augmentation of an image is a function of this seed, the epoch and its position in the training set, so one seed, and the
    number of the epoch in the name of a file, repeat the images of a whole epoch bit for bit.
    """

    teacher: str
    data: str
    seed: int
    top: int


class SparseTeacher:
    """The ``top`` largest probabilities of a teacher for each training image, stored by epoch of the run.

    The rest of the probability is shared equally by the other classes; the logits are logarithms, so a softmax recovers the
    probabilities. Stored in float16, with class numbers in one byte if there are at most 256 classes. An unfinished epoch is
    computed again. A store may be shared by runs with the same teacher, data and seed.

    Source: Wu et al. 2022, "TinyViT: fast pretraining distillation for small vision transformers", section 3.1.

    Raises:
        InvalidRecipe: the folder is a store of something else.
    """

    def __init__(self, teacher: StoredTeacher, origin: StoreOrigin, *, images: int, folder: Path | None) -> None:
        classes = teacher.classes
        if not 1 <= origin.top <= classes:
            raise InvalidRecipe(f"top is {origin.top}, but the teacher has {classes} classes; set top from 1 to {classes}")
        self.teacher, self.origin, self.images, self.classes, self.folder = teacher, origin, images, classes, folder
        self.index_type = torch.uint8 if classes <= 256 else torch.int16 if classes <= 2**15 else torch.int32
        self._epoch, self._missing = -1, 0
        if folder is not None:
            self._claim(folder / ABOUT)

    @property
    def bytes_per_image(self) -> int:
        """Bytes per image and epoch on disk."""
        return self.origin.top * (2 + self.index_type.itemsize)

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Logarithms of the probabilities [N, K] float32 for this batch, without gradient."""
        if self.folder is None or batch.indices is None:
            return self._rebuilt(*self._sparse(batch, epoch))
        path = self.folder / f"epoch-{epoch:05d}.safetensors"
        if epoch != self._epoch:
            self._open(path, epoch)
        indices = batch.indices.to(self.teacher.device)
        if self._missing and not bool(self._known[indices].all()):
            self._probabilities[indices], self._classes[indices] = self._sparse(batch, epoch)
            self._known[indices] = True
            self._missing = int((~self._known).sum())
            if not self._missing:
                save_state(path, {"probabilities": self._probabilities, "classes": self._classes}, {"epoch": epoch})
        return self._rebuilt(self._probabilities[indices], self._classes[indices])

    def outputs(self, batch: Batch, epoch: int) -> tuple[Tensor, ...]:
        """The same, as the one output of a classifier."""
        return (self.logits(batch, epoch),)

    def values(self, batch: Batch, epoch: int, names: Sequence[str], /) -> Mapping[str, Tensor]:
        """What its modules with these paths return, [N, ...] float32 by path; computed each time."""
        return self.teacher.values(batch, epoch, names)

    def shape_at(self, path: str) -> tuple[int, ...]:
        """Shape, without the batch, of what its module at ``path`` returns."""
        return self.teacher.shape_at(path)

    def trainable(self) -> Network:
        """A copy of the network, to train it on."""
        return self.teacher.trainable()

    def _sparse(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        """The largest probabilities [N, top] float16 and their classes [N, top]."""
        found = self.teacher.logits(batch, epoch).softmax(1).topk(self.origin.top, 1)
        return found.values.to(torch.float16), found.indices.to(self.index_type)

    def _rebuilt(self, probabilities: Tensor, classes: Tensor) -> Tensor:
        kept = probabilities.float()
        rest = (1 - kept.sum(1, keepdim=True)).clamp(min=0) / max(1, self.classes - self.origin.top)
        whole = rest.expand(-1, self.classes).scatter(1, classes.long(), kept)
        return whole.clamp(min=LEAST).log()

    def _open(self, path: Path, epoch: int) -> None:
        found = _stored(path)
        shape = (self.images, self.origin.top)
        whole = all(name in found and found[name].shape == shape for name in ("probabilities", "classes"))
        device = self.teacher.device
        self._probabilities = (found["probabilities"] if whole else torch.zeros(shape, dtype=torch.float16)).to(device)
        self._classes = (found["classes"] if whole else torch.zeros(shape, dtype=self.index_type)).to(device)
        self._known = torch.full((self.images,), whole, device=device)
        self._missing = 0 if whole else self.images
        self._epoch = epoch

    def _claim(self, path: Path) -> None:
        """Write whose store this is, or refuse one that belongs to another teacher."""
        ours: dict[str, Any] = {**vars(self.origin), "images": self.images, "classes": self.classes}
        if not path.exists():
            save_state(path, {}, ours)
            return
        theirs = load_state(path)[1]
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise InvalidRecipe(
                    f"the store '{path.parent}' was made with {WORDS.get(name, f'another number of {name}')} ({name} is "
                    f"{theirs.get(name)} there and {value} here); name another folder, or delete it"
                )


def _stored(path: Path) -> dict[str, Tensor]:
    """The tensors of one epoch; none where the file is missing or damaged, for it can always be computed again."""
    try:
        return load_state(path)[0]
    except (FileNotFoundError, CorruptFile):
        return {}
