"""What a stage may do while it trains: look at gradients, move masks, replace layers, train modules of its own, ask a teacher."""

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from tiny import CLASSES, SHORT, dense, image_set, network, resources, same, start, state
from torch import nn

import paretrim.train.fit
from paretrim.errors import DataUnavailable, InvalidRecipe, TrainingFailed
from paretrim.network.constraints import replace_mask_, set_mask_, sparsity, weighted_layers
from paretrim.network.network import Network
from paretrim.network.places import value_at
from paretrim.run.pipeline import run_stage, run_stages
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.formats import Format
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.budget import Budget
from paretrim.train.checkpoint import Checkpoints, Moment, form_of
from paretrim.train.fit import Plan, fit
from paretrim.train.losses import LossTerm, cross_entropy
from paretrim.train.training import Training

LONG = replace(SHORT, epochs=3)


class Interrupted(BaseException):
    """Stands for a kill: nothing in the package catches it."""


@dataclass(frozen=True)
class MovesMasks:
    """Half of every weight is masked; a tenth of what lives is dropped, by the sum of ``|w * gradient|`` so far, and others grow.

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
    """Removes half of the channels in the middle of its training, and quantizes what is left."""

    def advance(self, training, progress, /):
        parameters = sum(parameter.numel() for parameter in training.network.parameters())
        full = sum(parameter.numel() for parameter in network("residual").parameters())
        if progress >= 1 / 3 and parameters == full:
            narrow = Prune(pattern="channel", sparsity=0.5).begin(training.network, training.resources).network
            training.network.become_(Quantize(budget=Budget(epochs=0)).begin(narrow, training.resources).network)


@dataclass(frozen=True)
class Hint(FineTune):
    """The value behind a module shall be the teacher's, behind a projection that trains too."""

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


STAGES = {"observes": MovesMasks(budget=LONG), "narrows": Narrows(budget=LONG), "hint": Hint(budget=LONG)}
STAGES |= {"grows": Grows(budget=LONG), "moves": Moves(budget=LONG)}
STAGES |= {"narrows while observing": NarrowsWhileObserving(budget=LONG), "hint while narrowing": HintWhileNarrowing(budget=LONG)}
STAGES |= {
    f"quantize to {grid}": Quantize(budget=LONG, formats={"*": Format(grid=grid)}, activations="offset")
    for grid in ("codebook", "powers", "trained-ternary")
}
STAGES["all at once"] = Together(parts=(MovesMasks(), Hint()), budget=LONG)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", STAGES)
def test_it_goes_on_after_a_kill_to_the_same_bits(kind, optimizer, tmp_path, monkeypatch):
    stage = replace(STAGES[kind], budget=replace(LONG, optimizer=optimizer))
    parent = dense("residual")
    before = state(parent)
    expected = run_stage(parent, stage, resources("residual"))
    assert same(before, state(parent))
    assert not any("total" in name or "projection" in name for name in state(expected))
    epoch = paretrim.train.fit._Work.epoch

    def killed(work, number, *rest):
        epoch(work, number, *rest)
        if number == killed.after:
            raise Interrupted

    for killed.after in (1, 2):
        with monkeypatch.context() as patched:
            patched.setattr(paretrim.train.fit._Work, "epoch", killed)
            with pytest.raises(Interrupted):
                run_stage(parent, stage, resources("residual"), folder=tmp_path)
    ran = []
    monkeypatch.setattr(paretrim.train.fit._Work, "epoch", lambda work, *rest: ran.append(rest[0]) or epoch(work, *rest))
    assert same(state(expected), state(run_stage(parent, stage, resources("residual"), folder=tmp_path)))
    assert ran == [2]


def test_masks_that_move_keep_their_number_of_zeros_and_change():
    found = run_stage(dense("residual"), MovesMasks(budget=LONG), resources("residual")).network
    begun = MovesMasks(budget=LONG).begin(dense("residual").network, resources("residual")).network
    pairs = list(zip(weighted_layers(begun).values(), weighted_layers(found).values(), strict=True))
    assert sparsity(found) >= 0.45
    assert all(int(one.mask.sum()) == int(other.mask.sum()) for one, other in pairs)
    assert any(bool((other.mask & ~one.mask).any()) for one, other in pairs)
    assert any(bool((other.weight[~one.mask] != 0).any()) for one, other in pairs)  # what came back has been trained


def test_observing_comes_after_the_backward_pass_and_before_the_optimizer():
    seen = []
    private = copy.deepcopy(dense("plain").network)
    layer = next(iter(weighted_layers(private).values()))

    def observe(step):
        seen.append((step.number, step.epoch, step.progress, layer.weight.detach().clone(), layer.weight.grad.clone()))
        layer.weight.grad.zero_()

    plan = Plan("x", replace(SHORT, weight_decay=0.0, momentum=0.0), (), lambda _: None, observe=observe)
    fit(Training(private, resources("plain")), plan)
    steps = len(seen)
    assert [entry[0] for entry in seen] == list(range(steps))
    assert [entry[2] for entry in seen] == [number / steps for number in range(steps)]
    assert all(torch.equal(entry[3], seen[0][3]) for entry in seen)  # the optimizer used the gradients as they were left
    assert all(entry[4].any() for entry in seen)


