import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import network

from paretrim.errors import InvalidRecipe, InvalidSettings
from paretrim.run.recipe import parse_stage
from paretrim.train.budget import Budget, learning_rate_at
from paretrim.train.execution import Execution
from paretrim.train.optimizer import look_ahead_, make_optimizer

WRONG = [
    ("epochs", -1, "greater than or equal to 0"),
    ("epochs", 2.5, "valid integer"),
    ("epochs", "5", "valid integer"),
    ("epochs", True, "valid integer"),
    ("batch_size", 0, "greater than or equal to 1"),
    ("optimizer", "lion", "'sgd', 'adamw' or 'muon'"),
    ("learning_rate", 0.0, "greater than 0"),
    ("learning_rate", math.inf, "finite number"),
    ("learning_rate", "0.1", "valid number"),
    ("momentum", 1.0, "less than 1"),
    ("nesterov", 1, "valid boolean"),
    ("weight_decay", -1e-4, "greater than or equal to 0"),
    ("schedule", "cosinus", "'cosine', 'linear', 'step' or 'constant'"),
    ("warmup", 1.1, "less than or equal to 1"),
    ("milestones", [0.5, 2.0], "less than or equal to 1"),
    ("label_smoothing", -0.1, "greater than or equal to 0"),
    ("clip_norm", 0.0, "greater than 0"),
    ("muon_rate", 1.0, "less than 1"),
    ("muon_rate", 0.0, "greater than 0"),
    ("freeze_batchnorm", 67, "less than or equal to 1"),
]


@pytest.mark.parametrize(("key", "value", "text"), WRONG, ids=str)
def test_every_field_is_checked(key, value, text):
    with pytest.raises(InvalidSettings, match=rf"Budget.*{text}"):
        Budget(**{key: value})
    place = f"{key}.1" if key == "milestones" else key
    given = 2.0 if key == "milestones" else value
    with pytest.raises(InvalidRecipe, match=rf"stages\[0\]\.budget\.{place} is {given!r}: input should be .*{text}"):
        parse_stage({"stage": "finetune", "budget": {key: value}}, "stages[0]")


def test_budgets_without_epochs_or_warmup_are_legal():
    assert Budget(epochs=0).epochs == 0
    assert Budget(warmup=1.0, momentum=0.0, clip_norm=None).epochs == 5
    assert Budget(schedule="step", milestones=()).milestones == ()


@given(
    progress=st.floats(0, 1, exclude_max=True),
    warmup=st.floats(0, 1),
    schedule=st.sampled_from(["cosine", "linear", "step", "constant"]),
)
def test_the_rate_stays_between_zero_and_its_peak(progress, warmup, schedule):
    after = {} if warmup == 1 else {"schedule": schedule}
    budget = Budget(learning_rate=0.4, warmup=warmup, **after)
    assert 0 <= learning_rate_at(progress, budget) <= 0.4 * (1 + 1e-12)


def test_statistics_are_kept_only_when_the_rate_has_nearly_run_out():
    """With kept statistics nothing normalises a step any more: at a quarter of the rate distillation diverged."""
    budget = Budget(learning_rate=0.4)
    assert learning_rate_at(budget.freeze_batchnorm, budget) <= 0.03 * budget.learning_rate
    assert budget.freeze_batchnorm < 1  # the last steps do train with what will be folded


