"""Half of all weights removed as channels by Torch-Pruning, then INT8 by NNCF, without training."""

import nncf
import numpy as np
import openvino
import torch
import torch_pruning
from network import trained

images = np.load("calibration.npz")["images"]
network, example = trained(), torch.from_numpy(images[:1])
pruner = torch_pruning.pruner.BasePruner(
    network,
    example,
    importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
    pruning_ratio=0.29,  # of channels, which leaves half of the weights
    ignored_layers=[network.linear],
)
pruner.step()
model = openvino.convert_model(network, example_input=example, input=[1, 3, 32, 32])
int8 = nncf.quantize(model, nncf.Dataset([image[None] for image in images]))
openvino.save_model(int8, "int8.xml")
