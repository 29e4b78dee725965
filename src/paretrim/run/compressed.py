"""From a module and its loaders to a deployed file in one call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Unpack

import torch
from rich.console import Console
from torch import nn

from paretrim.data.user_loader import Loader
from paretrim.deploy.write import write_graph
from paretrim.errors import InvalidRecipe
from paretrim.files import folder_of, write_atomically
from paretrim.graph.entropy import summarize_weights
from paretrim.graph.types import Graph
from paretrim.history import StageOutcome
from paretrim.lock import hold
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.network.thaw import in_float32
from paretrim.report import wording
from paretrim.report.zeros import prunable_sparsity
from paretrim.run.candidate import Candidate
from paretrim.run.delivery import Experiment
from paretrim.run.judge import DeployedFiles
from paretrim.run.own import LoaderOptions, start_from_loaders
from paretrim.run.pipeline import finished_stages
from paretrim.run.progress import Watcher, silent, watching
from paretrim.run.run import after_all_stages, carry_out
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.stage import Stage
from paretrim.stages.usual import usual_stages
from paretrim.torch_settings import usual_settings
from paretrim.train.budget import Budget
from paretrim.train.fit import Report
from paretrim.visible import brief

EPOCHS = 10
"""Epochs over all stages if none are named: 2 of pruning, 4 of quantization-aware training, 4 of distillation."""


@dataclass(frozen=True, eq=False, repr=False)
class CompressedNetwork:
    """A compressed network; its deployed file was checked against the reference interpreter on training images."""

    candidate: Candidate
    deployed: DeployedFiles

    def __repr__(self) -> str:
        """What was done and the result, in one line; the weights themselves would fill pages."""
        said = f"{self.deployed.trim.stat().st_size:,} bytes in '{self.deployed.trim}'"
        if self.history:
            first, last = self.history[0], self.history[-1]
            zeros = wording.zeros(prunable_sparsity(summarize_weights(self.graph), self.history), last.sparsity)
            metric, values = last.judged_by, (first.value_before, last.value_after)
            change = f"validation {metric.name} {' → '.join(map(metric.text, values))}"
            said = f"{' → '.join(stage.name for stage in self.history)}, {change}, zeros: {zeros}, {said}"
        if self.deployed.onnx_problem:
            said = f"{said}, no ONNX file: {self.deployed.onnx_problem}"
        return f"CompressedNetwork({said})"

    @cached_property
    def network(self) -> nn.Module:
        """What ships, as a torch module on the CPU: logits [N, K] of images as the deployed file takes them.

        If the network is quantized, it computes the file's own integers and gives the native runtime's logits to the last bit; if
        not, the file's weights, and logits differ by float32 rounding. It does not train: :attr:`trainable` does.
        """
        with usual_settings():
            if self.graph.quantized:
                return IntegerNetwork(self.graph, torch.device("cpu")).eval()
            return Network(in_float32(self.graph)).eval().requires_grad_(requires_grad=False)

    @property
    def trainable(self) -> Network:
        """The network as it was trained, to train further: if quantized, a simulation in float32 of the integers that ship.

        Its logits are not the file's: a value near the middle of two steps may fall to the other side. Where classes are nearly
        tied, as in a network with random weights, that changes the class of many images.
        """
        return self.candidate.network

    @property
    def graph(self) -> Graph:
        """The frozen graph: what ships."""
        return self.deployed.graph

    @property
    def history(self) -> tuple[StageOutcome, ...]:
        """What every stage did, with the metric on validation images before and after."""
        return self.candidate.history

    def save(self, path: Path | str) -> Path:
        """Write the deployed file to ``path``, in the format of its extension.

        ``.trim`` is the file that ships, ``.onnx`` is for other runtimes, ``.graph`` is the graph without entropy coding.

        Raises:
            InvalidRecipe: the name ends in something else.
            ExportMismatch: the ONNX file failed its check, or could not be written; the others are not affected.
            OutOfSpace: the disk is full.
        """
        if not isinstance(path, str | Path):
            raise InvalidRecipe(f"the path is {brief(path)}; give a text or a Path that ends in .onnx, .trim or .graph")
        target = Path(path)
        if target.suffix == ".onnx":
            source = self.deployed.delivered_onnx()
        elif target.suffix == self.deployed.trim.suffix:
            source = self.deployed.trim
        else:
            return write_graph(self.graph, target)
        write_atomically(target, source.read_bytes())
        return target


@usual_settings()
def compress(
    model: nn.Module,
    train_loader: Loader,
    validation_loader: Loader,
    *,
    stages: Sequence[Stage] | None = None,
    folder: Path | str = "paretrim-run",
    report: Report | None = None,
    **options: Unpack[LoaderOptions],
) -> CompressedNetwork:
    """Compress a trained module and deploy it. The same call with the same folder resumes where it was interrupted.

    Args:
        model: takes float images [N, C, H, W] as the loaders give them and returns what the task expects, logits by
            default; it is not changed.
        train_loader: batches of (inputs, labels) for training and calibration.
        validation_loader: batches for the values in the history.
        stages: in order; None prunes 80 % of the prunable weights in 1x4 blocks, quantizes to INT8 and distils, in 2, 4 and 4
            epochs.
        folder: where checkpoints and files are kept.
        report: called with the progress while training; None shows it on standard error, as the command line does.
        options: ``seed``, ``execution``, ``calibration_images``, ``classes``, ``data_name``, ``mean``, ``std``, ``resize`` and
            ``task``, which :func:`paretrim.start_from_loaders` explains.

    Raises:
        InvalidRecipe: ``stages`` holds something else, or ``mean``, ``std`` and ``resize`` do not fit.
        RunInUse: another process works in the folder.
        ParetrimError: the module cannot be captured, a stage failed, or the ``.trim`` file does not compute what it should.
    """
    chosen = usual_stages(EPOCHS, budget=Budget()) if stages is None else stages
    if not isinstance(chosen, list | tuple):
        raise InvalidRecipe(f"stages is {brief(chosen)}; give a list or a tuple, such as (paretrim.Prune(sparsity=0.8),)")
    place = folder_of(folder)
    for stage in chosen:
        if isinstance(stage, type) or not isinstance(stage, Stage):
            raise InvalidRecipe(f"stages holds {brief(stage)}; it must hold stages, such as paretrim.Prune(sparsity=0.8)")
    if report is not None and not callable(report):
        raise InvalidRecipe(f"report is {brief(report)}; give a function of the progress, or leave it out")
    start = start_from_loaders(model, train_loader, validation_loader, **options)
    with hold(place), _watching(report) as watcher:
        earlier, _ = finished_stages(start, chosen, place)
        if earlier:
            watcher.note(f"{earlier} of {len(chosen)} stages are taken up from '{place}'")
        made = carry_out(Experiment(start), place, after_all_stages(chosen), records=None, watcher=watcher)
        return CompressedNetwork(made.entries[-1].candidate, made.deployed[-1])


def to_int8(
    model: nn.Module,
    train_loader: Loader,
    validation_loader: Loader,
    *,
    folder: Path | str = "paretrim-int8",
    report: Report | None = None,
    **options: Unpack[LoaderOptions],
) -> CompressedNetwork:
    """Make an INT8 file of a trained module without training it: :func:`compress` with one stage of no epochs.

    The arguments are those of :func:`compress`; the first ``calibration_images`` of the training loader set the quantizers.
    """
    stages = [Quantize(budget=Budget(epochs=0))]
    return compress(model, train_loader, validation_loader, stages=stages, folder=folder, report=report, **options)


def _watching(report: Report | None) -> AbstractContextManager[Watcher]:
    """A terminal's bars or a log's lines, unless the caller has a display of its own."""
    if report is None:
        return watching(Console(stderr=True))
    return nullcontext(replace(silent(), tick=report))
