import json
import os
import re
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
import torch

from paretrim import trimfile
from paretrim.errors import UnsupportedOperation
from paretrim.graph.storage import to_bytes as plain_bytes
from paretrim.network.constraints import sparsity
from paretrim.network.network import Network
from paretrim.results.run_folder import delivered_by, graph_file_in, index_of
from paretrim.run.candidate import load_candidate

LABEL = "prune → quantize"


@pytest.fixture
def trim(finished, command, tmp_path):
    """The ``.trim`` file of the quantized candidate of the finished run."""
    path = tmp_path / "digits.trim"
    assert command("export", finished, "--label", LABEL, "--to", path)[0] == 0
    return path


def shipped(finished, label):
    return next(graph_file_in(finished / entry["folder"]) for entry in index_of(finished) if entry["label"] == label)


def test_export_holds_the_graph_and_where_it_comes_from(finished, trim):
    found = trimfile.open_file(trim)
    assert plain_bytes(found.graph) == plain_bytes(trimfile.read(shipped(finished, LABEL)))
    outcome = next(one for one in delivered_by(finished) if one.label == LABEL)
    assert found.provenance.recipe == outcome.recipe
    history = [asdict(replace(one, seconds=0.0)) for one in outcome.history]  # times stay out of files
    assert [asdict(one) for one in found.provenance.history] == json.loads(json.dumps(history))
    assert trim.read_bytes() == shipped(finished, LABEL).read_bytes()
    assert trim.stat().st_size < shipped(finished, LABEL).with_name("model.onnx").stat().st_size


@pytest.mark.parametrize(("name", "size"), [("a.trim", "trim_bytes"), ("a.onnx", "file_bytes")])
def test_an_exported_file_has_the_bytes_of_the_table(finished, command, tmp_path, name, size):
    for outcome in delivered_by(finished):
        assert command("export", finished, "--label", outcome.label, "--to", tmp_path / name)[0] == 0
        assert (tmp_path / name).stat().st_size == getattr(outcome, size)


def test_inspect_shows_every_layer_and_record(trim, command, command_json):
    status, found = command_json("inspect", trim)
    assert status == 0
    assert found["file_bytes"] == trim.stat().st_size == sum(found["records"].values())
    assert {"name", "shape", "format", "zeros", "bits_per_weight", "bytes", "share"} <= set(found["layers"][0])
    status, out, _ = command("inspect", trim)
    assert status == 0
    assert re.search(r"^zeros: 5\d\.\d % of the prunable weights, 1\d\.\d % of all$", out, re.MULTILINE)
    for text in ("bits/weight", "all weights", "header", "record 0 (structure)", "complete and undamaged", "prune → quantize"):
        assert text in out


def test_inspect_of_a_candidate_gives_both_shares_of_zeros(finished, command):
    half = 0
    for path in finished.glob("stages/*/candidate.safetensors"):
        zeros = sparsity(load_candidate(path).network)
        line = command("inspect", path)[1].splitlines()[-1]
        both = re.fullmatch(r"zeros: (\S+) % of the prunable weights, (\S+) % of all", line)
        if zeros:
            assert both is not None
            assert both[2] == f"{100 * zeros:.1f}"
            half += 50 <= float(both[1]) < 60
    assert half >= 2


def test_eval_and_bench_run_the_file(finished, trim, command_json):
    outcome = next(one for one in delivered_by(finished) if one.label == LABEL)
    status, found = command_json("eval", trim, "--data", "digits", "--runtime", "paretrim")
    assert status == 0
    assert found["accuracy"]["value"] == pytest.approx(outcome.deployed_value, abs=1 / 360)
    status, reference = command_json("eval", trim, "--data", "digits", "--runtime", "reference")
    assert reference["correct"] == found["correct"]


def test_back_to_onnx_and_to_graph(finished, trim, command, tmp_path):
    for name in ("back.onnx", "back.graph", "again.trim"):
        assert command("export", trim, "--to", tmp_path / name)[0] == 0
    onnx.checker.check_model(onnx.load(tmp_path / "back.onnx"))
    original = shipped(finished, LABEL)
    assert (tmp_path / "back.onnx").read_bytes() == original.with_name("model.onnx").read_bytes()
    assert (tmp_path / "back.graph").read_bytes() == plain_bytes(trimfile.read(original))
    assert (tmp_path / "again.trim").read_bytes() == trim.read_bytes()


