"""Arms with other patterns are compared with unstructured ones that keep equally many weights, and only with those."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest

from paretrim.history import StageOutcome
from paretrim.report import document
from paretrim.report.equal_zeros import patterns, prices
from paretrim.report.points import aggregate
from paretrim.results.outcome import Outcome

WEIGHTS = 1000


def arm(label: str, left: int, *stages: dict[str, object], weights: int = WEIGHTS, accuracy: float = 0.9) -> list[Outcome]:
    """Three runs that end with ``left`` weights that are not zero, among ``weights`` of which the file still tells."""
    history = tuple(
        StageOutcome(str(stage["stage"]), {k: v for k, v in stage.items() if k != "budget"}, 2, 1.0, 0.5, 8, 0.9, 0.9)
        for stage in stages
    )
    made = [fakes.outcome(label, seed=seed) for seed in range(3)]
    order = tuple(str(stage["stage"]) for stage in stages)
    return [
        replace(
            one,
            order=order,
            history=history,
            weights=weights,
            zeros=weights - left,
            deployed_value=accuracy + 0.001 * seed * (1 + len(label) % 2),
            latencies=(),
        )
        for seed, one in enumerate(made)
    ]


def prune(pattern: str) -> dict[str, object]:
    return {"stage": "prune", "pattern": pattern}


def together(*parts: dict[str, object]) -> dict[str, object]:
    return {"stage": "together", "parts": list(parts)}


DISTILL: dict[str, object] = {"stage": "distill"}

STUDY = [
    *arm("dense", WEIGHTS),
    *arm("single 80", 200, together(prune("unstructured"), DISTILL)),
    *arm("blocks 80", 203, together(prune("1x4"), DISTILL), accuracy=0.88),
    *arm("channels 80", 195, prune("channel"), weights=210, accuracy=0.85),
    *arm("both 80", 209, prune("channel"), prune("1x4"), weights=560, accuracy=0.87),
    *arm("blocks 75", 250, prune("1x4")),
    *arm("single 90", 100, prune("unstructured")),
    *arm("single 50", 500, prune("unstructured")),
    *arm("blocks 90", 110, prune("1x4")),
    *arm("untouched", 200, DISTILL),
]


def test_arms_with_equal_zeros_are_compared_with_single_weights() -> None:
    found = prices(aggregate(STUDY))
    compared = {price.reference.label: [point.label for point in price.others] for price in found}
    assert compared == {"single 80": ["blocks 80", "channels 80", "both 80"], "single 90": ["blocks 90"]}
    assert [price.left for price in found] == pytest.approx([0.2, 0.1])


def test_patterns_are_read_from_stages_and_from_their_parts() -> None:
    found = {point.label: set(patterns(point)) for point in aggregate(STUDY)}
    assert found["single 80"] == {"unstructured"}
    assert found["both 80"] == {"channel", "1x4"}
    assert found["untouched"] == found["dense"] == set()


def test_without_a_dense_network_nothing_is_compared() -> None:
    assert prices(aggregate([one for one in STUDY if one.label not in ("dense",)])) == ()


def test_the_page_has_a_section_for_every_share_that_is_left() -> None:
    text = document.render(STUDY)
    heading = "## The price of the pattern: 20.0 % of the weights left, against single 80"
    assert text.count("## The price of the pattern") == 2
    part = text.split(heading)[1].split("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("|")][2:]
    assert rows == ["blocks 80", "channels 80", "both 80"]
    assert "The price of the pattern" not in document.render(fakes.orders(3))
