"""INT8 without training on networks with published weights: what the file with default settings loses against float32.

    python benchmarks/post_training.py --weights DIR --cifar DIR --imagenette ZIP --fsdd NPZ [--networks resnet56,crepe-tiny]
        [--draws 3] [--out results/post-training.jsonl]

The networks are those of ``public_networks.py``. Every draw is another choice of calibration images. The ``.trim`` file is run by
the native runtime; its decisions are compared with those of the network in float32, and with the labels where there are any.
``cpu_seconds`` is the CPU time from the float network to the written file, on one thread. Lines that exist are kept.
``--validation`` judges on training images that do not calibrate instead, to choose settings, and ``--set`` changes settings of
the stage: ``--set 'adjust=["bias"]'``. ``post_training_page.py`` writes the page.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from public_networks import NAMES, RESIDUAL, Numbers, Outputs, PublicNetwork, public_network
from pydantic import TypeAdapter

from paretrim import trimfile
from paretrim.deploy.runnable import BATCH
from paretrim.network.freeze import freeze
from paretrim.network.settle import settle_
from paretrim.runtime import load
from paretrim.stages.quantize.stage import Quantize

IMAGES = 512
"""Calibration images, the default of recipes; fewer where there are fewer."""


def outputs_of(trim: Path, network: PublicNetwork) -> Outputs:
    """Outputs [N, K] of the file for all judged images."""
    session, inputs = load(trim, measure=False), network.judged.inputs
    return np.concatenate([session(inputs[at : at + BATCH]) for at in range(0, len(inputs), BATCH)])


def line(network: PublicNetwork, stage: Quantize, draw: int, wanted: Outputs) -> dict[str, object]:
    """Quantize with one draw of calibration images, and compare the file with the outputs ``wanted`` in float32."""
    resources = network.resources(IMAGES, draw)
    began = time.process_time()
    quantized = stage.begin(network.network, resources).network
    settle_(quantized)
    graph = freeze(quantized, network.spec)
    with tempfile.TemporaryDirectory() as folder:
        trim = Path(folder) / "model.trim"
        trimfile.write(graph, trim)
        seconds, size = time.process_time() - began, trim.stat().st_size
        found = outputs_of(trim, network)
    counts = network.counts(wanted)
    expected, decided = network.decide(wanted)[counts], network.decide(found)[counts]
    facts = {"network": network.name, "data": network.data, "draw": draw, "calibration_images": len(resources.calibration)}
    facts |= {"images": int(counts.sum()), "unchanged": int((expected == decided).sum()), "bytes": size}
    if network.judged.labels is not None:
        facts |= against_labels(expected, decided, network.judged.labels[counts])
    return facts | {"cpu_seconds": round(seconds, 1)}


def against_labels(expected: Numbers, decided: Numbers, labels: Numbers) -> dict[str, int]:
    """How many float32 has right, and how many of those the file loses and of the others wins."""
    before, after = expected == labels, decided == labels
    return {"right": int(before.sum()), "lost": int((before & ~after).sum()), "won": int((~before & after).sum())}


def stage_with(settings: list[str]) -> Quantize:
    """The stage without training, with these settings ``key=JSON``."""
    given: Mapping[str, object] = {key: json.loads(value) for key, _, value in (one.partition("=") for one in settings)}
    return TypeAdapter(Quantize).validate_json(json.dumps({"budget": {"epochs": 0}, **given}))


def data_of(name: str, given: argparse.Namespace) -> str:
    """Where a network's data are."""
    if name in RESIDUAL or name == "keras-cnn":
        return str(given.cifar)
    return str(given.fsdd if name.startswith("crepe") else given.imagenette)


def main() -> None:
    """Measure every network and draw that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NAMES))
    parser.add_argument("--weights", default="", help="folder of weights of the residual networks")
    parser.add_argument("--cifar", help="folder of CIFAR-10")
    parser.add_argument("--imagenette", help="archive of images")
    parser.add_argument("--fsdd", help="recordings of spoken digits")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="a setting of the stage as key=JSON")
    parser.add_argument("--validation", action="store_true", help="judge on training images")
    parser.add_argument("--out", type=Path, help="append lines to this file; without it they are only printed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    held = given.out.read_text(encoding="utf-8").splitlines() if given.out and given.out.exists() else []
    done = {(one["network"], one["draw"]) for one in map(json.loads, held) if one.get("settings", "") == "; ".join(given.set)}
    stage = stage_with(given.set)
    settings = {"settings": "; ".join(given.set)} if given.set else {}
    for name in given.networks.split(","):
        draws = [draw for draw in range(given.draws) if (name, draw) not in done]
        if not draws:
            continue
        network = public_network(name, weights=given.weights, data=data_of(name, given), validation=given.validation)
        wanted = network.outputs()
        for draw in draws:
            text = json.dumps(line(network, stage, draw, wanted) | settings)
            print(text, flush=True)
            if given.out:
                with given.out.open("a", encoding="utf-8") as lines:
                    lines.write(text + "\n")


if __name__ == "__main__":
    main()
