"""``sensitivity``: the effect of zeros in one layer at a time on the dense network of a recipe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paretrim.cli.exits import DONE
from paretrim.cli.output import at_work, emit, say, show_rows
from paretrim.cli.running import compress_recipe, folder_for, open_noting, overridden
from paretrim.cli.unused import BY_THE_RECIPE, OF_COMPRESSION, WITH_A_RECIPE, refuse_unused
from paretrim.curves import Curve, Sensitivity
from paretrim.errors import InvalidRecipe
from paretrim.lock import hold
from paretrim.report import sensitivity as pictures
from paretrim.results.run_folder import REPORT, SENSITIVITY, STORE, choice_of, commands_of, delivered_by, keep_sensitivity
from paretrim.run.recipe import Recipe, read_recipe
from paretrim.run.records import write_page
from paretrim.run.run import with_dense
from paretrim.run.scans import PATTERNS, scans_for
from paretrim.run.scans import sensitivity as scanned

SHOWN = (0.5, 0.8, 0.9)
"""Sparsities in the table; the file has all of them."""


def sensitivity(parsed: argparse.Namespace, _: str) -> int:
    """Scan, store the numbers in the run folder, and show them on its page and in a table.

    Raises:
        InvalidRecipe: neither a recipe nor a network is named, or both are; a pattern or the score is not allowed.
    """
    (recipe, folder), patterns = dense_recipe(parsed, "sensitivity"), parsed.patterns or PATTERNS
    scans_for(patterns, parsed.score)
    with hold(folder), at_work() as watcher:
        ready = with_dense(open_noting(recipe, watcher), folder, watcher)
        scans = scanned(ready.start, patterns=patterns, score=parsed.score)
        keep_sensitivity(folder, scans)
        page = (folder / STORE).is_file()
        if page:
            write_page(delivered_by(folder), folder, reproduce=commands_of(folder), choice=choice_of(folder))
    if parsed.figure:
        pictures.write(scans, parsed.figure)
    if parsed.json:
        emit({"folder": str(folder), "scans": [scan.facts() for scan in scans]})
        return DONE
    for scan in scans:
        _show(scan)
    say("columns: value, and increase of the loss, with this share of zeros in one layer only")
    say(f"all points: {folder / SENSITIVITY}")
    if parsed.figure:
        say(f"figure: {parsed.figure}")
    elif not page:
        say("for a plot, run the recipe in this folder, which writes a page, or use --figure")
    if page:
        say(f"page: {folder / REPORT}")
    return DONE


def dense_recipe(parsed: argparse.Namespace, command: str) -> tuple[Recipe, Path]:
    """The recipe whose dense network ``command`` examines, from a file or from options, and its run folder.

    Raises:
        InvalidRecipe: neither is given, or both are.
    """
    if (parsed.recipe is None) == (parsed.model is None):
        raise InvalidRecipe(f"{command} needs either a recipe file, or --model and --data as for compress")
    if parsed.recipe:
        used = (*WITH_A_RECIPE, "patterns", "score", "figure", "calibrator", "percentile")
        refuse_unused(parsed, used, BY_THE_RECIPE)
        return overridden(read_recipe(parsed.recipe), parsed), parsed.folder or Path("runs") / parsed.recipe.stem
    refuse_unused(parsed, vars(parsed).keys() - OF_COMPRESSION, f"{command} examines the dense network; leave it out")
    if parsed.data is None:
        raise InvalidRecipe(f"{command} with --model needs --data too; name digits, cifar10, cifar100 or imagefolder:DIR")
    return compress_recipe(parsed), parsed.folder or folder_for(parsed)


def _show(scan: Sensitivity) -> None:
    metric = scan.metric
    dense = f"{metric.name} {metric.text(scan.value)}, loss {scan.loss:.4g}"
    say(f"\n{scan.pattern}, by {scan.score}: {dense} on {scan.images:,} images")
    if not scan.curves:
        say(f"none of the {pictures.UNITS[scan.pattern]} of this network can be removed")
        return
    headings = [f"{what} {100 * share:g} %" for what in (metric.name, "loss") for share in SHOWN]
    rows = [(curve.name, f"{curve.units:,}", *_cells(scan, curve, SHOWN)) for curve in scan.curves]
    show_rows(("layer", pictures.UNITS[scan.pattern], *headings), rows)


def _cells(scan: Sensitivity, curve: Curve, shares: Sequence[float]) -> list[str]:
    """Interpolated values at these sparsities, then increases of the loss."""
    at = np.array(shares)
    values = np.interp(at, [point.sparsity for point in curve.points], [point.value for point in curve.points])
    losses = curve.losses_at(at)
    return [scan.metric.number(float(value)) for value in values] + [f"{rise:.3f}" for rise in losses]
