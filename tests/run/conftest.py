import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paretrim.data.digits import load_digits
from paretrim.run.recipe import parse_recipe


@pytest.fixture
def recipe():
    """Two stages on a small network, for plans and timings with hardly any training."""
    stages = [{"stage": "prune", "sparsity": 0.5, "budget": {"epochs": 0}}, {"stage": "quantize", "budget": {"epochs": 0}}]
    table = {"model": {"network": "small_network:make"}, "data": {"name": "digits"}, "calibration_images": 32, "stages": stages}
    return parse_recipe(table)


@pytest.fixture
def own():
    """A user-defined module with loaders of normalised digits."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    )
    digits = load_digits()
    images = digits.train.images.float() / 255 - 0.5
    train = DataLoader(
        TensorDataset(images[:400], digits.train.labels[:400]), 50, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    return module, train, DataLoader(TensorDataset(images[400:500], digits.train.labels[400:500]), 50)
