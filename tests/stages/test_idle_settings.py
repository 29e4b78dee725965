"""Settings of the quantize stage that nothing would read are refused; the same settings with their reader are not."""

import pytest
from tiny import NONE, dense, resources

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage
from paretrim.stages.quantize.layer_formats import Format
from paretrim.stages.quantize.mixed import Mixture
from paretrim.stages.quantize.stage import Quantize

TERNARY, POWERS = {"*": Format(grid="ternary")}, {"*": Format(grid="powers")}
LAYERS = tuple(weighted_layers(dense("residual").network))


@pytest.mark.parametrize(
    ("table", "reader", "match"),
    [
        (
            {"percentile": 99.9},
            {"calibrator": "percentile"},
            "percentile is 99.9, but only 'percentile' reads it, so it would have no effect; set calibrator or weight_calibrator",
        ),
        ({"percentile": 99.9, "calibrator": "minmax"}, {"weight_calibrator": "percentile"}, "percentile is 99.9, but only"),
        (
            {"smoothing": 0.7, "adjust": ["equalize"]},
            {"adjust": ["smooth"]},
            "smoothing is 0.7, but only 'smooth' reads it, so it would have no effect; set adjust to 'smooth', or leave",
        ),
        ({"rounding_steps": 100}, {"adjust": ["bias", "adaround"]}, "rounding_steps is 100, but only 'adaround' reads it"),
        (
            {"mixed": {"by": "divergence", "bits": 4.0, "samples": 9}},
            {"mixed": {"by": "hessian", "bits": 4.0, "samples": 9}},
            "samples is 9, but by 'divergence' draws no random vectors, so it would have no effect; leave it out",
        ),
        (
            {"mixed": {"by": "variance", "percentiles": [30.0, 30.0]}},
            {"mixed": {"by": "variance", "percentiles": [30.0, 30.5]}},
            r"percentiles are \[30.0, 30.0\] for 3 choices; give them in ascending order",  # no layer would get the second
        ),
    ],
)
def test_a_setting_without_its_reader_is_refused(table, reader, match):
    with pytest.raises(InvalidRecipe, match=match):
        parse_stage({"stage": "quantize", **table}, "stage")
    parse_stage({"stage": "quantize", **table, **reader}, "stage")


@pytest.mark.parametrize(
    ("settings", "readers", "match"),
    [
        (
            {"portions": (0.3, 1.0)},
            {"formats": POWERS},
            r"portions are \[0.3, 1.0\], but no layer's grid fixes weights in portions, as 'powers' does",
        ),
        (
            {"rate": 0.01, "formats": TERNARY},
            {"formats": {"*": Format(grid="ternary"), "head": Format(bits=8)}},
            "rate is 0.01, but no layer's grid has a price of bits, as 'uniform' has, so it would have no effect",
        ),
        (
            {"adjust": ("bias", "gptq"), "formats": TERNARY},
            {"formats": {"*": Format(grid="ternary"), "head": Format(bits=8)}},
            "adjust names 'gptq', which rounds weights on the grid 'uniform', but no layer is on it",
        ),
        (
            {"adjust": ("adaround",), "formats": {"*": Format(grid="float16")}, "activations": "float32"},
            {"formats": {"*": Format(grid="float16"), "head": Format(bits=8)}, "rounding_steps": 5},
            "adjust names 'adaround', which rounds weights on the grid 'uniform', but no layer is on it, so it would",
        ),
        (
            {"mixed": Mixture(by="latency", microseconds=1e6, times={**dict.fromkeys(LAYERS, (1.0,) * 3), "fc": (1.0,) * 3})},
            {"mixed": Mixture(by="latency", microseconds=1e6, times=dict.fromkeys(LAYERS, (1.0,) * 3), samples=1)},
            f"times names 'fc', but there is no such layer; layers are {', '.join(LAYERS)}",
        ),
    ],
)
def test_a_setting_that_no_layer_follows_is_refused_when_the_stage_begins(settings, readers, match):
    with pytest.raises(InvalidRecipe, match=match):
        Quantize(budget=NONE, **settings).begin(dense("residual").network, resources("residual"))
    run_stage(dense("residual"), Quantize(budget=NONE, **{**settings, **readers}), resources("residual"))
