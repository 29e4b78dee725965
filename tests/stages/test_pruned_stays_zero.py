"""Pruned weights stay zero in value, gradient and momentum through all later stages."""

from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, NONE, SHAPE, SHORT, dense, network, prune, resources, state
from torch import nn

import paretrim.train.fit
from paretrim.capture import capture
from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.patterns import block_alive, parse_pattern
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together

PATTERNS = {
    "unstructured": prune(sparsity=0.6),
    "unstructured cubic": prune(sparsity=0.6, schedule="cubic"),
    "1x4": prune(pattern="1x4", sparsity=0.6),
    "1x4 cubic": prune(pattern="1x4", sparsity=0.6, schedule="cubic"),
    "1x4 regrouped": prune(pattern="1x4", sparsity=0.6, regroup=True),
    "2:4": prune(pattern="2:4"),
    "channel": prune(pattern="channel", sparsity=0.4),
    "channel cubic": prune(pattern="channel", sparsity=0.4, schedule="cubic"),
}
LATER = {
    "finetune": FineTune(budget=SHORT),
    "finetune adamw": FineTune(budget=replace(SHORT, optimizer="adamw", weight_decay=0.1)),
    "finetune muon": FineTune(budget=replace(SHORT, optimizer="muon")),
    "quantize": Quantize(budget=SHORT),
    "quantize observed": Quantize(budget=SHORT, scales="observed"),
    "distill": Distill(budget=SHORT),
    "together": Together(parts=(Quantize(), Distill()), budget=SHORT),
    "prune again": prune(sparsity=0.7),
    "prune again in blocks": prune(sparsity=0.7, pattern="1x4", regroup=True),
}


@pytest.fixture
def watched(monkeypatch):
    """Looks at every optimizer step, before the masks are held: value, gradient and momentum where a mask is False."""
    steps = []

    def watching(work):
        optimizer = make_optimizer(work)
        masks = {layer.weight: layer.mask for layer in weighted_layers(work.network).values() if layer.mask is not None}

        def look(*_):
            for weight, mask in masks.items():
                moments = [value for value in optimizer.state[weight].values() if torch.is_tensor(value) and value.dim()]
                for tensor in (weight, weight.grad, *moments):
                    assert not tensor.detach()[~mask].any()
            steps.append(len(masks))

        optimizer.register_step_post_hook(look)
        return optimizer

    make_optimizer = paretrim.train.fit._Work.make_optimizer
    monkeypatch.setattr(paretrim.train.fit._Work, "make_optimizer", watching)
    return steps


@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_zeros_survive_every_later_stage(pattern, later, watched):
    pruned = run_stage(dense("residual"), PATTERNS[pattern], resources("residual"))
    before = {name: layer.weight.detach() == 0 for name, layer in weighted_layers(pruned.network).items()}
    shapes = {name: zeros.shape for name, zeros in before.items()}
    watched.clear()
    found = run_stage(pruned, LATER[later], resources("residual"))
    assert len(watched) == 6
    for name, layer in weighted_layers(found.network).items():
        assert layer.weight.shape == shapes[name]
        assert not layer.effective_weight()[before[name]].any()
    for node, zeros in zip((n for n in freeze(found.network).nodes if "weight" in n.tensors), before.values(), strict=True):
        assert not node.tensors["weight"][zeros.numpy()].any()


def prunable(module):
    """Masks of the layers that take part by default: all but the first and the last."""
    return [layer.mask for layer in list(weighted_layers(module).values())[1:-1]]


@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
@pytest.mark.parametrize("sparsity", [0.0, 0.37, 0.9, 1.0])
def test_counts_are_exact(pattern, schedule, sparsity):
    until = {"end": 1.0} if schedule == "cubic" else {}
    stage = prune(pattern=pattern, schedule=schedule, sparsity=sparsity, **until)
    found = run_stage(dense("residual"), stage, resources("residual"))
    blocks = torch.cat([block_alive(mask, parse_pattern(pattern)).flatten() for mask in prunable(found.network)])
    assert int((~blocks).sum()) == round(sparsity * len(blocks))
    first, *_, last = weighted_layers(found.network).values()
    assert first.mask is None
    assert last.mask is None


@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
def test_emptying_a_layer_is_refused_before_training(schedule):
    stage = prune(pattern="1x4", sparsity=0.997, schedule=schedule)
    with pytest.raises(InvalidRecipe, match="leaves 2 of 504 blocks for 3 layers, but every layer keeps at least one"):
        stage.begin(dense("residual").network, resources("residual"))


