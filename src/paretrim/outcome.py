"""One line of the results store: everything a table, a figure or a claim may say about one deployed network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from paretrim.bench.types import LATER, Latency, Machine
from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome as StageOutcome

FORMAT = 4
"""Version of the JSON line; a reader refuses a newer one. 2 adds ``trim_bytes``; 3 what the ONNX file
computes, and ``in_place_of`` of a latency; ``deployed_accuracy`` is that of the ONNX file in lines before 3. In 4 there may be no
ONNX file, and ``onnx_problem`` says why."""


@dataclass(frozen=True)
class Outcome:
    """A recipe, run once with one seed, deployed and measured. Accuracies are fractions of the test set.

    ``trained_accuracy`` is what the training framework computes, ``deployed_accuracy`` what the file computes in ``runtime``: the
    ``.trim`` file of an integer network in ``paretrim``, the ONNX file of one in floating point elsewhere. ``agreement`` is the
    share of test images on which their top-1 classes agree. ``file`` is the ONNX file and ``file_bytes`` its size; what it
    computes in ``onnx_runtime`` is ``onnx_accuracy``, with the share ``onnx_agreement`` of the deployed classes.
    ``entropy_bytes`` is the ONNX file with its weights at their own entropy. All of these are None where the ONNX file could
    not be written or failed its check, for the reason ``onnx_problem``.
    ``trim_bytes`` is the size of the ``.trim`` file beside it. None where a line is from before the field.
    """

    study: str
    recipe: str
    label: str
    order: tuple[str, ...]
    seed: int
    data: str
    network: str
    trained_accuracy: float
    deployed_accuracy: float
    agreement: float
    test_images: int
    runtime: str
    file: str | None
    file_bytes: int | None
    entropy_bytes: float | None
    weights: int
    zeros: int
    layers: tuple[WeightSummary, ...]
    latencies: tuple[Latency, ...]
    history: tuple[StageOutcome, ...]
    machine: Machine
    versions: Mapping[str, str]
    commit: str
    created: str
    settings: Mapping[str, object] = field(default_factory=dict)
    trim_bytes: int | None = field(default=None, metadata=LATER)
    onnx_accuracy: float | None = field(default=None, metadata=LATER)
    onnx_agreement: float | None = field(default=None, metadata=LATER)
    onnx_runtime: str | None = field(default=None, metadata=LATER)
    onnx_problem: str | None = field(default=None, metadata=LATER)
    format: int = FORMAT

    @property
    def sparsity(self) -> float:
        """Share of zero weights in the deployed file, in [0, 1]."""
        return self.zeros / self.weights if self.weights else 0.0
