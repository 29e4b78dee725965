"""Writes and reads the folder of a run; nothing here needs torch."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from paretrim.bench.protocol import digest
from paretrim.bench.raw import load_session
from paretrim.curves import Sensitivity, sensitivity_of
from paretrim.errors import CorruptFile
from paretrim.files import DAMAGE, NO_REGULAR, NONE, is_folder, read_json, read_regular, why_no_file, write_atomically
from paretrim.remark import remark
from paretrim.results import store
from paretrim.results.comparison import Comparison, comparison_of
from paretrim.results.outcome import Choice, Outcome, require_plausible
from paretrim.visible import brief

ONNX_FILE, TRIM_FILE = "model.onnx", "model.trim"
"""Names of a candidate's deployed files: for ONNX Runtime and OpenVINO, and for the native runtime and the reference."""

OLDER_GRAPH_FILE = "model.graph"
"""What earlier versions wrote instead of :data:`TRIM_FILE`."""

ONNX_PROBLEM = "onnx-problem.json"
"""Says why there is no :data:`ONNX_FILE`, and which versions of packages found that out."""

INDEX = "index.json"
"""What the latest command in a folder delivered: label, recipe digest, seed and folder of the files, one entry a candidate."""

COMMANDS = "reproduce.json"
"""The commands that reproduce the folder's numbers, as they were given."""

CHOICE = "choice.json"
"""What a search towards targets chose, and why; only in folders of ``paretrim compress``."""

SENSITIVITY = "sensitivity.json"
"""Scans of the dense network's layers; only if ``paretrim sensitivity`` was run."""

CHANGES = "changes.json"
"""In the folder of a candidate's files: how its decisions differ from the run's first candidate's."""

INSIDE = "inside.html"
"""The comparison of the insides of the first and the chosen network; only with ``--inside``."""

LARGEST_JSON = 2**24
"""Most bytes of the small files beside the outcomes."""

STORE = "outcomes.jsonl"
REPORT = "report.html"
TIMINGS = "timings"


_AGAIN = "give the command that made the folder"


def _leave_out(path: Path, error: Exception, again: str) -> None:
    """Warn that what a file beside the outcomes says is missing: the page does without it."""
    remark(f"'{path}' cannot be read ({error}), so the page does without it; to have it again, {again} again")


def keep_commands(folder: Path, commands: Sequence[str]) -> None:
    """Store the commands that made the folder's contents; none if a program made it.

    Raises:
        OutOfSpace: the disk is full.
    """
    write_atomically(folder / COMMANDS, json.dumps(list(commands)).encode())


def commands_of(folder: Path) -> tuple[str, ...]:
    """What :func:`keep_commands` wrote; none where there is no such file, or a damaged one, which a warning says."""
    path = folder / COMMANDS
    try:
        commands = json.loads(read_regular(path, at_most=LARGEST_JSON))
        if not isinstance(commands, list):
            raise TypeError(f"{type(commands).__name__}, not a list")
        return tuple(str(command) for command in commands)
    except FileNotFoundError:
        return ()
    except DAMAGE as error:
        _leave_out(path, error, _AGAIN)
        return ()


def keep_choice(folder: Path, choice: Choice | None) -> None:
    """Store what was chosen; with None, remove what an earlier command chose.

    Raises:
        OutOfSpace: the disk is full.
    """
    path = folder / CHOICE
    if choice is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, json.dumps(dataclasses.asdict(choice), indent=1).encode())


def choice_of(folder: Path) -> Choice | None:
    """What :func:`keep_choice` wrote; None where there is no such file, or a damaged one, which a warning says."""
    path = folder / CHOICE
    try:
        facts = json.loads(read_regular(path, at_most=LARGEST_JSON))
        targets, said, problems = ([*map(str, facts[key])] for key in ("targets", "facts", "problems"))
        words = str(facts["label"]), str(facts["file"]), tuple(targets), str(facts["reason"])
        return Choice(*words, tuple(said), tuple(problems))
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        _leave_out(path, error, _AGAIN)
        return None


def keep_sensitivity(folder: Path, scans: Sequence[Sensitivity]) -> None:
    """Store scans of the dense network's layers.

    Raises:
        OutOfSpace: the disk is full.
    """
    write_atomically(folder / SENSITIVITY, json.dumps([scan.facts() for scan in scans], allow_nan=False).encode())


