"""INT8 without training by NNCF, the quantizer of OpenVINO, with its defaults (300 of the images, bias correction)."""

import nncf
import numpy as np
import openvino

images = np.load("calibration.npz")["images"]
model = openvino.Core().read_model("model.onnx")
int8 = nncf.quantize(model, nncf.Dataset([image[None] for image in images]))
openvino.save_model(int8, "int8.xml")
