"""INT8 without training by ONNX Runtime's static quantizer: network prepared, QDQ format, with its defaults."""

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Images(CalibrationDataReader):
    """Calibration images, one at a time."""

    def __init__(self) -> None:
        self.images = iter(np.load("calibration.npz")["images"])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Inputs of the next call."""
        image = next(self.images, None)
        return None if image is None else {"input": image[None]}


quant_pre_process("model.onnx", "prepared.onnx")
quantize_static("prepared.onnx", "int8.onnx", Images(), quant_format=QuantFormat.QDQ)
