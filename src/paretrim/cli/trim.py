"""``inspect`` of a ``.trim`` file: the table of its bytes, and the history of its network."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from paretrim.cli.exits import DONE
from paretrim.cli.output import emit, say, show_rows
from paretrim.report import wording
from paretrim.report.zeros import prunable_sparsity
from paretrim.results.run_folder import STORE, delivered_by
from paretrim.trimfile import Inspection, Provenance, inspect
from paretrim.trimfile.provenance import task_facts
from paretrim.visible import visible


def provenance_of(folder: Path, label: str) -> Provenance:
    """What a run folder knows about one of its candidates."""
    outcomes = [one for one in delivered_by(folder) if one.label == label] if (folder / STORE).is_file() else []
    if not outcomes:
        return Provenance()
    one = outcomes[-1]
    measured: dict[str, float | int | str] = {
        "network": one.network,
        "data": one.data,
        "seed": one.seed,
        "deployed_accuracy" if one.metric is None else "deployed_value": one.deployed_value,
        "test_images": one.test_images,
        "runtime": one.runtime,
    }
    if one.metric is not None:
        measured |= task_facts(str(one.settings.get("task", "")), one.metric)
    return Provenance(one.recipe, one.history, measured)


def show(parsed: argparse.Namespace) -> int:
    """``inspect`` of a ``.trim`` file."""
    found = inspect(parsed.file)
    if parsed.json:
        emit(
            {
                "file": str(parsed.file),
                "file_bytes": found.file_bytes,
                "layers": [dataclasses.asdict(layer) for layer in found.layers],
                "records": dict(found.records),
                "outputs": {name: list(shape) for name, shape in found.outputs.items()},
                "provenance": dataclasses.asdict(found.provenance),
            }
        )
        return DONE
    prunable = prunable_sparsity(found.layers, found.provenance.history)
    show_rows(("layer", "shape", "format", "zeros", "bits/weight", "bytes", "share"), _rows(found))
    zeros, weights = (sum(getattr(layer, name) for layer in found.layers) for name in ("zeros", "weights"))
    say(f"{parsed.file}: {found.file_bytes:,} bytes, complete and undamaged")
    if len(found.outputs) > 1 or any(len(shape) > 1 for shape in found.outputs.values()):
        outputs = (f"{name} [{', '.join(map(str, ('N', *shape)))}]" for name, shape in found.outputs.items())
        say(visible(f"outputs: {', '.join(outputs)}"))
    say(f"zeros: {wording.zeros(prunable, zeros / max(weights, 1))}")
    if found.provenance != Provenance():
        known = found.provenance
        stages = " → ".join(stage.name for stage in known.history) or "no stages"
        facts = ", ".join(f"{name} {value}" for name, value in known.measured.items())
        say(visible("; ".join(part for part in (f"recipe {known.recipe}" if known.recipe else "", stages, facts) if part)))
    return DONE


def _rows(found: Inspection) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            layer.name,
            "×".join(map(str, layer.shape)),
            layer.format,
            wording.percent(layer.zeros / layer.weights, 1),
            f"{layer.bits_per_weight:.3f}",
            f"{layer.bytes:,.0f}",
            wording.percent(layer.share, 1),
        )
        for layer in found.layers
    ]
    count, zeros = sum(layer.weights for layer in found.layers), sum(layer.zeros for layer in found.layers)
    size = sum(layer.bytes for layer in found.layers)
    rows.append(
        (
            "all weights",
            "",
            "",
            wording.percent(zeros / max(count, 1), 1),
            f"{8 * size / max(count, 1):.3f}",
            f"{size:,.0f}",
            wording.percent(size / found.file_bytes, 1),
        )
    )
    rest = [(name, size) for name, size in found.records.items() if "weights" not in name]
    rows.extend((name, "", "", "", "", f"{size:,}", wording.percent(size / found.file_bytes, 1)) for name, size in rest)
    return rows
