"""``outliers``: ranges of weights and activations of a recipe's dense network, and how much a calibrator clips."""

from __future__ import annotations

import argparse
from typing import get_args

from paretrim.cli.exits import DONE
from paretrim.cli.output import at_work, emit, say, show_rows
from paretrim.cli.running import open_noting
from paretrim.cli.sensitivity import dense_recipe
from paretrim.cli.unused import refuse_unused
from paretrim.errors import InvalidRecipe
from paretrim.lock import hold
from paretrim.run.run import with_dense
from paretrim.run.scans import outliers as studied
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.visible import brief


def outliers(parsed: argparse.Namespace, _: str) -> int:
    """Measure the ranges and show a row for every tensor, or everything with ``--json``.

    Raises:
        InvalidRecipe: neither a recipe nor a network is named, or both are; calibrator or percentile is not allowed.
    """
    if parsed.calibrator not in get_args(Calibrator):
        raise InvalidRecipe(f"calibrator {brief(parsed.calibrator)} is unknown; choose one of {', '.join(get_args(Calibrator))}")
    if parsed.calibrator != "percentile":
        used = vars(parsed).keys() - {"percentile"}
        refuse_unused(parsed, used, f"--calibrator is {parsed.calibrator}; leave one of them out")
    if not 50 < parsed.percentile <= 100:
        raise InvalidRecipe(f"percentile is {parsed.percentile}; give a number above 50 and at most 100")
    recipe, folder = dense_recipe(parsed, "outliers")
    with hold(folder), at_work() as watcher:
        ready = with_dense(open_noting(recipe, watcher), folder, watcher)
        found = studied(ready.start, calibrator=parsed.calibrator, percentile=parsed.percentile)
    if parsed.json:
        emit({"folder": str(folder), "calibrator": parsed.calibrator, "tensors": [spread.facts() for spread in found]})
        return DONE
    headings = ("tensor", "kind", "min", "max", "grid min", "grid max", "clipped", "kurtosis")
    rows = [
        (
            spread.name,
            spread.kind,
            *(f"{end:.3g}" for end in (spread.low, spread.high, spread.clip_low, spread.clip_high)),
            f"{spread.clipped:.3%}",
            f"{spread.kurtosis:.1f}",
        )
        for spread in found
    ]
    show_rows(headings, rows)
    say("\n--json also gives the histograms before and after clipping")
    return DONE
