"""Channels removed by Torch-Pruning until 20 % of the weights are left, four epochs of the user's own loop, INT8 by NNCF."""

import nncf
import numpy as np
import openvino
import torch
import torch_pruning
from network import trained
from training import train

images = torch.from_numpy(np.load("calibration.npz")["images"])
network = trained()
kept = [block.conv2 for layer in (network.layer1, network.layer2, network.layer3) for block in layer]
pruner = torch_pruning.pruner.BasePruner(
    network,
    images[:1],
    importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
    pruning_ratio=0.8,
    ignored_layers=[network.conv1, network.linear, *kept],
)
pruner.step()
network.train()
train(network, epochs=4, teacher=trained())
model = openvino.convert_model(network.eval(), example_input=images[:1], input=[1, 3, 32, 32])
int8 = nncf.quantize(model, nncf.Dataset([image[None].numpy() for image in images]))
openvino.save_model(int8, "int8.xml")
