"""A network with silenced channels computes the same as without them: what is trained is what ships."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "graph"))

from random_graphs import BLOCKS, FUNCTIONS, Builder, finish

from paretrim.graph.channels import channel_groups, choose
from paretrim.graph.restrict import restrict
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.network import Network
from paretrim.network.uniform import WeightQuantizer
from paretrim.stages.prune.channels import carried, choose_channels, silence_, silenced
from paretrim.stages.prune.score_table import channels_by_magnitude
from paretrim.stages.prune.stage import Prune
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

CASES = {
    **{name: (name, constant) for name, constant in FUNCTIONS.items()},
    "raised": ("clamp_min", 0.5),
    "low": ("clamp_max", -0.5),
}
"""Every pointwise function, and clamps that 0 is outside of."""


def upsampled(b, x):
    height, width = b.types[x].shape[1:]
    return b.simple("adaptive_avg_pool", [x], {"output_size": (2 * height, 2 * width)})


def network(seed, functions, blocks):
    """Convolutions, functions and blocks in turn, and images for it; float64, so that no rounding hides a difference."""
    b = Builder(np.random.default_rng(seed), quantized=False, pixels=False)
    x = b.conv(b.start(), 6, relu=False)
    for function, block in zip(functions, blocks, strict=True):
        name, constant = CASES[function]
        x = b.simple("pointwise", [x], {"function": name} | ({} if constant is None else {"constant": constant}))
        x = b.conv(block(b, x), 6, relu=False)
    return Network(finish(b, x)).double(), torch.from_numpy(b.images).double()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    functions=st.lists(st.sampled_from(sorted(CASES)), min_size=2, max_size=2),
    blocks=st.lists(st.sampled_from((*BLOCKS, upsampled)), min_size=2, max_size=2),
    training=st.booleans(),
)
def test_silenced_is_removed(seed, functions, blocks, training):
    full, images = network(seed, functions, blocks)
    groups = channel_groups(full.graph())
    random = np.random.default_rng(seed)
    removed = choose(groups, random.random(groups.count), random.uniform(0.1, 0.9), allocation="uniform")
    smaller = carried(full, restrict(full.graph(), groups, removed.tolist())).double()
    silence_(full, groups, removed)
    with torch.no_grad():
        torch.testing.assert_close(full.train(training)(images), smaller.train(training)(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", sorted(CASES))
def test_every_function_between_convolutions_with_padding(function):
    for block in (*BLOCKS, upsampled):
        full, images = network(3, [function], [block])
        groups = channel_groups(full.graph())
        removed = choose(groups, np.arange(1.0, groups.count + 1), 0.5, allocation="uniform")
        silence_(full, groups, removed)
        smaller = carried(full, restrict(full.graph(), groups, removed.tolist())).double()
        with torch.no_grad():
            torch.testing.assert_close(full(images), smaller(images), rtol=1e-9, atol=1e-9)
        assert not any(layer.alive is not None or layer.mask is not None for layer in weighted_layers(smaller).values())


@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_weights_on_a_grid_stay_on_it_when_the_others_go(scales):
    full, _ = network(5, ["sigmoid", "softplus"], BLOCKS[:2])
    full.float()
    groups = channel_groups(full.graph())
    silence_(full, groups, removed := choose(groups, np.arange(1.0, groups.count + 1), 0.5, allocation="uniform"))
    for layer in weighted_layers(full).values():
        layer.quantizer = WeightQuantizer(layer.masked_weight().detach(), bits=4, scales=scales)
    restriction = restrict(full.graph(), groups, removed.tolist())
    smaller = weighted_layers(carried(full, restriction))
    for name, layer in weighted_layers(full).items():
        kept = restriction.kept[name]
        left = layer.effective_weight()[kept.outputs][:, kept.inputs]
        assert torch.equal(left, smaller[name].effective_weight())


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("function", ["sigmoid", "raised", "tanh"])
def test_the_end_of_a_ramp_changes_nothing(function, allocation):
    full, images = network(9, [function, function], [BLOCKS[0], BLOCKS[6]])
    stage = Prune(pattern="channel", sparsity=0.5, schedule="cubic", allocation=allocation)
    resources = Resources(None, None, images, Execution(device="cpu", precision="float32"), 0)
    training = stage.begin(full, resources)
    private = training.network
    for progress in (0.0, 0.3, 0.6, 0.8):
        stage.advance(training, progress)
    with torch.no_grad():
        before = private(images)
        stage.advance(training, 1.0)
        after = private.double()(images)
    assert sum(p.numel() for p in private.parameters()) < sum(p.numel() for p in full.parameters())
    torch.testing.assert_close(before, after, rtol=1e-5, atol=1e-5)


def test_silenced_channels_go_before_living_ones_without_weights():
    full, _ = network(1, ["sigmoid"], [BLOCKS[0]])
    first = next(iter(weighted_layers(full).values()))
    groups = channel_groups(full.graph())
    members = next(members for members in groups.sets if set(members) & set(groups.classes[next(iter(weighted_layers(full)))]))
    silent = members[-1:]
    silence_(full, groups, silent)
    assert list(silenced(full, groups)) == list(silent)
    dead = torch.ones_like(first.weight, dtype=torch.bool)
    dead[0] = False  # a living channel that is nothing but its bias; of equal scores the lower index would stay
    for layer in weighted_layers(full).values():
        set_mask_(layer, layer.mask & False if layer is first else layer.mask)
    _, chosen = choose_channels(full, channels_by_magnitude(full, None), 1 / len(members), allocation="uniform", multiple_of=1)
    assert set(silent) <= set(chosen)
