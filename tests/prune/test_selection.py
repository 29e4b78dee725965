from dataclasses import fields

import pytest

from paretrim.stages.prune.acdc import AcDc
from paretrim.stages.prune.gsm import Gsm
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.rigl import RigL
from paretrim.stages.prune.selection import Selection
from paretrim.stages.prune.stage import Prune, pruning
from paretrim.stages.prune.straight_through import StraightThrough


@pytest.mark.parametrize("stage", [AcDc, Gsm, Lottery, Movement, RigL, StraightThrough], ids=lambda stage: stage.name)
def test_every_setting_of_the_selection_reaches_the_masks(stage):
    """A new setting has to be given another value than its default here."""
    settings = stage(pattern="1x4", first=True, last=True, depthwise=True, layers=("conv*",), ignore=("head",))
    made = pruning(settings, 0.5)
    assert isinstance(made, Prune)
    for field in fields(Selection):
        assert getattr(made, field.name) == getattr(settings, field.name) != field.default