def sensitivity_in(folder: Path) -> tuple[Sensitivity, ...]:
    """What :func:`keep_sensitivity` wrote; none where there is no such file, or a damaged one, which a warning says."""
    path = folder / SENSITIVITY
    try:
        return tuple(sensitivity_of(facts) for facts in json.loads(read_regular(path, at_most=LARGEST_JSON)))
    except FileNotFoundError:
        return ()
    except DAMAGE as error:
        _leave_out(path, error, "run paretrim sensitivity")
        return ()


def change_in(folder: Path, sha256: str | None = None) -> Comparison | None:
    """How the decisions of the candidate deployed into ``folder`` differ from those of the first of its run.

    With ``sha256``, only if it was found for those files. None if that is not known or its file is damaged: the run's command
    then compares again.
    """
    try:
        facts = json.loads(read_regular(folder / CHANGES, at_most=LARGEST_JSON))
        return comparison_of(facts["comparison"]) if sha256 in (None, facts["sha256"]) else None
    except DAMAGE:
        return None


def keep_change(folder: Path, sha256: str, found: Comparison) -> None:
    """Store what :func:`change_in` reads; ``sha256`` identifies the files.

    Raises:
        OutOfSpace: the disk is full.
    """
    facts = {"sha256": sha256, "comparison": dataclasses.asdict(found)}
    write_atomically(folder / CHANGES, json.dumps(facts, allow_nan=False).encode())


def changes_in(folder: Path) -> dict[str, Comparison]:
    """How the decisions of a run folder's candidates differ from its first one's, by label; empty if not known."""
    if not (folder / INDEX).is_file():
        return {}
    found = {str(entry["label"]): change_in(folder / str(entry["folder"])) for entry in index_of(folder)[1:]}
    return {label: change for label, change in found.items() if change is not None}


def distributions(folder: Path) -> dict[str, list[float]]:
    """Raw latencies in ms of the sessions in a run folder, by ``label|runtime|threads``, for the page.

    The runtime is the one that the session is about and its file is named after; not every deployment has to have run in it.
    A damaged session is left out, which a warning says.
    """
    found = {}
    for path in sorted((folder / TIMINGS).glob("*.npz")):
        runtime = path.stem.rpartition("-")[0]
        try:
            timings = load_session(path).timings
        except CorruptFile as error:
            remark(f"the times in it are left out: {error}")
            continue
        for timing in timings:
            found[f"{timing.deployment.name}|{runtime}|{timing.deployment.threads}"] = [
                sample / 1e6 for process in timing.samples_ns for sample in process
            ]
    return found


def graph_file_in(folder: Path) -> Path:
    """The file that holds the graph of the candidate deployed into ``folder``: ``.trim``, or ``.graph`` from an earlier version.

    Raises:
        CorruptFile: there is neither.
    """
    for name in (TRIM_FILE, OLDER_GRAPH_FILE):
        if (folder / name).is_file():
            return folder / name
    raise CorruptFile(f"'{folder}' has neither {TRIM_FILE} nor {OLDER_GRAPH_FILE}; run the command that made it again")


def keep_onnx_problem(folder: Path, problem: str, versions: Mapping[str, str]) -> None:
    """Store why the candidate deployed into ``folder`` has no ONNX file.

    Raises:
        OutOfSpace: the disk is full.
    """
    write_atomically(folder / ONNX_PROBLEM, json.dumps({"problem": problem, "versions": dict(versions)}, indent=1).encode())


def onnx_problem_in(folder: Path, versions: Mapping[str, str] | None = None) -> str | None:
    """What :func:`keep_onnx_problem` wrote; with ``versions``, only if it was found with these versions."""
    try:
        facts = cast(dict[str, Any], read_json(folder / ONNX_PROBLEM, at_most=LARGEST_JSON))
        return str(facts["problem"]) if versions is None or facts["versions"] == dict(versions) else None
    except DAMAGE:
        return None  # missing or damaged: exporting again will find out again


def keep_digest(written: Path, file: Path) -> None:
    """Store the digest of a file that is about to get its name, so that damage is seen later; a ``.trim`` file has its own.

    Raises:
        OutOfSpace: the disk is full.
    """
    write_atomically(_digest_of(file), f"{digest(written)}  {file.name}\n".encode())


