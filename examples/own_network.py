"""From your own ``nn.Module`` and DataLoaders to a deployed file: ``python examples/own_network.py``."""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import paretrim
from paretrim.data.digits import load_digits


class OwnNetwork(nn.Module):
    """Any module that takes images [N, C, H, W] as the loaders yield them and returns logits [N, classes]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 32, 3, padding=1, stride=2)
        self.head = nn.Linear(32, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes]."""
        features = torch.relu(self.norm(self.stem(images)))
        features = torch.relu(self.body(features))
        return self.head(features.mean((2, 3)))


def loaders() -> tuple[DataLoader, DataLoader]:
    """Replace these by your own loaders; they yield handwritten digits as floats around 0."""
    images, labels = load_digits().train.images.float() / 127.5 - 1, load_digits().train.labels
    train, validation = TensorDataset(images[:-200], labels[:-200]), TensorDataset(images[-200:], labels[-200:])
    shuffled = torch.Generator().manual_seed(0)
    return DataLoader(train, batch_size=64, shuffle=True, generator=shuffled), DataLoader(validation, batch_size=200)


def train(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """Replace this by your own training; Paretrim takes a trained network."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training and of every stage (default: 10)")
    parser.add_argument("--folder", type=Path, default=Path("runs/own-network"))
    arguments = parser.parse_args()

    torch.manual_seed(0)
    model = OwnNetwork(classes=10)
    train_loader, validation_loader = loaders()
    train(model, train_loader, arguments.epochs)

    budget = paretrim.Budget(epochs=arguments.epochs, learning_rate=0.02)
    result = paretrim.compress(
        model,
        train_loader,
        validation_loader,
        stages=[
            paretrim.Prune(sparsity=0.5, pattern="channel", budget=budget),
            paretrim.Quantize(budget=budget),
            paretrim.Distill(budget=budget),
        ],
        folder=arguments.folder,
    )
    for stage in result.history:
        print(f"{stage.name}: {stage.value_before:.1%} -> {stage.value_after:.1%} of the validation images")
    print("deployed file:", result.save(arguments.folder / "own.onnx"))


if __name__ == "__main__":
    main()