def test_rates_follow_their_laws():
    def rate(progress, **settings):
        return learning_rate_at(progress, Budget(learning_rate=0.4, **settings))

    assert rate(0.0, schedule="cosine") == rate(0.0, schedule="linear") == rate(0.99, schedule="constant") == 0.4
    assert rate(0.5, schedule="cosine") == pytest.approx(0.2)
    assert rate(0.25, schedule="cosine") == pytest.approx(0.4 * (1 + math.sqrt(0.5)) / 2)
    assert rate(0.75, schedule="linear") == pytest.approx(0.1)
    assert [rate(p, schedule="step") for p in (0.49, 0.5, 0.74, 0.75)] == pytest.approx([0.4, 0.04, 0.04, 0.004])
    assert [rate(p, warmup=0.2, schedule="constant") for p in (0.05, 0.1, 0.2)] == pytest.approx([0.1, 0.2, 0.4])
    assert rate(0.6, warmup=0.2, schedule="linear") == pytest.approx(0.2)
    assert rate(0.0, warmup=0.2) == pytest.approx(0.4e-3)
    assert rate(0.5, warmup=1.0) == pytest.approx(0.2)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_rates_fall_to_zero(schedule):
    rates = [learning_rate_at(p / 1000, Budget(schedule=schedule)) for p in range(1000)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-4 * 1.01


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_is_for_weights_alone(optimizer):
    module = network("residual")
    made = make_optimizer(module.parameters(), Budget(optimizer=optimizer, weight_decay=0.25))
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    assert len(decay) == len(list(module.parameters()))
    for name, parameter in module.named_parameters():
        assert decay[id(parameter)] == (0.25 if name.endswith("weight") else 0.0), name


def test_without_momentum_there_is_no_nesterov():
    assert make_optimizer(network("plain").parameters(), Budget(momentum=0.0)).param_groups[0]["nesterov"] is False
    assert make_optimizer(network("plain").parameters(), Budget()).param_groups[0]["nesterov"] is True


@pytest.mark.parametrize(
    ("device", "text"),
    [
        ("gpu", "device 'gpu' is unknown; write auto, cpu, cuda or cuda:0"),
        ("meta", "device 'meta' is not supported; write auto, cpu, cuda or cuda:0"),
        ("cuda:99", r"device 'cuda:99' is not there: \d+ CUDA devices are seen; write auto or cpu"),
    ],
)
def test_devices_that_do_not_exist_are_refused(device, text):
    with pytest.raises(InvalidRecipe, match=text):
        Execution(device=device).torch_device()


def test_arithmetic_is_chosen_or_found():
    assert Execution(device="cpu").torch_device() == torch.device("cpu")
    assert Execution(precision="bfloat16").bfloat16()
    assert not Execution(precision="float32").bfloat16()
    assert isinstance(Execution(device="cpu").bfloat16(), bool)
    assert Execution().torch_device().type in ("cpu", "cuda")


def test_batchnorm_biases_have_a_rate_of_their_own():
    module = network("residual")
    biases = [layer.beta for layer in module.batch_norms().values()]
    made = make_optimizer(module.parameters(), Budget(batchnorm_bias_rate=64.0), batchnorm_biases=biases)
    rates = {id(p): group["rate"] for group in made.param_groups for p in group["params"]}
    assert len(rates) == len(list(module.parameters())) > len(biases) > 0
    assert [rates[id(bias)] for bias in biases] == [64.0] * len(biases)
    assert list(rates.values()).count(64.0) == len(biases)


def test_a_rate_of_one_makes_no_groups_of_its_own():
    module = network("residual")
    biases = [layer.beta for layer in module.batch_norms().values()]
    assert len(make_optimizer(module.parameters(), Budget(), batchnorm_biases=biases).param_groups) == 2


def slow_and_fast(progress, fast):
    """A parameter and its slow weight after a second averaging, the first having been at 1."""
    parameter = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    parameter.grad = torch.zeros(())
    look_ahead_(optimizer, 0.0)
    with torch.no_grad():
        parameter.fill_(fast)
    look_ahead_(optimizer, progress)
    return parameter.item(), optimizer.state[parameter]["slow"].item()


def test_lookahead_follows_at_first_and_averages_at_the_end():
    assert slow_and_fast(0.0, fast=3.0) == (3.0, 3.0)
    assert slow_and_fast(1.0, fast=3.0) == pytest.approx((3 - 2 * 0.95**5,) * 2)
    assert slow_and_fast(0.5, fast=3.0) == pytest.approx((3 - 2 * 0.95**5 / 8,) * 2)


def test_lookahead_waits_for_the_first_gradient():
    parameter = torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.AdamW([parameter], lr=0.1)
    look_ahead_(optimizer, 0.5)
    assert not optimizer.state[parameter]
    parameter.grad = torch.ones(())
    optimizer.step()
    look_ahead_(optimizer, 0.5)
    assert {"slow", "exp_avg"} < set(optimizer.state[parameter])