@pytest.mark.parametrize("quantized", [False, True])
def test_dense_gradients_are_those_of_the_weights_that_compute_and_change_nothing_else(quantized):
    """A layer whose mask is taken away, with the same values, has for gradients of its weights the dense ones."""
    private = MovesMasks().begin(dense("residual").network, resources("residual")).network
    if quantized:
        private = Quantize(budget=Budget(epochs=0)).begin(private, resources("residual")).network
    once = replace(SHORT, epochs=1)
    seen = []

    def look(training):
        def observe(step):
            state_now = copy.deepcopy(training.network)
            gradients = {
                name: (layer.weight.grad.clone(), layer.mask) for name, layer in weighted_layers(training.network).items()
            }
            seen.append((step, state_now, gradients))

        return observe

    found = []
    for asked in (True, False):
        training = Training(copy.deepcopy(private), resources("residual"), dense_gradients=asked)
        fit(training, Plan("x", once, (), lambda _: None, observe=look(training)))
        found.append(state(training.network))
    assert same(*found)
    step, before, gradients = seen[0]
    assert seen[-1][0].dense_gradients == {}
    for layer in weighted_layers(before).values():
        layer.mask = None
    before.zero_grad()
    torch.nn.functional.cross_entropy(before(step.batch.inputs), step.batch.labels).backward()
    for name, layer in weighted_layers(before).items():
        masked, mask = gradients[name]
        torch.testing.assert_close(step.dense_gradients[name], layer.weight.grad, rtol=1e-4, atol=1e-7)
        assert torch.equal(masked, step.dense_gradients[name] * mask)
        assert step.dense_gradients[name][~mask].any()


def test_steepest_weights_grow():
    found = run_stage(dense("residual"), Grows(budget=LONG), resources("residual")).network
    begun = MovesMasks().begin(dense("residual").network, resources("residual")).network
    for one, other in zip(weighted_layers(begun).values(), weighted_layers(found).values(), strict=True):
        grown = other.mask & ~one.mask
        assert int(grown.sum()) == int((one.mask & ~other.mask).sum()) > 0
        assert other.weight[grown].any()


def test_movement_scores_are_trained_and_choose_the_masks():
    training = Moves().begin(dense("residual").network, resources("residual"))
    stage = Moves(budget=LONG)
    plan = Plan("x", LONG, (), lambda _: None, observe=lambda step: stage.observe(training, step))
    fit(training, plan)
    for number, layer in enumerate(weighted_layers(training.network).values()):
        scores = training.extra[str(number)][0]
        assert scores.any()
        assert 0.4 <= float(layer.mask.float().mean()) <= 0.6 + 1 / layer.mask.numel()


def test_units_of_layers_that_came_later_are_remembered(tmp_path):
    """A network in an odd unit is quantized on the way: the scales of its values train in their unit, after a kill too."""
    given, odd = resources("without_norm"), copy.deepcopy(dense("without_norm").network)
    with torch.no_grad():
        next(iter(weighted_layers(odd).values())).weight.mul_(2.0**40)

    def worker():
        training = Training(copy.deepcopy(odd), given)
        return paretrim.train.fit._Work(training, Plan("x", LONG, (), lambda _: None), torch.device("cpu"))

    work, other = worker(), worker()
    before = set(work.units)
    work.network.become_(Quantize(budget=Budget(epochs=0)).begin(work.network, given).network)
    work.follow_layers()
    assert any(unit for name, unit in work.units.items() if name not in before)
    checkpoints = Checkpoints(tmp_path, form_of(other.network))
    checkpoints.save(work.training, work.optimizer, Moment(1, 0.0, work.units))
    assert other.resume(checkpoints) == (1, 0.0)
    assert other.units == work.units
    groups = [[(group["unit"], len(group["params"])) for group in one.optimizer.param_groups] for one in (work, other)]
    assert sorted(groups[0]) == sorted(groups[1])


def test_what_a_stage_draws_when_it_begins_is_a_function_of_the_seed(monkeypatch):
    begin, drawn = Hint.begin, []

    def watched(stage, network, resources, /):
        training = begin(stage, network, resources)
        drawn.append(training.extra["projection"].weight.detach().clone())
        return training

    monkeypatch.setattr(Hint, "begin", watched)
    for number, seed in enumerate((1, 1, 2)):
        torch.manual_seed(number)
        run_stage(dense("residual"), Hint(budget=replace(SHORT, epochs=0)), resources("residual", seed=seed))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_momentum_of_layers_that_stay_is_kept_where_others_are_replaced():
    private = copy.deepcopy(dense("plain").network)
    layers = weighted_layers(private)
    first, last = next(iter(layers)), list(layers)[-1]
    kept = layers[first].weight
    work = paretrim.train.fit._Work(
        Training(private, resources("plain")), Plan("x", SHORT, (), lambda _: None), torch.device("cpu")
    )
    work.epoch(0, 0.0, None)
    momentum = work.optimizer.state[kept]["momentum_buffer"].clone()
    assert momentum.any()
    layers[last].weight = nn.Parameter(torch.zeros_like(layers[last].weight))
    work.follow_layers()
    assert torch.equal(work.optimizer.state[kept]["momentum_buffer"], momentum)
    trained = {parameter for group in work.optimizer.param_groups for parameter in group["params"]}
    assert trained == set(private.parameters())
    assert layers[last].weight not in work.optimizer.state


