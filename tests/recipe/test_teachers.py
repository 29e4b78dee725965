"""Several teachers in a recipe: their settings, how they are prepared, and what is rejected before training."""

import re
from collections import OrderedDict
from dataclasses import replace

import pytest
from torch import nn

from paretrim.data.load import load
from paretrim.errors import InvalidRecipe, TrainingFailed
from paretrim.network.constraints import weight_bits
from paretrim.run import pipeline, teachers
from paretrim.run.drop import drop_between
from paretrim.run.pipeline import deployed_key, run_stages, trained_tutors
from paretrim.run.progress import silent
from paretrim.run.recipe import canonical, parse_recipe
from paretrim.run.run import open_with, with_dense
from paretrim.run.start import content_of
from paretrim.run.teachers import key_of_teaching, resources_for, tutors_of, weak_teachers
from paretrim.train.committee import Committee
from paretrim.train.evaluate import predictions

TABLE = {
    "model": {"network": "test_teachers:small"},
    "data": {"name": "digits", "train_images": 40},
    "calibration_images": 16,
    "execution": {"device": "cpu", "precision": "float32"},
}
SHORT = {"epochs": 1, "batch_size": 20}
OTHER = {"name": "other", "network": "test_teachers:small", "seed": 5}


def small(classes, channels):
    """A network of two convolutions, ``layer1`` and ``layer2``."""
    layers = [("layer1", nn.Conv2d(channels, 4, 3)), ("relu", nn.ReLU()), ("layer2", nn.Conv2d(4, 4, 3)), ("flat", nn.Flatten())]
    return nn.Sequential(OrderedDict([*layers, ("linear", nn.Linear(64, classes))]))


def recipe(**settings):
    return parse_recipe({**TABLE, **settings})


@pytest.fixture(scope="module")
def digits():
    return load(recipe().data)


@pytest.mark.parametrize(
    ("teachers", "text"),
    [
        ({}, "recipe: teachers is {}; write each teacher as a [[teachers]] table"),
        ([3], "recipe: teachers is [3]; write each teacher as a [[teachers]] table"),
        ([{}], "recipe: teachers[0].name is missing"),
        ([{"name": "a", "networks": "x"}], "recipe: teachers[0].networks: there is no such key; did you mean 'network'?"),
        (
            [{"name": "a/b"}],
            "recipe: teachers[0]: teacher name 'a/b' is also used as the name of a folder; write letters, digits and dashes",
        ),
        ([{"name": "a", "seed": 3}], "teachers[0]: teacher 'a' has seed but no network, so it is the recipe's dense network"),
        ([{"name": "a", "network": "resnet21"}], "recipe: teachers[0]: there is no network 'resnet21'"),
        ([{**OTHER, "jitter": 0.4}], "teacher 'other' has augmentation of its own but is not trained; give it a dense budget"),
        ([{"name": "a", "store": "x"}], "teacher 'a' has a store but no top; set top, the number of probabilities stored"),
        ([{"name": "a", "top": 0}], "recipe: teachers[0].top is 0: input should be greater than or equal to 1"),
        ([{"name": "a"}, {"name": "a"}], "recipe: two teachers are called 'a'; give each a name of its own"),
        ([{"name": "a", "stages": 1}], "recipe: teachers[0]: stages is 1; write each stage as a [[teachers.stages]] table"),
        ([{"name": "a", "stages": [{"stage": "x"}]}], "recipe: teachers[0]: stages[0]: there is no stage 'x'"),
    ],
)
def test_settings_that_are_refused(teachers, text):
    with pytest.raises(InvalidRecipe, match=re.escape(text)):
        recipe(teachers=teachers)


def test_one_teacher_and_several_do_not_go_together():
    with pytest.raises(InvalidRecipe, match="has both \\[teacher\\] and \\[\\[teachers\\]\\]; move the one teacher into"):
        recipe(teacher={"network": "resnet20"}, teachers=[OTHER])


def test_everything_of_a_teacher_but_its_store_is_in_the_digest():
    def digest(**settings):
        return recipe(teachers=[{**OTHER, **settings}]).digest

    plain = digest()
    changes = ({"weight": 2.0}, {"seed": 6}, {"top": 3}, {"dense": SHORT}, {"stages": [{"stage": "quantize"}]}, {"name": "b"})
    assert len({plain, recipe().digest, *(digest(**change) for change in changes)}) == len(changes) + 2
    assert digest(top=3) == digest(top=3, store="somewhere")
    assert "teachers" not in canonical(recipe())