def is_as_written(file: Path) -> bool:
    """Whether a file has the digest that :func:`keep_digest` stored; true if none was, as by earlier versions."""
    if not file.exists():
        return False
    try:
        return read_regular(_digest_of(file), at_most=LARGEST_JSON).startswith(digest(file).encode())
    except FileNotFoundError:
        return True
    except DAMAGE:
        return False


def _digest_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def delivered_by(path: Path) -> tuple[Outcome, ...]:
    """Outcomes of a store file, or of what the latest command in a run folder delivered; the newest of repeated runs.

    Raises:
        CorruptFile: there is no such store, or it or the folder's index is damaged.
    """
    source = path / STORE if is_folder(path) else path
    reason = why_no_file(source)
    if reason not in ("", NONE, NO_REGULAR):
        raise CorruptFile(f"'{source}' cannot be read: {reason}; check the path and its permissions")
    if reason:
        _refuse_without_outcomes(path)
        raise CorruptFile(f"'{path}' holds no outcomes: there is no file '{source}'; give a run folder or a .jsonl store")
    outcomes = store.latest(store.read(source))
    for outcome in outcomes:
        require_plausible(outcome, f"'{source}'")
    if not path.is_dir() or not (path / INDEX).exists():
        return outcomes
    wanted = {(entry["recipe"], entry["seed"]) for entry in index_of(path)}
    return tuple(outcome for outcome in outcomes if (outcome.recipe, outcome.seed) in wanted)


def keep_index(folder: Path, entries: Sequence[Mapping[str, str | int]]) -> None:
    """Write the run folder's index: label, recipe digest, seed and folder of every candidate's files.

    Raises:
        OutOfSpace: the disk is full.
    """
    write_atomically(folder / INDEX, json.dumps([dict(entry) for entry in entries], indent=1).encode())


def index_of(folder: Path) -> list[dict[str, str | int]]:
    """The entries of a run folder's index, in the order of delivery.

    Raises:
        CorruptFile: there is none, or it is damaged.
    """
    path = folder / INDEX
    if not path.exists():
        _refuse_without_outcomes(folder)
        raise CorruptFile(f"'{folder}' is no run folder: it has no {INDEX}; name the folder of paretrim run or compress")
    try:
        entries = json.loads(read_regular(path, at_most=LARGEST_JSON))
        if not isinstance(entries, list):
            raise TypeError(f"{type(entries).__name__}, not a list")
        if not entries:
            raise ValueError("it lists nothing")
        return [_entry(entry) for entry in entries]
    except DAMAGE as error:
        raise CorruptFile(f"'{path}' cannot be read ({error}); run the command that made the folder again to write it") from error


def _entry(facts: Mapping[str, object]) -> dict[str, str | int]:
    """One entry of the index; its folder is one below the run folder."""
    label, recipe, seed, folder = (facts[key] for key in ("label", "recipe", "seed", "folder"))
    if not isinstance(label, str) or not isinstance(recipe, str) or not isinstance(folder, str) or type(seed) is not int:
        raise TypeError("an entry has a label, a recipe and a folder, which are strings, and a seed, which is a whole number")
    if not folder.isprintable() or not folder or Path(folder).is_absolute() or ".." in Path(folder).parts:
        raise ValueError(f"folder {brief(folder)} of an entry is not below the run folder")
    return {"label": label, "recipe": recipe, "seed": seed, "folder": folder}


def _refuse_without_outcomes(folder: Path) -> None:
    """Raise an error that says what to do with a folder in which stages are finished but nothing was judged."""
    if not is_folder(folder / "stages"):
        return
    kinds = ((folder / "deployed").glob(f"*/{name}") for name in (TRIM_FILE, ONNX_FILE))
    files = sorted(itertools.chain(*kinds), key=lambda file: file.stat().st_mtime)
    if not files:
        raise CorruptFile(f"'{folder}' has no outcomes yet: the run in it is not finished; give its command again")
    raise CorruptFile(
        f"'{folder}' has deployed files and no outcomes. Either its run was stopped before it judged them; then give its command "
        "again. Or paretrim.compress() made it from Python, which sees no test images: accuracies are in the result's .history, "
        f"the newest file is '{files[-1]}', and 'paretrim bench' times such files against each other. For a report, use "
        "'paretrim compress --model package.module:factory --data imagefolder:DIR' instead"
    )
