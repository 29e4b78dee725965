"""Options that several commands share."""

from __future__ import annotations

import argparse

from paretrim.bench.effort import EFFORTS
from paretrim.cli.arguments import DENSE_RATE, count, counts, factor, number, numbers, path, whole_number, words

NETWORK = "resnet18, resnet20, vgg16_bn, wide_resnet_28_10 and others, or your own as package.module:factory"
WEIGHTS = "weights as .safetensors, or as a torch file of plain tensors"

NO_TIMING = "none"
"""The effort that measures no latency at all."""


def add_measuring(parser: argparse.ArgumentParser, *, effort: str = "quick", target: bool = False) -> None:
    """How thoroughly latency is measured, and in which runtimes; ``target`` if there may be a target for it."""
    efforts = (*EFFORTS, NO_TIMING)
    parser.add_argument(
        "--effort",
        choices=efforts,
        default=effort,
        help="how thoroughly to measure latency; none: not at all (default: %(default)s)",
    )
    text = "numbers of threads; every file is timed with each (default: 1)"
    parser.add_argument("--threads", type=counts, default=(1,), metavar="N,...", help=text)
    text = "paretrim, onnxruntime, openvino (default: those installed)"
    if target:
        text += "; --max-latency-ms applies to the first one that runs the candidate"
    parser.add_argument("--runtimes", type=words, metavar="NAME,...", help=text)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """The memory and work that a file may take."""
    text = (
        "for files that you trust: multiply the memory and work that a .trim file of its size may take by this factor "
        "(default: 1, or PARETRIM_LIMIT in the environment)"
    )
    parser.add_argument("--limit", type=factor, metavar="TIMES", help=text)


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Which images, and how they are prepared."""
    parser.add_argument("--data", required=required, metavar="NAME", help="digits, cifar10, cifar100 or imagefolder:DIR")
    parser.add_argument("--data-folder", metavar="DIR", help="where the CIFAR files are, or are downloaded to")
    parser.add_argument(
        "--image-size",
        type=whole_number,
        metavar="PIXELS",
        help="side of the images of an imagefolder (default: their own if all are squares of one size up to 224, else 224)",
    )
    text = "length to resize their short side to before the central square of --image-size is cropped (default: --image-size)"
    parser.add_argument("--resize", type=whole_number, metavar="PIXELS", help=text)
    parser.add_argument("--mean", type=numbers, metavar="M,...", help="mean per channel in units of pixel/255, with --std")
    text = "standard deviation per channel in units of pixel/255, with --mean"
    parser.add_argument("--std", type=numbers, metavar="S,...", help=text)


def add_task(parser: argparse.ArgumentParser, *, default: str = "classification") -> None:
    """What the network is for."""
    text = f"what the network is for: classification, regression, or your own as package.module:name (default: {default})"
    parser.add_argument("--task", metavar="NAME", help=text)


def add_split(parser: argparse.ArgumentParser) -> None:
    """How the training images are divided."""
    text = "share of the training images of every class held out for validation (default: 0.1)"
    parser.add_argument("--validation", type=number, metavar="SHARE", help=text)
    text = "train on this many of the other images, balanced over classes; shortens the epochs (default: all)"
    parser.add_argument("--train-images", type=count, metavar="N", help=text)
    text = "training images for calibration (default: 512, or as many as there are)"
    parser.add_argument("--calibration-images", type=count, metavar="N", help=text)


def add_network(parser: argparse.ArgumentParser, *, required: bool, dense: bool = False) -> None:
    """A network with its data, and how it is compressed.

    Commands that look at the ``dense`` network alone refuse the options about compression with a reason; their help leaves these
    out.
    """

    def shown(text: str) -> str:
        return argparse.SUPPRESS if dense else text

    parser.add_argument("--model", required=required, metavar="NAME", help=NETWORK)
    parser.add_argument("--weights", metavar="FILE", help=WEIGHTS)
    add_data(parser, required=required)
    add_task(parser)
    add_split(parser)
    targets = parser.add_argument_group("targets")
    targets.add_argument(
        "--max-drop",
        type=number,
        metavar="POINTS",
        help=shown(
            "largest loss of validation accuracy in percentage points, or of another task's metric in its own unit; met if the "
            "whole 95 %% interval is below"
        ),
    )
    targets.add_argument("--max-latency-ms", type=number, metavar="MS", help=shown("largest median latency of one image"))
    targets.add_argument(
        "--max-bytes", type=whole_number, metavar="N", help=shown("largest size of the .trim file; the ONNX file is larger")
    )
    group = parser.add_argument_group("candidates")
    candidates = group if dense else group.add_mutually_exclusive_group()  # argparse cannot print one whose options are hidden
    text = "kinds to try: int8, int8-trained, zeros, blocks, channels (default: all that can help with the targets)"
    candidates.add_argument("--candidates", type=words, metavar="NAME,...", help=shown(text))
    text = "try only INT8 without training; short for --candidates int8"
    candidates.add_argument("--int8", dest="candidates", action="store_const", const=("int8",), help=shown(text))
    training = parser.add_argument_group("training")
    text = "epochs per candidate, split over its stages: prune 20 %%, quantize 40 %%, distil 40 %% (default: %(default)s)"
    training.add_argument("--epochs", type=whole_number, default=10, metavar="TOTAL", help=shown(text))
    text = "initial learning rate of every stage (default: 0.01)"
    training.add_argument("--learning-rate", type=number, metavar="RATE", help=shown(text))
    training.add_argument("--batch-size", type=whole_number, metavar="N", help="images per training step (default: 128)")
    text = "train the dense network first, starting from --weights if given"
    training.add_argument("--dense-epochs", type=whole_number, default=0, metavar="N", help=text)
    text = f"learning rate of that training (default: {DENSE_RATE})"
    training.add_argument("--dense-learning-rate", type=number, metavar="RATE", help=text)


def add_place(parser: argparse.ArgumentParser, default: str) -> None:
    """Folder, seed and device."""
    parser.add_argument("--folder", type=path, metavar="DIR", help=f"folder for all files (default: {default})")
    parser.add_argument("--seed", type=whole_number, metavar="N", help="seed of all random numbers")
    parser.add_argument(
        "--device", metavar="NAME", help="device for training: cpu, cuda, cuda:1 (default: CUDA if there is a GPU)"
    )


def add_inside(parser: argparse.ArgumentParser) -> None:
    """Whether to write a page that compares the insides of the networks."""
    text = (
        "also write a page with Grad-CAM, histograms and sensitivity to zeros of the first network and the chosen or last one; "
        "for classification"
    )
    parser.add_argument("--inside", action="store_true", help=text)
