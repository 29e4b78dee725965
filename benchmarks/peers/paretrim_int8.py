"""INT8 without training by Paretrim, with corrected biases."""

import numpy as np
import torch
from network import trained
from torch.utils.data import DataLoader, TensorDataset

import paretrim

data = np.load("calibration.npz")
loader = DataLoader(TensorDataset(torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])), batch_size=128)
stages = [paretrim.Quantize(adjust=("bias",), budget=paretrim.Budget(epochs=0))]
paretrim.compress(trained(), loader, loader, stages=stages, folder="run").save("int8.trim")
