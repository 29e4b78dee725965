"""Activations of fewer than 8 bits: on few levels while they train, and on the same in every form that ships."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import MEAN, NONE, SHAPE, SHORT, STD, dense, resources
from torch import nn

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import open_runnable
from paretrim.errors import InvalidRecipe, UnsupportedOperation
from paretrim.graph.fusion import grid_holders, grid_values, values_of_few_levels
from paretrim.graph.interpreter import run, values
from paretrim.graph.types import INPUT, InputSpec
from paretrim.network.freeze import freeze
from paretrim.network.grids import Grid, grid_for_range
from paretrim.network.integer_network import IntegerNetwork
from paretrim.network.network import Network
from paretrim.network.thaw import thaw
from paretrim.network.uniform import ActivationQuantizer
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.runtime import plan
from paretrim.stages.quantize.calibration import NARROW_RATIOS, _mse_grid
from paretrim.stages.quantize.histogram import Histogram
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.resources import Resources

THIS = "test_activation_bits"
sys.modules[THIS] = sys.modules[__name__]

FOUR = Quantize(budget=SHORT, weight_bits=4, activation_bits=4)
every_width = pytest.mark.parametrize("bits", [2, 4, 6])
every_grid = pytest.mark.parametrize("activations", ["uniform", "clipped", "offset"])
PIXELS = np.random.default_rng(1).integers(0, 256, (40, *SHAPE), np.uint8)
NORMALISED = (torch.from_numpy(PIXELS).float() / 255 - MEAN[0]) / STD[0]


class Branches(nn.Module):
    """A network with a concatenation, a table, a product, a sum, an average and values below zero."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.left, self.right = (
            nn.Conv2d(*channels, 3, padding=1) for channels in ((3, 8), (8, 8), (8, 8), (16, 8))
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        gated = torch.nn.functional.silu(self.gate(x)) * x
        both = torch.cat([gated, self.left(x)], 1)
        return self.head((torch.relu(self.right(both)) + gated).mean((2, 3)))


def branches():
    torch.manual_seed(2)
    return Network(capture(Branches(), SHAPE))


def quantized(stage, network):
    given = Resources(None, None, NORMALISED, resources("plain").execution, 0)
    return stage.begin(network, given).network.eval()


def levels_of(graph, pixels):
    """How many levels each value of the integer graph takes at most: its largest integer."""
    found = values(graph, pixels)
    return {node.name: int(found[node.name].max()) for node in graph.nodes if node.type.quantized}


def assert_every_form_is_the_interpreters(graph, tmp_path):
    """The native runtime and torch bit for bit; ONNX Runtime in its decisions, and nearly in its logits."""
    expected = run(graph, PIXELS)
    path = tmp_path / "model.trim"
    trimfile.write(graph, path)
    assert np.array_equal(plan(trimfile.read(path), measure=False)(PIXELS), expected)
    export_onnx(graph, tmp_path / "model.onnx")
    found = open_runnable(tmp_path / "model.onnx", runtime="onnxruntime")(PIXELS)
    assert np.mean(np.abs(found - expected) > 1e-5 * np.abs(expected).max()) < 0.05
    return expected


@every_grid
@every_width
def test_a_trained_network_computes_on_its_levels_in_every_form(bits, activations, tmp_path):
    stage = replace(FOUR, activation_bits=bits, activations=activations)
    trained = run_stage(dense("residual"), stage, resources("residual"))
    network = trained.network.eval()
    graph = freeze(network, InputSpec(SHAPE, MEAN, STD))
    expected = assert_every_form_is_the_interpreters(graph, tmp_path)
    largest = levels_of(graph, PIXELS)
    entered = graph.nodes[0].name
    assert largest.pop(entered) > 2**6
    assert max(largest.values()) == 2**bits - 1  # on so few levels the top one is used
    integers = IntegerNetwork(freeze(network), torch.device("cpu")).outputs(NORMALISED)[0].numpy()
    np.testing.assert_array_equal(integers, expected)
    with torch.no_grad():
        simulated = network.outputs(NORMALISED)[0].numpy()
    # Biases of logits are rounded to steps of the sum; a value beside a tie may be rounded the other way in float, but rarely.
    head = next(node for node in graph.nodes if node.op == "linear")
    steps = head.tensors["weight_scale"] * graph.types[head.inputs[0]].scale
    assert np.mean(np.abs(simulated - expected) > 0.501 * steps) < 0.1

    save_candidate(trained, tmp_path / "candidate.safetensors")
    again = freeze(load_candidate(tmp_path / "candidate.safetensors").network, InputSpec(SHAPE, MEAN, STD))
    assert trimfile.to_bytes(again) == trimfile.to_bytes(graph)


@every_width
def test_sums_products_tables_and_averages_have_few_levels_and_the_input_and_concatenations_do_not(bits, tmp_path):
    network = quantized(Quantize(budget=NONE, activation_bits=bits), branches())
    structure = network.structure
    few, held = values_of_few_levels(structure), network.quantizers()
    joined = {node.name for node in structure.nodes if node.op == "concat"}
    assert set(grid_values(structure)) - set(few) == {INPUT, *joined}
    assert {name: grid.grid().bits for name, grid in held.items()} == {name: bits if name in few else 8 for name in held}
    with torch.no_grad():
        held["silu"].scale.mul_(0.2)  # so that the largest values of the table are clipped
    graph = freeze(network, InputSpec(SHAPE, MEAN, STD))
    assert_every_form_is_the_interpreters(graph, tmp_path)
    largest, holders = levels_of(graph, PIXELS), grid_holders(structure)
    clamped = {name: largest.get(f"{name}/clamped", largest.get(name)) for name in holders}  # a table's is another node
    for name, holder in holders.items():
        assert clamped[name] is None or clamped[name] <= held[holder].grid().top, name
    assert largest["silu/clamped"] == 2**bits - 1 < largest["silu"]
    assert {node.op for node in graph.nodes if largest.get(node.name) == 2**bits - 1} >= {"conv2d", "pointwise"}


