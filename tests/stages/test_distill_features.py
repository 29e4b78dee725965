"""Losses on features: invariants, a direct computation of each, and refusals."""

from dataclasses import replace

import pytest
import torch
from distilled_outputs import assert_gradient, between, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SHORT, dense, network, resources
from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.network.places import PENULTIMATE, value_at
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.features import Attention, Hint, Mimic, attention_distance, fitting
from paretrim.stages.distill.relations import Relations, cosines, distances
from paretrim.stages.distill.stage import Distill
from paretrim.stages.prune.stage import Prune
from paretrim.train.losses import Outputs
from paretrim.train.task import CLASSIFICATION


def value(criterion, student, teacher, *, extra=None):
    return criterion.term(CLASSIFICATION).function(between(student, teacher, extra=extra))


PLAIN = {"regressor": nn.Identity()}
MAPS = normal(3, 4, 5, 5), normal(3, 4, 5, 5, seed=1)


def test_equal_features_have_no_hint_loss():
    assert value(Hint(at="x"), MAPS[0], MAPS[0], extra=PLAIN) == 0
    assert value(Mimic(at="x", step=0.5), MAPS[0], MAPS[0], extra=PLAIN) == 0


def test_a_hint_is_the_mean_squared_difference():
    torch.testing.assert_close(value(Hint(at="x"), *MAPS, extra=PLAIN), (MAPS[0] - MAPS[1]).square().mean())
    assert Hint(at="x").term(CLASSIFICATION).weight_at(0.0) == 100


@pytest.mark.parametrize(
    ("kind", "shape", "wanted", "layer"),
    [
        ("conv", (4, 8, 8), (6, 8, 8), nn.Sequential),
        ("conv", (4, 8, 8), (6, 4, 4), nn.Sequential),
        ("conv", (4, 8, 8), (6, 3, 5), nn.Sequential),
        ("conv", (4, 4, 4), (6, 8, 8), nn.Sequential),
        ("pool", (4, 8, 8), (6, 3, 3), nn.Sequential),
        ("pool", (4, 3, 3), (6, 8, 8), nn.Sequential),
        ("conv", (4,), (6,), nn.Linear),
        ("none", (4, 8, 8), (4, 8, 8), nn.Identity),
    ],
)
def test_a_regressor_gives_the_shape_of_the_teacher(kind, shape, wanted, layer):
    made = fitting(shape, wanted, kind)
    assert isinstance(made, layer)
    assert any(isinstance(part, nn.BatchNorm2d) for part in made.modules()) == (kind == "conv" and len(shape) == 3)
    assert made(normal(2, *shape)).shape == (2, *wanted)


def test_features_that_no_regressor_can_match_are_refused():
    given_resources = resources("residual")
    said = (
        r"hint at 'stem' and 'head': the student returns \[8, 8, 8\] and the teacher \[4\], which regressor 'conv' cannot match"
    )
    with pytest.raises(InvalidRecipe, match=said):
        Hint(at="stem", teacher_at="head").begin(network("residual"), given_resources)
    with pytest.raises(InvalidRecipe, match="which regressor 'none' cannot match; choose pool"):
        Hint(at="stem", teacher_at="down", regressor="none").begin(network("residual"), given_resources)
    with pytest.raises(InvalidRecipe, match="which regressor 'conv' cannot match; choose pool"):
        fitting((4, 3, 3), (4, 8, 8), "conv")


@pytest.mark.parametrize(
    "criterion",
    [
        {"loss": "hint", "at": "layer9"},
        {"loss": "hint", "at": "stem", "teacher_at": "layer9"},
        {"loss": "mimic", "at": "layer9", "step": 1.0},
        {"loss": "attention", "at": ["stem", "layer9"]},
        {"loss": "rkd", "at": "layer9"},
        {"loss": "crd", "at": "layer9"},
        {"loss": "review", "at": ["layer9"]},
    ],
    ids=lambda one: one["loss"],
)
def test_a_module_that_does_not_exist_is_named(criterion):
    with pytest.raises(InvalidRecipe, match=r"the network has no module 'layer9'.*name one by its path in the network"):
        Distill(criteria=(criterion,)).begin(network("residual"), resources("residual"))


def test_mimic_rounds_both_sides_and_lets_gradients_through():
    student, teacher = torch.tensor([[[[0.6]], [[-1.0]]]]), torch.tensor([[[[1.9]], [[0.4]]]])
    student.requires_grad_()
    loss = value(Mimic(at="x", step=1.0), student, teacher, extra=PLAIN)
    assert loss.item() == pytest.approx(((1 - 2) ** 2 + 0) / 2)
    (gradient,) = torch.autograd.grad(loss, student)
    assert gradient.flatten().tolist() == [-1.0, 0.0]


def test_attention_ignores_scale_and_channel_order():
    student = MAPS[0]
    assert float(attention_distance(student, 3 * student)) < 1e-12
    assert float(attention_distance(student, -student[:, [2, 0, 3, 1]])) < 1e-12
    assert float(attention_distance(*MAPS)) > 1e-4


def test_attention_is_its_formula():
    def attention(map_):
        found = map_.double().square().mean(1).flatten(1)
        return found / found.square().sum(1, keepdim=True).sqrt()

    expected = (attention(MAPS[0]) - attention(MAPS[1])).square().mean().float()
    torch.testing.assert_close(attention_distance(*MAPS), expected)
    torch.testing.assert_close(value(Attention(at=("x",)), *MAPS), expected)
    larger = normal(3, 7, 10, 10, seed=5)
    torch.testing.assert_close(
        attention_distance(MAPS[0], larger), attention_distance(MAPS[0], nn.functional.avg_pool2d(larger, 2))
    )


