"""INT8 by NNCF for torch, trained for two epochs by the user's own loop, and converted for OpenVINO."""

import nncf
import numpy as np
import openvino
import torch
from network import trained
from training import train

images = torch.from_numpy(np.load("calibration.npz")["images"])
int8 = nncf.quantize(trained(), nncf.Dataset([image[None] for image in images]))
int8.train()
train(int8, epochs=2)
int8.eval()
openvino.save_model(openvino.convert_model(int8, example_input=images[:1], input=[1, 3, 32, 32]), "int8.xml")
