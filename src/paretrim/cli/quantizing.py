"""``quantize``: a trained network as INT8 or 16-bit float files, without training."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from paretrim.cli.exits import DONE
from paretrim.cli.looking import look_into, require_classes
from paretrim.cli.measuring import measuring_of
from paretrim.cli.output import at_work, emit, say
from paretrim.cli.running import folder_for, open_noting, outcomes_json, recipe_of, show
from paretrim.errors import ExportMismatch, InvalidRecipe
from paretrim.files import write_atomically
from paretrim.lock import hold
from paretrim.models.catalog import NETWORKS
from paretrim.results.outcome import Choice
from paretrim.run.drop import drop_between, loses
from paretrim.run.judge import DeployedFiles
from paretrim.run.plan_text import doubt
from paretrim.run.recipe import Recipe
from paretrim.run.records import records_of, write_page
from paretrim.run.run import after_every_stage, carry_out

LABELS = {"int8": "INT8", "int8-weights": "INT8 weights", "float16": "float16", "bfloat16": "bfloat16"}
"""Names of formats in tables; files are named after the format itself."""


def quantize(parsed: argparse.Namespace, command_line: str) -> int:
    """Quantize a network without training, and report the loss of accuracy on the test images."""
    out: Path | None = parsed.out
    if out is not None and out.suffix not in (".trim", ".onnx"):
        raise InvalidRecipe(f"--out is '{out}'; name a file that ends in .trim or .onnx")
    recipe, measuring = _recipe(parsed), measuring_of(parsed)
    if parsed.inside:
        require_classes(recipe)
    folder: Path = parsed.folder or folder_for(parsed, "-int8")
    with hold(folder), at_work() as watcher:
        experiment = open_noting(recipe, watcher)
        records, candidates = records_of(folder, (command_line,)), after_every_stage(recipe.stages, recipe.label)
        done = carry_out(experiment, folder, candidates, records=records, measuring=measuring, watcher=watcher)
        files = _written(done.deployed[-1], folder, out, parsed.format)
        dense, int8 = done.judgements
        drop = drop_between(dense.image_scores(), int8.image_scores(), experiment.start.task)
        lost = f"test: {loses(drop)}"
        warning = doubt(dense.deployed_value, dense.test_images, experiment.start.guessed_among, kind="test")
        if warning:
            watcher.note(warning)
        label = _label(parsed)
        choice = Choice(label, f"{parsed.format}.trim", (), f"{label} without training was requested", (lost,), ())
        write_page(done.outcomes, folder, reproduce=(command_line,), choice=choice)
        if parsed.inside:
            look_into(folder, experiment)
    if parsed.json:
        names = [str(file) for file in files]
        emit({**outcomes_json(done.outcomes, folder), "files": names, "test_drop": dataclasses.asdict(drop.interval)})
        return DONE
    show(done.outcomes, folder, parsed)
    say(lost)
    for file in files:
        say(f"wrote {file}: {file.stat().st_size:,} bytes")
    return DONE


def _label(parsed: argparse.Namespace) -> str:
    """The name of the quantized network in tables, with the bits of its weights if they are not the default."""
    usual = parsed.weight_bits in (None, 8)
    return LABELS[parsed.format] if usual else f"{LABELS[parsed.format]}, {parsed.weight_bits} bits per weight"


def _recipe(parsed: argparse.Namespace) -> Recipe:
    if parsed.model in NETWORKS and parsed.weights is None:
        raise InvalidRecipe(
            f"network '{parsed.model}' is not trained; give its --weights FILE, or train it first with: "
            f"paretrim compress --int8 --model {parsed.model} --data {parsed.data} --dense-epochs N"
        )
    if parsed.rounding_steps is not None and "adaround" not in (parsed.adjust or ()):
        raise InvalidRecipe("--rounding-steps would have no effect: it is for adaround; add --adjust adaround")
    given = {name: getattr(parsed, name) for name in ("weight_bits", "rate", "adjust", "rounding_steps")}
    stage = {"stage": "quantize", "budget": {"epochs": 0}, **{key: value for key, value in given.items() if value is not None}}
    if parsed.format != "int8":
        stage["activations"] = "float32"
    if parsed.format in ("float16", "bfloat16"):
        if parsed.weight_bits is not None:
            raise InvalidRecipe(
                f"--weight-bits is {parsed.weight_bits}, but --format {parsed.format} has 16; leave one of them out"
            )
        stage["formats"] = {"*": {"grid": parsed.format}}
    return recipe_of(parsed, {"stages": [stage], "label": _label(parsed)})


def _written(files: DeployedFiles, folder: Path, out: Path | None, name: str = "int8") -> list[Path]:
    """Copy the deployed files to the folder, named by format, and to ``out`` if given; return the copies.

    Raises:
        ExportMismatch: ``out`` is an ONNX file, but there is none.
    """
    written = []
    for source, suffix in ((files.trim, ".trim"), (files.onnx, ".onnx")):
        here, wanted = folder / f"{name}{suffix}", out if out is not None and out.suffix == suffix else None
        if source is None:
            here.unlink(missing_ok=True)  # from an earlier run
            if wanted is not None:
                raise ExportMismatch(
                    f"there is no ONNX file to write to '{wanted}': {files.onnx_problem}; {folder / name}.trim is written"
                )
            continue
        for copy in (here, *([wanted] if wanted is not None else [])):
            write_atomically(copy, source.read_bytes())
            written.append(copy)
    return written