def test_first_and_last_are_pruned_on_request():
    found = run_stage(dense("residual"), prune(first=True, last=True, sparsity=0.5, budget=NONE), resources("residual"))
    masks = [layer.mask for layer in weighted_layers(found.network).values()]
    assert sum(int((~mask).sum()) for mask in masks) == round(0.5 * sum(mask.numel() for mask in masks))


@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4"])
def test_depthwise_convolutions_are_pruned_on_request(pattern):
    for asked, taking_part in ((False, [False, False, True, False]), (True, [False, True, True, False])):
        network = prune(pattern=pattern, depthwise=asked).begin(dense("depthwise").network, resources("depthwise")).network
        assert [layer.mask is not None for layer in weighted_layers(network).values()] == taking_part


def test_of_every_four_channels_two_stay():
    found = run_stage(dense("residual"), prune(pattern="2:4"), resources("residual"))
    for mask in prunable(found.network):
        groups = mask.reshape(len(mask), -1, 4, *mask.shape[2:])
        assert bool((groups.sum(2) == 2).all())


@pytest.mark.parametrize("pattern", ["unstructured", "1x4"])
def test_masks_of_higher_sparsity_are_nested(pattern):
    half = run_stage(dense("residual"), prune(pattern=pattern, sparsity=0.5), resources("residual"))
    most = run_stage(half, prune(pattern=pattern, sparsity=0.8, schedule="cubic"), resources("residual"))
    for less, more in zip(prunable(half.network), prunable(most.network), strict=True):
        assert not bool((more & ~less).any())
    alive = torch.cat([block_alive(mask, parse_pattern(pattern)).flatten() for mask in prunable(most.network)])
    assert int((~alive).sum()) == round(0.8 * len(alive))


def test_the_cubic_schedule_prunes_gradually(monkeypatch):
    seen = []
    step = paretrim.train.fit._Work.step

    def looking(work, batch, epoch, number):
        zeros = sum(int((~mask).sum()) for mask in prunable(work.network))
        seen.append(zeros / sum(mask.numel() for mask in prunable(work.network)))
        return step(work, batch, epoch, number)

    monkeypatch.setattr(paretrim.train.fit._Work, "step", looking)
    run_stage(dense("residual"), prune(schedule="cubic", sparsity=0.9, end=0.5), resources("residual"))
    assert seen == pytest.approx([0.0, 0.9 * (1 - (2 / 3) ** 3), 0.9 * (1 - (1 / 3) ** 3), 0.9, 0.9, 0.9], abs=1e-3)


def test_silenced_channels_compute_what_the_smaller_network_will():
    stage = prune(pattern="channel", sparsity=0.4, schedule="cubic")
    training = stage.begin(dense("residual").network, resources("residual"))
    private = training.network
    stage.advance(training, 0.99)
    images = resources("residual").calibration
    with torch.no_grad():
        silenced = private.eval()(images)
        stage.advance(training, 1.0)
        torch.testing.assert_close(private.eval()(images), silenced, rtol=1e-4, atol=1e-5)
    shapes = [tuple(layer.weight.shape) for layer in weighted_layers(private).values()]
    assert shapes != [tuple(layer.weight.shape) for layer in weighted_layers(network("residual")).values()]
    assert all(layer.alive is None for layer in weighted_layers(private).values())


@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
def test_channels_removed_after_quantization_take_their_scales_along(schedule):
    quantized = run_stage(dense("residual"), Quantize(budget=SHORT), resources("residual"))
    stage = Prune(pattern="channel", sparsity=0.4, schedule=schedule, budget=NONE)
    found = run_stage(quantized, stage, resources("residual"))
    for layer in weighted_layers(found.network).values():
        assert len(layer.quantizer.scale) == len(layer.quantizer.clip) == len(layer.weight)
    every = {tuple(layer.weight.shape) for layer in weighted_layers(found.network).values()}
    assert every != {tuple(layer.weight.shape) for layer in weighted_layers(quantized.network).values()}
    assert freeze(found.network).quantized
    trained = run_stage(found, FineTune(budget=SHORT), resources("residual"))
    assert trained.history[-1].bits == 8
    assert state(trained).keys() == state(found).keys()


