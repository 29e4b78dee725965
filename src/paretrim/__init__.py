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
    from paretrim.bench.types import Arm
    from paretrim.data.spec import DataSpec
    from paretrim.deploy.onnx_file import export_onnx
    from paretrim.deploy.runnable import open_runnable
    from paretrim.errors import ParetrimError
    from paretrim.models.spec import ModelSpec
    from paretrim.network.thaw import network_from_file
    from paretrim.results.outcome import Outcome
    from paretrim.run.candidate import Candidate, load_candidate
    from paretrim.run.compressed import Compressed, compress, to_int8
    from paretrim.run.own import start_from_loaders
    from paretrim.run.pipeline import run_stages
    from paretrim.run.recipe import Recipe, read_recipe
    from paretrim.run.run import run_recipe
    from paretrim.run.start import Start
    from paretrim.stages.distill.stage import Distill
    from paretrim.stages.finetune import FineTune
    from paretrim.stages.prune.stage import Prune
    from paretrim.stages.quantize.stage import Quantize
    from paretrim.stages.stage import Stage
    from paretrim.stages.together import Together
    from paretrim.train.budget import Budget
    from paretrim.train.execution import Execution

__version__ = "0.1.0"

__all__ = [
    "Arm",
    "Budget",
    "Candidate",
    "Compressed",
    "DataSpec",
    "Distill",
    "Effort",
    "Execution",
    "FineTune",
    "ModelSpec",
    "Outcome",
    "ParetrimError",
    "Prune",
    "Quantize",
    "Recipe",
    "Stage",
    "Start",
    "Together",
    "compress",
    "export_onnx",
    "load_candidate",
    "measure",
    "network_from_file",
    "open_runnable",
    "read_recipe",
    "run_recipe",
    "run_stages",
    "start_from_loaders",
    "summarize",
    "to_int8",
]

_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "Arm": "bench.types",
        "Budget": "train.budget",
        "Candidate": "run.candidate",
        "Compressed": "run.compressed",
        "DataSpec": "data.spec",
        "Distill": "stages.distill.stage",
        "Effort": "bench.effort",
        "Execution": "train.execution",
        "FineTune": "stages.finetune",
        "ModelSpec": "models.spec",
        "Outcome": "results.outcome",
        "ParetrimError": "errors",
        "Prune": "stages.prune.stage",
        "Quantize": "stages.quantize.stage",
        "Recipe": "run.recipe",
        "Stage": "stages.stage",
        "Start": "run.start",
        "Together": "stages.together",
        "compress": "run.compressed",
        "export_onnx": "deploy.onnx_file",
        "load_candidate": "run.candidate",
        "measure": "bench.protocol",
        "network_from_file": "network.thaw",
        "open_runnable": "deploy.runnable",
        "read_recipe": "run.recipe",
        "run_recipe": "run.run",
        "run_stages": "run.pipeline",
        "start_from_loaders": "run.own",
        "summarize": "bench.statistics",
        "to_int8": "run.compressed",
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
