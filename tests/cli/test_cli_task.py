"""A regression from the command line, end to end: every number is shown with its metric."""

import json

import numpy as np
import onnx
import pytest

from paretrim.data.digits import load_digits
from paretrim.deploy.runnable import open_runnable
from paretrim.metric import SQUARED_ERROR
from paretrim.results import store
from paretrim.trimfile import open_file

RECIPE = """
model = { network = "cli_tiny_network:make" }
data = { name = "digits" }
task = "regression"
dense = { epochs = 1, learning_rate = 0.01 }
calibration_images = 32

[[stages]]
stage = "distill"
budget = { epochs = 1, learning_rate = 0.001 }

[[stages]]
stage = "quantize"
budget = { epochs = 0 }
"""


@pytest.fixture
def regressed(at_desk, command):
    """A finished run of the regression."""
    (at_desk / "regression.toml").write_text(RECIPE)
    if not (at_desk / "regressed").exists():
        status, out, _ = command("run", "regression.toml", "--folder", "regressed", "--effort", "none")
        assert status == 0
        assert "mean squared error (lower is better)" in out
        assert "accuracy" not in out
    return at_desk / "regressed"


def test_a_run_keeps_the_metric_of_its_task(regressed, command, tmp_path):
    dense, _, int8 = store.read(regressed / "outcomes.jsonl")
    assert {one.judged_by for one in (dense, int8, *int8.history)} == {SQUARED_ERROR}
    assert int8.classes is None
    assert "accura" not in (regressed / "report.html").read_text(encoding="utf-8").split("<script type")[0].lower()
    status, out, _ = command("report", regressed, "--markdown", tmp_path / "page.md")
    assert status == 0
    assert "## Mean squared error" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "accura" not in out


def test_files_say_their_task_and_eval_judges_by_it(regressed, command, command_json, tmp_path):
    int8 = store.read(regressed / "outcomes.jsonl")[-1]
    assert command("export", regressed, "--to", tmp_path / "a.trim")[0] == 0
    assert command("export", tmp_path / "a.trim", "--to", tmp_path / "a.onnx")[0] == 0
    measured = open_file(tmp_path / "a.trim").provenance.measured
    assert (measured["task"], measured["metric"], measured["metric_higher_is_better"]) == ("regression", SQUARED_ERROR.name, "0")
    test = load_digits().test
    runnable = open_runnable(tmp_path / "a.trim", runtime="paretrim")
    numbers = np.concatenate([runnable(images) for images in np.array_split(test.images.numpy(), 4)])[:, 0]
    error = float(np.square(numbers.astype(np.float64) - test.labels.numpy()).mean())
    status, found = command_json("eval", tmp_path / "a.trim", "--data", "digits")
    assert status == 0
    assert found["value"]["value"] == pytest.approx(error)
    assert found["value"]["value"] == pytest.approx(int8.deployed_value)
    assert found["value"]["low"] < error < found["value"]["high"]
    assert (found["task"], found["metric"]["higher_is_better"]) == ("regression", False)
    assert "accuracy" not in found
    status, out, _ = command("eval", tmp_path / "a.onnx", "--data", "digits")
    assert status == 0
    assert f"mean squared error {error:.4g} on 360 test images of digits (bootstrap 95 %" in out
    status, found = command_json("inspect", "--compare", tmp_path / "a.trim", tmp_path / "a.onnx", "--data", "digits")
    assert (status, found["task"], found["images"], found["numbers"]) == (0, "regression", 360, 1)
    others = open_runnable(tmp_path / "a.onnx", runtime="onnxruntime")
    apart = np.abs(np.concatenate([others(images) for images in np.array_split(test.images.numpy(), 4)])[:, 0] - numbers)
    assert found["differences"] == pytest.approx(apart.tolist(), abs=1e-5)
    assert found["correlation"] > 0.99
    status, out, _ = command("inspect", "--compare", tmp_path / "a.trim", tmp_path / "a.trim", "--data", "digits")
    assert status == 0
    assert "1 number for each of 360 test images: mean difference 0, largest 0, correlation 1.0000" in out


def test_compress_knows_the_drop_in_the_metric_s_own_unit(at_desk, command_json):
    given = ("--model", "cli_tiny_network:make", "--data", "digits", "--task", "regression", "--dense-epochs", "1")
    status, found = command_json(
        "compress", *given, "--dense-learning-rate", "0.01", "--int8", "--max-drop", "3", "--effort", "none", "--folder", "reg-c"
    )
    assert status == 0
    (tried,) = found["tried"]
    assert tried["validation_metric"] == found["dense_validation_metric"] == "mean squared error"
    assert tried["validation_drop"]["value"] == pytest.approx(tried["validation_value"] - found["dense_validation_value"])
    assert "accuracy" not in json.dumps([tried, found["reason"]])
    assert found["reason"] == "the smallest of those tried that are shown to worsen by at most 3"


def test_a_file_of_an_own_task_asks_for_its_name(regressed, command, tmp_path):
    command("export", regressed, "--to", tmp_path / "b.onnx")
    model = onnx.load(tmp_path / "b.onnx")
    next(one for one in model.metadata_props if one.key == "task").value = "depth"
    onnx.save(model, tmp_path / "b.onnx")
    status, _, err = command("eval", tmp_path / "b.onnx", "--data", "digits")
    assert status == 2
    assert "was made for the task 'depth' with the metric mean squared error, which is not built in; name it" in err
    assert command("eval", tmp_path / "b.onnx", "--data", "digits", "--task", "regression")[0] == 0


def test_a_task_may_be_a_module_of_the_working_folder(regressed, at_desk, command, tmp_path):
    (at_desk / "desk_task.py").write_text("import paretrim\n\ndef make():\n    return paretrim.Regression('half')\n")
    command("export", regressed, "--to", tmp_path / "c.trim")
    status, out, _ = command("eval", tmp_path / "c.trim", "--data", "digits", "--task", "desk_task:make")
    assert status == 0
    assert "mean squared error" in out
    status, _, err = command("eval", tmp_path / "c.trim", "--data", "digits", "--task", "regresion")
    assert status == 2
    assert "task is 'regresion'; write one of classification, regression, or package.module:name" in err
