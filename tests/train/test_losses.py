from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from paretrim.errors import InvalidRecipe
from paretrim.stages.distill.stage import Distill
from paretrim.train.budget import Budget
from paretrim.train.losses import LossTerm, Outputs, cross_entropy, softened_kl
from paretrim.train.task import CLASSIFICATION


def outputs(seed=0, teacher=True):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 5, generator=random, requires_grad=True)
    labels = torch.randint(5, (6,), generator=random)
    return Outputs(logits, labels, torch.randn(6, 5, generator=random) if teacher else None)


def total(stage, found):
    return sum(term.weight_at(0.5) * term.function(found) for term in stage.losses(SimpleNamespace(task=CLASSIFICATION)))


def test_alpha_zero_is_cross_entropy():
    found = outputs()
    assert total(Distill(alpha=0.0), found) == functional.cross_entropy(found.logits, found.labels)


def test_the_loss_is_0_for_a_student_equal_to_its_teacher():
    found = outputs()
    equal = Outputs(found.logits, found.labels, found.logits.detach())
    loss = total(Distill(alpha=1.0), equal)
    assert abs(loss.item()) < 1e-6
    (gradient,) = torch.autograd.grad(loss, found.logits)
    assert float(gradient.abs().max()) < 1e-6


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), temperature=st.floats(0.5, 20))
def test_softened_kl_is_its_formula(seed, temperature):
    found = outputs(seed)
    teacher = torch.softmax(found.teacher_logits.double() / temperature, 1)
    student = torch.softmax(found.logits.double() / temperature, 1)
    expected = temperature**2 * (teacher * (teacher.log() - student.log())).sum(1).mean()
    loss = softened_kl(found.logits, found.teacher_logits, temperature)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3, abs=1e-5)
    assert loss.item() >= -1e-5


def test_hot_gradients_match_the_logits():
    """Hinton et al. 2015, equation 4: for large T and centred logits the gradient is (z - v) / N a batch."""
    found = outputs()
    student = (found.logits - found.logits.mean(1, keepdim=True)).detach().requires_grad_()
    teacher = found.teacher_logits - found.teacher_logits.mean(1, keepdim=True)
    (gradient,) = torch.autograd.grad(softened_kl(student, teacher, 1000.0), student)
    torch.testing.assert_close(gradient, (student - teacher).detach() / 5 / 6, rtol=0.02, atol=1e-3)


def test_label_smoothing_mixes_in_the_uniform_distribution():
    found = outputs()
    plain, uniform = cross_entropy().function(found), -found.logits.log_softmax(1).mean()
    torch.testing.assert_close(cross_entropy(0.3).function(found), 0.7 * plain + 0.3 * uniform)


def test_losses_are_float32_whatever_the_logits():
    found = outputs()
    low = Outputs(found.logits.bfloat16(), found.labels, found.teacher_logits.bfloat16())
    assert cross_entropy().function(low).dtype == torch.float32
    assert softened_kl(low.logits, low.teacher_logits, 4.0).dtype == torch.float32


def test_weights_may_follow_progress():
    assert LossTerm(lambda found: found.logits.sum(), lambda progress: 1 - progress).weight_at(0.25) == 0.75
    assert LossTerm(lambda found: found.logits.sum(), 2).weight_at(0.25) == 2


def test_the_distillation_loss_wants_logits_and_knows_the_smoothing():
    stage = Distill(budget=Budget(label_smoothing=0.3), alpha=0.0)
    found = outputs()
    torch.testing.assert_close(total(stage, found), cross_entropy(0.3).function(found))
    with pytest.raises(InvalidRecipe, match="the distillation loss was called without teacher logits"):
        total(Distill(), outputs(teacher=False))
