"""Half of all blocks set to zero by magnitude and INT8, without training, by Paretrim."""

import numpy as np
import torch
from network import trained
from torch.utils.data import DataLoader, TensorDataset

import paretrim

data = np.load("calibration.npz")
loader = DataLoader(TensorDataset(torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])), batch_size=128)
none = paretrim.Budget(epochs=0)
stages = [paretrim.Prune(sparsity=0.5, pattern="1x4", budget=none), paretrim.Quantize(budget=none)]
paretrim.compress(trained(), loader, loader, stages=stages, folder="run").save("int8.trim")
