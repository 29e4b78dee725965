"""INT8 by Paretrim, trained for two epochs with its defaults."""

import numpy as np
import torch
from network import trained
from torch.utils.data import DataLoader, TensorDataset
from training import batches

import paretrim

data = np.load("calibration.npz")
validation = DataLoader(TensorDataset(torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])), batch_size=128)
int8 = paretrim.Quantize(budget=paretrim.Budget(epochs=2))
paretrim.compress(trained(), batches(), validation, stages=[int8], folder="run").save("int8.trim")
