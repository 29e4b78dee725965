import json
import re
import shutil
import signal
from dataclasses import replace

import pytest

import paretrim.run.planning
from paretrim.cli import main
from paretrim.results import store


def _wait_for(process, text):
    """Read the process's notes up to one with ``text``."""
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the process ended without saying '{text}'")


def _deeds(folder):
    """Outcomes without the fields that differ between two equal runs: seconds and date."""
    outcomes = store.latest(store.read(folder / "outcomes.jsonl"))
    without_seconds = [tuple(replace(stage, seconds=0.0) for stage in outcome.history) for outcome in outcomes]
    return [
        replace(outcome, created="", commit="", history=history)
        for outcome, history in zip(outcomes, without_seconds, strict=True)
    ]


def test_a_run_leaves_an_outcome_for_every_stage(finished):
    outcomes = store.read(finished / "outcomes.jsonl")
    assert [outcome.label for outcome in outcomes] == ["dense", "prune", "prune → quantize"]
    assert [outcome.order for outcome in outcomes] == [(), ("prune",), ("prune", "quantize")]
    assert len({outcome.recipe for outcome in outcomes}) == 3
    assert outcomes[2].file_bytes < outcomes[0].file_bytes
    assert outcomes[1].zeros >= 576  # half of the only convolution that takes part
    assert "<html" in (finished / "report.html").read_text()
    assert not (finished / "holder.json").exists()


def test_the_same_command_again_adds_nothing(at_desk, finished, command_json):
    before = (finished / "outcomes.jsonl").read_bytes()
    status, found = command_json("run", "short.toml", "--folder", finished, "--effort", "none")
    assert status == 0
    assert (finished / "outcomes.jsonl").read_bytes() == before
    assert [json.dumps(outcome, sort_keys=True, separators=(",", ":")) for outcome in found["outcomes"]] == before.decode().split(
        "\n"
    )[:-1]


def test_judging_is_announced_where_there_is_some(at_desk, finished, command, tmp_path):
    """It takes minutes for a large network, and used to be silent."""
    said = "judging the files of"
    again = command("run", "short.toml", "--folder", finished, "--effort", "none")[2]
    assert said not in again
    folder = shutil.copytree(finished, tmp_path / "run")
    one, *_ = sorted(folder.glob("deployed/*/judgement-*.json"))
    one.unlink()
    lines = command("run", "short.toml", "--folder", folder, "--effort", "none")[2].splitlines()
    assert f"{said} 1 network on 360 test images" in lines
    assert any("bytes, test accuracy" in line for line in lines[lines.index(f"{said} 1 network on 360 test images") :])


def test_the_images_that_are_trained_on_are_told(at_desk, command):
    given = ("--model", "cli_tiny_network:make", "--data", "digits", "--epochs", "0")
    assert "data: digits, 1,437 training and 360 test images" in command("plan", *given)[2]
    few = command("plan", *given, "--train-images", "100", "--calibration-images", "50")[2]
    assert "data: digits, 1,437 training (100 to train on) and 360 test images" in few


def test_another_recipe_in_the_same_folder_reports_its_own(at_desk, finished, command_json, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "other.toml").write_text((at_desk / "short.toml").read_text().replace("0.5", "0.25"))
    status, found = command_json("run", tmp_path / "other.toml", "--folder", folder, "--effort", "none")
    assert status == 0
    assert [outcome["label"] for outcome in found["outcomes"]] == ["dense", "prune", "prune → quantize"]
    assert len(store.read(folder / "outcomes.jsonl")) == 6
    assert main(["run", "short.toml", "--folder", str(folder), "--effort", "none"]) == 0


def test_the_plan_comes_first(at_desk, command, tmp_path):
    folder = tmp_path / "a run"
    status, out, err = command("run", "short.toml", "--folder", folder, "--effort", "none")
    assert status == 0
    data, plan, *_ = err.splitlines()
    assert data.startswith("data: digits")
    assert plan.startswith("plan: 3,826 parameters, 3 epochs, ")
    assert re.search(r"^ +prune +1 +11 ", err, re.MULTILINE)
    assert f"page: {folder / 'report.html'}" in out
    assert f"paretrim export '{folder}' --to NAME.trim" in out


def test_a_repeat_plans_only_what_is_left(at_desk, command, finished, monkeypatch):
    status, out, _ = command("plan", "short.toml", "--folder", finished)
    assert status == 0
    assert "nothing left to train" in out
    assert out.count("finished") == 3
    with monkeypatch.context() as untimed:
        untimed.setattr(paretrim.run.planning, "_timed", None)  # anything timed would fail
        status, _, err = command("run", "short.toml", "--folder", finished, "--effort", "none")
    assert status == 0
    assert "\nnothing is left to train\n" in err
    (at_desk / "more.toml").write_text(
        (at_desk / "short.toml").read_text() + '[[stages]]\nstage = "distill"\nbudget = { epochs = 1 }\n'
    )
    status, out, _ = command("plan", "more.toml", "--folder", finished)
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines() if line.startswith("  ")][-4:-1] == ["finished"] * 3
    assert "the dense network is right on" in out


