"""Every stage that a recipe can name. Add yours here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.acdc import AcDc
from paretrim.stages.prune.gates import Gates
from paretrim.stages.prune.gsm import Gsm
from paretrim.stages.prune.lottery import Lottery
from paretrim.stages.prune.movement import Movement
from paretrim.stages.prune.rigl import RigL
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.straight_through import StraightThrough
from paretrim.stages.prune.thin import Thin
from paretrim.stages.prune.thinet import ThiNet
from paretrim.stages.quantize.clipq import ClipQ
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together

STAGES: Mapping[str, type] = MappingProxyType(
    {
        stage.name: stage
        for stage in (
            Prune,
            Quantize,
            Distill,
            FineTune,
            Together,
            RigL,
            AcDc,
            ThiNet,
            Gates,
            Gsm,
            Thin,
            StraightThrough,
            Movement,
            Lottery,
            ClipQ,
        )
    }
)
