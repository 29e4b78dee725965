"""One line of the results store: everything that tables, figures and claims use about one deployed network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass

from paretrim.bench.types import Latency, Machine
from paretrim.errors import CorruptFile
from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome as StageOutcome
from paretrim.intervals import Estimate
from paretrim.metric import ACCURACY, Metric
from paretrim.stored_fields import LATER, once_called
from paretrim.visible import brief

FORMAT = 5
"""Version of the JSON line; a reader refuses a newer one. 2 adds ``trim_bytes``; 3 what the ONNX file
computes, and ``in_place_of`` of a latency; ``deployed_value`` is that of the ONNX file in lines before 3. In 4 there may be no
ONNX file, and ``onnx_problem`` says why. 5 speaks of values of a metric where lines before it have accuracies
(:func:`paretrim.history.once_called`)."""

METRIC_VALUES = 5
"""The first format with the current field names."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an outcome comes from. ``metric`` is None for accuracy."""

    study: str
    recipe: str
    label: str
    order: tuple[str, ...]
    seed: int
    data: str
    network: str
    settings: Mapping[str, object] = field(default_factory=dict)
    metric: Metric | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Values of the metric on the test set, and how often decisions agree.

    ``trained_value`` is what the training framework computes, ``deployed_value`` what the file computes in ``runtime``: the
    ``.trim`` file in ``paretrim``, in earlier lines the ONNX file of a network in floating point elsewhere. ``agreement`` is the
    share of test images on which their decisions (top-1 classes) agree. ``onnx_value`` is what the ONNX file computes in
    ``onnx_runtime``, with the share ``onnx_agreement`` of the deployed decisions. ``onnx_agreements`` are those shares in every
    runtime of ONNX files that was installed, ``onnx_problems`` says why it does not run in others. Fields of the ONNX file are
    None if there is none.
    """

    trained_value: float = field(metadata=once_called("trained_accuracy"))
    deployed_value: float = field(metadata=once_called("deployed_accuracy"))
    agreement: float
    test_images: int
    runtime: str
    onnx_value: float | None = field(default=None, metadata={**LATER, **once_called("onnx_accuracy")})
    onnx_agreement: float | None = field(default=None, metadata=LATER)
    onnx_runtime: str | None = field(default=None, metadata=LATER)
    onnx_agreements: Mapping[str, float] | None = field(default=None, metadata=LATER)
    onnx_problems: Mapping[str, str] | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class TeacherLikeness:
    """How like its teacher a network is: both ``.trim`` files on the same test images.

    ``teacher`` is its name in the recipe. ``kl`` is the mean of KL(teacher || network) in nats, ``agreement`` the share of images
    with the same class. ``teacher_value`` is the teacher's accuracy, and the calibration errors (ECE) are those of both.
    ``grad_cam`` is the mean cosine similarity of the class maps of the first ``grad_cam_images`` images, in [0, 1], at the
    modules ``grad_cam_at`` of teacher and network ("" for the last map).
    """

    teacher: str
    kl: float
    agreement: float
    teacher_value: float
    teacher_calibration_error: float
    calibration_error: float
    grad_cam: float
    grad_cam_images: int
    grad_cam_at: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class Outcome(Evaluation, Origin):
    """A recipe, run once with one seed, deployed and measured.

    ``file`` is the ONNX file, ``file_bytes`` its size and ``entropy_bytes`` its size with its weights at their own entropy. They
    are None if the ONNX file could not be written or failed its check; ``onnx_problem`` says why. ``classes`` is the
    number of classes. ``trim_bytes`` is the size of the ``.trim`` file beside it. None in lines from before the field.
    ``likeness`` is there if a study compares its networks with a teacher.
    """

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
    trim_bytes: int | None = field(default=None, metadata=LATER)
    onnx_problem: str | None = field(default=None, metadata=LATER)
    classes: int | None = field(default=None, metadata=LATER)
    likeness: TeacherLikeness | None = field(default=None, metadata=LATER)
    format: int = FORMAT

    @property
    def judged_by(self) -> Metric:
        """The metric of the network and of its files."""
        return self.metric or ACCURACY

    @property
    def sparsity(self) -> float:
        """Share of zero weights in the deployed file, in [0, 1]."""
        return self.zeros / self.weights if self.weights else 0.0


MOST, LARGEST, LEAST = 2**53, 1e15, 1e-12
"""Bounds of counts, and of times, sizes and ratios: far beyond anything measured, and safe in arithmetic."""

_VALUES = frozenset({"trained_value", "deployed_value", "onnx_value", "value_before", "value_after", "teacher_value"})
"""Values of the metric: fractions if it is a share, else numbers of any sign."""

_FRACTIONS = frozenset(
    {"sparsity", "wilcoxon_p", "agreement", "onnx_agreement", "calibration_error", "teacher_calibration_error", "grad_cam"}
)
_POSITIVE = frozenset({"test_images", "file_bytes", "trim_bytes", "threads", "batch", "samples", "processes", "grad_cam_images"})
"""Counts that are never 0."""


def require_plausible(outcome: Outcome, place: str) -> None:
    """Refuse impossible measurements: a line of results may come from anywhere, and is used in arithmetic.

    Raises:
        CorruptFile: an accuracy is not a fraction, a count is negative, a time is 0, and the like; ``place`` names the file.
    """
    place = f"{place}: outcome '{outcome.label}', seed {outcome.seed}"
    _require(outcome, "", place, share=outcome.judged_by.is_share)
    counts = {"zeros": (outcome.zeros, outcome.weights)}
    counts |= {f"layers[{i}].zeros": (layer.zeros, layer.weights) for i, layer in enumerate(outcome.layers)}
    for name, (zeros, weights) in counts.items():
        if zeros > weights:
            raise CorruptFile(f"{place}: {name} is {zeros} of {weights} weights; {_AGAIN}")


_AGAIN = "restore the file from a copy, or run the command that made it again"


def _require(value: object, name: str, place: str, *, share: bool) -> None:
    if isinstance(value, Estimate):
        for part in ("value", "low", "high"):
            _within(getattr(value, part), LEAST, LARGEST, f"{name}.{part}", place)
    elif is_dataclass(value):
        for field_ in fields(value):
            if field_.name != "settings":  # of any form; shown as it is and never used in arithmetic
                _require(getattr(value, field_.name), f"{name}.{field_.name}".lstrip("."), place, share=share)
    elif isinstance(value, tuple):
        for index, inner in enumerate(value):
            _require(inner, f"{name}[{index}]", place, share=share)
    elif isinstance(value, float):
        last = name.rpartition(".")[2]
        if last in _VALUES and not share:
            _within(value, -LARGEST, LARGEST, name, place)
        else:
            most = 1 if last in _FRACTIONS | _VALUES else LARGEST
            _within(value, LEAST if last == "min_ms" else 0, most, name, place)
    elif isinstance(value, int) and not isinstance(value, bool):
        _within(value, int(name.rpartition(".")[2] in _POSITIVE), MOST, name, place)


def _within(value: float, least: float, most: float, name: str, place: str) -> None:
    if not least <= value <= most:
        raise CorruptFile(f"{place}: {name} is {brief(value)}; it must lie from {least:g} to {most:g}; {_AGAIN}")


@dataclass(frozen=True)
class Choice:
    """What a search chose and why, in words: the candidate with the label ``label``, whose file is ``file``.

    ``targets`` are what was asked for, ``reason`` is why this candidate was kept, ``facts`` say what is known about its loss of
    accuracy, and ``problems`` are targets that it misses, that are not shown to be met, or that the test images contradict.
    """

    label: str
    file: str
    targets: tuple[str, ...]
    reason: str
    facts: tuple[str, ...]
    problems: tuple[str, ...]
