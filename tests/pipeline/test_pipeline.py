import time
from dataclasses import replace

import pytest
import torch
from tiny import CLASSES, FLOAT32, NONE, SHORT, STAGES, image_set, network, prune, same, start, state
from torch import nn

import paretrim.run.pipeline
from paretrim.capture import capture
from paretrim.errors import CorruptFile, OutOfSpace, TrainingFailed
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate, load_candidate
from paretrim.run.pipeline import disk_bytes, extra_bytes, run_stage, run_stages, train_dense
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.execution import Execution
from paretrim.train.teacher import StoredTeacher
from paretrim.train.training import Training

THREE = (prune(schedule="cubic"), Quantize(budget=SHORT), Distill(budget=SHORT))


@pytest.fixture
def trained(monkeypatch):
    """Names of the stages that were really run."""
    names, run = [], paretrim.run.pipeline.run_stage

    def counting(candidate, stage, resources, **settings):
        names.append(stage.name)
        return run(candidate, stage, resources, **settings)

    monkeypatch.setattr(paretrim.run.pipeline, "run_stage", counting)
    return names


def test_the_seconds_of_a_stage_hold_its_calibration(monkeypatch):
    begin = Quantize.begin

    def slowly(stage, network, resources):
        time.sleep(0.1)
        return begin(stage, network, resources)

    monkeypatch.setattr(Quantize, "begin", slowly)
    found = run_stage(Candidate(network("residual")), Quantize(budget=NONE), start("residual").resources(None))
    assert found.history[-1].seconds >= 0.1


def test_without_stages_a_run_is_the_identity(tmp_path):
    begin = start("residual")
    (only,) = run_stages(begin, (), tmp_path)
    assert only.network is begin.network
    assert only.history == ()
    assert train_dense(begin, None, tmp_path) is begin


def test_run_stages_equals_running_each_stage_by_hand(tmp_path):
    begin = start("residual")
    teacher = StoredTeacher(begin.network, FLOAT32, images=120, classes=CLASSES, folder=tmp_path / "by hand")
    by_hand = [Candidate(begin.network)]
    for stage in THREE:
        by_hand.append(run_stage(by_hand[-1], stage, begin.resources(teacher)))
    finished = []
    found = run_stages(
        begin, THREE, tmp_path / "run", finished=lambda name, candidate: finished.append((name, len(candidate.history)))
    )
    assert finished == [("prune", 1), ("quantize", 2), ("distill", 3)]
    assert len(found) == 4
    for left, right in zip(by_hand, found, strict=True):
        assert same(state(left), state(right))
        assert [replace(stage, seconds=0) for stage in left.history] == [replace(stage, seconds=0) for stage in right.history]


def test_finished_stages_are_read_and_shared_beginnings_run_once(tmp_path, trained):
    first = run_stages(start("plain"), THREE, tmp_path)
    assert trained == ["prune", "quantize", "distill"]
    again = run_stages(start("plain"), THREE, tmp_path)
    assert same(state(first[-1]), state(again[-1]))
    assert first[-1].history == again[-1].history
    run_stages(start("plain"), (*THREE[:2], FineTune(budget=SHORT)), tmp_path)
    assert trained == ["prune", "quantize", "distill", "finetune"]
    names = {path.name for path in (tmp_path / "stages").glob("*/*")}
    assert names == {"candidate.safetensors"}


@pytest.mark.parametrize(
    "other",
    [
        lambda: start("residual"),
        lambda: start("plain", seed=1),
        lambda: replace(start("plain"), data_digest="other"),
        lambda: replace(start("plain"), calibration=start("plain").calibration[:5]),
        lambda: replace(start("plain"), execution=Execution(device="cpu", precision="bfloat16")),
    ],
)
def test_what_changes_the_outcome_changes_the_key(other):
    assert other().key() != start("plain").key() == start("plain").key()


