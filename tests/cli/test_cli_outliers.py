"""The command ``outliers``."""

import pytest

from paretrim.stages.quantize.outliers import BINS


def test_tensors_come_as_a_table_and_as_data(at_desk, finished, command, command_json):
    status, found = command_json("outliers", "short.toml", "--folder", finished)
    assert status == 0
    weights = [one for one in found["tensors"] if one["kind"] == "weight"]
    assert len(weights) < len(found["tensors"])
    assert all(len(one["before"]) == BINS for one in found["tensors"])
    status, out, _ = command("outliers", "short.toml", "--folder", finished, "--percentile", "99")
    assert status == 0
    assert "kurtosis" in out
    assert all(one["name"] in out for one in weights)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "outliers needs either a recipe file, or --model and --data as for compress"),
        (("--model", "resnet20"), "outliers with --model needs --data too"),
        (
            ("--model", "resnet20", "--data", "digits", "--calibrator", "eye"),
            "calibrator 'eye' is unknown; choose one of",
        ),
        (("--model", "resnet20", "--data", "digits", "--percentile", "40"), "percentile is 40.0; give a number above 50"),
    ],
)
def test_what_cannot_be_studied_is_refused(arguments, said, at_desk, command):
    status, _, error = command("outliers", *arguments)
    assert status == 2
    assert said in error
