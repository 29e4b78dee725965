"""``bench --layers``: how the native runtime computes every layer of one file, and how fast."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretrim.cli.exits import DONE
from paretrim.cli.output import emit, say, show_rows
from paretrim.cli.reading import kind_of
from paretrim.cli.unused import refuse_unused
from paretrim.errors import InvalidRecipe
from paretrim.report import wording

if TYPE_CHECKING:
    from paretrim.runtime import LayerTime, Session


def show_layers(parsed: argparse.Namespace) -> int:
    """Show every layer's time, share, zeros, useful multiply-adds per second and share of the CPU's peak."""
    from paretrim.runtime import load, peak_multiply_adds_a_second

    refuse_unused(parsed, ("files", "layers", "seed", "limit"), "--layers times one image on one thread; leave one of them out")
    if len(parsed.files) > 1:
        raise InvalidRecipe(f"--layers shows one file and was given {len(parsed.files)}; name one .trim file")
    file: Path = parsed.files[0]
    kind_of(file)  # a wrong file name is wrong usage
    session = load(file)
    layers = session.profile(_image(session, parsed.seed))
    peak = peak_multiply_adds_a_second(session.instruction_set)
    if parsed.json:
        emit(
            {
                "file": str(file),
                "instruction_set": session.instruction_set,
                "peak_multiply_adds_a_second": peak,
                "layers": [dataclasses.asdict(layer) | _rates(layer, peak) for layer in layers],
            }
        )
        return DONE
    _show(layers, peak)
    say(
        f"{file}: one image on one thread, median of each layer; {session.instruction_set}, measured peak {peak / 1e9:.0f} GMAC/s"
    )
    return DONE


def _image(session: Session, seed: int) -> np.ndarray:
    stream = np.random.default_rng(seed)
    if session.takes_pixels:
        return stream.integers(0, 256, session.shape, np.uint8)
    return stream.standard_normal(session.shape, np.float32)


def _rates(layer: LayerTime, peak: float) -> dict[str, float]:
    seconds = max(layer.time_ns, 1) / 1e9
    return {
        "useful_multiply_adds_a_second": layer.useful_multiply_adds / seconds,
        "share_of_peak": layer.issued_multiply_adds / seconds / peak,
    }


def _show(layers: Sequence[LayerTime], peak: float) -> None:
    total = sum(layer.time_ns for layer in layers)
    rows = [_row(layer, total, peak) for layer in layers]
    headings = ("layer", "time µs", "share", "zeros", "useful GMAC/s", "of the peak", "kernel")
    show_rows(headings, [*rows, ("all layers", f"{total / 1e3:.1f}", "", "", "", "", "")])


def _row(layer: LayerTime, total: int, peak: float) -> tuple[str, ...]:
    name = layer.layer or layer.name
    time, share = f"{layer.time_ns / 1e3:.1f}", wording.percent(layer.time_ns / max(total, 1), 1)
    if not layer.weights:
        return name, time, share, "", "", "", layer.kernel
    rates = _rates(layer, peak)
    useful = f"{rates['useful_multiply_adds_a_second'] / 1e9:.1f}"
    zeros = wording.percent(layer.zeros / layer.weights, 1)
    return name, time, share, zeros, useful, wording.percent(rates["share_of_peak"], 1), layer.kernel
