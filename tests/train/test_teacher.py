from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, FLOAT32, SHORT, dense, network, resources, same, start, state

import paretrim.files
from paretrim.run.pipeline import run_stage
from paretrim.stages.distill.stage import Distill
from paretrim.train.checkpoint import load_state
from paretrim.train.teacher import StoredTeacher


def teacher(folder, *, classes=CLASSES, images=120):
    return StoredTeacher(dense("plain").network, FLOAT32, images=images, classes=classes, folder=folder)


def epoch_of(made, number=0):
    return [made.logits(batch, number) for batch in start("plain").train(48).epoch(number)]


def all_equal(left, right):
    return all(torch.equal(*both) for both in zip(left, right, strict=True))


def test_stored_logits_are_the_networks_own_up_to_float16(tmp_path):
    plain, fresh = epoch_of(teacher(None)), epoch_of(teacher(tmp_path))
    for exact, rounded in zip(plain, fresh, strict=True):
        torch.testing.assert_close(rounded, exact, rtol=2**-11, atol=2**-24)
        assert rounded.dtype == torch.float32
        assert not rounded.requires_grad


def test_outputs_that_are_no_logits_are_stored_exactly(tmp_path):
    exact = StoredTeacher(dense("plain").network, FLOAT32, images=120, classes=CLASSES, folder=tmp_path, exact=True)
    assert all_equal(epoch_of(teacher(None)), epoch_of(exact))
    epoch_of(teacher(tmp_path))  # of another task: its table is none of these, and is written anew
    assert load_state(tmp_path / "epoch-00000.safetensors")[0]["logits"].dtype == torch.float16


def test_a_second_reader_computes_nothing_and_gets_the_same(tmp_path, monkeypatch):
    first = epoch_of(teacher(tmp_path), 3)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00003.safetensors"]
    second = teacher(tmp_path)
    monkeypatch.setattr(second, "_compute", None)
    assert all_equal(first, epoch_of(second, 3))


def test_batch_size_and_order_of_epochs_do_not_matter(tmp_path):
    made = teacher(tmp_path)
    first = epoch_of(made, 0)
    epoch_of(made, 1)
    assert all_equal(first, epoch_of(made, 0))
    batch = next(iter(start("plain").train(7).epoch(0)))
    assert torch.equal(made.logits(batch, 0), first[0][:7])


@pytest.mark.parametrize("damage", [b"", b"no file of ours", None])
def test_a_damaged_or_foreign_file_is_computed_again(damage, tmp_path):
    first = epoch_of(teacher(tmp_path))
    path = tmp_path / "epoch-00000.safetensors"
    stored = load_state(path)[0]
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    assert all_equal(first, epoch_of(teacher(tmp_path)))
    assert same(stored, load_state(path)[0])


def test_a_file_of_another_shape_is_ignored(tmp_path):
    other = teacher(tmp_path, images=121)
    other._open(tmp_path / "epoch-00000.safetensors", 0)
    other._missing = 1
    other._known[:120] = True
    other._known[120] = False
    other._keep(tmp_path / "epoch-00000.safetensors", torch.tensor([120]), torch.ones(1, CLASSES))
    assert (tmp_path / "epoch-00000.safetensors").exists()
    assert all_equal(epoch_of(teacher(tmp_path)), epoch_of(teacher(tmp_path / "fresh")))


def test_a_kill_while_writing_leaves_no_file_that_is_believed(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(_handle):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(paretrim.files.os, "fsync", killed)
        with pytest.raises(Killed):
            epoch_of(teacher(tmp_path))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".epoch-00000.safetensors.12ab34cd.part").write_bytes(b"torn")
    assert all_equal(epoch_of(teacher(tmp_path)), epoch_of(teacher(tmp_path / "fresh")))


def test_batches_without_positions_are_computed_each_time(tmp_path):
    batch = next(iter(start("plain").train(48).epoch(0)))._replace(indices=None)
    assert teacher(tmp_path).logits(batch, 0).shape == (48, CLASSES)
    assert list(tmp_path.iterdir()) == []


def test_the_teacher_is_a_frozen_copy():
    original = network("depthwise").train()
    before = state(original)
    made = StoredTeacher(original, FLOAT32, images=120, classes=CLASSES, folder=None)
    assert original.training
    assert all(parameter.requires_grad for parameter in original.parameters())
    batch = next(iter(start("plain").train(48).epoch(0)))
    assert torch.equal(made.logits(batch, 0), made.logits(batch, 0))
    assert same(before, state(original))


def test_distilling_from_stored_logits_is_the_same_run_again(tmp_path):
    given = [replace(resources("plain"), teacher=teacher(tmp_path)) for _ in range(2)]
    runs = [run_stage(dense("residual"), Distill(budget=SHORT), each) for each in given]
    assert same(*map(state, runs))
    assert len(list(tmp_path.iterdir())) == SHORT.epochs
