"""How the decisions of every file of a run differ from the first one's, on test images."""

from __future__ import annotations

import numpy as np
import torch

from paretrim.bench.protocol import digest
from paretrim.deploy.runnable import BATCH
from paretrim.graph.types import FloatArray
from paretrim.results.comparison import Comparison, compare
from paretrim.results.run_folder import change_in, keep_change
from paretrim.run.judge import DeployedFiles
from paretrim.run.start import TestSet
from paretrim.runtime import load as open_session


class TestLogits:
    """Logits [N, K] that ``.trim`` files of classifiers give for the test images; each file runs once.

    Those of the first file are kept, to compare with, and those of the latest.
    """

    __test__ = False  # not a test class, whatever its name says to a test runner

    def __init__(self, test: TestSet, first: DeployedFiles) -> None:
        self._test, self._first = test, first
        self._known: dict[DeployedFiles, FloatArray] = {}

    def of(self, files: DeployedFiles) -> FloatArray:
        """Those of this file."""
        if files not in self._known:
            self._known = {one: found for one, found in self._known.items() if one is self._first}
            session = open_session(files.trim, threads=torch.get_num_threads(), measure=False)
            images = self._test.images
            parts = [session.outputs(images[at : at + BATCH])[0] for at in range(0, len(images), BATCH)]
            self._known[files] = np.concatenate(parts)
        return self._known[files]

    def change(self, files: DeployedFiles) -> Comparison | None:
        """The file against the first; None for the first itself. It is kept beside the file, and read again from there."""
        if files is self._first:
            return None
        sha256 = digest(self._first.trim) + digest(files.trim)
        found = change_in(files.folder, sha256)
        if found is None:
            found = compare(self.of(self._first), self.of(files), self._test.labels)
            keep_change(files.folder, sha256, found)
        return found
