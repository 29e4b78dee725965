"""INT8 without training by Paretrim in one call, with its defaults."""

import numpy as np
import torch
from network import trained
from torch.utils.data import DataLoader, TensorDataset

import paretrim

data = np.load("calibration.npz")
loader = DataLoader(TensorDataset(torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])), batch_size=128)
paretrim.to_int8(trained(), loader, loader, folder="run").save("int8.trim")
