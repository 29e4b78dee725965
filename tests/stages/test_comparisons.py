"""Values that only comparisons read: finer steps around the bound, so that few decisions differ."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from paretrim.capture.agreement import captured_network
from paretrim.network.grids import Grid, grid_for_range
from paretrim.stages.quantize.comparisons import compared_grids, compared_of
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution

SHAPE = (3, 8, 8)
IMAGES = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
RESOURCES = SimpleNamespace(calibration=IMAGES, execution=Execution(device="cpu", precision="float32"), seed=0)


class Compares(nn.Module):
    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.function = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1), function

    def forward(self, x):
        return self.function(self.first(x), self.second(x)).flatten(1)


def captured(function):
    return captured_network(Compares(function).eval(), SHAPE, images=IMAGES[:8]).eval()


COMPARISONS = {
    "greater": lambda a, b: a * (a > b),
    "less": lambda a, b: torch.where(a < b, a, 0.5 * b),
    "than a mean": lambda a, b: a * (a > a.mean((2, 3), keepdim=True)) + b,
    "not greater": lambda a, b: a.masked_fill(a <= b, 0.0),
}


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("scales", ["learned", "observed"])
def test_the_side_of_a_difference_follows_the_grids_of_its_terms(name, scales):
    """On a grid of the whole range, differences of up to half a step were 0, and 0.6 to 0.7 % of the decisions wrong."""
    network = Quantize(scales=scales).begin(captured(COMPARISONS[name]), RESOURCES).network
    if scales == "observed":
        network.train()(IMAGES)
    network.eval()
    nodes = {node.name: node for node in network.structure.nodes}
    (step,) = (node for node in nodes.values() if node.attributes.get("function") == "step")
    source, sign = step.inputs[0], 1.0
    while nodes[source].op == "pointwise":
        source, sign = nodes[source].inputs[0], sign * nodes[source].attributes["constant"]
    assert nodes[source].op == "add"
    terms = nodes[source].inputs
    with torch.no_grad():
        values = network.features(IMAGES, (step.name, *terms))
    exact = sign * (values[terms[0]].double() + values[terms[1]].double())
    clear = exact.abs() > 1e-6
    wrong = ((values[step.name] > 0.5) != (exact > 0)) & clear
    assert clear.float().mean() > 0.9
    share = float(wrong.float().mean())
    assert share < 1e-3


def test_only_what_comparisons_alone_read_is_compared():
    bodies = {
        "difference": (lambda a, b: (a - b) * (a - b > 0) + b, [(0.0, 0.0)]),
        "read elsewhere": (lambda a, b: torch.where(a > 0.5, a, b), []),
        "none": (lambda a, b: a + b, []),
        "several bounds": (lambda a, b: a * (b < 0.5) + a * (2 * b < 5), [(-5.0, -5.0), (-0.5, -0.5), (0.5, 2.5), (5.0, 5.0)]),
    }
    for name, (function, bounds) in bodies.items():
        assert sorted(compared_of(captured(function).structure).values()) == bounds, name


def test_a_bound_far_away_makes_no_grid_coarser():
    structure = captured(lambda a, b: a * (b > 100)).structure
    (name,) = compared_of(structure)
    assert compared_grids(structure, {name: Grid(0.01, 128)}) == {}
    assert compared_grids(structure, {name: Grid(1.0, 128)}) == {name: grid_for_range(96.0, 104.0)}
