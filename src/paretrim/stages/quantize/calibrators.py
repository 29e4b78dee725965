"""The names of the calibrators; :mod:`paretrim.stages.quantize.calibration` implements them."""

from __future__ import annotations

from typing import Literal

from paretrim.method import Method

Calibrator = Literal["minmax", "percentile", "mse", "lsq", "lsq+", "kl"]

METHODS = (
    Method(
        name="minmax",
        kind="calibrator",
        source="Jacob et al. 2018, arXiv 1712.05877",
        what="the full range observed on calibration images",
        formula="s = (max x - min x) / 255",
        recipe="minmax",
    ),
    Method(
        name="percentile",
        kind="calibrator",
        source="Wu et al. 2020, arXiv 2004.09602, section 3.2",
        what="the range without the most extreme values",
        formula="s = (P-th percentile - (100 - P)-th percentile) / 255; weights: the P-th percentile of |w| of a channel",
        recipe="percentile",
        settings=("quantize.percentile",),
    ),
    Method(
        name="mse",
        kind="calibrator",
        source="Nagel et al. 2021, arXiv 2106.08295, section 3.1",
        what="the range with the smallest mean squared error of rounding and clipping",
        formula="argmin over ratios r of 0.30, 0.31, ..., 1 of sum (x - x'(r range))^2",
        recipe="mse",
    ),
    Method(
        name="lsq",
        kind="calibrator",
        source="Esser et al. 2020 (LSQ), arXiv 1902.08153, section 2.1",
        what="the initial step as published for LSQ",
        formula="s = 2 mean|w| / sqrt(top), over unpruned weights; the same for activations",
        recipe="lsq",
    ),
    Method(
        name="lsq+",
        kind="calibrator",
        source="Bhalgat et al. 2020 (LSQ+), arXiv 2004.09576, section 3.2",
        what="weights: three standard deviations around the mean; activations: smallest squared error",
        formula="s = max(|mean - 3 std|, |mean + 3 std|) / 2^(bits - 1)",
        recipe="lsq-plus",
    ),
    Method(
        name="kl",
        kind="calibrator",
        source="Migacz 2017, 8-bit inference with TensorRT (GPU Technology Conference)",
        what="the range whose quantized histogram diverges least from the observed one",
        formula="argmin over ratios r of 1/16 to 1 of KL(histogram clipped at r || its 8-bit form)",
        recipe="kl",
    ),
)
