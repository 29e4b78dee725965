"""The tables of distillation losses in docs/which-recipe.md, generated only from results/.

The first is of a study on CIFAR-10, the others are of digits, from results/distillation.jsonl.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from claim_verdicts import RECOVERY, compared, points, recovered
from page_parts import with_part

from paretrim.intervals import mean_interval

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "results" / "distillation.jsonl"
PAGE = ROOT / "docs" / "which-recipe.md"
BEGIN = "<!-- From here to the end marker: python benchmarks/distillation_table.py -->"
END = "<!-- end -->"
STUDY_BEGIN = "<!-- From here to the next end marker: python benchmarks/distillation_table.py -->"
STUDY_END = "<!-- end of the study -->"
PLAIN = "labels"
LEARNED: Mapping[str, tuple[str, str]] = {
    PLAIN: ("labels only", "none"),
    "kd": ("kd", "the dense ResNet-20"),
    **{f"large-{loss}": (loss, "ResNet-56") for loss in ("kd", "dkd", "hint", "attention", "crd", "review", "rkd")},
    "gradual+large-kd": ("kd, while pruning", "ResNet-56"),
    "qat+large-kd": ("kd, while training in 8 bits", "ResNet-56"),
}
"""Loss and teacher of every arm of the study, by its step."""


def study_table() -> str:
    """What every arm of the study learned from, its accuracy, and its difference from labels only."""
    rows = ["| loss | teacher | accuracy, % | difference from labels only, points |", "|---|---|---|---|"]
    plain = recovered(PLAIN)
    for step, (loss, teacher) in LEARNED.items():
        label = recovered(step)
        difference = ""
        if label != plain and (found := compared(RECOVERY, label, plain).interval):
            difference = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
        rows.append(f"| {loss} | {teacher} | {100 * points(RECOVERY)[label].deployed.value:.1f} | {difference} |")
    return "\n".join(rows)


def tables(text: str) -> str:
    """A table for every number of epochs; differences are paired by seed."""
    runs: dict[int, dict[str, Sequence[float]]] = defaultdict(dict)
    for line in map(json.loads, text.splitlines()):
        runs[line["epochs"]][line["loss"]] = line["accuracies"]
    return "\n\n".join(_table(epochs, runs[epochs]) for epochs in sorted(runs))


def _table(epochs: int, accuracies: Mapping[str, Sequence[float]]) -> str:
    plain = accuracies[PLAIN]
    rows = [
        f"{epochs} epochs, {len(plain)} seeds:",
        "",
        "| loss | accuracy, % | difference from labels, points |",
        "|---|---|---|",
    ]
    for loss, values in accuracies.items():
        difference = ""
        if loss != PLAIN:
            found = mean_interval([100 * (value - other) for value, other in zip(values, plain, strict=True)])
            difference = f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"
        rows.append(f"| {loss} | {100 * sum(values) / len(values):.1f} | {difference} |")
    return "\n".join(rows)


def page_of(page: str, lines: str) -> str:
    """The page, with the parts between its markers replaced."""
    return with_part(with_part(page, STUDY_BEGIN, STUDY_END, study_table()), BEGIN, END, tables(lines))


if __name__ == "__main__":
    PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), LINES.read_text(encoding="utf-8")), encoding="utf-8")
