"""``paretrim eval``: the accuracy of a file, and data that do not fit it."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from paretrim.cli.images import _fits
from paretrim.data import load as loading
from paretrim.data.digits import load_digits
from paretrim.data.types import ImageSet
from paretrim.results import store
from paretrim.trimfile import read, write


def test_eval_gives_the_outcome_s_accuracy(finished, files, command, command_json):
    outcome = store.read(finished / "outcomes.jsonl")[2]
    status, found = command_json("eval", files["prune → quantize"], "--data", "digits")
    assert status == 0
    assert found["accuracy"]["value"] == outcome.deployed_value
    assert found["accuracy"]["low"] < outcome.deployed_value < found["accuracy"]["high"]
    assert (found["images"], found["file_bytes"]) == (360, outcome.file_bytes)
    status, out, _ = command("eval", files["dense"].with_name("model.trim"), "--data", "digits")
    assert status == 0
    assert "% of 360 test images of digits (Wilson 95 %" in out
    assert "in paretrim" in out


def test_eval_names_the_data_that_do_not_fit(command, files, monkeypatch):

    digits = load_digits()
    small = ImageSet(digits.test.images[:, :, :4, :4], digits.test.labels)
    train = ImageSet(digits.train.images[:, :, :4, :4], digits.train.labels)
    monkeypatch.setattr(loading, "load", lambda *_, **__: replace(digits, test=small, train=train, broken=("a.png",)))
    status, _, err = command("eval", files["dense"], "--data", "digits")
    assert status == 1
    assert "takes images (1, 8, 8), but those of 'digits' are (1, 4, 4); name the data that it was made for" in err
    assert "note: 1 image file cannot be read and was left out: a.png" in err


@pytest.mark.parametrize("name", ["eval", "bench"])
@pytest.mark.parametrize(
    ("options", "has"),
    [(["cifar10"], (3, 32, 32)), (["cifar100"], (3, 32, 32)), (["imagefolder:nowhere", "--image-size", "16"], (3, 16, 16))],
)
def test_data_that_cannot_fit_are_neither_downloaded_nor_read(command, files, monkeypatch, name, options, has):
    monkeypatch.setattr("paretrim.data.load.load", None)
    status, _, err = command(name, files["dense"], "--data", *options)
    assert status == 1
    assert f"takes images (1, 8, 8), but those of '{options[0]}' are {has}; name the data that it was made for" in err


def test_data_of_other_classes_are_not_read(command, files, monkeypatch, tmp_path):
    graph = read(files["dense"].with_name("model.trim"))
    write(dataclasses.replace(graph, classes=tuple(f"sign {name}" for name in graph.classes)), tmp_path / "a.trim")
    monkeypatch.setattr("paretrim.data.load.load", None)
    status, _, err = command("eval", tmp_path / "a.trim", "--data", "digits")
    assert status == 1
    assert "has 10 classes (sign 0, sign 1, sign 2, sign 3, sign 4, ...), but 'digits' has 10 classes (0, 1, 2" in err


def test_an_extent_that_a_file_leaves_open_fits_any():
    assert _fits((3, 32, 32), (3, 0, 0))
    assert not _fits((3, 32, 32), (1, 0, 0))
    assert not _fits((3, 32, 32), (0, 0))


@pytest.mark.parametrize("ending", [".trim", ".onnx", ".graph"])
def test_eval_refuses_other_classes(command, finished, monkeypatch, tmp_path, ending):

    file = tmp_path / f"net{ending}"
    assert command("export", finished, "--to", file)[0] == 0
    digits = load_digits()
    names = ("extra", *digits.classes[:-1])
    monkeypatch.setattr(loading, "load", lambda *_, **__: replace(digits, classes=names))
    status, _, err = command("eval", file, "--data", "digits")
    assert status == 1
    assert "has 10 classes (0, 1, 2, 3, 4, ...), but 'digits' has 10 classes (extra, 0, 1, 2, 3, ...)" in err


def test_eval_says_how_images_of_a_folder_fit(command, files, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        image.new("RGB", (16, 16)).save(tmp_path / place / "0.png")
    status, _, err = command("eval", files["dense"], "--data", f"imagefolder:{tmp_path}")
    assert status == 1
    assert "are (3, 16, 16); name the data that it was made for, or resize its images with --image-size 8" in err


def test_a_runtime_that_is_unknown(files, command):
    status, _, err = command("eval", files["dense"], "--data", "digits", "--runtime", "tensorrt")
    assert (status, "--runtime is 'tensorrt'; choose from paretrim, onnxruntime, openvino, reference" in err) == (2, True)


def test_classes_that_begin_alike_are_told_apart(command, files, monkeypatch, tmp_path):
    graph = read(files["dense"].with_name("model.trim"))
    write(dataclasses.replace(graph, classes=(*graph.classes[:-1], "nine\n10")), tmp_path / "a.trim")
    monkeypatch.setattr("paretrim.data.load.load", None)
    err = command("eval", tmp_path / "a.trim", "--data", "digits")[2]
    assert "and class 9 is 'nine\\n10' in one and '9' in the other; name data with the same classes" in err
    for to in (("a.onnx",), ("b.onnx", "--native", "1")):
        status, _, err = command("export", tmp_path / "a.trim", "--to", tmp_path / to[0], *to[1:])
        assert status == 1
        assert "class name 'nine\\n10' has a line break, and an ONNX file holds the names as lines; rename the class" in err


def test_an_onnx_file_that_leaves_extents_open_is_evaluated(command_json, files, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(files["dense"])
    for place, side in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        side.dim_param = "NCHW"[place]
    onnx.save(model, tmp_path / "open.onnx")
    found = [command_json("eval", file, "--data", "digits")[1] for file in (files["dense"], tmp_path / "open.onnx")]
    assert found[0]["accuracy"] == found[1]["accuracy"]


def test_a_task_that_does_not_fit_the_file_is_refused(files, command):
    status, _, err = command("eval", files["dense"], "--data", "digits", "--task", "regression")
    said = "the test images of digits have 1 labels for each image and the network returns 10 numbers; give the network as many"
    assert (status, said in err) == (1, True)


def test_a_foreign_file_of_fewer_classes_is_refused(files, command, tmp_path):
    """It names no classes, so that only its outputs tell."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(files["dense"])
    del model.metadata_props[:]
    (logits,) = model.graph.output
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.arange(5), "five"))
    model.graph.node.append(onnx.helper.make_node("Gather", [logits.name, "five"], ["few"], axis=1))
    few = onnx.helper.make_tensor_value_info("few", onnx.TensorProto.FLOAT, ["N", 5])
    del model.graph.output[:]
    model.graph.output.append(few)
    onnx.save(model, tmp_path / "few.onnx")
    status, _, err = command("eval", tmp_path / "few.onnx", "--data", "digits")
    assert (status, "the test images of digits have labels 0..9 and the network has 5 outputs (0..4)" in err) == (1, True)