def test_killed_at_any_moment_it_ends_as_if_undisturbed(at_desk, launch, tmp_path):
    arguments = ["run", "long.toml", "--effort", "none", "--folder"]
    # On a busy machine the run may be over before the kill arrives; then it was no kill, and another one is tried.
    for attempt in range(20):
        folder = tmp_path / f"killed {attempt}" / "run"
        process = launch(*arguments, folder)
        _wait_for(process, "prune: epoch 2/12")
        process.kill()
        if process.wait() == -signal.SIGKILL and list(folder.rglob("epoch-*.safetensors")):
            break
    else:
        pytest.fail("no run of 20 could be killed in the middle of its training")
    assert main([*arguments, str(folder)]) == 0
    assert main([*arguments, str(tmp_path / "whole" / "run")]) == 0
    assert _deeds(folder) == _deeds(tmp_path / "whole" / "run")


@pytest.mark.parametrize(("number", "status_of_stop"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_run_a_folder_and_a_clean_stop(at_desk, launch, command, tmp_path, number, status_of_stop):
    # A run that cannot be over before it is stopped, however long this process has to wait for its turn.
    process = launch("run", "endless.toml", "--effort", "none", "--folder", tmp_path / "a run")
    _wait_for(process, "prune: epoch 1/1000000")
    status, out, err = command("run", "endless.toml", "--effort", "none", "--folder", tmp_path / "a run")
    assert (status, out) == (1, "")
    assert re.search(rf"in use by process {process.pid} on \S+ since 20\S+; wait until it is done", err)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status_of_stop
    assert out == ""
    assert "Traceback" not in err
    assert f"To resume: paretrim run endless.toml --effort none --folder '{tmp_path / 'a run'}'" in err


def test_a_failing_stage_is_one_message(at_desk, command, tmp_path):
    (tmp_path / "wild.toml").write_text(
        (at_desk / "short.toml").read_text().replace("{ epochs = 1 }", "{ learning_rate = 1e30 }")
    )
    status, _, err = command("run", tmp_path / "wild.toml", "--folder", tmp_path / "run", "--effort", "none")
    assert status == 1
    assert re.search(r"^paretrim: error: .*stage 1 \(prune\).*lower the learning rate", err, re.MULTILINE)
    assert "Traceback" not in err


def test_images_that_cannot_be_read_are_told(at_desk, command, tmp_path, monkeypatch):
    from paretrim.data.digits import load_digits
    from paretrim.run import run

    broken = replace(load_digits(), broken=tuple(f"{n}.png" for n in range(7)))
    monkeypatch.setattr(run, "load", lambda *_, **__: broken)
    _, _, err = command("run", "short.toml", "--folder", tmp_path / "run", "--effort", "none")
    assert "note: 7 image files cannot be read and were left out: 0.png, 1.png, 2.png, 3.png, 4.png, ...\n" in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", "-1"], "--seed is -1; it must be 0 or more, and at most 4294967295"),
        (["--runtimes", "tensorrt"], "--runtimes names 'tensorrt'; choose from paretrim, onnxruntime, openvino"),
    ],
)
def test_invalid_options(options, said, at_desk, command):
    status, _, err = command("run", "short.toml", "--folder", "never", *options)
    assert (status, err) == (2, f"paretrim: error: {said}\n")
    assert not (at_desk / "never").exists()


def test_a_recipe_that_is_not_there(command):
    status, out, err = command("run", "nowhere.toml")
    assert (status, out) == (2, "")
    assert "recipe 'nowhere.toml' cannot be read" in err


def test_unexpected_faults_are_one_line_with_the_way_to_their_traceback(at_desk, monkeypatch, command):
    from paretrim.cli import running

    monkeypatch.setattr(running, "open_recipe", None)  # a function here would be the user's own code
    status, _, err = command("run", "short.toml", "--folder", "fault")
    assert status == 1
    assert "paretrim: error: unexpected TypeError: 'NoneType' object is not callable (cli/running.py, line " in err
    assert "with the traceback that PARETRIM_TRACEBACK=1 in the environment shows\n" in err


def test_weights_that_have_seen_the_validation_images_are_told(at_desk, command, tmp_path, monkeypatch):
    from paretrim.data.digits import load_digits
    from paretrim.run import run

    digits = load_digits()
    elsewhere = replace(digits, test=replace(digits.test, labels=(digits.test.labels + 1) % 10))
    monkeypatch.setattr(run, "load", lambda *_, **__: elsewhere)
    status, _, err = command("run", "short.toml", "--folder", tmp_path / "run", "--effort", "none")
    assert status == 0
    assert re.search(r"warning: the dense network is right on [0-9.]+ % of \d+ validation images .* % of 360 test images", err)


def test_a_plan_says_that_no_weights_were_given(at_desk, command, tmp_path):
    status, _, err = command("plan", "--model", "resnet20", "--data", "digits", "--epochs", "1")
    assert status == 0
    assert "and no dense training (--dense-epochs, [dense]), so resnet20 starts untrained. Predicted time and disk space" in err
    _, out, err = command("plan", "--model", "cli_tiny_network:make", "--data", "digits", "--epochs", "0")
    assert "note: no weights were given: the network that 'cli_tiny_network:make' returns is used unchanged" in err
    assert re.search(r" parameters, [^,]* of calibration and validation predicted", out)


def test_an_untrained_network_is_told(at_desk, command, tmp_path):
    (tmp_path / "raw.toml").write_text('model = { network = "resnet20" }\ndata = { name = "digits" }\n')
    status, _, err = command("run", tmp_path / "raw.toml", "--folder", tmp_path / "run", "--effort", "none")
    assert status == 0
    assert "note: no weights were given" in err
    assert "so resnet20 starts untrained" in err