def test_float_layers_give_few_levels_too(tmp_path):
    formats = {"right": {"grid": "float32"}}
    network = quantized(Quantize(budget=NONE, activation_bits=3, formats=formats), branches())
    graph = freeze(network, InputSpec(SHAPE, MEAN, STD))
    largest = levels_of(graph, PIXELS)
    (entered,) = [node.name for node in graph.nodes if node.op == "quantize" and node.inputs != (INPUT,)]
    assert largest[entered] == 7
    path = tmp_path / "model.trim"
    trimfile.write(graph, path)
    assert np.array_equal(plan(trimfile.read(path), measure=False)(PIXELS), run(graph, PIXELS))


def test_a_file_comes_back_with_its_levels():
    graph = freeze(quantized(Quantize(budget=NONE, activation_bits=4), branches()))
    again = freeze(thaw(graph))
    assert np.array_equal(run(again, NORMALISED.numpy()), run(graph, NORMALISED.numpy()))
    assert max(levels_of(again, NORMALISED.numpy()).values()) > 15  # the input's
    assert sorted(levels_of(again, NORMALISED.numpy()).values()) == sorted(levels_of(graph, NORMALISED.numpy()).values())


def test_eight_bits_are_the_default_and_leave_settings_and_facts_as_they_were():
    assert ActivationQuantizer(Grid(0.5, 0), scales="learned").facts() == "learned"
    assert ActivationQuantizer(Grid(0.5, 0, 4), scales="learned").facts() == {"scales": "learned", "bits": 4}
    with pytest.raises(ValueError, match="activations have 9 bits and must have 2 to 8"):
        ActivationQuantizer.restored({"scales": "learned", "bits": 9})


def test_fewer_bits_clip_more_of_a_long_tail():
    """Of a value with a long tail, the smallest squared error of 16 levels covers less than that of 256."""
    values = Histogram()
    values.add_(torch.randn(100_000, generator=torch.Generator().manual_seed(0)).pow(3))
    reach = {bits: grid.scale * grid.top for bits in (3, 4, 8) for grid in [_mse_grid(values, bits)]}
    assert reach[3] < 0.9 * reach[4] < 0.5 * reach[8]
    assert _mse_grid(values, 3) == min(
        (grid_for_range(values.low * ratio, values.high * ratio, 3) for ratio in NARROW_RATIOS),
        key=lambda grid: _error(values, grid),
    )


def _error(values, grid):
    edges, counts = values.bins()
    centres = edges + values.width / 2
    moved = grid.scale * (np.clip(np.rint(centres / grid.scale) + grid.zero_point, 0, grid.top) - grid.zero_point)
    return float((counts * (moved - centres) ** 2).sum())


def test_float_activations_have_no_bits():
    said = "activation_bits is 4, but activations is 'float32' and rounds no value, so it would have no effect; choose"
    with pytest.raises(InvalidRecipe, match=said):
        Quantize(activation_bits=4, activations="float32")


def test_what_nothing_bounds_needs_8_bits():
    network = quantized(Quantize(budget=NONE), branches())
    (joined,) = (node.name for node in network.structure.nodes if node.op == "concat")
    network.set_grid_(joined, ActivationQuantizer(Grid(0.1, 0, 4), scales="learned"))
    said = rf"the value '{joined}' has levels 0..15, but nothing in the integer graph bounds it; put it on a grid of 8 bits"
    with pytest.raises(UnsupportedOperation, match=said):
        freeze(network)


class EightBits(ActivationQuantizer):
    """A grid that ignores the bits that are asked for."""

    @classmethod
    def fitted(cls, grid, scales):
        return cls(Grid(grid.scale, grid.zero_point), scales=scales)


class Halved(ActivationQuantizer):
    """A grid that trains on half of the levels that it ships."""

    def forward(self, x):
        return super().forward(x).clamp(max=float(self.scale.detach()) * (self.grid().top // 2 - self.zero_point))


class Undefined(ActivationQuantizer):
    """A grid that is NaN at 0."""

    def forward(self, x):
        return super().forward(x) * (x / x)


def test_a_grid_of_the_users_own_has_the_bits_asked_for_and_trains_on_what_ships():
    with pytest.raises(
        InvalidRecipe, match=r"activations '.*EightBits': its grid has 8 bits where 4 are asked for; give Grid.bits on"
    ):
        quantized(Quantize(budget=NONE, activation_bits=4, activations=f"{THIS}:EightBits"), branches())
    assert quantized(Quantize(budget=NONE, activations=f"{THIS}:EightBits"), branches()).quantizers()
    with pytest.raises(InvalidRecipe, match=r"activations '.*Undefined': a call turns 0 into nan, but in the file it is 0"):
        quantized(Quantize(budget=NONE, activations=f"{THIS}:Undefined"), branches())
    with pytest.raises(InvalidRecipe, match=r"activations '.*Halved': a call turns .* into .*, but in the file it is"):
        quantized(Quantize(budget=NONE, activations=f"{THIS}:Halved"), branches())
