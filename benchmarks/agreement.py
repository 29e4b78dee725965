"""Agreement of the native runtime, ONNX Runtime and OpenVINO with the reference interpreter, on trained networks.

    python benchmarks/agreement.py [--images 360] [--out results/agreement.jsonl]
    python benchmarks/agreement.py --pretrained DIR --data DIR [--images 500] [--out LINES]

Networks of ``agreement_networks.py`` are trained on digits for 30 epochs; those of DIR (``cifar10_resnet20.safetensors`` and
``cifar10_resnet56.safetensors``) are for CIFAR-10 images normalised with the mean and deviation of ImageNet. All are quantized to
8 bits without training. ``--out`` appends one line of JSON per network; ``agreement_page.py`` makes the page from these lines.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino
import torch
from agreement_networks import NETWORKS
from torch import nn
from torch.nn import functional as F

from paretrim import trimfile
from paretrim.capture.agreement import captured_network
from paretrim.data.batches import EvalBatches
from paretrim.data.digits import load_digits
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import Dataset, ImageSet
from paretrim.deploy.onnx_file import export_onnx, with_file_names
from paretrim.deploy.onnx_runtime import intermediate_values
from paretrim.deploy.runnable import open_runnable
from paretrim.graph.interpreter import run, values
from paretrim.graph.types import Graph, InputSpec
from paretrim.graph.windows import Values
from paretrim.models.spec import ModelSpec, build
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.runtime import plan
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

EPOCHS, BATCH, RATE = 30, 64, 2e-3
CALIBRATION = 256
LOOKED_AT = 16
"""Images on which the first node that differs is looked for: those with another decision, then the first."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network, its training images and its test images."""

    name: str
    module: nn.Module
    data: Dataset


def normalised(images: torch.Tensor, data: Dataset) -> torch.Tensor:
    """Pixels [N, C, H, W] as the network takes them."""
    mean, std = (torch.tensor(numbers).reshape(1, -1, 1, 1) for numbers in (data.mean, data.std))
    return (images.float() / 255 - mean) / std


def on_digits() -> Iterator[TrainedNetwork]:
    """The small networks, trained one after the other."""
    data = load_digits()
    for name, factory in NETWORKS.items():
        torch.manual_seed(0)
        yield TrainedNetwork(name, fitted(factory(), data), data)


def fitted(module: nn.Module, data: Dataset) -> nn.Module:
    """A module trained on all training images by Adam, with a cosine learning rate."""
    inputs, labels = normalised(data.train.images, data), data.train.labels
    steps = EPOCHS * (len(inputs) // BATCH)
    optimizer = torch.optim.Adam(module.parameters(), RATE)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        for chosen in torch.split(torch.randperm(len(inputs))[: steps // EPOCHS * BATCH], BATCH):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(inputs[chosen]), labels[chosen]))
            optimizer.step()
            rates.step()
    return module.eval()


def pretrained(folder: Path, data_folder: str) -> Iterator[TrainedNetwork]:
    """Residual networks for CIFAR-10."""
    data = load(DataSpec("cifar10", folder=data_folder, mean=IMAGENET[0], std=IMAGENET[1]))
    for name in ("resnet20", "resnet56"):
        spec = ModelSpec(name, weights=str(folder / f"cifar10_{name}.safetensors"))
        yield TrainedNetwork(name, build(spec, classes=10, channels=3).eval(), data)


def quantized(network: Network, data: Dataset) -> Graph:
    """The file's graph: 8 bits, calibrated on training images."""
    some = normalised(data.train.images[:CALIBRATION], data)
    few = EvalBatches(images=data.train, batch_size=BATCH, mean=data.mean, std=data.std)
    resources = Resources(lambda _: few, few, some, Execution(device="cpu", precision="float32"), 0)
    fake = Quantize(budget=Budget(epochs=0)).begin(network, resources).network
    return freeze(fake.eval(), InputSpec(tuple(data.test.images.shape[1:]), data.mean, data.std))


def line(trained: TrainedNetwork, count: int) -> Mapping[str, object]:
    """The results of one network on the first ``count`` test images."""
    tried: ImageSet = trained.data.test.select(torch.arange(count))
    pixels, labels = tried.images.numpy(), tried.labels.numpy()
    inputs = normalised(tried.images, trained.data)
    with torch.no_grad():
        dense = float((trained.module(inputs).argmax(1) == tried.labels).float().mean())
    graph = quantized(captured_network(trained.module, tuple(inputs.shape[1:]), images=inputs), trained.data)
    expected = run(graph, pixels)
    chosen = expected.argmax(1)
    with tempfile.TemporaryDirectory() as folder:
        trim, onnx = Path(folder) / "model.trim", Path(folder) / "model.onnx"
        trimfile.write(graph, trim)
        export_onnx(graph, onnx)
        logits = {"native": plan(trimfile.read(trim), measure=False)(pixels)}
        logits |= {name: open_runnable(onnx, runtime=name)(pixels) for name in ("onnxruntime", "openvino")}
        names = [node.name for node in with_file_names(graph).nodes]
        first = {}
        for runtime, looked_at in (("onnxruntime", intermediate_values), ("openvino", in_openvino)):
            parted = logits[runtime].argmax(1) != chosen
            some = pixels[np.argsort(~parted, kind="stable")[:LOOKED_AT]]
            first[runtime] = first_that_differs(graph, looked_at(onnx, names, some), some)
    return {
        "network": trained.name,
        "data": trained.data.name,
        "images": count,
        "dense_accuracy": dense,
        "accuracy": float((chosen == labels).mean()),
        "agreeing": {name: int((found.argmax(1) == chosen).sum()) for name, found in logits.items()},
        "same_bits": bool(np.array_equal(logits["native"], expected)),
        "first_nodes": first,
        "versions": {name: version(name) for name in ("onnxruntime", "openvino")},
    }


def first_that_differs(graph: Graph, found: Mapping[str, Values], pixels: Values) -> Mapping[str, object] | None:
    """The first node whose integers, ``found`` by a runtime, differ from the interpreter's, and the share that differ."""
    ours = values(graph, pixels)
    for node, renamed in zip(graph.nodes, with_file_names(graph).nodes, strict=True):
        if renamed.name in found and node.type.quantized and (apart := found[renamed.name] != ours[node.name]).any():
            return {"name": node.name, "operation": node.op, "share": float(apart.mean())}
    return None


def in_openvino(file: Path, names: Collection[str], pixels: Values) -> dict[str, Values]:
    """Values of these names as OpenVINO computes them; exposing a value may prevent a fusion."""
    core = openvino.Core()
    model = core.read_model(str(file))
    there = [name for output in (port for op in model.get_ops() for port in op.outputs()) for name in output.get_names()]
    shown = [name for name in there if name in names]
    model.add_outputs(shown)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([pixels])
    return {name: np.asarray(found[compiled.output(name)]) for name in shown}


def main() -> None:
    """Measure and print; append lines with --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=360)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--data", default="")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    networks = on_digits() if arguments.pretrained is None else pretrained(arguments.pretrained, arguments.data)
    for trained in networks:
        text = json.dumps(line(trained, arguments.images))
        print(text, flush=True)
        if arguments.out:
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(text + "\n")


if __name__ == "__main__":
    main()