def test_teachers_are_trained_and_compressed_before_they_teach(tmp_path, digits, monkeypatch):
    quantize = {"stage": "quantize", "weight_bits": 4, "budget": {"epochs": 0}}
    given = recipe(
        teachers=[{"name": "int4", "stages": [quantize]}, {**OTHER, "dense": SHORT, "jitter": 0.4}, {**OTHER, "name": "raw"}]
    )
    experiment = open_with(given, digits)
    tutors = experiment.teacher
    assert [one.start is None for one in tutors] == [True, False, False]
    assert tutors[1].start.seed == 5
    assert tutors[1].start.data_digest != experiment.start.data_digest == tutors[2].start.data_digest  # other augmentation
    assert content_of(tutors[2].start.network) != content_of(experiment.start.network)  # another seed
    ready = trained_tutors(experiment.start, tutors, tmp_path)
    assert weight_bits(ready[0].network) == 4
    assert content_of(ready[1].network) != content_of(tutors[1].start.network)
    assert content_of(ready[2].network) == content_of(tutors[2].start.network)
    assert key_of_teaching(ready) == key_of_teaching(tutors)  # known before anything is trained
    monkeypatch.setattr(pipeline, "fit", None)
    again = trained_tutors(experiment.start, tutors, tmp_path)  # read, not trained
    assert [content_of(one.network) for one in again] == [content_of(one.network) for one in ready]


def test_resources_have_each_teacher_by_name_and_all_as_one(digits):
    experiment = open_with(recipe(teachers=[{"name": "dense"}, {**OTHER, "weight": 3.0}]), digits)
    found = resources_for(experiment.start, experiment.teacher, None)
    assert isinstance(found.teacher, Committee)
    assert {name: weight for name, (weight, _) in found.teacher.members.items()} == {"dense": 1.0, "other": 3.0}
    assert found.teacher_named("other") is found.teachers["other"]
    with pytest.raises(InvalidRecipe, match="there is no teacher 'x'; known are dense, other; give one of \\[\\[teachers\\]\\]"):
        found.teacher_named("x")
    alone = open_with(recipe(teachers=[OTHER]), digits)
    only = resources_for(alone.start, alone.teacher, None)
    assert only.teacher is only.teachers["other"]
    with pytest.raises(InvalidRecipe, match="there is no teacher 'x'; the recipe names none"):
        resources_for(alone.start, None, None).teacher_named("x")


def test_teachers_decide_where_results_are_kept(digits):
    made = [recipe(), recipe(teachers=[OTHER]), recipe(teachers=[{**OTHER, "weight": 2.0}])]
    start = open_with(made[0], digits).start
    assert len({deployed_key(start, (), teachers=one.teachers) for one in made}) == 3
    assert deployed_key(start, (), teachers=()) == deployed_key(start, ())
    assert len({str(key_of_teaching(tutors_of(one, digits))) for one in made}) == 3
    assert key_of_teaching(()) == key_of_teaching(None)


HINT = {"stage": "distill", "criteria": [{"loss": "hint", "at": "layer2"}]}


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        ({"loss": "hint", "at": "layer9"}, "stage 2 (distill): the network has no module 'layer9'; near it are layer"),
        (
            {"loss": "hint", "at": "layer2", "teacher_at": "conv9"},
            "stage 2 (distill): teacher: the network has no module 'conv9'",
        ),
        (
            {"loss": "review", "at": ["layer1", "layr2"]},
            "stage 2 (distill): the network has no module 'layr2'; near it are layer",
        ),
    ],
)
def test_paths_are_checked_before_anything_trains(criterion, text, digits, tmp_path, monkeypatch):
    stages = [{"stage": "finetune"}, {"stage": "distill", "criteria": [criterion]}]
    with pytest.raises(InvalidRecipe, match=re.escape(text)):
        open_with(recipe(dense=SHORT, stages=stages), digits)
    monkeypatch.setattr(pipeline, "fit", None)
    start = open_with(recipe(), digits).start
    with pytest.raises(InvalidRecipe, match=re.escape(text)):
        run_stages(start, recipe(stages=stages).stages, tmp_path)


