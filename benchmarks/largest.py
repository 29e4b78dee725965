"""CPU seconds of capturing and deploying the largest convolutional networks of torchvision, with random weights.

    python benchmarks/largest.py [--count 20] [--skip regnet_y_128gf] [--networks vgg19,...] [--onnx] >> results/largest.jsonl
    python benchmarks/largest.py --elapsed >> results/largest.jsonl
    python benchmarks/largest.py --markdown

The networks are those of ``torchvision.models`` for classification with the most parameters, transformers left out. Every one
takes 224 x 224 pixels and is measured in a fresh process on one thread, in CPU seconds (``time.process_time``): other programs
disturb them far less than wall time. Capture is ``paretrim.capture``, with its comparison of captured network and module.
Deploying is freezing, writing the ``.trim`` file and the check of that file. ``--elapsed`` measures both on the clock and on two
threads, and only while nothing else runs. ``--onnx`` measures the ONNX file too: writing it,
and its check node by node. ``--markdown`` writes the table of docs/large-networks.md from the stored lines.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from largest_page import PAGE, RESULTS, THREADS, LargestLine, page_of, to_json
from torch import nn
from torchvision_networks import models

from paretrim import trimfile
from paretrim.bench.machine import describe, source_commit, versions
from paretrim.bench.machine_load import disturbed, read_load, wait_until_quiet
from paretrim.capture.agreement import captured_network
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.errors import ParetrimError
from paretrim.graph.interpreter import affordable_images
from paretrim.graph.types import Graph, InputSpec
from paretrim.network.freeze import freeze
from paretrim.network.network import unshared
from paretrim.run.judge import EXACT_IMAGES, check_trim

TRANSFORMERS = ("vit", "swin")
"""In names of networks that are no convolutional ones."""

SPEC = InputSpec((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


WAIT_S = 60.0
"""Seconds to wait for an idle machine before elapsed time is measured."""

OF_TIMM = "timm/"
"""How the name of a network of timm begins."""

TIMM = (
    "dm_nfnet_f2",
    "resnetv2_50x3_bit",
    "convnextv2_large",
    "tf_efficientnetv2_xl",
    "resnext101_32x16d",
    "resnetrs420",
    "rdnet_large",
    "seresnextaa201d_32x8d",
    "regnety_320",
    "hrnet_w64",
    "repvgg_b3",
    "legacy_senet154",
    "resnest269e",
    "ecaresnet269d",
    "nasnetalarge",
    "pnasnet5large",
    "dpn107",
    "inception_next_base",
    "tf_efficientnet_b8",
    "mambaout_base",
)
"""Large convolutional networks of timm, each of another family and of at most about 200 million parameters."""


def largest(count: int) -> list[str]:
    """The names of the largest convolutional networks, the largest first."""
    of = models()
    names = [name for name in of.list_models(module=of) if not any(kind in name for kind in TRANSFORMERS)]
    sizes = {name: of.get_model_weights(name).DEFAULT.meta["num_params"] for name in names}
    return sorted(names, key=lambda name: (-sizes[name], name))[:count]


def made(name: str) -> nn.Module:
    """The network of this name, in evaluation mode."""
    if name.startswith(OF_TIMM):
        models()  # timm imports torchvision
        found: nn.Module = importlib.import_module("timm").create_model(name.removeprefix(OF_TIMM))
        return as_trained_(found.eval())
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network: nn.Module = getattr(models(), name)(weights=None, **extra)
    return network.eval()


def as_trained_(network: nn.Module) -> nn.Module:
    """Sets the norms that start training with scale 0 to 1: they would make whole layers 0, which no trained network has."""
    for part in network.modules():
        scale = getattr(part, "weight", None)
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm) and scale is not None and not scale.any():
            nn.init.ones_(scale)
    return network


def parameters(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def measure(name: str, *, onnx: bool = False, elapsed: bool = False) -> LargestLine:
    """One network in this process: CPU seconds on one thread, or elapsed seconds on two."""
    torch.set_num_threads(THREADS if elapsed else 1)
    torch.manual_seed(0)
    network = made(name)
    size = parameters(network)
    found, refused = {}, ""
    before, start = read_load(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = seconds_of(network, Path(folder), onnx=onnx, threads=THREADS if elapsed else 1)
        except ParetrimError as error:
            refused = str(error)
        seconds = time.perf_counter() - start  # without removing the file
    if elapsed:
        found = {}
        if said := refused or "; ".join(disturbed(before, read_load(), seconds=seconds)):
            raise SystemExit(f"{name}: {said}")
    return LargestLine(
        network=name,
        parameters=size,
        capture_cpu_s=found.get("capture"),
        deploy_cpu_s=found.get("deploy"),
        onnx_cpu_s=found.get("onnx"),
        trim_bytes=None if not found else round(found["bytes"]),
        refused=refused,
        load=round(os.getloadavg()[0] / (os.cpu_count() or 1), 2),
        cpu=describe().cpu,
        versions=versions(),
        commit=source_commit(),
        elapsed_s=seconds if elapsed else None,
    )


def seconds_of(module: nn.Module, folder: Path, *, onnx: bool, threads: int = 1) -> dict[str, float]:
    """CPU seconds by step, and the bytes of the file."""
    start = time.process_time()
    network = captured_network(module, SPEC.shape).eval()
    captured = time.process_time()
    graph: Graph = freeze(network, SPEC, shared=True)
    images = np.random.default_rng(0).integers(0, 256, (affordable_images(graph, EXACT_IMAGES), *SPEC.shape), np.uint8)
    trim = folder / "model.trim"
    trimfile.write(graph, trim, threads=threads, check_weights=False)  # check_trim does
    outputs = check_trim(graph, trim, images)
    graph = unshared(graph)
    deployed = time.process_time()
    found = {"capture": captured - start, "deploy": deployed - captured, "bytes": float(trim.stat().st_size)}
    if onnx:
        path = folder / "model.onnx"
        export_onnx(graph, path)
        check_onnx(graph, path, images, outputs)
        found["onnx"] = time.process_time() - deployed
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="how many networks, the largest first")
    parser.add_argument("--skip", default="", help="names to leave out, if they need too much memory")
    parser.add_argument("--networks", default="", help="measure these networks instead")
    parser.add_argument("--timm", action="store_true", help="those of timm instead")
    parser.add_argument("--onnx", action="store_true", help="measure the ONNX file too")
    parser.add_argument("--elapsed", action="store_true", help="seconds on the clock, on two threads of an idle machine")
    parser.add_argument("--here", action="store_true", help="measure one network in this process")
    parser.add_argument("--markdown", action="store_true", help="write the page from the stored lines, and measure nothing")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or write the page."""
    given = parse(arguments)
    if given.markdown:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
        return
    named = given.networks.split(",") if given.networks else [OF_TIMM + name for name in TIMM] if given.timm else []
    names = named or largest(given.count)
    if given.here:
        print(to_json(measure(names[0], onnx=given.onnx, elapsed=given.elapsed)), flush=True)
        return
    asked = [option for option, wanted in (("--onnx", given.onnx), ("--elapsed", given.elapsed)) if wanted]
    for name in names:
        if given.elapsed and (busy := wait_until_quiet(WAIT_S, threads=1)[0]):
            raise SystemExit(f"elapsed time is measured on an idle machine: {'; '.join(busy)}")
        if name not in given.skip.split(","):
            settings = ["--here", "--networks", name, *asked]
            subprocess.run([sys.executable, __file__, *settings], check=not given.elapsed)


if __name__ == "__main__":
    main()
