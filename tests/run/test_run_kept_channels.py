"""A stage that removes clearly fewer channels than its sparsity says is named; rounding is not."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paretrim.run.kept_channels import said_of_kept_channels
from paretrim.run.own import start_from_loaders
from paretrim.run.pipeline import run_stages
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.together import Together
from paretrim.train.budget import Budget

NONE = Budget(epochs=0)


def loader():
    return DataLoader(TensorDataset(torch.rand(16, 3, 8, 8), torch.arange(16) % 4), batch_size=8)


@pytest.fixture(scope="module")
def start():
    """Two sets of channels: 18 in three groups, which lose one channel each at a time, and 24."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 18, 3, padding=1), nn.Conv2d(18, 24, 3, groups=3)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4)
    return start_from_loaders(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *head), loader(), loader())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sparsity": 0.5}, ""),
        ({"sparsity": 0.0}, ""),
        ({"sparsity": 0.4, "multiple_of": 2}, ""),
        ({"sparsity": 0.99}, "but its sparsity is 0.99: "),
        ({"sparsity": 0.001}, "removes 0 of "),
        ({"sparsity": 0.1, "multiple_of": 6}, "and multiple_of (6) rounds the remaining ones up"),
    ],
)
def test_what_is_left_is_said(settings, said, start, tmp_path):
    stage = Prune(pattern="channel", allocation="uniform", budget=NONE, **settings)
    found = said_of_kept_channels((stage,), [one.network for one in run_stages(start, [stage], tmp_path)])
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_other_stages_ask_for_no_channels_and_parts_do(start):
    unpruned = start.network
    stages = (FineTune(), Prune(sparsity=0.5), Prune(pattern="channel", sparsity=0.5, layers=("0",)))
    assert said_of_kept_channels(stages, (unpruned,) * 4) == ()
    both = Together(parts=(Prune(pattern="channel", sparsity=0.5),), budget=NONE)
    assert said_of_kept_channels((both,), (unpruned, unpruned))[0].startswith("warning: together removes 0 of ")
