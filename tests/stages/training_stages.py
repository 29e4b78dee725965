"""Stages that use everything the protocol allows in training: gradients, moving masks, other layers, extra modules."""

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from tiny import SHORT, network
from torch import nn

from paretrim.network.constraints import replace_mask_, set_mask_, weighted_layers
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm, cross_entropy
from paretrim.train.training import Training

LONG = replace(SHORT, epochs=3)


@dataclass(frozen=True)
class MovesMasks:
    """Half of every weight is masked; a tenth of the rest is dropped by the sum of ``|w * gradient|``, and others grow.

    Source: Mocanu et al. 2018 (SET), with another score.
    """

    name: ClassVar[str] = "moves_masks"
    budget: Budget = field(default_factory=Budget)

    def begin(self, network, resources, /):
        private, extra = copy.deepcopy(network), nn.ModuleDict()
        random = torch.Generator().manual_seed(resources.seed)
        for number, layer in enumerate(weighted_layers(private).values()):
            set_mask_(layer, torch.rand(layer.weight.shape, generator=random) >= 0.5)
            extra[str(number)] = remembered(layer.weight)
        return Training(private, resources, extra)

    def advance(self, training, progress, /):
        if progress != pytest.approx(1 / 3):
            return
        random = torch.Generator().manual_seed(training.resources.seed)
        for number, layer in enumerate(weighted_layers(training.network).values()):
            count = int(layer.mask.sum()) // 10
            mask = layer.mask.flatten().clone()
            living = training.extra[str(number)].total.flatten().masked_fill(~mask, torch.inf)
            grown = torch.rand(mask.shape, generator=random).masked_fill(mask, 2.0).argsort(stable=True)[:count]
            mask[living.argsort(stable=True)[:count]] = False
            mask[grown] = True
            replace_mask_(layer, mask.reshape(layer.mask.shape))

    def observe(self, training, step, /):
        assert step.loss.isfinite()
        assert 0 <= step.progress < 1
        for number, layer in enumerate(weighted_layers(training.network).values()):
            assert not layer.weight.grad[~layer.mask].any()
            training.extra[str(number)].total += (layer.weight.detach() * layer.weight.grad).abs()

    def losses(self, _resources, /):
        return ()


def remembered(weight):
    found = nn.Module()
    found.register_buffer("total", torch.zeros_like(weight))
    return found


@dataclass(frozen=True)
class Narrows(FineTune):
    """Removes half of the channels in the middle of its training, and quantizes the others."""

    def advance(self, training, progress, /):
        parameters = sum(parameter.numel() for parameter in training.network.parameters())
        full = sum(parameter.numel() for parameter in network("residual").parameters())
        if progress >= 1 / 3 and parameters == full:
            narrow = Prune(pattern="channel", sparsity=0.5).begin(training.network, training.resources).network
            training.network.become_(Quantize(budget=Budget(epochs=0)).begin(narrow, training.resources).network)


@dataclass(frozen=True)
class Hint(FineTune):
    """Matches a module's output with the teacher's, through a trained projection."""

    budget: Budget = field(default_factory=Budget)
    at: str = "down"

    def begin(self, network, resources, /):
        shapes = network.shape_at(self.at), resources.teacher.shape_at(self.at)
        return Training(
            copy.deepcopy(network), resources, nn.ModuleDict({"projection": nn.Conv2d(shapes[0][0], shapes[1][0], 1)})
        )

    def losses(self, _resources, /):
        return cross_entropy(), LossTerm(self.distance, features=(self.at,), teacher_features=(self.at,))

    def distance(self, outputs):
        assert set(outputs.features) == set(outputs.teacher_features) == {self.at}
        assert outputs.indices.shape == outputs.labels.shape
        projected = outputs.extra["projection"](outputs.features[self.at])
        return (projected - outputs.teacher_features[self.at]).square().mean()


@dataclass(frozen=True)
class Grows(FineTune):
    """Half of every weight is masked; in the middle of the training a tenth goes and the steepest come in its place.

    Source: Evci et al. 2020 (RigL).
    """

    def begin(self, network, resources, /):
        private = MovesMasks().begin(network, resources).network
        return Training(private, resources, dense_gradients=True)

    def observe(self, training, step, /):
        if step.number != 4:
            return
        for name, layer in weighted_layers(training.network).items():
            steepness = step.dense_gradients[name].abs().flatten()
            mask = layer.mask.flatten().clone()
            count = int(mask.sum()) // 10
            grown = steepness.masked_fill(mask, -1.0).argsort(descending=True, stable=True)[:count]
            mask[layer.weight.detach().abs().flatten().masked_fill(~mask, torch.inf).argsort(stable=True)[:count]] = False
            mask[grown] = True
            replace_mask_(layer, mask.reshape(layer.mask.shape))


@dataclass(frozen=True)
class Moves(FineTune):
    """Movement scores, trained by the optimizer: their gradient is the dense one times the weight, and masks are their top half.

    Source: Sanh et al. 2020.
    """

    def begin(self, network, resources, /):
        private, extra = copy.deepcopy(network), nn.ModuleDict()
        for number, layer in enumerate(weighted_layers(private).values()):
            set_mask_(layer, torch.ones_like(layer.weight, dtype=torch.bool))
            extra[str(number)] = nn.ParameterList([torch.zeros_like(layer.weight)])
        return Training(private, resources, extra, dense_gradients=True)

    def observe(self, training, step, /):
        for number, (name, layer) in enumerate(weighted_layers(training.network).items()):
            scores = training.extra[str(number)][0]
            scores.grad = step.dense_gradients[name] * layer.weight.detach()
            if step.number % 3 == 1:
                replace_mask_(layer, scores.detach() >= scores.detach().median())


@dataclass(frozen=True)
class NarrowsWhileObserving(Narrows):
    """The same where gradients are looked at, with what it remembers made and then changed on the way."""

    def begin(self, network, resources, /):
        memory = nn.Module()
        memory.register_buffer("made", None)
        memory.register_buffer("grown", torch.zeros(0))
        memory.bank = nn.Parameter(torch.rand(2))
        return Training(copy.deepcopy(network), resources, nn.ModuleDict({"memory": memory}))

    def advance(self, training, progress, /):
        pass

    def observe(self, training, step, /):
        memory = training.extra["memory"]
        memory.made = step.loss + (0 if memory.made is None else memory.made)
        memory.grown = torch.cat((memory.grown, step.loss[None]))
        if step.number == 1:
            memory.bank = nn.Parameter(torch.rand(3, 4) + memory.bank.sum().detach())
        memory.bank.grad = memory.bank.detach() * memory.made
        super().advance(training, step.progress)


@dataclass(frozen=True)
class HintWhileNarrowing(Hint):
    """The features of a network that becomes narrower are those of its layers as they are."""

    at: str = "left"

    def begin(self, network, resources, /):
        return Training(copy.deepcopy(network), resources)

    def advance(self, training, progress, /):
        Narrows().advance(training, progress)

    def distance(self, outputs):
        return (outputs.features[self.at].mean() - outputs.teacher_features[self.at].mean()).square()
