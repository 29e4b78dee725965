"""Several teachers as one, a teacher whose top probabilities are stored, and a teacher that trains with its student."""

from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, FLOAT32, SHORT, dense, network, resources, start
from torch.nn import functional

from paretrim.data.batches import Batch
from paretrim.errors import InvalidRecipe
from paretrim.run.candidate import Candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.joint_teacher import JointTeacher
from paretrim.stages.distill.stage import Distill
from paretrim.stages.together import Together
from paretrim.train.committee import Committee
from paretrim.train.losses import Outputs
from paretrim.train.sparse_teacher import SparseTeacher, StoreOrigin
from paretrim.train.task import CLASSIFICATION, softened_kl
from paretrim.train.teacher import StoredTeacher


def stored(name="plain", classes=CLASSES):
    return StoredTeacher(dense(name).network, FLOAT32, images=0, classes=classes, folder=None)


def batch_of(size=48):
    return next(iter(start("plain").train(size).epoch(0)))


def test_a_committee_gives_the_weighted_mean_of_probabilities():
    one, other, batch = stored("plain"), stored("residual"), batch_of()
    found = Committee({"one": (1.0, one), "other": (3.0, other)}).logits(batch, 0)
    expected = 0.25 * one.logits(batch, 0).softmax(1) + 0.75 * other.logits(batch, 0).softmax(1)
    torch.testing.assert_close(found.softmax(1), expected)
    torch.testing.assert_close(found.exp(), expected)  # logarithms of probabilities, not of multiples of them


def test_a_committee_of_one_or_of_equals_says_what_each_says():
    one, batch = stored(), batch_of()
    for members in ({"a": (5.0, one)}, {"a": (1.0, one), "b": (2.0, one)}):
        torch.testing.assert_close(Committee(members).logits(batch, 0), one.logits(batch, 0).log_softmax(1))


def test_in_another_task_a_committee_gives_the_mean_of_outputs():
    class Other:
        name = "other"

    one, other, batch = stored("plain"), stored("residual"), batch_of()
    found = Committee({"one": (1.0, one), "other": (1.0, other)}, Other()).outputs(batch, 0)
    torch.testing.assert_close(found[0], (one.logits(batch, 0) + other.logits(batch, 0)) / 2)


def test_a_committee_has_no_modules():
    both = Committee({"a": (1.0, stored()), "b": (1.0, stored())})
    assert both.bytes_per_image == 2 * 2 * CLASSES
    for call, what in (
        (lambda: both.values(batch_of(), 0, ("down",)), "the values of 'down'"),
        (lambda: both.shape_at("down"), "the values of 'down'"),
        (both.trainable, "a network to train"),
    ):
        with pytest.raises(InvalidRecipe, match=f"only logits; to use {what}, name one of them.*: a, b"):
            call()


def test_a_loss_for_each_teacher_is_the_weighted_sum():
    given = resources("plain")
    names = {"one": stored("plain"), "other": stored("residual")}
    given = replace(given, teachers=names, teacher=Committee({name: (1.0, one) for name, one in names.items()}))
    parts = tuple(
        Distill(teacher=name, labels=0.0, criteria=({"loss": "kd", "weight": weight, "temperature": 2.0},))
        for name, weight in (("one", 0.3), ("other", 0.6))
    )
    terms = Together(parts=parts).losses(given)
    assert [(term.teacher, term.needs_teacher) for term in terms] == [("one", True), ("other", True)]
    batch, logits = batch_of(), torch.randn(48, CLASSES)
    extra = Together(parts=parts).begin(network("plain"), given).extra
    said = {name: Outputs(logits, batch.labels, one.logits(batch, 0), extra=extra) for name, one in names.items()}
    total = sum(term.weight_at(0.5) * term.function(said[term.teacher]) for term in terms)
    expected = sum(w * softened_kl(logits, names[n].logits(batch, 0), 2.0) for n, w in (("one", 0.3), ("other", 0.6)))
    torch.testing.assert_close(total, expected)


