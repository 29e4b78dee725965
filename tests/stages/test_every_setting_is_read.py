"""Every setting changes what its stage does, or is refused, whatever the other settings are that decide what is read."""

import copy
import dataclasses

import pytest

from paretrim.errors import InvalidRecipe
from paretrim.settings import checked, idle_settings
from paretrim.stages.distill.criteria import CRITERIA
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize import clipq
from paretrim.stages.quantize.clipq import Rate
from paretrim.stages.stage_table import STAGES
from paretrim.train.budget import Budget
from tests.stages import setting_cases as cases
from tests.stages.read_settings import BUDGET, outcome, quantized
from tests.stages.tiny import same

CONTEXTS = [(name, context) for name, contexts in cases.CONTEXTS.items() for context in contexts]


def _id(value):
    return value if isinstance(value, str) else ", ".join(f"{name} {one}"[:30] for name, one in value.items()) or "as it is"


def made(kind, settings):
    """The settings of a table, or None if they are refused."""
    try:
        return checked(kind, settings, "case")
    except InvalidRecipe:
        return None


def what_it_does(run, changed):
    """The outcome, or None if the settings are refused once the network is known."""
    try:
        return run(changed)
    except InvalidRecipe:
        return None


def unread(kind, own, others, run):
    """Settings that are accepted but make no difference, and those that are refused as idle although they make one."""
    base = checked(kind, own, "case")
    usual, idle = run(base), idle_settings(base)
    silent, wrong = [], []
    for name, values in others.items():
        different = [value for value in values if value != getattr(base, name)]
        changes = [{name: one.value, **one.beside} if isinstance(one, cases.With) else {name: one} for one in different]
        tried = [changed for some in changes if (changed := made(kind, {**own, **some})) is not None]
        found = (what_it_does(run, changed) for changed in tried)
        if tried and all(one is not None and same(one, usual) for one in found):
            silent.append(name)
        if name in idle and not tried:
            forced = copy.copy(base)
            object.__setattr__(forced, name, different[0])
            found = what_it_does(run, forced)
            wrong += [] if found is None or same(found, usual) else [name]
    return silent, wrong


def fake_search(cost, names, *, trials, seed):
    """The best of a few rates in place of Optuna, which need not be installed."""
    tried = [dict.fromkeys(names, Rate(0.8 * number / trials, 2 + number)) for number in range(1, 1 + trials)]
    return min(tried, key=cost)


@pytest.mark.parametrize(("name", "context"), CONTEXTS, ids=_id)
def test_a_setting_of_a_stage_changes_what_it_does_or_is_refused(name, context, monkeypatch):
    monkeypatch.setattr(clipq, "find_spec", lambda name: name)
    monkeypatch.setattr(clipq, "optimised", fake_search)
    own = {"budget": BUDGET, **context}
    if made(STAGES[name], own) is not None:
        assert unread(STAGES[name], own, cases.OTHERS[name], outcome) == ([], [])


@pytest.mark.parametrize("name", cases.OTHERS)
def test_every_setting_has_another_value_to_try(name, monkeypatch):
    monkeypatch.setattr(clipq, "find_spec", lambda name: name)
    assert set(cases.OTHERS) == set(cases.CONTEXTS) == set(STAGES)
    assert set(cases.OTHERS[name]) == {field.name for field in dataclasses.fields(STAGES[name])}
    for setting, values in cases.OTHERS[name].items():
        accepted = [
            made(STAGES[name], {"budget": BUDGET, **context, setting: value})
            for context in cases.CONTEXTS[name]
            for value in values
            if not isinstance(value, cases.With) and value != context.get(setting)
        ]
        assert any(one is not None for one in accepted), setting


@pytest.mark.parametrize("name", CRITERIA)
def test_a_setting_of_a_criterion_changes_the_loss_or_is_refused(name):
    bases, others = cases.CRITERIA[name]
    assert {*others, "loss"} == {field.name for field in dataclasses.fields(CRITERIA[name])}

    def run(criterion):
        return outcome(Distill(criteria=(criterion,), budget=BUDGET))

    required = {"at", "step"} & {key for base in bases for key in base}
    for base in [*bases, {**{key: bases[0][key] for key in required}, "weight": 0.0}]:
        tried = {setting: (value,) for setting, value in others.items() if setting not in required or base.get("weight") != 0}
        assert unread(CRITERIA[name], base, tried, run) == ([], [])


@pytest.mark.parametrize("given", cases.BUDGETS, ids=_id)
def test_a_setting_of_a_budget_changes_training_or_is_refused(given):
    assert set(cases.OTHER_BUDGETS) == {field.name for field in dataclasses.fields(Budget)}
    own = {"epochs": 1, "batch_size": 12, "learning_rate": 0.05, **given}
    if own["epochs"] == 0:
        own = given

    def run(budget):
        return outcome(FineTune(budget=budget), quantized)

    others = {name: (value,) for name, value in cases.OTHER_BUDGETS.items()}
    assert unread(Budget, own, others, run) == ([], [])
