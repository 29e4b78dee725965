"""The contract of a task, tested on the built-in tasks, several heads, and the tasks of the examples."""

import ast
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from script_files import ROOT, script
from source_modules import MODULES
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from two_heads import TASK, TwoHeads
from two_heads import loader as blots

from paretrim import Budget, FineTune, Quantize
from paretrim.metric import ACCURACY, Metric
from paretrim.report import page, terminal
from paretrim.results import store
from paretrim.run.delivery import Experiment
from paretrim.run.drop import drop_between, estimate_of
from paretrim.run.judge import judge, origin_of, outcome_of
from paretrim.run.own import start_from_loaders
from paretrim.run.progress import silent
from paretrim.run.recipe import canonical, parse_recipe
from paretrim.run.run import after_all_stages, carry_out
from paretrim.run.start import TestSet
from paretrim.train.execution import Execution
from paretrim.train.task import CLASSIFICATION, Task, agreement, is_right
from paretrim.train.tasks import REGRESSION, TASKS, task_named
from paretrim.trimfile import open_file
from paretrim.trimfile.provenance import metric_of

CPU = Execution(device="cpu", precision="float32")


@dataclass(frozen=True)
class Case:
    """A task by the name that a recipe gives it, with a network and a loader (count, seed) for it."""

    name: str
    task: Task
    network: nn.Module
    loader: object


def small(outputs):
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, outputs))


def column(number):
    """The same images with one of the three numbers of their labels as a class."""

    def loader(count, seed):
        images, labels = blots(count, seed).dataset.tensors
        return DataLoader(TensorDataset(images, labels[:, number].long()), batch_size=32)

    return loader


OWN, PIXELS = script("examples/own_task.py"), script("examples/own_pixel_task.py")
CASES = {
    case.name: case
    for case in (
        Case("classification", CLASSIFICATION, small(3), column(0)),
        Case("regression", REGRESSION, small(1), column(1)),
        Case("two_heads:ClassAndPlace", TASK, TwoHeads(), blots),
        Case("own_task:Regression", OWN.Regression(), OWN.network(), OWN.loader),
        Case("own_pixel_task:PixelClasses", PIXELS.PixelClasses(), PIXELS.network(), PIXELS.loader),
    )
}
"""A test of the numbers of two outputs at once is in test_task.py; here every task comes once."""


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def batch(case):
    """The outputs of the untrained network for a batch, detached, and its labels as the task converts them."""
    images, labels = next(iter(case.loader(32, 4)))
    labels = case.task.batch_labels(labels, len(images), "batch 0")
    with torch.no_grad():
        found = case.network.eval()(images)
    outputs = tuple(found.values()) if isinstance(found, dict) else (found,)
    case.task.check_labels(labels, [output.shape[1:] for output in outputs], "batch 0 has")
    return outputs, labels


