import re

import pytest

from paretrim import trimfile
from paretrim.cli.quantizing import _written
from paretrim.errors import ExportMismatch
from paretrim.run.judge import DeployedFiles

DATA = ("--data", "digits", "--calibration-images", "64")


def test_one_line_makes_int8_files(at_desk, command, tmp_path):
    made = tmp_path / "made"
    status, out, err = command("quantize", "cli_tiny_network:make", *DATA, "--folder", made, "--out", tmp_path / "tiny.trim")
    assert status == 0
    # It has random weights.
    assert "warning: on 360 test images the dense network is not shown to be better than guessing among 10 classes" in err
    (lost,) = re.findall(r"^test: accuracy (?:drops|rises) by .*$", out, re.MULTILINE)
    page = (made / "report.html").read_text()
    assert re.findall(r"<dt>chosen</dt><dd>(.*?)</dd>", page) == ["INT8 (int8.trim)"]
    assert lost in page
    for file in (made / "int8.trim", tmp_path / "tiny.trim", made / "int8.onnx"):
        assert f"wrote {file}: {file.stat().st_size:,} bytes\n" in out
    assert (made / "int8.trim").read_bytes() == (tmp_path / "tiny.trim").read_bytes()
    graph = trimfile.read(tmp_path / "tiny.trim")
    assert graph.quantized
    assert graph.input.takes_pixels


def test_what_is_done_without_training(at_desk, command_json, tmp_path):
    options = ("--weight-bits", "4", "--adjust", "equalize,adaround", "--rounding-steps", "7")
    status, found = command_json("quantize", "cli_tiny_network:make", *DATA, "--folder", tmp_path / "run", *options)
    assert status == 0
    (stage,) = found["outcomes"][1]["settings"]["stages"]
    assert (stage["adjust"], stage["rounding_steps"]) == (["equalize", "adaround"], 7)


def test_options_of_the_stage_and_what_it_costs(at_desk, command_json, tmp_path):
    status, found = command_json(
        "quantize", "cli_tiny_network:make", *DATA, "--folder", tmp_path / "run", "--weight-bits", "7", "--rate", "0.001"
    )
    assert status == 0
    dense, int8 = found["outcomes"]
    assert (dense["label"], int8["label"]) == ("dense", "INT8, 7 bits per weight")
    (stage,) = int8["settings"]["stages"]
    assert (stage["weight_bits"], stage["rate"], stage["budget"]["epochs"]) == (7, 0.001, 0)
    assert int8["settings"]["calibration_images"] == 64
    drop = found["test_drop"]
    assert drop["value"] == pytest.approx(dense["deployed_value"] - int8["deployed_value"])
    assert drop["low"] <= drop["value"] <= drop["high"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["resnet20"],
            "network 'resnet20' is not trained; give its --weights FILE, or train it first with: paretrim compress --int8",
        ),
        (["a.trim"], "network 'a.trim' is a file; the network itself is needed, as a torch module that can be trained"),
        (["cli_tiny_network:make", "--out", "x.bin"], "--out is 'x.bin'; name a file that ends in .trim or .onnx"),
        (
            ["cli_tiny_network:make", "--adjust", "polish"],
            "adjust names 'polish'; choose from equalize, smooth, batchnorm, bias,",
        ),
        (["cli_tiny_network:make", "--weight-bits", "9"], "weight_bits is 9: input should be less than or equal to 8"),
    ],
)
def test_invalid_options(options, said, at_desk, command, tmp_path):
    status, out, err = command("quantize", *options, *DATA, "--folder", tmp_path / "run")
    assert (status, out) == (2, "")
    assert said in err


def test_an_onnx_file_that_is_wanted_and_not_there_is_an_error(tmp_path):
    trim = tmp_path / "model.trim"
    trim.write_bytes(b"file")
    (tmp_path / "int8.onnx").write_bytes(b"old")
    files = DeployedFiles(None, None, trim, "it has no words for this")
    assert _written(files, tmp_path, tmp_path / "out.trim") == [tmp_path / "int8.trim", tmp_path / "out.trim"]
    assert not (tmp_path / "int8.onnx").exists()
    with pytest.raises(
        ExportMismatch, match=r"no ONNX file to write to '.*out\.onnx': it has no words for this; .*int8\.trim is"
    ):
        _written(files, tmp_path, tmp_path / "out.onnx")


def test_weights_of_16_bits(at_desk, command, tmp_path):
    run = tmp_path / "run"
    status, out, _ = command("quantize", "cli_tiny_network:make", *DATA, "--folder", run, "--format", "float16")
    assert status == 0
    assert f"wrote {run / 'float16.trim'}: " in out
    assert {layer.format for layer in trimfile.inspect(run / "float16.trim").layers} == {"float16"}
    assert (run / "float16.onnx").is_file()
    status, _, err = command("quantize", "cli_tiny_network:make", *DATA, "--format", "bfloat16", "--weight-bits", "4")
    assert status == 2
    assert "--weight-bits is 4, but --format bfloat16 has 16; leave one of them out" in err
