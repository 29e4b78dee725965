"""How the decisions of every file of a run differ from the first one's, on test images."""

from __future__ import annotations

import numpy as np
import torch

from paretrim.bench.protocol import digest
from paretrim.deploy.runnable import in_batches
from paretrim.graph.types import FloatArray
from paretrim.results.comparison import compare
from paretrim.results.run_folder import change_in, keep_change
from paretrim.run.judge import DeployedFiles
from paretrim.run.start import TestSet
from paretrim.runtime import load as open_session


class TestLogits:
    """Logits [N, K] of ``.trim`` files of classifiers for the test images; each file runs once.

    Those of the first file are kept for comparison, and those of the latest.
    """

    __test__ = False  # not a test class, whatever its name says to a test runner

    def __init__(self, test: TestSet, first: DeployedFiles) -> None:
        self._test, self._first = test, first
        self._known: dict[DeployedFiles, FloatArray] = {}
        self._names: tuple[str, ...] = ()

    def of(self, files: DeployedFiles) -> FloatArray:
        """The logits of this file."""
        if files not in self._known:
            self._known = {one: found for one, found in self._known.items() if one is self._first}
            session = open_session(files.trim, threads=torch.get_num_threads(), measure=False)
            self._names = session.class_names
            self._known[files] = np.concatenate([session.outputs(part)[0] for part in in_batches(self._test.images)])
        return self._known[files]

    def keep_change(self, files: DeployedFiles) -> None:
        """Compare the file with the first and keep what changed beside it, unless that is there already.

        The first itself is not compared, and neither are logits that are not finite: they give no probabilities.
        """
        sha256 = digest(self._first.trim) + digest(files.trim)
        if files is self._first or change_in(files.folder, sha256) is not None:
            return
        first, second = self.of(self._first), self.of(files)
        if np.isfinite(first).all() and np.isfinite(second).all():
            keep_change(files.folder, sha256, compare(first, second, self._test.labels, self._names))