def test_a_float_network_comes_back_as_a_torch_module_bit_for_bit(finished, command, tmp_path):
    assert command("export", finished, "--label", "dense", "--to", tmp_path / "dense.trim")[0] == 0
    graph = trimfile.read(tmp_path / "dense.trim")
    for node in Network(graph).graph().nodes:
        stored = next(one for one in trimfile.read(shipped(finished, "dense")).nodes if one.name == node.name)
        for name, tensor in node.tensors.items():
            assert np.asarray(tensor).tobytes() == stored.tensors[name].tobytes()
    with pytest.raises(UnsupportedOperation, match=r"node 'normalized_images' .* is 'normalize', which no float graph holds"):
        Network(graph)(torch.zeros(1, 1, 8, 8))


def test_damaged_files_and_wrong_names_are_told(trim, command, tmp_path):
    damaged = tmp_path / "damaged.trim"
    content = bytearray(trim.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    status, _, err = command("inspect", damaged)
    assert status == 1
    assert "record 3 (weights 0): its SHA-256 does not match" in err
    status, _, err = command("export", trim, "--to", tmp_path / "a.zip")
    assert status == 2
    assert "it must end in .onnx, .trim or .graph" in err


def test_the_native_runtime_as_an_onnx_file(finished, trim, command, command_json, tmp_path):
    path = tmp_path / "native.onnx"
    status, found = command_json("export", finished, "--label", LABEL, "--to", path, "--native", 1)
    assert (status, found["file_bytes"], found["takes_pixels"]) == (0, path.stat().st_size, True)
    (node,) = onnx.load(path).graph.node
    assert {one.name: one.s or one.i for one in node.attribute} == {"file": trim.read_bytes(), "threads": 1}
    assert command("export", trim, "--to", tmp_path / "again.onnx", "--native", 1)[0] == 0
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()

    _, here = command_json("eval", path, "--data", "digits")
    _, native = command_json("eval", trim, "--data", "digits", "--runtime", "paretrim")
    assert (here["runtime"], here["correct"]) == ("onnxruntime", native["correct"])
    _, weights = command_json("inspect", path)
    command("export", trim, "--to", tmp_path / "same.graph")
    _, same = command_json("inspect", tmp_path / "same.graph")
    assert weights["layers"] == same["layers"]


def test_the_native_runtime_takes_no_other_file(finished, trim, command, tmp_path):
    for name in ("a.trim", "a.graph"):
        status, _, err = command("export", trim, "--to", tmp_path / name, "--native", 2)
        assert (status, "--native writes an ONNX file, and" in err) == (2, True)
    status, _, err = command("export", trim, "--to", tmp_path / "a.onnx", "--native", 2, "--int4", 32)
    assert (status, "--native holds the .trim file as it is, so --int4 would have no effect" in err) == (2, True)
    status, _, err = command("export", trim, "--to", tmp_path / "a.onnx", "--native", 99999)
    assert (status, "threads is 99999; it must be a whole number from 1 to 1024" in err) == (1, True)
    assert command("export", finished, "--label", "dense", "--to", tmp_path / "floats.onnx", "--native", 1)[0] == 0
    assert command("export", trim, "--to", tmp_path / "a.onnx", "--native", 1)[0] == 0
    model = onnx.load(tmp_path / "a.onnx")
    del model.graph.node[0].attribute[:]
    onnx.save(model, tmp_path / "a.onnx")
    status, _, err = command("inspect", tmp_path / "a.onnx")
    assert (status, "a.onnx'" in err) == (1, True)


@pytest.mark.parametrize(
    "options",
    [["inspect"], ["eval", "--data", "digits"], ["export", "--to", "copy.onnx"], ["bench", "--layers"], ["bench"]],
    ids=["inspect", "eval", "export", "layers", "bench"],
)
def test_a_file_that_takes_more_than_is_usual_is_opened_with_a_limit(trim, command, tmp_path, monkeypatch, options):
    monkeypatch.setenv("PARETRIM_LIMIT", "1e-9")
    monkeypatch.chdir(tmp_path)
    name, *rest = options
    if options == ["bench"]:
        rest += ["--effort", "quick"]
    status, _, err = command(name, trim, *rest)
    assert status == 1
    assert "if you trust the file, give --limit 1, or set PARETRIM_LIMIT=1\n" in err
    assert command(name, trim, *rest, "--limit", "1")[0] == 0
    assert os.environ["PARETRIM_LIMIT"] == "1e-9"
