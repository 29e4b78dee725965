import json
import sys

import numpy as np
import onnx
import pytest

from paretrim.data.digits import load_digits
from paretrim.deploy.runnable import open_runnable
from paretrim.runtime import instruction_sets


def test_export_chooses_a_candidate_by_label(finished, files, command, command_json, tmp_path):
    status, found = command_json("export", finished, "--to", tmp_path / "last.onnx")
    assert status == 0
    assert (tmp_path / "last.onnx").read_bytes() == files["prune → quantize"].read_bytes()
    assert found == {"file": str(tmp_path / "last.onnx"), "file_bytes": 0, "takes_pixels": True, "shape": [1, 8, 8]} | {
        "file_bytes": (tmp_path / "last.onnx").stat().st_size
    }
    status, out, _ = command("export", finished, "--label", "dense", "--to", tmp_path / "dense.graph")
    assert status == 0
    assert "takes uint8 pixels [1, 8, 8]" in out
    images = load_digits().test.images[:8].numpy()
    logits = [open_runnable(tmp_path / "dense.graph", runtime="reference"), open_runnable(files["dense"], runtime="onnxruntime")]
    np.testing.assert_allclose(logits[0](images), logits[1](images), rtol=1e-3, atol=1e-4)


def test_export_of_a_trim_file(files, command, tmp_path):
    assert command("export", files["dense"].with_name("model.trim"), "--to", tmp_path / "again.onnx")[0] == 0
    assert (tmp_path / "again.onnx").read_bytes() == files["dense"].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUN", "--label", "sparse"], "has no candidate 'sparse'; it has dense, prune, prune → quantize"),
        (["RUN", "--mean", "0.5"], "--mean and --std are for a single candidate"),
        (["CANDIDATE", "--label", "dense"], "--label 'dense' chooses among the candidates of a run folder"),
        (["CANDIDATE", "--mean", "0.5"], "--mean and --std belong together; give both or neither"),
        (["CANDIDATE", "--mean", "0.5,0.5", "--std", "1,1"], "--mean has 2 and --std 2 numbers; the network takes 1 channels"),
        (["FILE"], "is already deployed; give a candidate.safetensors, a .trim or .graph file or a run folder"),
        (["RUN", "--to", "net.tflite"], "'net.tflite' ends in '.tflite'; it must end in .onnx, .trim or .graph"),
        (["RUN", "--to", "."], "'.' is a folder; name a file in it that ends in .onnx, .trim or .graph"),
        (["runs/none"], "there is no file or folder 'runs/none'; check the path"),
        (["notes.txt"], "'notes.txt' ends in '.txt'; give an .onnx, .trim or .graph file, or a candidate.safetensors"),
    ],
)
def test_impossible_exports_are_refused(arguments, said, finished, files, candidate, command, tmp_path):
    known = {"RUN": finished, "CANDIDATE": candidate, "FILE": files["dense"]}
    given = [known.get(argument, argument) for argument in arguments]
    status, _, err = command("export", "--to", tmp_path / "out.onnx", *given)
    assert status == 2
    assert said in err


@pytest.mark.parametrize("ending", ["onnx", "trim", "graph", "safetensors"])
@pytest.mark.parametrize(
    "given", [["inspect"], ["bench"], ["bench", "--layers"], ["eval", "--data", "digits"], ["export", "--to", "out.onnx"]]
)
def test_a_file_that_is_not_there_is_wrong_usage(given, ending, command, tmp_path):
    missing = tmp_path / f"missing.{ending}"
    status, _, err = command(*given, missing)
    assert (status, f"there is no file '{missing}'; check the path" in err) == (2, True)


def test_a_folder_that_is_not_there_is_wrong_usage(command, tmp_path):
    status, _, err = command("report", tmp_path / "none")
    assert (status, f"there is no file or folder '{tmp_path / 'none'}'; check the path" in err) == (2, True)


def test_invalid_files_are_named(command, candidate, tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("no protobuf at all")
    (tmp_path / "empty.onnx").write_bytes(onnx.ModelProto().SerializeToString())
    assert "text.onnx' is not an ONNX file (" in command("inspect", tmp_path / "text.onnx")[2]
    assert "empty.onnx' is an ONNX file without an input; export it again" in command("inspect", tmp_path / "empty.onnx")[2]
    status, _, err = command("bench", candidate)
    assert (status, "is a candidate, not a deployed file; deploy it with: paretrim export" in err) == (2, True)
    status, _, err = command("eval", tmp_path / "empty.onnx", "--data", "digits", "--runtime", "tensorrt")
    assert status == 1  # the file is looked at first
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert (
        "reading ONNX files needs the package onnx; install it with: pip install onnx"
        in command("inspect", tmp_path / "text.onnx")[2]
    )


def test_doctor(command, command_json):
    status, found = command_json("doctor")
    assert status == 0
    assert found["weight_bits"] in (7, 8)
    status, out, _ = command("doctor")
    assert status == 0
    assert "quiet enough to measure" in out
    sets = found["native_runtime"]["instruction_sets"]
    assert sets == list(instruction_sets())
    assert all(found["native_runtime"]["peak_multiply_adds_a_second"][name] > 0 for name in sets)
    assert f"native runtime           {sets[0]} up to " in out


def test_json_goes_alone_to_standard_output(at_desk, finished, command):
    status, out, err = command("run", "short.toml", "--folder", finished, "--effort", "none", "--json")
    assert status == 0
    assert set(json.loads(out)) == {"folder", "report", "outcomes"}
    assert err.startswith("data: digits, 1,437 training and 360 test images of 1×8×8, 10 classes (0, 1, 2, 3, 4, ...)\n")


def test_a_study_runs_and_resumes(at_desk, command, command_json, tmp_path):
    (tmp_path / "study.toml").write_text(
        'name = "tiny"\nseeds = [0]\nepochs = 1\narms = ["quantize"]\n'
        '[base]\nmodel = { network = "cli_tiny_network:make" }\ndata = { name = "digits" }\n'
        "[stages.quantize]\nshare = 1.0\n"
    )
    options = ("--folder", tmp_path / "run", "--results", tmp_path / "results", "--effort", "none")
    status, out, _ = command("study", tmp_path / "study.toml", *options)
    assert status == 0
    assert f"page: {tmp_path / 'results' / 'report.html'}" in out
    before = (tmp_path / "results" / "outcomes.jsonl").read_bytes()
    status, found = command_json("study", tmp_path / "study.toml", *options)
    assert status == 0
    assert [outcome["label"] for outcome in found["outcomes"]] == ["dense", "quantize"]
    assert (tmp_path / "results" / "outcomes.jsonl").read_bytes() == before
