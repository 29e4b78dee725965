"""What a run leaves behind beside its files: a line for every outcome, the index of the folder, and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paretrim.remark import remark
from paretrim.report import page
from paretrim.results import store
from paretrim.results.outcome import Choice, Outcome
from paretrim.results.run_folder import (
    INDEX,
    INSIDE,
    REPORT,
    STORE,
    changes_in,
    distributions,
    index_of,
    keep_choice,
    keep_commands,
    keep_index,
    sensitivity_in,
)
from paretrim.visible import visible


@dataclass(frozen=True)
class Records:
    """Where the outcomes of a run are kept: as lines of ``store``, under the name ``study``.

    A run folder also gets a page with the ``commands`` that reproduce it, and its index lists exactly what was delivered. In
    the ``shared`` folder of a study the index keeps the files of other recipes; the study writes its page itself.
    """

    store: Path
    study: str
    shared: bool = False
    commands: tuple[str, ...] = ()


def records_of(folder: Path, commands: Sequence[str] = ()) -> Records:
    """The records of a run that has ``folder`` to itself."""
    name = visible(folder.resolve().name)  # a name that is no UTF-8 could not be stored, after all the training
    return Records(folder / STORE, name, commands=tuple(commands))


def keep_outcomes(outcomes: Sequence[Outcome], places: Sequence[Path], folder: Path, records: Records) -> tuple[Outcome, ...]:
    """Store the outcomes, whose files are in ``places`` below ``folder``; returns them as stored.

    The index comes first: an outcome in the store is one whose files can be found.
    """
    mend(records.store)
    entries: list[dict[str, str | int]] = [
        {"label": one.label, "recipe": one.recipe, "seed": one.seed, "folder": place.relative_to(folder).as_posix()}
        for one, place in zip(outcomes, places, strict=True)
    ]
    if records.shared:
        delivered = {(entry["recipe"], entry["seed"]) for entry in entries}
        entries = [known for known in indexed(folder) if (known["recipe"], known["seed"]) not in delivered] + entries
    keep_index(folder, entries)
    stored = tuple(_stored(outcome, records.store) for outcome in outcomes)
    if not records.shared:
        (folder / INSIDE).unlink(missing_ok=True)
        keep_commands(folder, records.commands)
        write_page(stored, folder, reproduce=records.commands, choice=None)
    return stored


def mend(path: Path) -> None:
    """Move damaged lines of a store aside, so that what they said is found again, and warn."""
    if moved := store.set_aside(path):
        several = f"{moved} lines were" if moved > 1 else "a line was"
        remark(f"'{path}': {several} damaged and {'are' if moved > 1 else 'is'} now in '{path.name}.damaged'")


def indexed(folder: Path) -> list[dict[str, str | int]]:
    """The entries of a folder's index; none if nothing was delivered yet."""
    return index_of(folder) if (folder / INDEX).exists() else []


def write_page(outcomes: Sequence[Outcome], folder: Path, *, reproduce: Sequence[str], choice: Choice | None) -> None:
    """Write the report into the run folder, and keep what was chosen, if anything was."""
    keep_choice(folder, choice)
    text = page.render(
        outcomes,
        distributions=distributions(folder),
        reproduce=reproduce,
        choice=choice,
        scans=sensitivity_in(folder),
        changes=changes_in(folder),
        inside=INSIDE if (folder / INSIDE).is_file() else "",
    )
    page.write(text, folder / REPORT)


def _stored(outcome: Outcome, path: Path) -> Outcome:
    """The outcome as stored; appended unless the newest line of the same run already says the same."""
    known = store.latest(store.read(path)) if path.exists() else ()
    same = next((o for o in known if (o.study, o.recipe, o.seed) == (outcome.study, outcome.recipe, outcome.seed)), None)
    if same is not None:
        # If nothing is timed now, earlier times of the same file stay valid.
        unchanged = _essence(same) == _essence(outcome) and (not outcome.latencies or same.latencies == outcome.latencies)
        if unchanged:
            return same
    store.append(path, outcome)
    return store.decode(store.encode(outcome))  # as later readers see it


def _essence(outcome: Outcome) -> tuple[object, ...]:
    scores = (outcome.trained_value, outcome.deployed_value, outcome.agreement, outcome.runtime, outcome.onnx_value)
    problems: Mapping[str, str] = dict(outcome.onnx_problems or {})
    return (outcome.label, outcome.file_bytes, outcome.trim_bytes, outcome.layers, problems, *scores)
