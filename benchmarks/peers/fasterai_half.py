"""Half of all single weights set to zero by magnitude and INT8, without training, by fasterai and its export to ONNX."""

import numpy as np
import torch
from fasterai.core.criteria import large_final
from fasterai.export.all import export_onnx
from fasterai.sparse.all import Sparsifier
from network import trained
from torch.utils.data import DataLoader, TensorDataset

data = np.load("calibration.npz")
images, labels = torch.from_numpy(data["images"]), torch.from_numpy(data["labels"])
loader = DataLoader(TensorDataset(images, labels), batch_size=1)
network = trained()
Sparsifier(network, "weight", "global", large_final).sparsify_model(0.5)
export_onnx(network, images[:1], "half.onnx", quantize=True, quantize_mode="static", calibration_data=loader)
