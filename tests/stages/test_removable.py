"""Stages that remove channels say so before training if a network has none that could go, or their settings keep all."""

from dataclasses import replace

import pytest
import torch
from tiny import FLOAT32, NONE, SHORT, network, resources
from torch import nn

from paretrim.capture import capture
from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.stages.prune.gates import Gates
from paretrim.stages.prune.score_table import CHANNEL_SCORES, channel_scores_of
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.thin import Thin
from paretrim.stages.prune.thinet import ThiNet
from paretrim.train.teacher import StoredTeacher

STAGES = {
    "prune": Prune(pattern="channel", sparsity=0.5, budget=NONE),
    "prune cubic": Prune(pattern="channel", sparsity=0.5, schedule="cubic", budget=SHORT),
    "prune uniform": Prune(pattern="channel", sparsity=0.5, allocation="uniform", score="nisp", budget=NONE),
    "thin": Thin(budget=NONE),
    "thinet": ThiNet(budget=NONE),
}


class AddedToItsInput(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(192, 4)

    def forward(self, x):
        return self.head((x + self.conv(x)).flatten(1))


WITHOUT = {
    "one layer": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
    "added to its input": AddedToItsInput,
    "one channel": lambda: nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)),
}


def made(name):
    torch.manual_seed(0)
    return Network(capture(WITHOUT[name](), (3, 8, 8)))


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("kind", STAGES)
def test_a_network_without_removable_channels_is_refused(kind, name):
    stage = STAGES[kind]
    with pytest.raises(InvalidRecipe, match=f"{stage.name}: no channels of this network can be removed: they are its outputs"):
        stage.begin(made(name), resources("plain"))


@pytest.mark.parametrize("kind", [*STAGES, "gates"])
def test_a_multiple_that_keeps_every_channel_is_refused(kind):
    stage = Gates(budget=SHORT) if kind == "gates" else STAGES[kind]
    said = (
        f"{stage.name}: multiple_of is 16, but no layer has more than 16 channels, so none would be removed; choose less than 16"
    )
    with pytest.raises(InvalidRecipe, match=said):
        replace(stage, multiple_of=16).begin(network("plain"), resources("plain"))
    replace(stage, multiple_of=8).begin(network("plain"), resources("plain"))


def test_the_fastest_multiple_may_be_one_that_keeps_all():
    Prune(pattern="channel", sparsity=0.5, multiple_of="measured", budget=NONE).begin(network("plain"), resources("plain"))


@pytest.mark.parametrize("score", sorted(CHANNEL_SCORES.keys() - {"batchnorm"}))
def test_the_only_layer_has_scores(score):
    teacher = StoredTeacher(made("one layer"), FLOAT32, images=0, classes=4, folder=None)
    found = channel_scores_of(score, made("one layer"), replace(resources("plain"), teacher=teacher))
    assert [len(scores) for scores in found.values()] == [4]
