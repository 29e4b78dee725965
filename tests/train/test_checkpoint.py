import resource
from dataclasses import replace

import pytest
import torch
from tiny import STAGES, dense, network, prune, resources, same, state

import paretrim.files
from paretrim.errors import CannotWrite, CorruptFile, OutOfSpace
from paretrim.files import append_line, write_atomically
from paretrim.run.candidate import load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.train.budget import Budget
from paretrim.train.checkpoint import Checkpoints, Moment, clear_checkpoints, content_digest, form_of, load_state, save_state
from paretrim.train.optimizer import make_optimizer
from paretrim.train.training import Training

TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "channels last": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    "flags": torch.tensor([True, False]),
    "counts": torch.arange(3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "nothing": torch.empty(0, 4),
    "one": torch.tensor(3.5),
}


def test_what_is_saved_comes_back(tmp_path):
    facts = {"epoch": 3, "seconds": 0.1, "list": [1, None, "ä"]}
    save_state(tmp_path / "state", TENSORS, facts)
    tensors, found = load_state(tmp_path / "state")
    assert same(tensors, TENSORS)
    assert found == facts


def test_the_layout_of_a_tensor_is_no_part_of_its_digest():
    plain = torch.tensor([[3.0], [4.0]])
    one_of_a_column, part = torch.tensor([[3.0, 1.0], [5.0, 2.0]])[:1, 0], torch.tensor([[3.0, 4.0], [5.0, 2.0]])[:1].T
    assert one_of_a_column.stride() == (2,)
    assert content_digest({"a": one_of_a_column}, "") == content_digest({"a": plain[0]}, "")
    assert content_digest({"a": part}, "") == content_digest({"a": plain}, "")


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "state"
    save_state(path, {"a": torch.arange(5)}, {"epoch": 1})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptFile, match="delete it and run the same command again"):
            load_state(path)
    for at in range(8, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CorruptFile, match=r"cannot be read|fails its SHA-256|has format"):
            load_state(path)


def test_another_format_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("paretrim.train.checkpoint.FORMAT", 99)
    save_state(tmp_path / "state", {}, {})
    monkeypatch.undo()
    with pytest.raises(CorruptFile, match=r"'.*state' has format 99, this version reads 1; delete it"):
        load_state(tmp_path / "state")


def pair(name="plain"):
    training = Training(network(name), resources(name))
    return training, make_optimizer(training.network.parameters(), Budget())


def checkpoints(folder, name="plain"):
    return Checkpoints(folder, form_of(network(name)))


def restored(kept, name="plain"):
    """The moment that a fresh training goes on from."""
    training = Training(network(name), resources(name))
    found = kept.newest(training, lambda _: make_optimizer(training.network.parameters(), Budget()))
    return found and found[0]