def test_a_hint_trains_the_network_and_the_projection():
    narrow = Prune(pattern="channel", sparsity=0.5).begin(dense("residual").network, resources("residual")).network
    stage = Hint(budget=replace(LONG, learning_rate=0.05))
    training = stage.begin(narrow, resources("residual"))
    projection = training.extra["projection"].weight.detach().clone()
    batch = next(iter(training.resources.train(60).epoch(0)))

    def distance():
        with torch.no_grad():
            teacher = training.resources.teacher.values(batch, 0, ("down",))["down"]
            found = training.network.features(batch.inputs, (value_at(training.network.structure, "down"),))
            return float(
                (training.extra["projection"](found[value_at(training.network.structure, "down")]) - teacher).square().mean()
            )

    before = distance()
    fit(training, Plan(stage.name, stage.budget, stage.losses(training.resources), lambda _: None))
    assert distance() < 0.7 * before
    assert not torch.equal(training.extra["projection"].weight, projection)


def test_parts_at_once_see_their_own_modules_only():
    parts = (MovesMasks(), Hint())
    training = Together(parts=parts, budget=LONG).begin(dense("residual").network, resources("residual"))
    assert set(training.extra["1"]) == {"projection"}
    assert "projection" not in training.extra["0"]


def test_a_teacher_gives_what_its_modules_return():
    given = resources("residual")
    batch = next(iter(given.train(20).epoch(0)))
    found = given.teacher.values(batch, 0, ("left", "down"))
    last = value_at(given.teacher.network.structure, "left")
    assert last.startswith("left.")
    assert torch.equal(found["left"], given.teacher.network.features(batch.inputs, (last,))[last])
    assert not found["down"].requires_grad
    assert found["down"].dtype == torch.float32
    assert tuple(found["down"].shape[1:]) == given.teacher.shape_at("down")


def test_a_path_is_that_of_a_module_or_a_value_and_others_are_named():
    structure = network("residual").structure
    assert value_at(structure, structure.output) == structure.output
    with pytest.raises(InvalidRecipe, match=r"the network has no module 'dwon'; near it are down.*; name one by its path"):
        value_at(structure, "dwon")
    with pytest.raises(InvalidRecipe, match="has no module 'dwon'"):
        run_stage(dense("residual"), Hint(at="dwon", budget=SHORT), resources("residual"))


def test_features_of_a_teacher_want_a_teacher():
    term = LossTerm(cross_entropy().function, teacher_features=("down",))
    with pytest.raises(TrainingFailed, match="learns from a teacher and there is none"):
        fit(
            Training(network("residual"), replace(resources("residual"), teacher=None)),
            Plan("x", SHORT, (term,), lambda _: None),
        )


def test_calibration_images_have_their_labels():
    images, labels = resources("plain").labelled_calibration()
    whole = image_set()
    assert torch.equal(labels, whole.labels[: len(labels)])
    assert len(images) == len(labels)
    assert int(labels.max()) < CLASSES
    with pytest.raises(DataUnavailable, match="calibration images have no labels here, and this stage needs a loss on them"):
        replace(resources("plain"), calibration_labels=None).labelled_calibration()


def test_another_mask_is_one_of_true_and_false_of_the_shape_of_the_weight():
    layer = next(iter(weighted_layers(network("plain")).values()))
    with pytest.raises(ValueError, match=r"a mask of torch.float32; a mask is torch.bool"):
        replace_mask_(layer, torch.ones_like(layer.weight))
    with pytest.raises(ValueError, match=r"a mask of shape \(3,\) for a weight of shape"):
        replace_mask_(layer, torch.ones(3, dtype=torch.bool))
    weight = layer.weight.detach().clone()
    half = torch.zeros(weight.shape, dtype=torch.bool)
    half[0] = True
    replace_mask_(layer, half)
    replace_mask_(layer, ~half)
    assert not layer.weight[0].any()
    assert not layer.weight.any()  # what comes back begins at 0
    set_mask_(layer, half & ~half)
    with pytest.raises(ValueError, match="the mask would bring a pruned weight back"):
        set_mask_(layer, half)


def test_a_stage_between_others_leaves_nothing_of_its_own_in_the_chain(tmp_path):
    chain = (MovesMasks(budget=SHORT), Quantize(budget=SHORT), Distill(budget=SHORT))
    found = run_stages(start("residual"), chain, tmp_path)
    assert [stage.name for stage in found[-1].history] == ["moves_masks", "quantize", "distill"]
    assert found[-1].integers is not None
    assert isinstance(found[-1].network, Network)
