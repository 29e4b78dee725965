"""Paretrim: the frontier of smaller, faster versions of a trained vision network, measured on the files that ship.

Names are resolved when they are first used, so that importing the package, or running a deployed file, does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretrim.bench.effort import Effort
    from paretrim.bench.protocol import measure
    from paretrim.bench.statistics import summarize
    from paretrim.bench.types import Deployment
    from paretrim.data.batches import Batch
    from paretrim.data.spec import DataSpec
    from paretrim.data.user_loader import IndexedDataset
    from paretrim.deploy.onnx_file import export_onnx
    from paretrim.deploy.runnable import open_runnable
    from paretrim.errors import DataUnavailable, InvalidRecipe, ParetrimError
    from paretrim.metric import Metric
    from paretrim.models.spec import ModelSpec
    from paretrim.network.constraints import WeightedLayer, replace_mask_, set_mask_, weighted_layers
    from paretrim.network.grids import ActivationGrid, Grid, PlainGrid, WeightGrid, WeightSettings
    from paretrim.network.network import Network
    from paretrim.network.rounding import straight_through
    from paretrim.network.thaw import network_from_file
    from paretrim.results.outcome import Outcome
    from paretrim.results.timing import RuntimeSetting
    from paretrim.run.candidate import Candidate, load_candidate
    from paretrim.run.compressed import CompressedNetwork, compress, to_int8
    from paretrim.run.delivery import TimingPlan
    from paretrim.run.own import start_from_loaders
    from paretrim.run.pipeline import run_stage, run_stages, train_dense
    from paretrim.run.recipe import Recipe, read_recipe
    from paretrim.run.run import run_recipe
    from paretrim.run.scans import sensitivity
    from paretrim.run.start import Start, start_from
    from paretrim.search.trial import Evaluator, Trial, evaluator
    from paretrim.stages.distill.stage import Distill
    from paretrim.stages.finetune import FineTune
    from paretrim.stages.gradients import calibration_gradients
    from paretrim.stages.prune.score_table import Score
    from paretrim.stages.prune.stage import Prune
    from paretrim.stages.quantize.layer_formats import Format
    from paretrim.stages.quantize.stage import Quantize
    from paretrim.stages.stage import GrowingStage, Stage
    from paretrim.stages.together import Together
    from paretrim.train.budget import Budget
    from paretrim.train.execution import Execution
    from paretrim.train.losses import LossTerm, Outputs, cross_entropy, softened_kl, task_loss
    from paretrim.train.resources import Resources, Teacher
    from paretrim.train.task import Classification, Task
    from paretrim.train.tasks import Regression
    from paretrim.train.training import Step, Training

__version__ = "0.1.0"

__all__ = [
    "ActivationGrid",
    "Batch",
    "Budget",
    "Candidate",
    "Classification",
    "CompressedNetwork",
    "DataSpec",
    "DataUnavailable",
    "Deployment",
    "Distill",
    "Effort",
    "Evaluator",
    "Execution",
    "FineTune",
    "Format",
    "Grid",
    "GrowingStage",
    "IndexedDataset",
    "InvalidRecipe",
    "LossTerm",
    "Metric",
    "ModelSpec",
    "Network",
    "Outcome",
    "Outputs",
    "ParetrimError",
    "PlainGrid",
    "Prune",
    "Quantize",
    "Recipe",
    "Regression",
    "Resources",
    "RuntimeSetting",
    "Score",
    "Stage",
    "Start",
    "Step",
    "Task",
    "Teacher",
    "TimingPlan",
    "Together",
    "Training",
    "Trial",
    "WeightGrid",
    "WeightSettings",
    "WeightedLayer",
    "calibration_gradients",
    "compress",
    "cross_entropy",
    "evaluator",
    "export_onnx",
    "load_candidate",
    "measure",
    "network_from_file",
    "open_runnable",
    "read_recipe",
    "replace_mask_",
    "run_recipe",
    "run_stage",
    "run_stages",
    "sensitivity",
    "set_mask_",
    "softened_kl",
    "start_from",
    "start_from_loaders",
    "straight_through",
    "summarize",
    "task_loss",
    "to_int8",
    "train_dense",
    "weighted_layers",
]

_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "ActivationGrid": "network.grids",
        "Batch": "data.batches",
        "Budget": "train.budget",
        "Candidate": "run.candidate",
        "Classification": "train.task",
        "CompressedNetwork": "run.compressed",
        "DataSpec": "data.spec",
        "DataUnavailable": "errors",
        "Deployment": "bench.types",
        "Distill": "stages.distill.stage",
        "Effort": "bench.effort",
        "Evaluator": "search.trial",
        "Execution": "train.execution",
        "FineTune": "stages.finetune",
        "Format": "stages.quantize.layer_formats",
        "Grid": "network.grids",
        "GrowingStage": "stages.stage",
        "IndexedDataset": "data.user_loader",
        "InvalidRecipe": "errors",
        "LossTerm": "train.losses",
        "Metric": "metric",
        "ModelSpec": "models.spec",
        "Network": "network.network",
        "Outcome": "results.outcome",
        "Outputs": "train.losses",
        "ParetrimError": "errors",
        "PlainGrid": "network.grids",
        "Prune": "stages.prune.stage",
        "Quantize": "stages.quantize.stage",
        "Recipe": "run.recipe",
        "Regression": "train.tasks",
        "Resources": "train.resources",
        "RuntimeSetting": "results.timing",
        "Score": "stages.prune.score_table",
        "Stage": "stages.stage",
        "Start": "run.start",
        "Step": "train.training",
        "Task": "train.task",
        "Teacher": "train.resources",
        "TimingPlan": "run.delivery",
        "Together": "stages.together",
        "Training": "train.training",
        "Trial": "search.trial",
        "WeightGrid": "network.grids",
        "WeightSettings": "network.grids",
        "WeightedLayer": "network.constraints",
        "calibration_gradients": "stages.gradients",
        "compress": "run.compressed",
        "cross_entropy": "train.losses",
        "evaluator": "search.trial",
        "export_onnx": "deploy.onnx_file",
        "load_candidate": "run.candidate",
        "measure": "bench.protocol",
        "network_from_file": "network.thaw",
        "open_runnable": "deploy.runnable",
        "read_recipe": "run.recipe",
        "replace_mask_": "network.constraints",
        "run_recipe": "run.run",
        "run_stage": "run.pipeline",
        "run_stages": "run.pipeline",
        "sensitivity": "run.scans",
        "set_mask_": "network.constraints",
        "softened_kl": "train.losses",
        "start_from": "run.start",
        "start_from_loaders": "run.own",
        "straight_through": "network.rounding",
        "summarize": "bench.statistics",
        "task_loss": "train.losses",
        "to_int8": "run.compressed",
        "train_dense": "run.pipeline",
        "weighted_layers": "network.constraints",
    }
)
"""Module of every public name. Type checkers read the imports above; a test holds that both say the same."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'paretrim' has no attribute '{name}'")
    value: object = getattr(import_module(f"paretrim.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
