"""How far weights and activations of a network that is ready to be quantized reach."""

from __future__ import annotations

from paretrim.run.start import Start
from paretrim.stages.quantize.calibrators import Calibrator
from paretrim.stages.quantize.outliers import Spread
from paretrim.stages.quantize.outliers import outliers as studied


def outliers(start: Start, *, calibrator: Calibrator = "percentile", percentile: float = 99.9) -> tuple[Spread, ...]:
    """The spread of every weight and activation of a trained network, before and after the clipping of a calibrator.

    Args:
        start: the network and its data (``start_from``, ``start_from_loaders``, ``train_dense``); it stays as it is.
        calibrator: chooses the ranges, as in the ``quantize`` stage.
        percentile: of the calibrator ``percentile``, above 50 and at most 100.

    Raises:
        TrainingFailed: a value is not finite on calibration images.
    """
    network = start.network.to(start.execution.torch_device())
    return studied(network, start.calibration.to(start.execution.torch_device()), calibrator=calibrator, percentile=percentile)
