"""Messages and exit codes of unforeseen failures."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import save_file

from paretrim import trimfile
from paretrim.cli import main
from paretrim.errors import CorruptFile, InvalidRecipe, WeightsMismatch
from paretrim.graph.types import Graph, InputSpec, Node, ValueType
from paretrim.history import StageOutcome
from paretrim.trimfile import Provenance

SOURCE = Path(__file__).parents[2] / "src"
ESCAPE = "\x1b[2J\x1b]0;title\x07\u202e\x9b1m\nforged"


@pytest.fixture
def failing(monkeypatch, command):
    """Run a command whose work raises the error."""

    def give(error):
        # Raised in Python's own code, so that it is not taken for the user's.
        monkeypatch.setattr(importlib.import_module("paretrim.cli.main"), "_chosen", Mock(side_effect=error))
        return command("doctor")

    return give


def _network(name="fc"):
    flat = Node("flat", "flatten", ("images",), ValueType((4,), "float32"), {}, {}, "")
    weight = {"weight": np.ones((2, 4), np.float32), "bias": np.zeros(2, np.float32)}
    return Graph(
        InputSpec((1, 2, 2)), (flat, Node(name, "linear", ("flat",), ValueType((2,), "float32"), {}, weight, "")), (name,)
    )


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (
            KeyError("x"),
            1,
            "; this is a bug in Paretrim: please report it with the traceback that PARETRIM_TRACEBACK=1 in the",
        ),
        (RecursionError("too deep"), 1, "unexpected RecursionError: too deep (cli/main.py, line "),
        (MemoryError(), 1, "memory ran out (MemoryError); close other programs"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, "memory ran out (RuntimeError: DefaultCPU"),
        (
            PermissionError(13, "Permission denied", "a\x1bb"),
            1,
            "'a\ufffdb': Permission denied; check the path, its permissions and the free space on its disk",
        ),
        (OSError(28, "No space left on device"), 1, "error: No space left on device; check"),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: Broken pipe; check"),
        (SystemExit(0), 1, "code outside of Paretrim ended the program (SystemExit: 0); remove sys.exit from the network or its"),
        (CorruptFile("a\nparetrim: all is well"), 1, "error: a\n  paretrim: all is well\n"),
        (InvalidRecipe("r"), 2, "error: r\n"),
    ],
)
def test_any_failure_is_one_message_and_an_exit_code(failing, error, status, said):
    found, out, err = failing(error)
    assert (found, out) == (status, "")
    assert err.startswith("paretrim: error: ")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["run", "compress", "study", "quantize", "bench"])
def test_a_stopped_command_says_how_to_go_on(name, command, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    given = {
        "run": ["a.toml"],
        "study": ["a.toml"],
        "bench": ["a.trim"],
        "compress": ["--model", "resnet20", "--data", "digits"],
        "quantize": ["resnet20", "--data", "digits"],
    }[name]
    monkeypatch.setattr(importlib.import_module("paretrim.cli.main"), "_chosen", stopped)
    kept = "" if name == "bench" else f"; finished epochs and stages are kept. To resume: paretrim {' '.join([name, *given])}"
    assert command(name, *given) == (130, "", f"\nparetrim: stopped{kept}\n")


def test_own_code_that_fails_is_no_bug_of_ours(command, monkeypatch, tmp_path):
    """A score, loss, stage, grid, task or loader that a recipe names."""

    def failing_score(*_):
        return {}["weights"]

    monkeypatch.setattr(importlib.import_module("paretrim.cli.main"), "_chosen", failing_score)
    status, _, err = command("doctor")
    assert status == 1
    assert err.startswith("paretrim: error: your own code failed with KeyError: 'weights', in failing_score in line ")
    assert err.endswith(" of test_cli_failures.py; correct it (PARETRIM_TRACEBACK=1 in the environment shows the traceback)\n")
    (tmp_path / "own_score.py").write_text("import json\ndef score(network, resources):\n    return json.loads('{')\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_score")
    monkeypatch.setattr(importlib.import_module("paretrim.cli.main"), "_chosen", own.score)
    assert ", in score in line 3 of own_score.py; correct it" in command("doctor")[2]


def test_the_place_in_the_package_is_named(command, monkeypatch):
    monkeypatch.setattr("paretrim.bench.machine.doctor", lambda: None)
    assert "unexpected TypeError: unsupported operand" in (err := command("doctor")[2])
    assert "(cli/showing.py, line " in err


def test_the_traceback_is_shown_on_request(failing, monkeypatch):
    monkeypatch.setenv("PARETRIM_TRACEBACK", "1")
    for error in (KeyError("a\x1b"), WeightsMismatch("w")):
        err = failing(error)[2]
        assert "Traceback (most recent call last)" in err
        assert "raise effect" in err
        assert "\x1b" not in err


def _steers(text):
    return not all(one.isprintable() or one == "\n" for one in text)


def test_inspect_shows_no_escapes_of_a_file(command, tmp_path):
    stage = StageOutcome(ESCAPE, {}, 1, 1.0, 0.0, 32, 0.5, 0.5)
    known = Provenance(ESCAPE, (stage,), {ESCAPE: ESCAPE})
    trimfile.write(_network(), tmp_path / "net.trim", known)
    status, out, _ = command("inspect", tmp_path / "net.trim")
    assert status == 0
    assert "recipe \ufffd[2J" in out
    assert not _steers(out)
    assert not [line for line in out.splitlines() if line.startswith("forged")]
    status, out, _ = command("inspect", tmp_path / "net.trim", "--json")
    assert json.loads(out)["provenance"]["recipe"] == ESCAPE
    assert out.isascii()


@pytest.mark.parametrize("kind", [".onnx", ".safetensors"])
def test_no_command_shows_escapes_of_a_file_s_names(kind, command, tmp_path):
    file = tmp_path / f"net{kind}"
    if kind == ".onnx":
        onnx = pytest.importorskip("onnx")
        from onnx import helper, numpy_helper

        images = helper.make_tensor_value_info("images", 1, ["N", 4])
        weight = numpy_helper.from_array(np.ones((4, 2), np.float32), ESCAPE)
        node = helper.make_node("MatMul", ["images", ESCAPE], ["logits"])
        body = helper.make_graph([node], "g", [images], [helper.make_tensor_value_info("logits", 1, ["N", 2])], [weight])
        onnx.save(helper.make_model(body), file)
    else:
        file.write_bytes((60).to_bytes(8, "little") + json.dumps({ESCAPE: 1}).encode().ljust(60))
    _, out, err = command("inspect", file)
    assert out or err
    assert not _steers(out + err)


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("> /dev/full", 1, "standard output cannot be written: No space left on device; write to another file or disk"),
        (">&-", 1, "standard output cannot be written: Bad file descriptor"),
        ("2> /dev/full", 0, ""),
        ("2>&-", 0, ""),
        ("| true", 1, ""),
        ("> /dev/full 2>&-", 1, ""),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("arguments", ["inspect net.trim", "--help"])
def test_closed_streams(shell, status, said, arguments, tmp_path):
    trimfile.write(_network(), tmp_path / "net.trim")
    # The pipe is full before its reader goes away, so that the writing fails and not only the flush.
    line = f"set -o pipefail; {sys.executable} -m paretrim {arguments} {shell}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    if shell == "| true" and done.returncode == 0:
        pytest.skip("the reader ended after everything was written")
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") == (1 if said else 0)


def test_notes_that_cannot_be_written_stop_nothing(at_desk, monkeypatch, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("a device that is always full")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert main(["plan", "short.toml", "--json"]) == 0
        monkeypatch.undo()


def test_what_a_network_prints_is_not_among_the_results(at_desk, command_json, monkeypatch):
    text = (at_desk / "cli_tiny_network.py").read_text().replace("    return", "    print('loud factory')\n    return")
    (at_desk / "cli_loud_network.py").write_text("print('loud module')\n" + text)
    recipe = (at_desk / "short.toml").read_text().replace("cli_tiny_network", "cli_loud_network")
    (at_desk / "loud.toml").write_text(recipe)
    status, found = command_json("plan", "loud.toml")
    assert (status, found["epochs"]) == (0, 3)


@pytest.mark.parametrize("ending", [".onnx", ".trim", ".graph", ".safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_waited_for(ending, kind, command, tmp_path):
    file = tmp_path / f"net{ending}"
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    for given in (("inspect", file), ("export", file, "--to", tmp_path / "a.onnx"), ("eval", file, "--data", "digits")):
        status, out, err = command(*given)
        assert (status, out) in ((1, ""), (2, ""))
        assert "a pipe or a device" in err


def test_weights_are_no_candidate(command, tmp_path):
    save_file({"conv.weight": np.ones((2, 1, 3, 3), np.float32)}, tmp_path / "weights.safetensors")
    status, _, err = command("inspect", tmp_path / "weights.safetensors")
    assert status == 1
    assert "is a safetensors file that Paretrim did not write, such as the weights of a network; give a candidate" in err


def test_a_folder_without_a_run_is_named(command, tmp_path):
    status, _, err = command("export", tmp_path, "--to", tmp_path / "a.trim")
    assert (status, err) == (
        1,
        f"paretrim: error: '{tmp_path}' is no run folder: it has no index.json; name the folder of paretrim run or compress\n",
    )
