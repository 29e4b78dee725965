"""Commands that only display something: ``report`` and ``doctor``."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import cast

from paretrim.bench import machine
from paretrim.cli.exits import DONE
from paretrim.cli.output import emit, result_console, say
from paretrim.errors import CannotWrite, InvalidRecipe, MissingDependency
from paretrim.report import document, figure, page, terminal
from paretrim.report.points import aggregate
from paretrim.results import store
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import (
    INSIDE,
    REPORT,
    STORE,
    changes_in,
    choice_of,
    commands_of,
    delivered_by,
    distributions,
    sensitivity_in,
)


def report(parsed: argparse.Namespace) -> int:
    """Show one table of all sources, and write the page."""
    sources: list[Path] = [*dict.fromkeys(parsed.sources)]
    parsed.sources = sources
    for source in sources:
        if not source.exists():
            raise InvalidRecipe(f"there is no file or folder '{source}'; check the path")
    outcomes = tuple(outcome for source in sources for outcome in delivered_by(source))
    out: Path | None = parsed.out or (sources[0] / REPORT if len(sources) == 1 and sources[0].is_dir() else None)
    missing = ""
    if out:
        shapes = {key: values for source in sources if source.is_dir() for key, values in distributions(source).items()}
        commands = dict.fromkeys(command for source in sources if source.is_dir() for command in commands_of(source))
        alone = len(sources) == 1 and sources[0].is_dir()
        text = page.render(
            outcomes,
            title=parsed.title,
            distributions=shapes,
            reproduce=tuple(commands),
            choice=choice_of(sources[0]) if alone else None,
            scans=sensitivity_in(sources[0]) if alone else (),
            changes=changes_in(sources[0]) if alone else None,
            inside=_inside(sources[0], out) if alone else "",
        )
        try:
            page.write(text, out)
        except CannotWrite as error:  # somebody else's folder, say; its results can be shown all the same
            if parsed.out:
                raise
            out, missing = None, f"no page was written: {error}, or name the page with --out"
    _write_document(outcomes, parsed)
    written = {"report": out, "markdown": parsed.markdown, "figure": parsed.figure}
    if parsed.json:
        names = {kind: str(path) if path else None for kind, path in written.items()}
        emit({**names, "outcomes": [json.loads(store.encode(outcome)) for outcome in outcomes]})
        return DONE
    terminal.show(outcomes, result_console())
    for kind, path in written.items():
        if path:
            say(f"{'page' if kind == 'report' else kind}: {path}")
    if missing:
        say(missing)
    return DONE


def _inside(folder: Path, out: Path) -> str:
    """The relative address of the folder's ``--inside`` page; "" if there is none."""
    return Path(os.path.relpath(folder / INSIDE, out.parent)).as_posix() if (folder / INSIDE).is_file() else ""


def _write_document(outcomes: tuple[Outcome, ...], parsed: argparse.Namespace) -> None:
    """Write the Markdown page and its figure, if requested; links are relative, so that both can be moved together."""
    if parsed.figure:
        figure.write(aggregate(outcomes), parsed.figure)
    if parsed.markdown:
        folder = parsed.markdown.parent
        stores = [source / STORE if source.is_dir() else source for source in parsed.sources]
        document.write(
            outcomes,
            parsed.markdown,
            title=parsed.title,
            figure=_relative(parsed.figure, folder) if parsed.figure else "",
            sources=[_relative(store_file, folder) for store_file in stores],
        )


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def doctor(parsed: argparse.Namespace) -> int:
    """Describe this machine, and say whether it is quiet enough for measuring."""
    facts = machine.doctor() | {"native_runtime": _native_runtime()}
    if parsed.json:
        emit(facts)
        return DONE
    here = machine.describe()
    unquiet = cast(list[str], facts["unquiet"])
    rows = [
        ("CPU", here.processor),
        ("features", ", ".join(here.isa) or "none that Paretrim uses"),
        ("8-bit products", str(facts["advice"])),
        ("native runtime", _native_words(facts["native_runtime"])),
        ("memory", f"{here.memory_bytes / 1e9:.1f} GB"),
        ("system", f"{here.system}, Python {here.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in cast(dict[str, str], facts["versions"]).items())),
        ("compilers", "; ".join(cast(dict[str, str], facts["compilers"]).values()) or "none on the PATH"),
        ("quiet enough to measure", "yes" if not unquiet else "no: " + "; ".join(unquiet)),
    ]
    say("\n".join(f"{name:<24} {text}" for name, text in rows))
    return DONE


def _native_runtime() -> dict[str, object]:
    """Instruction sets of the native runtime on this CPU, and the peak rate of 8-bit multiply-adds of each on one thread."""
    try:
        from paretrim import runtime
    except MissingDependency as error:
        return {"missing": str(error)}
    sets = runtime.instruction_sets()
    return {
        "instruction_sets": list(sets),
        "peak_multiply_adds_a_second": {name: runtime.peak_multiply_adds_a_second(name) for name in sets},
    }


def _native_words(found: object) -> str:
    facts = cast(dict[str, object], found)
    if "missing" in facts:
        return str(facts["missing"])
    peaks = cast(dict[str, float], facts["peak_multiply_adds_a_second"])
    return ", ".join(f"{name} up to {peak / 1e9:.0f} GMAC/s per thread" for name, peak in peaks.items())
