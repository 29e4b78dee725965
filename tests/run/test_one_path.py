"""Every command and the Python API run a recipe by one function, and get the same files."""

import ast
from dataclasses import replace

from source_modules import MODULES, Module

import paretrim
from paretrim.results.run_folder import delivered_by
from paretrim.run.progress import silent
from paretrim.run.records import records_of
from paretrim.run.run import after_all_stages, carry_out, open_recipe, run_recipe
from paretrim.search.climb import compress_towards
from paretrim.search.ladder import INT8, Rung, Targets
from paretrim.search.study import run_study
from paretrim.search.study_spec import StudySpec
from paretrim.search.trial import evaluator

CALLERS = {
    "carry_out": {"run.run", "run.compressed", "search.climb", "search.study", "cli.running", "cli.quantizing"},
    "deliver": {"run.run"},
    "train": {"run.run", "search.trial"},
    "run_stages": {"run.run", "run.pipeline"},  # a teacher has stages, too
    "ship": {"run.delivery", "run.likeness", "search.trial", "search.climb"},  # a compared teacher is, too
    "deploy": {"run.delivery"},
    "judge": {"run.delivery"},
    "outcome_of": {"run.delivery"},
    "keep_outcomes": {"run.delivery"},
    "seen_before": {"run.delivery", "search.study"},
}
"""Where each step of the path is called: a second path would show here."""


def _called(module: Module) -> set[str]:
    calls = (node.func for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    return {found.id for found in calls if isinstance(found, ast.Name)}


def test_every_step_is_called_where_the_document_says():
    called = {module.name: _called(module) for module in MODULES}
    assert {step: {name for name, steps in called.items() if step in steps} for step in CALLERS} == CALLERS


def _files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("deployed/*/model.trim")}


def _measured(outcome):
    return replace(outcome, study="", label="", latencies=(), history=(), created="")


def test_every_caller_gives_the_same_files_and_outcomes(recipe, tmp_path):
    """Byte by byte, in folders of the same names; and an evaluator in the folder of a run finds everything there."""
    ran, studied, climbed = (tmp_path / name for name in ("run", "study", "compress"))
    dense, _, last = run_recipe(recipe, ran)
    files = _files(ran)
    assert len(files) == 3

    spec = StudySpec("tiny", (0,), 0, (("dense", ()), ("both", recipe.stages)), replace(recipe, stages=()))
    outcomes = run_study(spec, studied, tmp_path / "results")
    assert [*map(_measured, outcomes)] == [_measured(dense), _measured(last)]
    assert _files(studied).items() < files.items()

    opened = open_recipe(replace(recipe, stages=()), silent())
    rungs = (Rung("both", INT8, recipe.stages, frozenset()),)
    found = compress_towards(Targets(), rungs, opened, climbed, measuring=None, watcher=silent(), reproduce=())
    assert [*map(_measured, found.outcomes)] == [_measured(dense), _measured(last)]
    assert _files(climbed) == _files(studied)
    assert found.file.read_bytes() in files.values()

    with evaluator(recipe, ran) as trials:
        trial = trials.evaluate(recipe.stages)
        assert (trial.name, trial.trim_bytes) == (last.label, last.trim_bytes)
        assert _files(ran) == files
    assert [outcome.label for outcome in delivered_by(ran)] == [dense.label, "prune", last.label]


def test_a_users_own_module_takes_the_same_path_without_test_images(own, tmp_path, monkeypatch):
    passed = []
    monkeypatch.setattr(
        "paretrim.run.compressed.carry_out", lambda *given, **more: passed.append(carry_out(*given, **more)) or passed[-1]
    )
    result = paretrim.to_int8(*own, folder=tmp_path, report=lambda _: None)
    (made,) = passed
    assert (made.judgements, made.outcomes) == ((), ())
    assert [entry.label for entry in made.entries] == ["quantize"]
    assert result.deployed is made.deployed[-1]
    assert not (tmp_path / "outcomes.jsonl").exists()


def test_a_recipe_of_so_many_stages_that_their_names_are_no_label_is_delivered(recipe, tmp_path):
    """A label in a recipe has at most 200 characters; the order of 30 stages has more."""
    stages = (paretrim.FineTune(budget=paretrim.Budget(epochs=0)),) * 30
    opened = open_recipe(replace(recipe, stages=stages), silent())
    made = carry_out(opened, tmp_path, after_all_stages(stages), records=records_of(tmp_path), watcher=silent())
    (outcome,) = made.outcomes
    assert outcome.label == " → ".join(["finetune"] * 30)
    assert len(outcome.label) > 200
