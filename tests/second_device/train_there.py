"""Trains on one device and leaves what came out: ``train_there.py DEVICE stages|recipe FOLDER``; see test_second_device.py."""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from second_device import install
from tiny import FLOAT32, MEAN, NETWORKS, SHAPE, SHORT, STAGES, STD, image_set, network, state

from paretrim.cli.main import main
from paretrim.data.batches import EvalBatches, TrainBatches
from paretrim.graph.types import InputSpec
from paretrim.network.one_pass import in_memory
from paretrim.run.pipeline import run_stages, train_dense
from paretrim.run.start import Start
from paretrim.stages.prune.lottery import rewound
from paretrim.train.execution import Execution

EVERY_STAGE = "residual"
OTHERS = "finetune", "prune channel", "quantize", "together"
CASES = [(EVERY_STAGE, kind) for kind in STAGES] + [(name, kind) for name in NETWORKS if name != EVERY_STAGE for kind in OTHERS]

RECIPE = """
[model]
network = "resnet20"
[data]
name = "digits"
train_images = 200
cutout = 2
[execution]
precision = "float32"
[dense]
epochs = 1
[[stages]]
stage = "prune"
pattern = "1x4"
budget = { epochs = 1 }
[[stages]]
stage = "quantize"
budget = { epochs = 1 }
[[stages]]
stage = "distill"
budget = { epochs = 1 }
"""


def start(name: str) -> Start:
    """The tiny images and network, on the device of :class:`Execution`."""
    images, device = image_set(), FLOAT32.torch_device()

    def ready(where: torch.device | str) -> EvalBatches:
        return EvalBatches(images=images, batch_size=60, mean=MEAN, std=STD, device=where)

    return Start(
        network=network(name),
        train=lambda size: TrainBatches(
            images=images, batch_size=size, mean=MEAN, std=STD, crop_padding=1, flip=True, cutout=3, device=device
        ),
        validation=ready(device),
        calibration=(batch := next(iter(ready("cpu").epoch()))).inputs,
        calibration_labels=batch.labels,
        spec=InputSpec(SHAPE, MEAN, STD),
        data_digest="tiny",
        images=len(images),
        execution=FLOAT32,
    )


def stages(folder: Path) -> int:
    """Every case; its tensors in ``network-stage.safetensors``, its accuracies in ``accuracies.json``."""
    accuracies = {}
    for name, kind in CASES:
        begun, stage, place = start(name), STAGES[kind], folder / "runs" / f"{name}-{kind}"
        if [*rewound((stage,))]:  # goes back to an epoch of the dense training, so there has to be one
            begun = train_dense(begun, SHORT, place)
        _, after = run_stages(begun, (stage,), place)
        assert {tensor.device.type for tensor in after.network.state_dict().values()} == {"cpu"}, (name, kind)
        save_file(state(after), folder / f"{name}-{kind}.safetensors")
        accuracies[f"{name}-{kind}"] = [after.history[0].value_before, after.history[0].value_after]
    (folder / "accuracies.json").write_text(json.dumps(accuracies))
    return 0


def recipe(folder: Path) -> int:
    """A whole run from a recipe, through the command line."""
    (folder / "recipe.toml").write_text(RECIPE)
    return main(["run", str(folder / "recipe.toml"), "--folder", str(folder / "run"), "--effort", "none"])


def on_the_device(x: torch.Tensor, *, there: bool) -> bool:
    """Never; memory of the device must not be used as memory of the CPU."""
    assert not (there and x.device.type != "cpu" and in_memory(x)), f"{x.device} is taken for memory of the CPU"
    return False


if __name__ == "__main__":
    device = install() if sys.argv[1] == "second" else torch.device("cpu")
    torch.set_num_threads(1)
    # Both in the form of a device that runs ahead: eager code for the CPU rounds with other operations or natively, for speed.
    # That the device itself never takes the native form is asked on the way.
    there = device.type != "cpu"
    with (
        patch.object(Execution, "torch_device", lambda _: device),
        patch("paretrim.network.rounding._eager_on_cpu", lambda _: False),
        patch("paretrim.network.one_pass.in_memory", lambda x: on_the_device(x, there=there)),
    ):
        sys.exit({"stages": stages, "recipe": recipe}[sys.argv[2]](Path(sys.argv[3])))
