"""Every loss of a distill stage: its invariants, its gradients, and a killed run."""

from dataclasses import replace

import pytest
import torch
from distilled_outputs import OtherTask, assert_gradient, normal
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import SHORT, Interrupted, dense, resources, same, state

import paretrim.train.fit
from paretrim.errors import InvalidRecipe
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.stages.distill.criteria import CRITERIA
from paretrim.stages.distill.logits import DecoupledLogits, SoftLogits, decoupled, standardised, warmed
from paretrim.stages.distill.stage import Distill
from paretrim.train.losses import Outputs, softened_kl
from paretrim.train.task import CLASSIFICATION

LONG = replace(SHORT, epochs=3)


def outputs(seed=0, classes=5, images=6):
    labels = torch.randint(classes, (images,), generator=torch.Generator().manual_seed(seed))
    return Outputs(normal(images, classes, seed=seed), labels, normal(images, classes, seed=seed + 1))


def value(criterion, found):
    term = criterion.term(CLASSIFICATION)
    return term.weight_at(1.0) * term.function(found)


LOGITS = {
    "kd": SoftLogits(),
    "kd standardised": SoftLogits(temperature=2.0, standardise=True),
    "dkd": DecoupledLogits(),
    "dkd standardised": DecoupledLogits(temperature=2.0, standardise=True),
}


@pytest.mark.parametrize("kind", LOGITS)
def test_gradients_by_logits_are_those_of_the_loss(kind):
    found = outputs()
    assert_gradient(lambda logits: value(LOGITS[kind], replace(found, logits=logits)), found.logits)


@pytest.mark.parametrize("kind", LOGITS)
def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_it(kind):
    found = outputs()
    logits = found.logits.clone().requires_grad_()
    loss = value(LOGITS[kind], replace(found, logits=logits, teacher_logits=logits.detach()))
    assert abs(loss.item()) < 1e-5
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient.abs().max()) < 1e-5


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 20), classes=st.integers(2, 7))
def test_dkd_with_the_teachers_doubt_as_beta_is_kd(seed, temperature, classes):
    """Zhao et al. 2022, equation 5: KD = TCKD + (1 - p) NCKD, where p is the teacher's softened probability of the label."""
    found = outputs(seed, classes)
    target, others = decoupled(found.logits, found.teacher_logits, found.labels, temperature)
    doubt = 1 - (found.teacher_logits / temperature).softmax(1).gather(1, found.labels[:, None])[:, 0]
    expected = softened_kl(found.logits, found.teacher_logits, temperature)
    torch.testing.assert_close((target + doubt * others).mean(), expected, rtol=1e-3, atol=1e-4)
    if classes == 2:
        assert not others.any()  # one other class leaves nothing to say about it


def test_dkd_is_its_formula():
    found = outputs()
    target, others = decoupled(found.logits, found.teacher_logits, found.labels, 4.0)
    torch.testing.assert_close(value(DecoupledLogits(alpha=2.0, beta=3.0), found), (2 * target + 3 * others).mean())
    teacher, student = (logits.double().div(4).softmax(1) for logits in (found.teacher_logits, found.logits))
    for image, label in enumerate(found.labels.tolist()):
        p, q = teacher[image], student[image]
        pair = p[label] * (p[label] / q[label]).log() + (1 - p[label]) * ((1 - p[label]) / (1 - q[label])).log()
        assert float(target[image]) == pytest.approx(16 * float(pair), rel=1e-3)
        rest = [k for k in range(5) if k != label]
        p, q = p[rest] / p[rest].sum(), q[rest] / q[rest].sum()
        assert float(others[image]) == pytest.approx(16 * float((p * (p / q).log()).sum()), rel=1e-3)