def test_paths_are_those_of_the_teacher_that_a_stage_names(digits):
    teachers = [{"name": "dense"}, OTHER]
    elsewhere = {"stage": "distill", "criteria": [{"loss": "hint", "at": "layer2", "teacher_at": "conv9"}]}
    for stage, text in (
        ({**elsewhere, "teacher": "other"}, "stage 1 (distill): teacher 'other': the network has no module 'conv9'"),
        (HINT, "several teachers together give only logits; to use the values of 'layer2', name one"),
        ({**HINT, "teacher": "othr"}, "stage 1 (distill): there is no teacher 'othr'; known are dense, other"),
    ):
        with pytest.raises(InvalidRecipe, match=re.escape(text)):
            open_with(recipe(teachers=teachers, stages=[stage]), digits)
    open_with(recipe(teachers=teachers, stages=[{**HINT, "teacher": "dense"}]), digits)


class Counting:
    """Another task."""

    name = "counting"


def test_a_teacher_of_other_classes_is_named(digits):
    experiment = open_with(recipe(teachers=[OTHER]), digits)
    one = experiment.teacher[0]
    other = open_with(recipe(), replace(digits, classes=(*digits.classes, "none")))
    wrong = replace(one, network=other.start.network)
    with pytest.raises(TrainingFailed, match="teacher 'other': the teacher returns \\[11\\] and the network \\[10\\]; they must"):
        resources_for(experiment.start, (wrong,), None)
    named = replace(one, spec=replace(one.spec, top=3, store="x"))
    with pytest.raises(InvalidRecipe, match="a store needs to know which image is which; name the data in a recipe"):
        resources_for(replace(experiment.start, images=None), (named,), None)
    with pytest.raises(InvalidRecipe, match="top needs classes, and the task is counting; leave it out"):
        resources_for(replace(experiment.start, task=Counting()), (named,), None)


KD = {"stage": "distill", "budget": {"epochs": 1}}
LEARNS = {"epochs": 6, "batch_size": 20, "learning_rate": 0.05}


def noted(tmp_path, digits, **settings):
    """What is noted when dense network and teachers are made ready."""
    notes = []
    watcher = replace(silent(), note=notes.append)
    given = recipe(data={"name": "digits", "train_images": 400}, dense=LEARNS, **settings)
    return notes, with_dense(open_with(given, digits), tmp_path, watcher)


def test_a_teacher_that_is_clearly_worse_than_the_dense_network_is_noted_once_judged(tmp_path, digits, monkeypatch):
    given = {"teachers": [{"name": "dense"}, {**OTHER, "dense": LEARNS}, {**OTHER, "name": "raw"}], "stages": [KD]}
    notes, ready = noted(tmp_path, digits, **given)
    drop = drop_between(*(right(ready.start, one) for one in (ready.start.network, ready.teacher[2].network)))
    assert notes == [
        f"warning: teacher 'raw' is worse than the dense network: accuracy drops by {drop}; train the teacher longer or in "
        "smaller batches, take another one, or leave it out: the dense network then teaches"
    ]
    monkeypatch.setattr(teachers, "predictions", None)  # again, from what the folder keeps
    assert noted(tmp_path, digits, **given)[0] == notes
    assert noted(tmp_path, digits, **(given | {"stages": []}))[0] == notes  # the stages of a search are not known yet


def right(start, network):
    found, labels = predictions(network, start.validation.epoch(0), start.execution.torch_device())
    return start.task.score(found.numpy(), labels.numpy())


def test_a_worse_teacher_is_noted_only_if_the_images_show_it(tmp_path, digits):
    _, ready = noted(tmp_path, digits)
    start, labels = ready.start, ready.start.validated[1]

    def found(wrong):
        """Warnings about a teacher, with the dense network right everywhere and the teacher wrong on a few images."""
        known = replace(start)
        known.__dict__["validated"] = labels, labels
        answers = labels.clone()
        answers[:wrong] = (answers[:wrong] + 1) % 10
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(teachers, "predictions", lambda *_, **__: (answers, labels))
            return weak_teachers(known, small_network(wrong, digits), (), tmp_path / str(wrong))

    assert [len(found(wrong)) for wrong in (0, 1, 2, 12)] == [0, 0, 0, 1]
    assert found(12)[0].startswith("warning: the teacher is worse than the dense network: accuracy drops by")


def small_network(seed, digits):
    return open_with(recipe(seed=seed), digits).start.network


def test_initial_weights_that_train_beside_their_student_are_not_judged(tmp_path, digits):
    joint = {"stage": "distill", "budget": {"epochs": 1}, "labels": 0.5, "criteria": [{"loss": "joint"}]}
    assert noted(tmp_path, digits, teachers=[OTHER], stages=[joint])[0] == []
    (warning,) = noted(tmp_path, digits, teachers=[OTHER], stages=[joint, KD])[0]
    assert warning.startswith("warning: teacher 'other' is worse than the dense network: accuracy drops by")