def test_another_teacher_is_another_run(tmp_path, trained):
    run_stages(start("plain"), THREE[2:], tmp_path)
    run_stages(start("plain"), THREE[2:], tmp_path, teacher=network("residual"))
    run_stages(start("plain"), THREE[2:], tmp_path, teacher=network("residual"))
    assert trained == ["distill", "distill"]
    assert len(list((tmp_path / "teachers").iterdir())) == 2


def test_a_teacher_with_other_classes_is_refused(tmp_path):
    other = Network(capture(nn.Sequential(nn.Flatten(), nn.Linear(192, 7)), (3, 8, 8)))
    with pytest.raises(TrainingFailed, match=r"the teacher returns \[7\] and the network \[4\]; they must return the same"):
        run_stages(start("plain"), THREE, tmp_path, teacher=other)


def test_a_dense_network_is_trained_once(tmp_path, trained):
    begin = start("plain")
    found = train_dense(begin, replace(SHORT, epochs=6), tmp_path)
    assert not same(state(found.network), state(begin.network))
    assert same(state(found.network), state(train_dense(begin, replace(SHORT, epochs=6), tmp_path).network))
    assert trained == ["finetune"]
    assert found.key() != begin.key()


def test_a_disk_too_small_is_refused_before_training(tmp_path, trained, monkeypatch):
    monkeypatch.setattr("paretrim.files.shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    with pytest.raises(OutOfSpace, match=r"needs [\d,]+ bytes and its disk has 1,000 free"):
        run_stages(start("plain"), THREE, tmp_path)
    assert trained == []


def test_the_space_for_teacher_logits_is_counted():
    begin = start("plain")
    given = begin.resources(StoredTeacher(begin.network, FLOAT32, images=120, classes=CLASSES, folder=None))
    needed = [disk_bytes(begin, [(replace(stage, budget=SHORT),)], given) for stage in (THREE[0], THREE[2])]
    assert needed[1] - needed[0] == 120 * CLASSES * 2 * SHORT.epochs


def test_the_space_for_a_stage_s_own_modules_is_counted():
    begin = start("plain")
    given = begin.resources(None)
    extra = torch.nn.ModuleDict({"projection": torch.nn.Linear(3, 5), "bank": torch.nn.BatchNorm1d(2, affine=False)})
    held = extra_bytes(Training(begin.network, given, extra))
    assert held == 4 * 2 * (3 * 5 + 5) + 4 * (2 + 2) + 8  # with momentum; mean and variance; a count
    stages = [(replace(THREE[0], budget=SHORT),)]
    assert disk_bytes(begin, stages, given, extra=held) - disk_bytes(begin, stages, given) == 3 * held


def test_a_damaged_candidate_is_named(tmp_path):
    run_stages(start("plain"), (prune(budget=NONE),), tmp_path)
    (path,) = tmp_path.glob("stages/*/candidate.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptFile, match=r"candidate\.safetensors' cannot be read .* delete it and run the same command again"):
        load_candidate(path)
    with pytest.warns(UserWarning, match=r"candidate\.safetensors' is damaged, so what made it runs again"):
        assert len(run_stages(start("plain"), (prune(budget=NONE),), tmp_path)) == 2


def test_a_failing_stage_keeps_what_is_finished(tmp_path, trained):
    wild = FineTune(budget=replace(SHORT, learning_rate=1e30))
    with pytest.raises(TrainingFailed, match=r"stage 2 \(finetune\)"):
        run_stages(start("plain"), (THREE[0], wild), tmp_path)
    run_stages(start("plain"), THREE[:2], tmp_path)
    assert trained == ["prune", "finetune", "quantize"]


def test_any_number_of_images_trains(tmp_path):
    few = image_set(49)
    found = run_stages(start("depthwise", images=few), (STAGES["together"],), tmp_path)
    assert all(torch.isfinite(tensor).all() for tensor in state(found[-1]).values())