def learned(task, outputs, labels):
    """Outputs that gradient descent on the task's loss has brought close to the labels."""
    trained = tuple(output.clone().requires_grad_() for output in outputs)
    optimizer = torch.optim.Adam(trained, lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(trained, labels, label_smoothing=0.0).backward()
        optimizer.step()
    return tuple(output.detach() for output in trained)


def scored(task, outputs, labels):
    return task.score(task.decide(tuple(output.numpy() for output in outputs)), labels.numpy())


def halves(outputs, labels):
    return [(tuple(output[part] for output in outputs), labels[part]) for part in (slice(16), slice(16, 32))]


def test_every_task_with_a_name_is_among_them():
    assert set(TASKS) < set(CASES)
    assert all(task_named(name) == case.task for name, case in CASES.items())


def test_losses_are_finite_scalars_with_a_gradient_to_every_output(case, batch):
    outputs, labels = batch
    given = tuple(output.clone().requires_grad_() for output in outputs)
    teacher = tuple(output.flip(0) for output in outputs)
    for loss in (
        case.task.loss(given, labels, label_smoothing=0.1),
        case.task.imitation(given, teacher, temperature=4.0),
    ):
        assert (loss.shape, loss.dtype) == ((), torch.float32)
        assert torch.isfinite(loss)
        for gradient in torch.autograd.grad(loss, given):
            assert torch.isfinite(gradient).all()
            assert gradient.abs().max() > 0
    half = [float(case.task.loss(*part, label_smoothing=0.0)) for part in halves(outputs, labels)]
    assert np.mean(half) == pytest.approx(float(case.task.loss(outputs, labels, label_smoothing=0.0)), rel=1e-5)


def test_nothing_imitates_a_teacher_better_than_the_teacher(case, batch):
    outputs, _ = batch
    same = float(case.task.imitation(outputs, outputs, temperature=2.0))
    assert same == pytest.approx(0, abs=1e-6)
    assert float(case.task.imitation(tuple(output.flip(0) for output in outputs), outputs, temperature=2.0)) > same


def test_the_running_value_is_a_sum_over_images(case, batch):
    whole = case.task.running(*batch)
    assert whole.shape == ()
    assert not whole.requires_grad
    assert sum(float(case.task.running(*part)) for part in halves(*batch)) == pytest.approx(float(whole), rel=1e-5)


def test_every_image_is_decided_scored_and_compared_by_itself(case, batch):
    outputs, labels = batch
    arrays = tuple(output.numpy() for output in outputs)
    decisions = case.task.decide(arrays)
    scores = case.task.score(decisions, labels.numpy())
    assert len(decisions) == len(scores) == len(labels)
    rows = np.array([5, 0, 31])
    np.testing.assert_array_equal(case.task.decide(tuple(array[rows] for array in arrays)), decisions[rows])
    np.testing.assert_array_equal(case.task.score(decisions[rows], labels.numpy()[rows]), scores[rows])
    shares = case.task.agreement(decisions, decisions[::-1])
    assert shares.shape == (len(labels),)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert agreement(case.task, decisions, decisions) == 1


def test_the_metric_has_a_name_a_value_a_count_and_a_direction(case, batch):
    outputs, labels = batch
    metric, before = case.task.metric, scored(case.task, outputs, labels)
    assert isinstance(metric, Metric)
    assert metric.name
    assert metric.count
    if is_right(before):
        assert metric.is_share
    value = case.task.value(before)
    assert isinstance(value, float)
    assert np.isfinite(value)
    assert not metric.is_share or 0 <= value <= 1
    estimate = estimate_of(before, case.task)
    assert estimate.low <= estimate.value == value <= estimate.high

    # What lowers the loss makes the metric better, in the direction that it names.
    after = scored(case.task, learned(case.task, outputs, labels), labels)
    better = case.task.value(after)
    assert metric.merit(better) > metric.merit(value)
    drop = drop_between(after, before, case.task)
    assert drop.value == pytest.approx(metric.gain(better, value))
    assert drop.interval.low > 0
    assert (drop.images, drop_between(before, before, case.task).value) == (len(labels), 0)


@pytest.fixture(scope="module")
def run(case, tmp_path_factory):
    """A short run of the task: its start, what was delivered, and the validation images as a test set."""
    start = start_from_loaders(case.network, case.loader(64, 1), case.loader(64, 2), execution=CPU, task=case.task)
    stages = (FineTune(budget=Budget(epochs=2, learning_rate=0.01)), Quantize(budget=Budget(epochs=0)))
    folder = tmp_path_factory.mktemp("task")
    done = carry_out(Experiment(start), folder, after_all_stages(stages), records=None, watcher=silent())
    batches = list(start.validation.epoch(0))
    images, labels = (torch.cat(parts).numpy() for parts in list(zip(*batches, strict=True))[:2])
    test = TestSet(images, labels, start.validation)  # type: ignore[arg-type] - a user's loader has no test images
    return start, done, test


def test_a_file_is_judged_as_in_training_and_the_line_and_the_report_say_so(case, run):
    start, done, test = run
    (entry,), (files,), task = done.entries, done.deployed, case.task
    found = judge(entry.candidate, files, test, start)
    last = entry.candidate.history[-1]
    assert found.deployed_value == found.trained_value == last.value_after  # of integers, to the last bit
    assert found.agreement == 1
    assert last.judged_by == task.metric
    assert task.value(found.image_scores()) == found.deployed_value
    assert metric_of(open_file(files.trim).provenance.measured) == (None if task.metric == ACCURACY else task.metric)

    recipe = parse_recipe({"model": {"network": "resnet20"}, "data": {"name": "digits"}, "task": case.name})
    read = parse_recipe({key: value for key, value in canonical(recipe).items() if key in ("model", "data", "task")})
    assert (read.digest, task_named(read.task)) == (recipe.digest, task)
    line = outcome_of(entry.candidate, files, found, origin=origin_of(recipe, "tasks", label="INT8"))
    kept = store.decode(store.encode(line))
    assert store.decode(store.encode(kept)) == kept
    assert (kept.judged_by, kept.deployed_value) == (task.metric, found.deployed_value)
    assert [stage.judged_by for stage in kept.history] == [task.metric] * 2
    dense = replace(kept, label="dense", recipe="0", history=())
    for text in (terminal.text([dense, kept], width=250), page.render([dense, kept])):
        said = " ".join(text.lower().split())
        assert task.metric.name.lower() in said
        assert task.metric.number(kept.deployed_value) in said
        assert ("lower is better" in said) != task.metric.higher_is_better


CLASSES_OF_NO_IMAGE = {"graph.lower": "a channel", "stages.prune.regroup": "a position", "data.cifar": "a label to name"}
"""Where the largest of some numbers is looked for, and they are no logits."""


def test_classes_are_decided_outside_of_tasks_where_the_decision_says():
    """Of ``argmax``, in the table of decision 43; whoever adds a place says there why the task cannot be asked."""
    page_ = (ROOT / "docs" / "decisions" / "0043-a-task.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page_.splitlines() if line.startswith("| `") and ".py`" in line]
    found = {
        module.name
        for module in MODULES
        if any(isinstance(node, ast.Attribute) and node.attr == "argmax" for node in ast.walk(module.tree))
    }
    listed = {".".join(Path(row).with_suffix("").parts) for row in rows}
    assert len(listed) == 3
    assert found - set(CLASSES_OF_NO_IMAGE) - {"train.task"} == listed
