from dataclasses import replace

import fakes
import pytest

from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome
from paretrim.report import page, terminal, wording
from paretrim.report.points import aggregate
from paretrim.report.zeros import prunable_sparsity


def _layer(name, shape, zeros, weights):
    return WeightSummary(name, shape, "int8", zeros, weights, weights, weights / 2)


LAYERS = (
    _layer("stem", (16, 3, 3, 3), 12, 100),
    _layer("depthwise", (16, 1, 3, 3), 0, 100),
    _layer("conv", (16, 16, 3, 3), 900, 1000),
    _layer("head", (10, 16), 0, 200),
)


def _stage(**settings):
    settings = {"stage": "prune", "pattern": "unstructured", "sparsity": 0.9, **settings}
    return StageOutcome("prune", settings, 1, 1.0, 0.65, 8, 0.9, 0.9)


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({}, 900 / 1000),
        ({"first": True}, 912 / 1100),
        ({"last": True}, 900 / 1200),
        ({"depthwise": True}, 900 / 1100),
        ({"first": True, "last": True, "depthwise": True}, 912 / 1400),
        ({"pattern": "channel"}, None),
        ({"stage": "together", "parts": [{"stage": "quantize"}, {"stage": "prune", "pattern": "1x4"}]}, 900 / 1000),
        ({"stage": "quantize"}, None),
    ],
)
def test_the_share_of_prunable_weights_counts_the_layers_that_take_part(settings, share):
    assert prunable_sparsity(LAYERS, [_stage(**settings)]) == share


def test_a_later_stage_may_prune_more_layers():
    assert prunable_sparsity(LAYERS, [_stage(), _stage(last=True)]) == 900 / 1200
    assert prunable_sparsity(LAYERS, []) is None


def test_both_shares_are_said_everywhere():
    one = replace(fakes.outcome("A", order=("prune",)), layers=LAYERS, history=(_stage(),), zeros=912, weights=1400)
    (point,) = aggregate([one])
    assert wording.zeros(point.prunable_sparsity, point.sparsity) == "90.0 % of the prunable weights, 65.1 % of all"
    table = terminal.text([one])
    assert "zeros of  " in table
    for share in ("90.0 %", "65.1 %"):
        assert share in table
        assert f"<td>{share}" in page.render([one])
    assert wording.zeros(None, 0.001) == "0.1 % of all"
    assert "prunable" not in terminal.text(fakes.baseline(1))