def test_the_loop_gives_each_loss_its_teacher():
    """With the other teacher a stage makes another network; by name or alone makes no difference."""
    base = resources("plain")
    one, other = stored("plain"), stored("residual")
    both = replace(base, teachers={"one": one, "other": other}, teacher=Committee({"one": (1.0, one), "other": (1.0, other)}))
    begin = Candidate(network("plain"))

    def made(given, **settings):
        done = run_stage(begin, Distill(budget=SHORT, **settings), given)
        return torch.cat([value.flatten().float() for value in done.network.state_dict().values()])

    alone = {name: made(replace(base, teacher=teacher)) for name, teacher in (("one", one), ("other", other))}
    assert torch.equal(made(both, teacher="one"), alone["one"])
    assert torch.equal(made(both, teacher="other"), alone["other"])
    assert not torch.equal(alone["one"], alone["other"])
    assert not torch.equal(made(both), alone["one"])


ORIGIN = StoreOrigin("t", "d", 0, 2)


def sparse(folder, *, origin=ORIGIN, images=120):
    return SparseTeacher(stored(), origin, images=images, folder=folder)


def epoch_of(made, number=0, seed=0):
    return [made.logits(batch, number) for batch in start("plain", seed=seed).train(48).epoch(number)]


def test_stored_probabilities_are_the_largest_and_the_rest_is_shared(tmp_path):
    batch = batch_of()
    exact, found = stored().logits(batch, 0).softmax(1), sparse(tmp_path).logits(batch, 0).softmax(1)
    values, classes = exact.topk(2, 1)
    torch.testing.assert_close(found.gather(1, classes), values, rtol=2**-10, atol=2**-24)
    rest = ((1 - values.sum(1)) / (CLASSES - 2))[:, None].expand(-1, CLASSES).scatter(1, classes, 0.0)
    torch.testing.assert_close(found.scatter(1, classes, 0.0), rest, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(found.sum(1), torch.ones(48))
    all_of_them = sparse(None, origin=replace(ORIGIN, top=CLASSES)).logits(batch, 0)
    torch.testing.assert_close(all_of_them.softmax(1), exact, rtol=2**-9, atol=2**-23)


def test_a_replay_has_the_same_images_and_probabilities_and_asks_no_network(tmp_path, monkeypatch):
    images, first = [], []
    made = sparse(tmp_path)
    for epoch in (0, 1):
        for batch in start("plain").train(48).epoch(epoch):
            images.append((epoch, batch.indices, batch.inputs))
            first.append(made.logits(batch, epoch))
    assert not torch.equal(images[0][2], images[3][2])  # epochs differ, so equal images below are no accident
    again = sparse(tmp_path)
    monkeypatch.setattr(again.teacher, "_compute", None)
    seen = [(epoch, batch) for epoch in (0, 1) for batch in start("plain").train(48).epoch(epoch)]
    for (epoch, indices, inputs), (other, batch), logits in zip(images, seen, first, strict=True):
        assert epoch == other
        assert torch.equal(indices, batch.indices)
        assert inputs.numpy().tobytes() == batch.inputs.numpy().tobytes()
        assert torch.equal(again.logits(batch, epoch), logits)


def test_an_unfinished_epoch_is_computed_again_and_finished_ones_are_kept(tmp_path):
    made = sparse(tmp_path)
    epoch_of(made, 0)
    half = next(iter(start("plain").train(48).epoch(1)))
    made.logits(half, 1)  # killed here
    assert sorted(path.name for path in tmp_path.iterdir()) == ["about.safetensors", "epoch-00000.safetensors"]
    asked = []
    again = sparse(tmp_path)
    compute = again.teacher._compute
    again.teacher._compute = lambda inputs: asked.append(len(inputs)) or compute(inputs)
    epoch_of(again, 0)
    assert asked == []
    epoch_of(again, 1)
    assert sum(asked) == 120
    (tmp_path / "epoch-00001.safetensors").write_bytes(b"damaged")
    asked.clear()
    epoch_of(again, 0)
    epoch_of(again, 1)
    assert sum(asked) == 120


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"teacher": "x"}, r"was made with another teacher \(teacher is t there and x here\); name another folder, or delete it"),
        ({"data": "x"}, r"was made with other data or another augmentation \(data is d there and x here\)"),
        ({"seed": 3}, r"was made with another seed \(seed is 0 there and 3 here\)"),
        ({"top": 3}, r"was made with another top \(top is 2 there and 3 here\)"),
    ],
)
def test_a_store_of_something_else_is_refused(changes, text, tmp_path):
    sparse(tmp_path)
    sparse(tmp_path)
    with pytest.raises(InvalidRecipe, match=text):
        sparse(tmp_path, origin=replace(ORIGIN, **changes))
    with pytest.raises(InvalidRecipe, match=r"was made with another number of images \(images is 120 there and 60 here\)"):
        sparse(tmp_path, images=60)


