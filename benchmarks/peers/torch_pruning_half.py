"""Half of the channels inside every block removed by Torch-Pruning, which leaves half of the weights, then INT8 by NNCF.

Channels that meet a shortcut stay: Torch-Pruning does not follow them through the padding of these shortcuts.
"""

import nncf
import numpy as np
import openvino
import torch
import torch_pruning
from network import trained

images = np.load("calibration.npz")["images"]
network, example = trained(), torch.from_numpy(images[:1])
kept = [block.conv2 for layer in (network.layer1, network.layer2, network.layer3) for block in layer]
pruner = torch_pruning.pruner.BasePruner(
    network,
    example,
    importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
    pruning_ratio=0.5,
    ignored_layers=[network.conv1, network.linear, *kept],
)
pruner.step()
model = openvino.convert_model(network, example_input=example, input=[1, 3, 32, 32])
int8 = nncf.quantize(model, nncf.Dataset([image[None] for image in images]))
openvino.save_model(int8, "int8.xml")
