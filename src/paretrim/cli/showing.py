"""Commands that show what is known: ``report`` and ``doctor``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import cast

from paretrim.bench import machine
from paretrim.cli.output import emit, result_console, say
from paretrim.report import page, terminal
from paretrim.run_folder import REPORT, delivered_by, distributions
from paretrim.study import store


def report(parsed: argparse.Namespace) -> int:
    """The table of all sources together, and the page."""
    sources: list[Path] = parsed.sources
    outcomes = tuple(outcome for source in sources for outcome in delivered_by(source))
    out: Path | None = parsed.out or (sources[0] / REPORT if len(sources) == 1 and sources[0].is_dir() else None)
    if out:
        shapes = {key: values for source in sources if source.is_dir() for key, values in distributions(source).items()}
        page.write(outcomes, out, title=parsed.title, distributions=shapes)
    if parsed.json:
        emit({"report": str(out) if out else None, "outcomes": [json.loads(store.encode(outcome)) for outcome in outcomes]})
        return 0
    terminal.show(outcomes, result_console())
    if out:
        say(f"page: {out}")
    return 0


def doctor(parsed: argparse.Namespace) -> int:
    """What this machine is and whether it is fit for measuring."""
    facts = machine.doctor()
    if parsed.json:
        emit(facts)
        return 0
    here = machine.describe()
    unquiet = cast(list[str], facts["unquiet"])
    rows = [
        ("CPU", f"{here.cpu}, {here.cores} usable cores"),
        ("features", ", ".join(here.isa) or "none that matter here"),
        ("8-bit products", str(facts["advice"])),
        ("memory", f"{here.memory_bytes / 1e9:.1f} GB"),
        ("system", f"{here.system}, Python {here.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in cast(dict[str, str], facts["versions"]).items())),
        ("compilers", "; ".join(cast(dict[str, str], facts["compilers"]).values()) or "none on the path"),
        ("quiet enough to measure", "yes" if not unquiet else "no: " + "; ".join(unquiet)),
    ]
    say("\n".join(f"{name:<24} {text}" for name, text in rows))
    return 0
