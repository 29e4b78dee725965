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
    from paretrim.candidate import Candidate, load_candidate
    from paretrim.compressed import Compressed, compress, to_int8
    from paretrim.data.spec import DataSpec
    from paretrim.deploy.onnx_file import export_onnx
    from paretrim.deploy.runnable import open_runnable
    from paretrim.distill.stage import Distill
    from paretrim.errors import ParetrimError
    from paretrim.finetune import FineTune
    from paretrim.models.spec import ModelSpec
    from paretrim.outcome import Outcome
    from paretrim.own import start_from_loaders
    from paretrim.pipeline import run_stages
    from paretrim.prune.stage import Prune
    from paretrim.quantize.stage import Quantize
    from paretrim.recipe import Recipe, read_recipe
    from paretrim.run import run_recipe
    from paretrim.stage import Stage
    from paretrim.start import Start
    from paretrim.thaw import network_from_file
    from paretrim.together import Together
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
        "Candidate": "candidate",
        "Compressed": "compressed",
        "DataSpec": "data.spec",
        "Distill": "distill.stage",
        "Effort": "bench.effort",
        "Execution": "train.execution",
        "FineTune": "finetune",
        "ModelSpec": "models.spec",
        "Outcome": "outcome",
        "ParetrimError": "errors",
        "Prune": "prune.stage",
        "Quantize": "quantize.stage",
        "Recipe": "recipe",
        "Stage": "stage",
        "Start": "start",
        "Together": "together",
        "compress": "compressed",
        "export_onnx": "deploy.onnx_file",
        "load_candidate": "candidate",
        "measure": "bench.protocol",
        "network_from_file": "thaw",
        "open_runnable": "deploy.runnable",
        "read_recipe": "recipe",
        "run_recipe": "run",
        "run_stages": "pipeline",
        "start_from_loaders": "own",
        "summarize": "bench.statistics",
        "to_int8": "compressed",
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