def test_more_classes_than_there_are_cannot_be_stored():
    with pytest.raises(InvalidRecipe, match=f"top is 5, but the teacher has {CLASSES} classes; set top from 1 to {CLASSES}"):
        sparse(None, origin=replace(ORIGIN, top=5))


def test_ten_of_a_hundred_classes_take_a_tenth_of_dense_logits(tmp_path):
    images = 2000

    class Given:
        classes, device = 100, torch.device("cpu")

        def logits(self, batch, _epoch):
            return batch.inputs

    made = SparseTeacher(Given(), replace(ORIGIN, top=10), images=images, folder=tmp_path)
    logits = torch.randn(images, 100, generator=torch.Generator().manual_seed(0))
    made.logits(Batch(logits, torch.zeros(images), torch.arange(images)), 0)
    taken = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert taken <= logits.numel() * logits.element_size() / 10
    assert images * made.bytes_per_image <= taken <= images * made.bytes_per_image + 2000


def test_without_labels_the_loss_is_the_cross_entropy_with_what_is_stored(tmp_path):
    """At temperature 1 and without labels the stage minimises that of TinyViT, but for a constant: gradients are the same."""
    batch, student = batch_of(), torch.randn(48, CLASSES, requires_grad=True)
    stored_logits = sparse(tmp_path).logits(batch, 0)
    labels, soft = Distill(alpha=1.0, temperature=1.0).losses(resources("plain"))
    assert (labels.weight_at(0), soft.weight_at(0)) == (0, 1)
    found = soft.function(Outputs(student, batch.labels, stored_logits))
    wanted = functional.cross_entropy(student, stored_logits.softmax(1))
    torch.testing.assert_close(torch.autograd.grad(found, student)[0], torch.autograd.grad(wanted, student)[0])


def test_the_soft_loss_decays_to_what_is_asked():
    given = resources("plain")
    plain, faded = (Distill(alpha=0.8, decay=decay).losses(given) for decay in (0.0, 0.75))
    assert [term.weight_at(progress) for term in plain for progress in (0, 1)] == pytest.approx([0.2, 0.2, 0.8, 0.8])
    assert [term.weight_at(progress) for term in faded for progress in (0, 0.5, 1)] == pytest.approx(
        [0.2, 0.5, 0.8, 0.8, 0.5, 0.2]
    )
    labels, soft = Distill(labels=0.3, decay=1.0, criteria=({"loss": "dkd", "warmup": 0.5, "weight": 2.0},)).losses(given)
    assert labels.weight_at(1) == 0.3
    assert [soft.weight_at(progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.75, 1, 0])


def test_a_joint_teacher_learns_labels_alone_and_the_student_both():
    given = replace(resources("residual"), teacher=stored("residual"))
    one = JointTeacher(weight=0.5, alpha=1.0)
    extra = one.begin(network("residual"), given)
    assert all(parameter.requires_grad for parameter in extra.parameters())
    batch, student = batch_of(), torch.randn(48, CLASSES, requires_grad=True)
    found = one.term(CLASSIFICATION).function(Outputs(student, batch.labels, inputs=batch.inputs, extra=extra))
    teacher = extra["teacher"](batch.inputs)
    own, soft = functional.cross_entropy(teacher, batch.labels), functional.cross_entropy(student, teacher.detach().softmax(1))
    torch.testing.assert_close(found, own + 0.5 * soft)
    weight = next(extra.parameters())
    got = torch.autograd.grad(found, (weight, student))
    torch.testing.assert_close(got[0], torch.autograd.grad(own, weight)[0])
    torch.testing.assert_close(got[1], torch.autograd.grad(0.5 * soft, student)[0])


def test_a_joint_teacher_trains_in_the_stage_and_does_not_ship(tmp_path):
    given = resources("plain")
    before = given.teacher.network.state_dict()
    stage = Distill(budget=SHORT, labels=0.5, criteria=({"loss": "joint"},))
    done = run_stage(Candidate(network("plain")), stage, given, folder=tmp_path)
    assert set(done.network.state_dict()) == set(network("plain").state_dict())
    assert all(torch.equal(value, before[name]) for name, value in given.teacher.network.state_dict().items())
