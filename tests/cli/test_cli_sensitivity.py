"""The command ``sensitivity``."""

import json
from pathlib import Path

import pytest

import paretrim
from paretrim.curves import sensitivity_of
from paretrim.errors import InvalidRecipe


def test_the_scan_of_a_finished_run_is_kept_and_shown(at_desk, finished, command, command_json):
    status, found = command_json("sensitivity", "short.toml", "--folder", finished)
    assert status == 0
    scans = [sensitivity_of(scan) for scan in found["scans"]]
    assert [scan.pattern for scan in scans] == ["unstructured", "1x4", "channel"]
    assert [len(scan.curves) for scan in scans] == [3, 3, 2]
    assert scans[0].images == 72  # of 144 for validation, half, as there are 64 for calibration
    assert json.loads((finished / "sensitivity.json").read_text()) == found["scans"]
    assert 'id="sensitivity"' in (finished / "report.html").read_text()
    assert command("report", finished)[0] == 0
    assert 'id="sensitivity"' in (finished / "report.html").read_text()


def test_a_table_and_a_picture_without_a_run(at_desk, command, tmp_path):
    figure = tmp_path / "scan.svg"
    arguments = ("--model", "cli_tiny_network:make", "--data", "digits", "--calibration-images", 40, "--patterns", "channel")
    status, out, _ = command("sensitivity", *arguments, "--score", "l1", "--folder", tmp_path / "new", "--figure", figure)
    assert status == 0
    assert "channel, by l1: accuracy" in out
    assert f"figure: {figure}" in out
    assert "for a plot" not in out
    assert Path(figure).read_text(encoding="utf-8").startswith("<svg")
    assert sorted(path.name for path in (tmp_path / "new").glob("*.html")) == []


def test_a_network_without_removable_channels_is_said_to_have_none(at_desk, command, tmp_path):
    Path("cli_only_layer.py").write_text(
        "from torch import nn\n\ndef make(classes, channels):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64, classes))\n"
    )
    arguments = ("--model", "cli_only_layer:make", "--data", "digits", "--calibration-images", 40, "--patterns", "channel")
    status, out, _ = command("sensitivity", *arguments, "--folder", tmp_path / "new", "--figure", tmp_path / "scan.svg")
    assert status == 0
    assert "none of the channels of this network can be removed" in out
    assert "layer" not in out.splitlines()[2]
    assert "None of the channels of this network can be removed." in (tmp_path / "scan.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "sensitivity needs either a recipe file, or --model and --data as for compress"),
        (("--model", "resnet20"), "sensitivity with --model needs --data too; name digits, cifar10, cifar100 or imagefolder:DIR"),
        (("short.toml", "--patterns", "2:4"), "pattern '2:4' cannot be scanned; choose from unstructured, 1x4, channel"),
        (("short.toml", "--patterns", "1x4", "--score", "l1"), "prune: score 'l1' is for whole channels; set pattern to"),
    ],
)
def test_arguments_that_do_not_fit(arguments, said, at_desk, command, tmp_path):
    status, _, error = command("sensitivity", *arguments, "--folder", tmp_path / "f")
    assert status == 2
    assert said in error


def test_python_refuses_patterns_alike():
    with pytest.raises(InvalidRecipe, match="pattern 'rows' cannot be scanned; choose from unstructured, 1x4, channel"):
        paretrim.sensitivity(None, patterns=("rows",))
