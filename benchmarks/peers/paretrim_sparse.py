"""80 % of the weights gone, in blocks, and INT8 by Paretrim: four epochs, the network itself is the teacher."""

import numpy as np
import torch
from network import trained
from torch.utils.data import DataLoader, TensorDataset
from training import batches

import paretrim

data = np.load("calibration.npz")
validation = DataLoader(TensorDataset(torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])), batch_size=128)
pruned = paretrim.Prune(sparsity=0.8, pattern="1x4", schedule="cubic")
three, one = paretrim.Budget(epochs=3), paretrim.Budget(epochs=1)
stages = [
    paretrim.Together([pruned, paretrim.Distill()], budget=three),
    paretrim.Together([paretrim.Quantize(), paretrim.Distill()], budget=one),
]
paretrim.compress(trained(), batches(), validation, stages=stages, folder="run").save("int8.trim")
