"""What a run leaves in its folder, and reading it back; nothing here needs torch."""

from __future__ import annotations

import json
from pathlib import Path

from paretrim.bench.raw import load_session
from paretrim.errors import CorruptFile
from paretrim.outcome import Outcome
from paretrim.study import store

INDEX = "index.json"
"""What the latest command in a folder delivered: label, recipe digest, seed and folder of the files, one entry a candidate."""

STORE = "outcomes.jsonl"
REPORT = "report.html"
TIMINGS = "timings"


def distributions(folder: Path) -> dict[str, list[float]]:
    """Raw latencies in ms of the sessions a run folder keeps, by ``label|runtime|threads``, as the page wants them."""
    found = {}
    for path in sorted((folder / TIMINGS).glob("*.npz")):
        for timing in load_session(path).timings:
            key = f"{timing.arm.name}|{timing.arm.runtime}|{timing.arm.threads}"
            found[key] = [sample / 1e6 for process in timing.samples_ns for sample in process]
    return found


def delivered_by(path: Path) -> tuple[Outcome, ...]:
    """Outcomes of a store file, or of what the latest command in a run folder delivered; of repeated runs the newest.

    Raises:
        CorruptFile: there is no such store, or it or the folder's index is damaged.
    """
    source = path / STORE if path.is_dir() else path
    if not source.is_file():
        raise CorruptFile(f"'{path}' holds no outcomes: there is no file '{source}'; give a run folder or a .jsonl store")
    outcomes = store.latest(store.read(source))
    if not path.is_dir() or not (path / INDEX).exists():
        return outcomes
    wanted = {(entry["recipe"], entry["seed"]) for entry in index_of(path)}
    return tuple(outcome for outcome in outcomes if (outcome.recipe, outcome.seed) in wanted)


def index_of(folder: Path) -> list[dict[str, str | int]]:
    """The entries of a run folder's index, in the order of delivery.

    Raises:
        CorruptFile: there is none, or it is damaged.
    """
    path = folder / INDEX
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{key: entry[key] for key in ("label", "recipe", "seed", "folder")} for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptFile(f"'{path}' cannot be read ({error}); run the command that made the folder again to write it") from error