def test_the_weight_of_dkd_grows_over_its_warm_up():
    term = DecoupledLogits(weight=2.0, warmup=0.5).term(CLASSIFICATION)
    assert [term.weight_at(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.0, 1.0, 2.0, 2.0]
    assert warmed(3.0, 0.0, 0.0) == 3.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_standardised_logits_ignore_scale_and_shift(seed, scale, shift):
    found = outputs(seed)
    criterion = SoftLogits(temperature=2.0, standardise=True)
    moved = replace(found, logits=scale * found.logits + shift)
    torch.testing.assert_close(value(criterion, moved), value(criterion, found), rtol=1e-3, atol=1e-4)
    fixed = standardised(found.logits)
    torch.testing.assert_close(fixed.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(fixed.std(1, correction=0), torch.ones(6), atol=1e-4, rtol=0)


def test_equal_logits_can_be_standardised():
    assert not standardised(torch.full((2, 3), 7.0)).any()


def test_kd_beside_labels_is_the_plain_stage():
    found, given_resources = outputs(), resources("plain")
    plain = Distill(alpha=0.5)
    written = Distill(criteria=({"loss": "kd", "weight": 0.5},), labels=0.5)
    totals = []
    for stage in (plain, written):
        terms = stage.losses(given_resources)
        extra = stage.begin(dense("plain").network, given_resources).extra
        totals.append(sum(term.weight_at(0.5) * term.function(replace(found, extra=extra)) for term in terms))
    torch.testing.assert_close(*totals)


def test_without_labels_nothing_but_the_criteria_is_learned():
    assert len(Distill(criteria=({"loss": "dkd"},), labels=0.0).losses(resources("plain"))) == 1
    assert len(Distill(criteria=({"loss": "dkd"},)).losses(resources("plain"))) == 2


def test_conflicting_settings_are_refused():
    with pytest.raises(
        InvalidRecipe, match=r"alpha is 0\.5, but there are criteria, which have their own, so it would have no effect"
    ):
        Distill(criteria=({"loss": "dkd"},), alpha=0.5)
    with pytest.raises(
        InvalidRecipe, match=r"labels is 0\.0, but there are no criteria, so it would have no effect; set alpha, or"
    ):
        Distill(labels=0.0)


@pytest.mark.parametrize("criterion", [{"loss": "dkd"}, {"loss": "kd", "standardise": True}])
def test_class_logits_are_needed(criterion):
    said = "(dkd|standardise) needs classes, but the task is other; leave it out, or choose another loss"
    with pytest.raises(InvalidRecipe, match=said):
        Distill(criteria=(criterion,)).begin(dense("plain").network, replace(resources("plain"), task=OtherTask()))


def test_a_teacher_is_needed():
    with pytest.raises(InvalidRecipe, match="a distill stage needs a teacher, but the recipe has none"):
        Distill(criteria=({"loss": "dkd"},)).begin(dense("plain").network, replace(resources("plain"), teacher=None))


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        ({"loss": "dk"}, r"criteria\.0: there is no loss 'dk'; did you mean 'dkd'\?"),
        ({"loss": "zz"}, r"criteria\.0: there is no loss 'zz'; known are kd, dkd, hint"),
        ({"loss": "dkd", "bet": 1}, r"criteria\.0\.dkd\.bet: there is no such key; did you mean 'beta'\?"),
        ({"beta": 1}, r"criteria\.0 is .*: it needs a key loss"),
    ],
)
def test_criteria_are_explained(criterion, said):
    with pytest.raises(InvalidRecipe, match=said):
        parse_stage({"stage": "distill", "criteria": [criterion]}, "stages[0]")


def test_settings_survive_json():
    stage = Distill(criteria=({"loss": "dkd", "beta": 2.0}, {"loss": "kd"}), labels=0.5)
    assert parse_stage(stage_settings(stage), "stage") == stage
    assert not {"criteria", "labels"} & set(stage_settings(Distill()))


TRIED = {
    "kd": {"standardise": True},
    "dkd": {},
    "hint": {"at": "down", "weight": 1.0},
    "mimic": {"at": "left", "step": 0.5},
    "attention": {"at": ["stem", "down"]},
    "rkd": {},
    "crd": {"negatives": 50},
    "review": {"at": ["stem", "down", "penultimate"]},
    "joint": {},
}


def test_every_criterion_is_tried():
    assert set(TRIED) == set(CRITERIA)
    assert all(name == kind.loss for name, kind in CRITERIA.items())


@pytest.mark.parametrize("kind", TRIED)
def test_a_killed_run_resumes_bit_for_bit_and_ships_no_extra_modules(kind, tmp_path, monkeypatch):
    stage = Distill(criteria=({"loss": kind, **TRIED[kind]},), budget=LONG)
    parent = dense("residual")
    before = state(parent)
    expected = run_stage(parent, stage, resources("residual"))
    assert same(before, state(parent))
    assert set(state(expected)) == set(before)
    assert not same(before, state(expected))
    epoch = paretrim.train.fit._Work.epoch

    def killed(work, number, *rest):
        epoch(work, number, *rest)
        if number == 1:
            raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(paretrim.train.fit._Work, "epoch", killed)
        with pytest.raises(Interrupted):
            run_stage(parent, stage, resources("residual"), folder=tmp_path)
    assert same(state(expected), state(run_stage(parent, stage, resources("residual"), folder=tmp_path)))
