"""The teacher of a run: a frozen network whose logits are computed once per image, epoch and seed, then read from disk."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from paretrim.data.batches import Batch
from paretrim.errors import CorruptFile
from paretrim.network.network import Network
from paretrim.network.places import value_at
from paretrim.train.checkpoint import load_state, save_state
from paretrim.train.execution import Execution, lay_out_

LARGEST = 60000.0
"""Stored logits are clipped to this, just below the largest float16 (65504)."""


class StoredTeacher:
    """Logits of a fixed network for training batches, stored by epoch of the run.

    Batches and augmentation are a function of seed and epoch, so every recipe of a study that distils in epoch e with the same
    seed sees the same images: the first computes the logits, the others read them. The folder must therefore belong to one
    teacher, one data set, one augmentation and one seed. Logits are stored as float16 [images, classes] and used in
    that precision from the start, so that the first run and later ones learn from the same numbers; ``exact`` stores float32
    instead, for tasks whose outputs are not logits. Without positions in the batches, or without a folder, nothing is stored.
    For a network of several outputs, ``classes`` counts the numbers of all of them.
    """

    def __init__(
        self, network: Network, execution: Execution, *, images: int, classes: int, folder: Path | None, exact: bool = False
    ) -> None:
        self.execution = execution
        self.device = execution.torch_device()
        self._learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.network = copy.deepcopy(network).to(self.device).eval().requires_grad_(requires_grad=False)
        lay_out_(self.network, torch.channels_last)
        self.folder = folder
        self.images = images
        self.classes = classes
        self.dtype = torch.float32 if exact else torch.float16
        self._epoch = -1
        self._table = torch.empty(0)
        self._known = torch.empty(0)
        self._missing = 0

    @property
    def bytes_per_image(self) -> int:
        """Bytes per image and epoch on disk."""
        return self.dtype.itemsize * self.classes

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Teacher logits [N, K] float32 for this batch, without gradient; the numbers of all outputs concatenated."""
        if self.folder is None or batch.indices is None:
            return self._compute(batch.inputs)
        path = self.folder / f"epoch-{epoch:05d}.safetensors"
        if epoch != self._epoch:
            self._open(path, epoch)
        indices = batch.indices.to(self.device)
        if self._missing and not bool(self._known[indices].all()):
            self._keep(path, indices, self._compute(batch.inputs))
        return self._table[indices].float()

    def outputs(self, batch: Batch, epoch: int) -> tuple[Tensor, ...]:
        """Every output [N, ...] of the teacher float32 for this batch, without gradient."""
        shapes = self.network.structure.output_shapes
        parts = torch.split(self.logits(batch, epoch), [math.prod(shape) for shape in shapes], dim=1)
        return tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))

    def values(self, batch: Batch, _epoch: int, names: Sequence[str], /) -> dict[str, Tensor]:
        """What its modules with these paths return, [N, ...] float32 by path, without gradient; computed each time.

        Raises:
            InvalidRecipe: it has no such module.
        """
        places = {path: value_at(self.network.structure, path) for path in names}
        with torch.no_grad(), self.execution.autocast():
            found = self.network.features(batch.inputs.to(self.device), tuple(places.values()))
        return {path: found[name].float() for path, name in places.items()}

    def shape_at(self, path: str) -> tuple[int, ...]:
        """Shape, without the batch, of what its module at ``path`` returns.

        Raises:
            InvalidRecipe: it has no such module.
        """
        return self.network.shape_at(path)

    def trainable(self) -> Network:
        """A copy of the network for further training: what trained before it became a teacher trains again."""
        private = copy.deepcopy(self.network)
        for name, parameter in private.named_parameters():
            parameter.requires_grad_(name in self._learned)
        return private

    def _compute(self, inputs: Tensor) -> Tensor:
        with torch.no_grad(), self.execution.autocast():
            found = self.network.outputs(inputs.to(self.device))
        return torch.cat([output.float().flatten(1) for output in found], dim=1)

    def _open(self, path: Path, epoch: int) -> None:
        table = _stored(path)
        whole = table is not None and table.shape == (self.images, self.classes) and table.dtype == self.dtype
        self._table = table if table is not None and whole else torch.zeros(self.images, self.classes, dtype=self.dtype)
        self._table = self._table.to(self.device)
        self._known = torch.full((self.images,), whole, device=self.device)
        self._missing = 0 if whole else self.images
        self._epoch = epoch

    def _keep(self, path: Path, indices: Tensor, logits: Tensor) -> None:
        self._table[indices] = logits.clamp(-LARGEST, LARGEST).to(self.dtype) if self.dtype == torch.float16 else logits
        self._known[indices] = True
        self._missing = int((~self._known).sum())
        if not self._missing:
            save_state(path, {"logits": self._table}, {})


def _stored(path: Path) -> Tensor | None:
    """The table of one epoch; None if it is missing or damaged, since it can always be computed again."""
    try:
        tensors, _ = load_state(path)
    except (FileNotFoundError, CorruptFile):
        return None
    return tensors.get("logits")
