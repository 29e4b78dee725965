"""Commands that train: ``run``, ``compress``, ``plan`` and ``study``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from paretrim.cli.exits import DONE, MISSED
from paretrim.cli.looking import look_into, require_classes
from paretrim.cli.measuring import measured_natively, measuring_of
from paretrim.cli.options import NO_TIMING
from paretrim.cli.output import at_work, emit, result_console, say
from paretrim.cli.unused import BY_THE_RECIPE, WITH_A_RECIPE, dense_rate, refuse_unused
from paretrim.errors import InvalidRecipe
from paretrim.lock import hold
from paretrim.metric import ACCURACY, Metric
from paretrim.models.catalog import NETWORKS
from paretrim.report import page, terminal
from paretrim.results import store
from paretrim.results.outcome import Outcome
from paretrim.results.run_folder import REPORT, keep_commands
from paretrim.run.delivery import Experiment, TimingPlan
from paretrim.run.pipeline import finished_dense, finished_stages
from paretrim.run.plan_text import describe
from paretrim.run.planning import PlannedTiming, Prediction, for_seeds, predict
from paretrim.run.progress import Watcher
from paretrim.run.recipe import Recipe, parse_recipe, read_recipe
from paretrim.run.records import records_of
from paretrim.run.run import after_every_stage, carry_out, open_recipe
from paretrim.search.climb import SearchResult, compress_towards
from paretrim.search.fitting import fitting
from paretrim.search.ladder import INT8, Rung, Targets, ladder, usual_kinds, weighed
from paretrim.search.study import run_study, time_study
from paretrim.search.study_spec import is_study, read_study
from paretrim.settings import checked
from paretrim.stages.stage import Stage
from paretrim.train.budget import Budget
from paretrim.train.tasks import task_named
from paretrim.visible import brief, visible


def run(parsed: argparse.Namespace, command_line: str) -> int:
    """Run a recipe."""
    recipe = _read(parsed)
    measuring = measuring_of(parsed)
    if parsed.inside:
        require_classes(recipe)
    folder: Path = parsed.folder or Path("runs") / parsed.recipe.stem
    with hold(folder), at_work() as watcher:
        experiment = open_noting(recipe, watcher)
        _note_plan(experiment, {"": recipe.stages}, folder, watcher, timing=_timing(measuring, files=len(recipe.stages) + 1))
        records, candidates = records_of(folder, (command_line,)), after_every_stage(recipe.stages, recipe.label)
        done = carry_out(experiment, folder, candidates, records=records, measuring=measuring, watcher=watcher)
        if parsed.inside:
            look_into(folder, experiment)
    show(done.outcomes, folder, parsed)
    if not parsed.json:
        say(f"to export the last one: {shlex.join(['paretrim', 'export', str(folder), '--to', 'NAME.trim'])}")
    return DONE


def compress(parsed: argparse.Namespace, command_line: str) -> int:
    """Compress without a recipe, and report targets that were missed."""
    recipe = compress_recipe(parsed)
    targets = _targets(parsed, recipe)
    measuring = measuring_of(parsed)
    if targets.max_latency_ms is not None and measuring is None:
        raise InvalidRecipe(f"--max-latency-ms needs latency to be measured, but --effort is {NO_TIMING}; choose another effort")
    rungs = _rungs(parsed, targets, native=measured_natively(measuring))
    if parsed.inside:
        require_classes(recipe)
    folder: Path = parsed.folder or folder_for(parsed)
    with hold(folder), at_work() as watcher:
        experiment = open_noting(recipe, watcher)
        rungs = fitting(rungs, experiment.start.network, watcher.note)
        timing = _timing(measuring, files=len(rungs) + 1, before=_timed_before(targets, rungs))
        _note_plan(experiment, {rung.name: rung.stages for rung in rungs}, folder, watcher, timing=timing)
        found = compress_towards(
            targets, rungs, experiment, folder, measuring=measuring, watcher=watcher, reproduce=(command_line,)
        )
        if parsed.inside:
            look_into(folder, experiment)
    if parsed.json:
        emit({**outcomes_json(found.outcomes, folder), **_found_json(found)})
    else:
        show(found.outcomes, folder, parsed)
        _say_found(found, targets)
    return DONE if found.met else MISSED


def plan(parsed: argparse.Namespace, _: str) -> int:
    """Predict stages, time and disk space; nothing is written."""
    if (parsed.recipe is None) == (parsed.model is None):
        raise InvalidRecipe("plan needs either a recipe file, or --model and --data as for compress")
    if parsed.recipe:
        refuse_unused(parsed, WITH_A_RECIPE, BY_THE_RECIPE)
    seeds, before = 1, 0
    measuring = measuring_of(parsed)
    chains: Mapping[str, Sequence[Stage]] = {}
    rungs: tuple[Rung, ...] = ()
    if parsed.recipe and is_study(parsed.recipe):
        if parsed.folder is not None:
            raise InvalidRecipe("plan takes --folder for a recipe or for compress, not for a study; leave out --folder")
        spec = read_study(parsed.recipe)
        recipe = overridden(replace(spec.base, seed=spec.seeds[0]), parsed)
        seeds = len(spec.seeds) if parsed.seed is None else 1
        chains = {label: stages for label, stages in spec.arms if stages}
    elif parsed.recipe:
        recipe = _read(parsed)
        chains = {"": recipe.stages}
    else:
        if parsed.data is None:
            raise InvalidRecipe("plan with --model needs --data too; name digits, cifar10, cifar100 or imagefolder:DIR")
        recipe = compress_recipe(parsed, planned=True)
        targets = _targets(parsed, recipe)
        rungs = _rungs(parsed, targets, native=measured_natively(measuring))
    with at_work() as watcher:
        experiment = open_noting(recipe, watcher)
        if rungs:
            rungs = fitting(rungs, experiment.start.network, watcher.note)
            chains, before = {rung.name: rung.stages for rung in rungs}, _timed_before(targets, rungs)
        prediction = for_seeds(_predict(experiment, chains, parsed.folder), seeds)
    files = 1 + (len(chains[""]) if "" in chains else len(chains))
    prediction = replace(prediction, timing=_timing(measuring, files=files, seeds=seeds, before=before))
    if parsed.json:
        emit({**dataclasses.asdict(prediction), "epochs": prediction.epochs, "seconds": prediction.seconds})
    else:
        say(describe(prediction))
    return DONE


def study(parsed: argparse.Namespace, command_line: str) -> int:
    """Run a study."""
    spec = read_study(parsed.study)
    measuring = measuring_of(parsed)
    folder: Path = parsed.folder or Path("runs") / spec.name
    results: Path = parsed.results or Path("results") / spec.name
    with hold(folder), at_work() as watcher:
        outcomes = run_study(spec, folder, results, watcher=watcher)
        if measuring:
            outcomes = time_study(spec, folder, results, effort=measuring.effort, settings=measuring.settings, watcher=watcher)
        keep_commands(results, (command_line,))
        page.write(page.render(outcomes, title=spec.name, reproduce=(command_line,)), results / REPORT)
    show(outcomes, results, parsed)
    return DONE


def _read(parsed: argparse.Namespace) -> Recipe:
    recipe = read_recipe(parsed.recipe)
    return overridden(recipe, parsed)


def overridden(recipe: Recipe, parsed: argparse.Namespace) -> Recipe:
    """The recipe with the seed and device given on the command line."""
    if parsed.seed is not None:
        if not 0 <= parsed.seed < 2**32:
            raise InvalidRecipe(f"--seed is {parsed.seed}; it must be 0 or more, and at most {2**32 - 1}")
        recipe = replace(recipe, seed=parsed.seed)
    if parsed.device is not None:
        recipe = replace(recipe, execution=replace(recipe.execution, device=parsed.device))
    return recipe


def recipe_of(parsed: argparse.Namespace, parts: Mapping[str, object]) -> Recipe:
    """The recipe equivalent to the options about network and data, with ``parts`` as further tables."""
    data = {
        "name": parsed.data,
        "folder": parsed.data_folder,
        "image_size": parsed.image_size,
        "resize": parsed.resize,
        "validation": parsed.validation,
        "train_images": parsed.train_images,
        "mean": parsed.mean,
        "std": parsed.std,
    }
    table: dict[str, object] = {
        "model": {"network": parsed.model, "weights": parsed.weights},
        "data": {key: value for key, value in data.items() if value is not None},
        **parts,
    }
    if parsed.task is not None:
        table["task"] = parsed.task
    if parsed.calibration_images is not None:
        table["calibration_images"] = parsed.calibration_images
    return overridden(parse_recipe(table, parsed.command), parsed)


def compress_recipe(parsed: argparse.Namespace, *, planned: bool = False) -> Recipe:
    """The recipe equivalent to the options of ``compress``, without stages; a plan needs no trained network."""
    if not planned and parsed.model in NETWORKS and parsed.weights is None and not parsed.dense_epochs:
        raise InvalidRecipe(
            f"network '{parsed.model}' is not trained; give its --weights FILE, or --dense-epochs N to train it first"
        )
    rate = dense_rate(parsed)
    if not parsed.dense_epochs:
        return recipe_of(parsed, {})
    size = {} if parsed.batch_size is None else {"batch_size": parsed.batch_size}
    return recipe_of(parsed, {"dense": {"epochs": parsed.dense_epochs, "learning_rate": rate, **size}})


def _rungs(parsed: argparse.Namespace, targets: Targets, *, native: bool = True) -> tuple[Rung, ...]:
    """The requested candidates, or else those that can help with the targets."""
    kinds = usual_kinds(targets, native=native) if parsed.candidates is None else parsed.candidates
    if not parsed.epochs:
        idle = {"learning_rate", *(() if parsed.dense_epochs else ("batch_size",))}
        refuse_unused(parsed, vars(parsed).keys() - idle, "with --epochs 0 nothing is trained; leave it out, or give epochs")
    elif set(kinds) == {INT8}:
        idle = {"learning_rate", *(() if parsed.dense_epochs else ("batch_size",)), "epochs"}
        refuse_unused(parsed, vars(parsed).keys() - idle, "INT8 without training trains nothing; leave it out")
    return ladder(parsed.epochs, kinds, budget=_budget(parsed))


def _budget(parsed: argparse.Namespace) -> Budget:
    """The budget that all stages of the ladder share."""
    named = {"learning_rate": parsed.learning_rate, "batch_size": parsed.batch_size}
    given = {key: value for key, value in named.items() if value is not None}
    for key, value in given.items():
        if not value > 0:
            raise InvalidRecipe(f"--{key.replace('_', '-')} is {brief(value)}; it must be above 0")
    return checked(Budget, given, "compress")


def _targets(parsed: argparse.Namespace, recipe: Recipe) -> Targets:
    metric = task_named(recipe.task).metric
    drop = parsed.max_drop / 100 if parsed.max_drop is not None and metric.is_share else parsed.max_drop
    return Targets(drop, parsed.max_latency_ms, parsed.max_bytes, metric)


def open_noting(recipe: Recipe, watcher: Watcher) -> Experiment:
    """Open the recipe, and note it if its network starts from random weights."""
    if recipe.model.weights is None and recipe.dense is None:
        watcher.note(_without_weights(recipe.model.network))
    return open_recipe(recipe, watcher)


def _without_weights(network: str) -> str:
    if network in NETWORKS:
        return (
            "note: no weights were given (--weights, [model] weights) and no dense training (--dense-epochs, [dense]), so "
            f"{network} starts untrained. Predicted time and disk space are those for trained weights; accuracies mean nothing"
        )
    return f"note: no weights were given: the network that '{visible(network)}' returns is used unchanged"


def _predict(
    experiment: Experiment, chains: Mapping[str, Sequence[Stage]], folder: Path | None, *, untrained: bool = True
) -> Prediction:
    """The predicted time of the chains, without what an earlier run has finished in ``folder``."""
    dense = experiment.dense
    trained = None if folder is None else finished_dense(experiment.start, dense, folder)
    if folder is None or trained is None:
        return predict(experiment.start, chains, dense=dense, teacher=experiment.teacher, untrained=untrained)
    finished = {name: finished_stages(trained, stages, folder, teacher=experiment.teacher) for name, stages in chains.items()}
    return predict(
        trained, chains, dense=dense, teacher=experiment.teacher, dense_finished=True, finished=finished, untrained=untrained
    )


def _timing(measuring: TimingPlan | None, *, files: int, seeds: int = 1, before: int = 0) -> PlannedTiming | None:
    """The planned latency measurements: a session for each setting and seed, and ``before`` sessions of one candidate each."""
    if measuring is None:
        return None
    sessions = before + seeds * len(measuring.settings)
    return PlannedTiming(sessions, files, measuring.effort.processes, measuring.effort.rounds)


def _timed_before(targets: Targets, rungs: Sequence[Rung]) -> int:
    """How many candidates are timed one by one, before all of them are timed together."""
    return 0 if targets.max_latency_ms is None else len(rungs)


def _note_plan(
    experiment: Experiment, chains: Mapping[str, Sequence[Stage]], folder: Path, watcher: Watcher, *, timing: PlannedTiming | None
) -> None:
    prediction = replace(_predict(experiment, chains, folder, untrained=False), timing=timing)
    watcher.note("nothing is left to train" if prediction.finished else describe(prediction))


def show(outcomes: Sequence[Outcome], folder: Path, parsed: argparse.Namespace) -> None:
    """Show the table, or everything as JSON with ``--json``."""
    if parsed.json:
        emit(outcomes_json(outcomes, folder))
        return
    terminal.show(outcomes, result_console())
    say(f"page: {folder / REPORT}")


def outcomes_json(outcomes: Sequence[Outcome], folder: Path) -> dict[str, object]:
    """The JSON of every command that measures."""
    return {
        "folder": str(folder),
        "report": str(folder / REPORT),
        "outcomes": [json.loads(store.encode(outcome)) for outcome in outcomes],
    }


def _found_json(found: SearchResult) -> dict[str, object]:
    tried = [
        {
            "candidate": one.name,
            **_value_json("validation", one.value, one.metric),
            "trim_bytes": one.trim_bytes,
            "entropy_bytes": one.entropy_bytes,
            "validation_drop": dataclasses.asdict(one.drop.interval),
            "p50_ms": None if one.p50_ms is None else one.p50_ms.value,
        }
        for one in found.tried
    ]
    return {
        "best": {"candidate": found.best.name, "file": str(found.file), "onnx": found.onnx and str(found.onnx)},
        **_value_json("dense_validation", found.reference.value, found.best.metric),
        "tried": tried,
        "reason": found.reason,
        "test_drop": dataclasses.asdict(found.test_drop.interval),
        "missed": list(found.missed),
        "not_shown": list(found.unshown),
        "contradicted": list(found.contradicted),
    }


def _value_json(what: str, value: float, metric: Metric) -> dict[str, object]:
    """A value of the metric; for accuracy also under the key it had before there were other metrics."""
    facts: dict[str, object] = {f"{what}_value": value, f"{what}_metric": metric.name}
    return facts | {f"{what}_accuracy": value} if metric == ACCURACY else facts


def _say_found(found: SearchResult, targets: Targets) -> None:
    """Print the targets, what was chosen and why, and whether the targets are met; the most important lines come last."""
    say(f"targets: {'; '.join(targets.in_words()) or 'none were given'}")
    beside = "without an ONNX file" if found.onnx is None else f"beside it {found.onnx.name}"
    say(f"best: {found.best.name} ({weighed(found.best, found.reference)}), in {found.file}, {beside}")
    say(f"why: {found.reason}")
    say("\n".join(found.facts()))
    if targets.in_words():
        say("\n".join(found.problems()) or "all targets are met")


def folder_for(parsed: argparse.Namespace, ending: str = "") -> Path:
    """The default run folder."""
    return Path("runs") / f"{_plain(parsed.model)}-{_plain(parsed.data)}{ending}"


def _plain(name: str) -> str:
    """The name of a network or data set as part of a folder name."""
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name).strip("-")
