"""Options that would have no effect are rejected by name."""

import pytest

from paretrim.cli.parser import build_parser
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.trimfile import write

BY_THE_RECIPE = "would have no effect: the recipe sets it; change it there, or use --model and --data instead of a recipe"


@pytest.mark.parametrize("name", ["plan", "sensitivity", "outliers"])
@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--weights", "w.pt"], "--weights"),
        (["--data", "digits"], "--data"),
        (["--epochs", "3"], "--epochs"),
        (["--max-drop", "2"], "--max-drop"),
        (["--mean", "0", "--std", "1"], "--mean, --std"),
        (["--int8"], "--candidates"),
    ],
)
def test_a_recipe_is_not_given_what_it_says_itself(name, options, named, at_desk, command):
    status, _, err = command(name, "short.toml", *options)
    assert (status, err) == (2, f"paretrim: error: {named} {BY_THE_RECIPE}\n")


@pytest.mark.parametrize(
    ("command_and_options", "said"),
    [
        (
            ["sensitivity", "--max-drop", "2"],
            "--max-drop would have no effect: sensitivity examines the dense network; leave it out",
        ),
        (["outliers", "--epochs", "3"], "--epochs would have no effect: outliers examines the dense network; leave it out"),
        (
            ["outliers", "--calibrator", "kl", "--percentile", "99"],
            "--percentile would have no effect: --calibrator is kl; leave",
        ),
        (
            ["sensitivity", "--dense-learning-rate", "0.2"],
            "--dense-learning-rate would have no effect: no dense network is trained;",
        ),
        (
            ["compress", "--epochs", "0", "--learning-rate", "0.1"],
            "--learning-rate would have no effect: with --epochs 0 nothing is trained; leave it out, or give epochs",
        ),
        (["compress", "--int8", "--epochs", "3"], "--epochs would have no effect: INT8 without training trains nothing;"),
        (
            ["compress", "--candidates", "int8", "--learning-rate", "0.1", "--batch-size", "8"],
            "--learning-rate, --batch-size would have no effect: INT8 without training",
        ),
        (
            ["plan", "--int8", "--dense-epochs", "1", "--batch-size", "8", "--learning-rate", "0.1"],
            "--learning-rate would have no effect: INT8 without training",
        ),
        (
            ["compress", "--effort", "none", "--threads", "2"],
            "--threads would have no effect: no latency is measured with --effort none; choose another effort",
        ),
        (
            ["compress", "--dense-learning-rate", "0.2"],
            "--dense-learning-rate would have no effect: no dense network is trained;",
        ),
    ],
)
def test_a_named_network_is_given_no_option_to_no_effect(command_and_options, said, at_desk, command):
    name, *options = command_and_options
    status, _, err = command(name, "--model", "cli_tiny_network:make", "--data", "digits", *options)
    assert (status, said in err) == (2, True)


@pytest.fixture
def trim(tmp_path):
    node = Node("flatten", "flatten", (INPUT,), ValueType((16,)), {}, {}, "")
    write(Graph(InputSpec((1, 4, 4)), (node,), ("flatten",)), tmp_path / "a.trim")
    return tmp_path / "a.trim"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["inspect", "FILE", "--inside"], "--inside would have no effect: it is only for --compare A B"),
        (["inspect", "FILE", "--out", "a.html"], "--out would have no effect: it is only for --compare A B"),
        (["inspect", "FILE", "--data", "digits"], "--data would have no effect: it is only for --compare A B"),
        (["inspect", "FILE", "--compare", "FILE", "FILE"], "is a third file beside the two of --compare"),
        (["inspect", "--compare", "FILE", "FILE", "--at", "a"], "--at 'a' is for Grad-CAM, which needs --inside"),
        (
            ["inspect", "--compare", "FILE", "FILE", "--inside", *["--at", "a"] * 3],
            "--at is given 3 times; give it once for both files, or once for each of them",
        ),
        (["bench", "FILE", "--layers", "--raw", "a.npz"], "--raw would have no effect: --layers times one image on one thread"),
        (["bench", "FILE", "--layers", "--batch", "4"], "--batch would have no effect: --layers times one image"),
        (["bench", "FILE", "--layers", "--runtime", "openvino"], "--runtime would have no effect: --layers times one image"),
        (
            ["export", "FILE", "--to", "a.onnx", "--mean", "1", "--std", "0"],
            "--mean and --std are for a single candidate; the input of '",
        ),
        (["export", "FILE", "--to", "a.trim", "--mean", "0", "--std", "1"], "a.trim' cannot be changed"),
    ],
)
def test_a_file_is_not_given_what_is_for_others(given, said, trim, command, monkeypatch):
    monkeypatch.chdir(trim.parent)
    status, _, err = command(*(trim if one == "FILE" else one for one in given))
    assert status == 2
    assert said in err
    assert [one.name for one in trim.parent.iterdir()] == ["a.trim"]


@pytest.mark.parametrize("runtime", ["paretrim", "nosuch"])
def test_runtimes_are_checked_also_where_no_latency_is_measured(runtime, at_desk, command):
    status, _, err = command("run", "short.toml", "--folder", "never", "--effort", "none", "--runtimes", runtime)
    assert status == 2
    said = "would have no effect: no latency is measured with --effort none" if runtime == "paretrim" else "names 'nosuch'"
    assert f"--runtimes {said}" in err


def test_steps_of_adaround_need_adaround(at_desk, command):
    status, _, err = command("quantize", "cli_tiny_network:make", "--data", "digits", "--rounding-steps", "5")
    assert (status, err) == (
        2,
        "paretrim: error: --rounding-steps would have no effect: it is for adaround; add --adjust adaround\n",
    )


@pytest.mark.parametrize("given", [["run", ""], ["run", "a.toml", "--folder", ""], ["export", "a.trim", "--to", ""]])
def test_an_empty_path_is_no_folder(given, capsys):
    with pytest.raises(SystemExit):
        build_parser(given).parse_args(given)
    assert "'' is an empty path; name a file or folder" in capsys.readouterr().err