def test_attention_adds_its_modules():
    one, two = (Distill(criteria=({"loss": "attention", "at": at},), labels=0.0) for at in (["stem"], ["stem", "down"]))
    given_resources = resources("residual")
    narrow = Prune(pattern="channel", sparsity=0.5).begin(dense("residual").network, given_resources).network
    batch = next(iter(given_resources.train(16).epoch(0)))

    def loss_at(stage):
        (term,) = stage.losses(given_resources)
        found = narrow.features(batch.inputs, tuple(value_at(narrow.structure, path) for path in term.features))
        features = {path: found[value_at(narrow.structure, path)] for path in term.features}
        values = given_resources.teacher.values(batch, 0, term.teacher_features)
        extra = stage.begin(narrow, given_resources).extra
        outputs = Outputs(found[narrow.structure.output], batch.labels, features=features, teacher_features=values, extra=extra)
        return term.function(outputs).item()

    down = Distill(criteria=({"loss": "attention", "at": ["down"]},), labels=0.0)
    assert loss_at(two) == pytest.approx(loss_at(one) + loss_at(down), rel=1e-5)
    assert loss_at(one) > 0


def test_attention_needs_maps_in_equal_number():
    with pytest.raises(InvalidRecipe, match=r"module 'head' returns values of shape \[4\]; name a convolution"):
        Attention(at=("head",)).begin(network("residual"), resources("residual"))
    with pytest.raises(InvalidRecipe, match="attention has 1 modules of the student and 2 of the teacher; name equally many"):
        Attention(at=("stem",), teacher_at=("stem", "down"))


FEATURES = normal(6, 8), normal(6, 5, seed=1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10))
def test_relations_ignore_rotation_scale_and_translation(seed, scale):
    student, teacher = normal(6, 8, seed=seed), normal(6, 5, seed=seed + 1)
    rotation, _ = torch.linalg.qr(normal(8, 8, seed=seed + 2))
    moved = scale * student @ rotation + normal(8, seed=seed + 3)
    torch.testing.assert_close(
        value(Relations(at="x"), moved, teacher), value(Relations(at="x"), student, teacher), rtol=1e-3, atol=1e-4
    )
    assert abs(value(Relations(at="x"), moved, student).item()) < 1e-5


def test_relations_are_their_formula():
    student, teacher = (one.double() for one in FEATURES)

    def huber(one, other):
        gap = abs(one - other)
        return gap**2 / 2 if gap < 1 else gap - 0.5

    def pair(points):
        table = [[float((one - other).norm()) for other in points] for one in points]
        mean = sum(map(sum, table)) / 30
        return [[length / mean for length in row] for row in table]

    def cosine(points, i, j, k):
        if i in (j, k):
            return 0.0
        return float(nn.functional.cosine_similarity(points[j] - points[i], points[k] - points[i], dim=0))

    ours, theirs = pair(student), pair(teacher)
    lengths = sum(huber(ours[i][j], theirs[i][j]) for i in range(6) for j in range(6)) / 36
    every = [(i, j, k) for i in range(6) for j in range(6) for k in range(6)]
    angles = sum(huber(cosine(student, *one), cosine(teacher, *one)) for one in every) / 216
    assert value(Relations(at="x"), *FEATURES).item() == pytest.approx(25 * lengths + 50 * angles, rel=1e-4)


@pytest.mark.parametrize("points", [torch.zeros(3, 4), torch.ones(1, 4), torch.tensor([[1.0, 2], [1, 2], [3, 4]])])
def test_points_in_one_place_have_finite_gradients(points):
    points = points.clone().requires_grad_()
    (distances(points).square().sum() + cosines(points).sum()).backward()
    assert points.grad.isfinite().all()
    assert float(points.grad.abs().max()) < 100


@pytest.mark.parametrize(
    ("criterion", "features"),
    [
        (Hint(at="x"), MAPS),
        (Attention(at=("x",)), MAPS),
        (Relations(at="x"), FEATURES),
    ],
    ids=lambda one: getattr(one, "loss", ""),
)
def test_gradients_by_features_are_those_of_the_loss(criterion, features):
    student, teacher = features
    assert_gradient(lambda x: value(criterion, x, teacher, extra=PLAIN), student)


def test_penultimate_is_the_input_of_the_last_layer():
    for name, shape in (("residual", (12,)), ("without_norm", (16,)), ("plain", (16,))):
        structure = network(name).structure
        last = [node for node in structure.nodes if node.op == "linear"][-1]
        assert value_at(structure, PENULTIMATE) == last.inputs[0]
        assert network(name).shape_at(PENULTIMATE) == shape


def test_a_hint_alone_trains_the_layers_up_to_it_and_no_others():
    """FitNets, first stage."""
    stage = Distill(criteria=({"loss": "hint", "at": "left", "weight": 1.0},), labels=0.0, budget=SHORT)
    narrow = Prune(pattern="channel", sparsity=0.5).begin(dense("residual").network, resources("residual")).network
    candidate = replace(dense("residual"), network=narrow)
    before = {name: tensor.clone() for name, tensor in narrow.named_parameters()}
    after = dict(run_stage(candidate, stage, resources("residual")).network.named_parameters())
    changed = {name.split(".")[1].split("/")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any("down" in name or "head" in name for name in changed), changed
    assert all("stem" in name or "left" in name for name in changed), changed