def test_masks_are_cut_with_the_channels():
    masked = run_stage(dense("residual"), prune(sparsity=0.6), resources("residual"))
    found = run_stage(masked, prune(pattern="channel", sparsity=0.4), resources("residual"))
    for layer in list(weighted_layers(found.network).values())[1:-1]:
        assert layer.mask.shape == layer.weight.shape
        assert not layer.weight[~layer.mask].any()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"start": 0.7, "end": 0.5}, r"the schedule ends at 0.5, before its start at 0.7; set end to at least start"),
        (
            {"pattern": "channel", "allocation": "erk"},
            r"allocation 'erk' does not apply to channels; choose global, uniform or sensitivity",
        ),
        ({"pattern": "channel", "sparsity": 1.0}, r"a channel sparsity of 1 leaves no network; stay below 1"),
        ({"pattern": "2:4", "sparsity": 0.5, "schedule": "cubic"}, r"pattern 2:4 is fixed at 0.5; use schedule one_shot"),
        (
            {"pattern": "2:4"},
            r"pattern 2:4 always has sparsity 0.5, but sparsity is 0.8 \(default 0.8\); write sparsity = 0.5",
        ),
        (
            {"pattern": "channel", "allocation": "cost"},
            r"allocation 'cost' does not apply to channels; choose global, uniform or sensitivity",
        ),
        (
            {"allocation": "sensitivity", "schedule": "cubic"},
            r"'sensitivity' scans the network before it is pruned in one shot",
        ),
        (
            {"allocation": "sensitivity", "pattern": "1x4", "regroup": True},
            r"schedule to one_shot and leave regroup out, or choose",
        ),
        (
            {"multiple_of": "measured"},
            r"'measured' is for channels that are removed in one shot; set pattern to channel and schedule",
        ),
        ({"multiple_of": "measured", "pattern": "channel", "schedule": "cubic"}, r"schedule to one_shot, or give a number"),
        ({"costs": {"conv1": 1.0}}, r"allocation 'global' does not use costs; choose cost or speed, or omit them"),
        ({"pattern": "channel", "regroup": True}, r"set it in the stage that prunes in 1x4"),
        ({"pattern": "unstructured", "regroup": True}, r"pattern unstructured has no blocks to regroup"),
        ({"pattern": "3x3"}, r"pattern '3x3' is unknown"),
    ],
)
def test_conflicting_settings_are_refused(settings, text):
    with pytest.raises(InvalidRecipe, match=text):
        Prune(**settings)


def test_a_network_of_one_layer_has_nothing_to_prune_by_default():
    one = Network(capture(nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)), SHAPE))
    with pytest.raises(
        InvalidRecipe, match="no layer of this network of 1 weighted layers may be pruned; set first, last or depthwise to true"
    ):
        prune().begin(one, resources("plain"))
    half = prune(last=True).begin(one, resources("plain")).network
    assert int((weighted_layers(half)["1"].weight == 0).sum()) == 384


def test_by_cost_the_layers_with_large_maps_lose_more():
    def densities(**settings):
        found = run_stage(dense("residual"), prune(pattern="1x4", sparsity=0.6, budget=NONE, **settings), resources("residual"))
        return [float(mask.float().mean()) for mask in prunable(found.network)]

    by_weight, by_cost = densities(), densities(allocation="cost")
    assert by_cost[0] < by_weight[0]  # 8 x 8 positions
    assert by_cost[-1] > by_weight[-1]  # 4 x 4 positions
    names = list(weighted_layers(dense("residual").network))[1:-1]
    assert densities(allocation="cost", costs=dict.fromkeys(names, 16.0)) == by_weight
    assert densities(allocation="cost", costs=dict(zip(names, [32.0, 32.0, 8.0], strict=True))) == by_cost


def test_by_speed_a_block_costs_its_positions_and_the_reading_of_it():
    def kept(**settings):
        begun = prune(pattern="1x4", sparsity=0.6, budget=NONE, allocation="speed", **settings)
        return [int(mask.sum()) for mask in prunable(run_stage(dense("residual"), begun, resources("residual")).network)]

    names = list(weighted_layers(dense("residual").network))[1:-1]
    assert kept() == kept(costs=dict(zip(names, [64 + 11.0, 64 + 11.0, 16 + 11.0], strict=True)))
    assert kept() != kept(costs=dict.fromkeys(names, 1.0))


def test_a_layer_without_a_cost_is_named():
    with pytest.raises(InvalidRecipe, match=r"needs the cost of a block of every layer that is pruned; missing are left\.1"):
        prune(allocation="cost", costs={"left.0.0": 1.0, "down.0": 2.0}).begin(dense("residual").network, resources("residual"))


def test_a_cost_of_a_layer_that_does_not_exist_is_named():
    """Also if all layers that are pruned have one: the name is likely that of a layer whose cost was meant."""
    costs = dict.fromkeys(list(weighted_layers(dense("residual").network))[1:-1], 1.0)
    with pytest.raises(InvalidRecipe, match=r"prune: costs names 'layer9', but there is no such layer; layers are stem\.0"):
        prune(allocation="cost", costs={**costs, "layer9": 2.0}).begin(dense("residual").network, resources("residual"))
