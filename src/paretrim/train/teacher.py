"""The teacher of a run: a frozen network whose logits are computed once per image, epoch and seed, then read from disk."""

from __future__ import annotations

import copy
import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from paretrim.data.batches import Batch
from paretrim.files import write_atomically
from paretrim.train.execution import Execution


class StoredTeacher:
    """Logits of a fixed network for training batches, stored by epoch of the run.

    Batches and augmentation are a function of seed and epoch, so every recipe of a study that distils in epoch e with the same seed
    sees the same images: the first computes the logits, the others read them. The folder must therefore belong to one teacher, one
    data set, one augmentation and one seed. Stored as float16 [images, classes]; NaN marks images not seen yet.
    """

    def __init__(self, network: nn.Module, execution: Execution, *, images: int, classes: int, folder: Path | None) -> None:
        self.execution = execution
        self.device = execution.torch_device()
        self.network = copy.deepcopy(network).to(self.device, memory_format=torch.channels_last).eval().requires_grad_(requires_grad=False)
        self.folder = folder
        self.images = images
        self.classes = classes
        self._epoch = -1
        self._table = torch.empty(0)
        self._known = torch.empty(0)
        self._missing = 0

    def logits(self, batch: Batch, epoch: int) -> Tensor:
        """Teacher logits [N, K] float32 for this batch, without gradient."""
        if self.folder is None or batch.indices is None:
            return self._compute(batch.inputs)
        if epoch != self._epoch:
            self._open(epoch)
        indices = batch.indices.to(self.device)
        if self._missing:
            if bool(self._known[indices].all()):
                return self._table[indices].float()
            self._keep(indices, self._compute(batch.inputs))
        return self._table[indices].float()

    def _compute(self, inputs: Tensor) -> Tensor:
        with torch.no_grad(), self.execution.autocast():
            found: Tensor = self.network(inputs.to(self.device))
        return found.float()

    def _path(self, epoch: int) -> Path:
        if self.folder is None:
            raise ValueError("this teacher stores nothing")
        return self.folder / f"epoch-{epoch:05d}.npy"

    def _open(self, epoch: int) -> None:
        table = np.full((self.images, self.classes), np.nan, np.float16)
        if self._path(epoch).exists():
            stored = np.load(self._path(epoch), allow_pickle=False)
            if stored.shape == table.shape and stored.dtype == table.dtype:
                table = stored
        self._table = torch.from_numpy(table).to(self.device)
        self._known = torch.isfinite(self._table).all(1)
        self._missing = int((~self._known).sum())
        self._epoch = epoch

    def _keep(self, indices: Tensor, logits: Tensor) -> None:
        self._table[indices] = logits.to(torch.float16).clamp(-60000, 60000)
        fresh = ~self._known[indices]
        self._known[indices] = True
        self._missing -= int(fresh.sum())
        if self._missing == 0:
            content = io.BytesIO()
            np.save(content, self._table.cpu().numpy(), allow_pickle=False)
            write_atomically(self._path(self._epoch), content.getvalue())