def test_two_checkpoints_are_kept_and_all_are_cleared(tmp_path):
    kept = checkpoints(tmp_path / "stage")
    assert restored(kept) is None
    for epoch in range(1, 5):
        kept.save(*pair(), Moment(epoch, 0.5 * epoch))
    (tmp_path / "stage" / ".epoch-00005.safetensors.12ab.part").write_bytes(b"half")
    (tmp_path / "stage" / "candidate.safetensors").write_bytes(b"other")
    assert restored(kept) == Moment(4, 2.0)
    clear_checkpoints(tmp_path / "stage")
    assert [path.name for path in (tmp_path / "stage").iterdir()] == ["candidate.safetensors"]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    kept = checkpoints(tmp_path)
    kept.save(*pair(), Moment(1, 0.5))
    kept.save(*pair(), Moment(2, 1.0))
    newest = tmp_path / "epoch-00002.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    assert restored(kept) == Moment(1, 0.5)
    (tmp_path / "epoch-00001.safetensors").write_bytes(b"")
    assert restored(kept) is None


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoints(tmp_path).save(*pair("plain"), Moment(1, 0.5))
    with pytest.raises(
        CorruptFile, match=r"epoch-00001.safetensors' belongs to another network or version .*; delete its folder"
    ):
        restored(checkpoints(tmp_path, "residual"), "residual")


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path):
    kept = checkpoints(tmp_path)
    kept.save(*pair(), Moment(1, 0.5))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # Python ignores SIGXFSZ, so a write fails with EFBIG
    try:
        with pytest.raises(
            OutOfSpace, match=r"no space left for '.*epoch-00002.safetensors': its [\d,]+ bytes are more .* \(ulimit -f\)"
        ):
            kept.save(*pair(), Moment(2, 1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert restored(kept) == Moment(1, 0.5)


def test_a_place_that_refuses_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match=r"file/deeper/x' cannot be written: Not a directory; choose another place, or allow"):
        write_atomically(tmp_path / "file" / "deeper" / "x", b"1")
    with pytest.raises(CannotWrite, match=r"' cannot be written: Is a directory; choose another place"):
        write_atomically(tmp_path, b"1")
    with pytest.raises(CannotWrite, match=r"' cannot be written: Is a directory"):
        append_line(tmp_path, "1")
    for name in ("a\0b", "\ud800"):
        with pytest.raises(CannotWrite, match=r"holds a character that no path can hold \(.*\); choose another name"):
            write_atomically(tmp_path / name, b"1")
        with pytest.raises(CannotWrite, match=r"holds a character that no path can hold \(.*\); choose another name"):
            append_line(tmp_path / name, "1")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_disk_that_fills_in_training_keeps_the_last_epoch(tmp_path, monkeypatch):
    stage = replace(STAGES["finetune"], budget=replace(STAGES["finetune"].budget, epochs=4))
    expected = run_stage(dense("plain"), stage, resources("plain"))
    sync, calls = paretrim.files.os.fsync, []

    def filling(handle):
        calls.append(handle)
        if len(calls) == 5:  # one file and one folder a checkpoint: the third file
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(paretrim.files.os, "fsync", filling)
        with pytest.raises(OutOfSpace, match=r"stage 2 \(finetune\): no space left for '.*epoch-00003"):
            run_stage(dense("plain"), stage, resources("plain"), folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00001.safetensors", "epoch-00002.safetensors"]
    assert same(state(expected), state(run_stage(dense("plain"), stage, resources("plain"), folder=tmp_path)))


def test_a_file_that_is_no_candidate_is_refused(tmp_path):
    path = tmp_path / "candidate"
    save_state(path, {"a": torch.ones(1)}, {"epoch": 1})
    with pytest.raises(CorruptFile, match=r"does not hold a candidate .*; delete it and run the same command again"):
        load_candidate(path)
    found = run_stage(dense("residual"), prune(), resources("residual"))
    save_candidate(found, path)
    tensors, facts = load_state(path)
    mask = next(key for key in tensors if key.endswith(".mask"))
    for wrong in (
        {key: value for key, value in tensors.items() if not key.endswith("bias")},
        {**tensors, "layers.left/1.mask": torch.ones(1)},
        {**tensors, "stray": torch.ones(1)},
        *({**tensors, mask: tensors[mask].to(other)} for other in (torch.float64, torch.float32, torch.int64, torch.uint8)),
        {**tensors, mask.replace("mask", "alive"): torch.ones(1, dtype=torch.float64)},
    ):
        save_state(path, wrong, facts)
        with pytest.raises(CorruptFile, match="does not hold a candidate"):
            load_candidate(path)
    for mean in ("a", 3, [[0.5]], [None]):
        save_state(path, tensors, {**facts, "mean": mean, "std": mean})
        with pytest.raises(CorruptFile, match="does not hold a candidate"):
            load_candidate(path)
    save_state(path, tensors, {**facts, "history": [{"name": "prune"}]})
    with pytest.raises(CorruptFile, match="does not hold a candidate"):
        load_candidate(path)


@pytest.mark.parametrize(
    ("name", "wrong", "match"),
    [
        ("layers.left/1.mask", lambda mask: mask.double(), "mask' is torch.float64 and must be torch.bool"),
        ("layers.left/1.weight", lambda weight: weight / 0, "tensor 'layers.left/1.weight' holds NaN or infinity"),
        (
            "layers.left/1.alive",
            lambda _: torch.ones(2),
            r"'layers.left/1.alive' has shape \(2,\) and must have \(8,\)",
        ),
        ("layers.left/1.quantizer.price", lambda _: torch.ones(8).double(), r"price' is torch.float64 and must be torch.float32"),
        ("layers.left/1.quantizer.lengths", lambda _: torch.ones(8), r"lengths' has shape \(8,\) and must have \(128,\)"),
        (
            "layers.left/2.variance",
            lambda variance: -variance - 1,
            r"layer 'left.2': a variance of its BatchNorm \(running_var\) is -",
        ),
    ],
)
def test_a_candidate_with_a_tensor_that_cannot_be_is_refused_by_name(name, wrong, match, tmp_path):
    found = run_stage(run_stage(dense("residual"), prune(), resources("residual")), STAGES["quantize"], resources("residual"))
    save_candidate(found, tmp_path / "candidate")
    tensors, facts = load_state(tmp_path / "candidate")
    save_state(tmp_path / "candidate", {**tensors, name: wrong(tensors.get(name))}, facts)
    with pytest.raises(CorruptFile, match=f"does not hold a candidate .*{match}"):
        load_candidate(tmp_path / "candidate")
