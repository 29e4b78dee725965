"""After every stage, scales and biases before uint8 results are plain, and the trained network equals the shipped one."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretrim.graph.interpreter import run
from paretrim.graph.plain import neighbouring_plain_scales, plain_biases, plain_scales
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

f32 = np.float32


def network(seed, *, norm, bias):
    """conv, perhaps BatchNorm, ReLU, conv, ReLU, linear; the second channel of the first layer has no weights."""
    rng = np.random.default_rng(seed)

    def tensors(*shape):
        found = {"weight": rng.normal(0, 0.3, shape).astype(f32)}
        return found | {"bias": rng.normal(0, 0.5, shape[0]).astype(f32)} if bias else found

    kind, pad = ValueType((4, 6, 6)), {"padding": (1, 1, 1, 1)}
    statistics = {name: rng.uniform(0.5, 1.5, 4).astype(f32) for name in ("gamma", "beta", "mean", "variance")}
    statistics["gamma"][2] *= -1
    normed = [Node("norm", "batch_norm", ("one",), kind, {"epsilon": 1e-5}, statistics)] if norm else []
    nodes = (
        Node("one", "conv2d", (INPUT,), kind, pad, tensors(4, 2, 3, 3)),
        *normed,
        Node("relu", "relu", ("norm" if norm else "one",), kind),
        Node("two", "conv2d", ("relu",), kind, pad, tensors(4, 4, 3, 3)),
        Node("last", "relu", ("two",), kind),
        Node("flat", "flatten", ("last",), ValueType((144,))),
        Node("head", "linear", ("flat",), ValueType((3,)), {}, tensors(3, 144)),
    )
    made = Network(Graph(InputSpec((2, 6, 6)), nodes, ("head",), ("a", "b", "c"))).eval()
    mask = torch.ones_like(weighted_layers(made)["one"].weight, dtype=torch.bool)
    mask[1] = False
    set_mask_(weighted_layers(made)["one"], mask)
    return made


def quantized(made, scales, seed):
    torch.manual_seed(seed)
    resources = Resources(None, None, torch.randn(16, 2, 6, 6), Execution(device="cpu", precision="float32"), 0)
    return Quantize(budget=Budget(epochs=1), scales=scales).begin(made, resources).network.eval()  # steps that are not plain yet


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from(["learned", "observed"]))
def test_the_shipped_network_has_plain_scales_and_equals_the_trained_one(seed, norm, bias, scales):
    fake = quantized(network(seed, norm=norm, bias=bias), scales, seed)
    before = freeze(fake)
    settle_(fake)
    graph = freeze(fake)
    types = graph.types
    for node, old in zip(graph.nodes, before.nodes, strict=True):
        if node.op not in ("conv2d", "linear"):
            assert node.tensors.keys() == old.tensors.keys()
            continue
        scale, found = node.tensors["weight_scale"].astype(float), node.tensors["bias"].astype(float)
        if node.name == "head":  # logits lose nothing
            np.testing.assert_array_equal(scale, old.tensors["weight_scale"])
            np.testing.assert_array_equal(found, old.tensors["bias"])
            continue
        source, output = types[node.inputs[0]].scale, node.type.scale
        alive = node.tensors["weight"].reshape(4, -1).any(1)
        observed = scales == "observed" and not (norm and node.name == "one")
        if not observed:
            np.testing.assert_array_equal(scale, plain_scales(scale))
        np.testing.assert_allclose(scale[alive], old.tensors["weight_scale"][alive], rtol=0 if observed else 2.0**-6)
        np.testing.assert_array_equal(found, plain_biases(found * source * scale, scale, source=source, output=output))
        moved = found * source * scale - old.tensors["bias"] * source * old.tensors["weight_scale"].astype(float)
        assert np.abs(moved).max() <= output / 16 * 1.01
        if norm and node.name == "one":  # the scale is BatchNorm's, so no integer of a weight has changed
            np.testing.assert_array_equal(node.tensors["weight"], old.tensors["weight"])
    images = torch.randn(20, 2, 6, 6)
    with torch.no_grad():
        expected = fake(images).numpy()
    assert np.abs(run(graph, images.numpy()) - expected).max() <= 0.03 * np.abs(expected).max()


@pytest.mark.parametrize("scales", ["learned", "observed"])
@pytest.mark.parametrize("norm", [False, True])
def test_settling_twice_changes_nothing(norm, scales):
    fake = quantized(network(1, norm=norm, bias=True), scales, 1)
    settle_(fake)
    once = freeze(fake)
    settle_(fake)
    twice = freeze(fake)
    for one, other in zip(once.nodes, twice.nodes, strict=True):
        for name, tensor in one.tensors.items():
            np.testing.assert_array_equal(tensor, other.tensors[name], err_msg=f"{one.name} {name}")


def test_a_float_network_stays_as_it_is():
    made = network(2, norm=True, bias=True)
    before = copy.deepcopy(made.state_dict())
    settle_(made)
    for name, tensor in made.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_silenced_channels_stay_silent():
    fake = quantized(network(3, norm=True, bias=False), "learned", 3)
    norm = fake.batch_norms()["norm"]
    norm.alive = torch.tensor([1.0, 1.0, 0.0, 1.0])
    old = norm.gamma.detach().clone(), norm.beta.detach().clone()
    settle_(fake)
    assert norm.gamma[2] == old[0][2]
    assert norm.beta[2] == old[1][2]
    assert (norm.gamma[[0, 3]] != old[0][[0, 3]]).all()


def test_without_training_weights_are_rounded_to_plain_steps_and_settling_moves_no_gain():
    for scales, norm in (("learned", True), ("learned", False), ("observed", True)):
        made = network(5, norm=norm, bias=True)
        resources = Resources(None, None, torch.randn(16, 2, 6, 6), Execution(device="cpu", precision="float32"), 0)
        fake = Quantize(budget=Budget(epochs=0), scales=scales).begin(made, resources).network.eval()
        before = {name: layer.effective_weight().detach().clone() for name, layer in weighted_layers(fake).items()}
        gammas = [one.gamma.detach().clone() for one in fake.batch_norms().values()]
        settle_(fake)
        for name, layer in weighted_layers(fake).items():
            torch.testing.assert_close(layer.effective_weight(), before[name], rtol=1e-6, atol=0)
        for one, gamma in zip(fake.batch_norms().values(), gammas, strict=True):
            torch.testing.assert_close(one.gamma[[0, 2, 3]], gamma[[0, 2, 3]], rtol=1e-6, atol=0)  # channel 1 has no weights


def test_of_the_two_plain_steps_beside_a_calibrated_one_each_channel_gets_the_better():
    made = network(6, norm=False, bias=True)
    resources = Resources(None, None, torch.randn(16, 2, 6, 6), Execution(device="cpu", precision="float32"), 0)
    stages = (Quantize(budget=Budget(epochs=epochs), calibrator="minmax", weight_bits=4) for epochs in (0, 1))
    chosen, calibrated = (weighted_layers(stage.begin(made, resources).network)["two"] for stage in stages)
    weight, top = made.layers["two"].weight.detach().double(), 7
    lower, upper = neighbouring_plain_scales(calibrated.quantizer.scale.detach().double().numpy())
    steps = chosen.quantizer.scale.detach().double().numpy()

    def errors(candidates):
        columns = torch.from_numpy(candidates).reshape(-1, 1, 1, 1)
        return ((weight / columns).round().clamp(-top, top) * columns - weight).square().flatten(1).sum(1).numpy()

    np.testing.assert_array_equal(steps, np.where(errors(lower) < errors(upper), lower, upper))
    assert {*(steps == lower)} == {True, False}


def test_plain_neighbours_enclose_a_scale():
    scales = np.array([1.0, 0.3, 33 / 64, 33.5 / 64, 1e-30])
    lower, upper = neighbouring_plain_scales(scales)
    np.testing.assert_array_equal(plain_scales(lower), lower)
    np.testing.assert_array_equal(plain_scales(upper), upper)
    np.testing.assert_array_equal(lower[[0, 2]], upper[[0, 2]])
    assert (lower <= scales).all()
    assert (scales <= upper).all()
    assert list(zip(lower[3:4], upper[3:4], strict=True)) == [(33 / 64, 34 / 64)]
    assert (upper <= lower * (1 + 2**-5)).all()
