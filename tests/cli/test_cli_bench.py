"""``paretrim bench``: comparison of files, and the layers of one file."""

import pytest

from paretrim.bench.raw import load_session
from paretrim.trimfile import read


def test_bench_compares_files_with_random_pixels(files, command_json, tmp_path):
    raw = tmp_path / "raw.npz"
    status, found = command_json(
        "bench", files["prune → quantize"], "--baseline", files["dense"], "--effort", "quick", "--raw", raw
    )
    assert status == 0
    assert list(found["files"].values()) == [str(files["dense"]), str(files["prune → quantize"])]
    assert [latency["baseline"] for latency in found["latencies"]] == [found["baseline"]] * 2
    assert found["latencies"][0]["speedup"]["value"] == 1.0
    assert found["latencies"][1]["p50_ms"]["low"] <= found["latencies"][1]["p50_ms"]["value"]
    assert len(load_session(raw).timings) == 2


def test_bench_refuses_files_with_other_inputs(files, candidate, command, tmp_path):
    assert command("export", candidate, "--to", tmp_path / "floats.onnx")[0] == 0
    status, _, err = command("bench", files["dense"], tmp_path / "floats.onnx", "--effort", "quick")
    assert status == 2
    assert "takes uint8 pixels [1, 8, 8] and '" in err
    assert "takes float32 images [1, 8, 8]; compare files with the same input" in err


def test_bench_times_a_trim_file_natively_and_in_the_reference(files, command_json):
    graph = files["prune → quantize"].with_name("model.trim")
    status, found = command_json("bench", files["dense"], graph, "--effort", "quick")
    assert status == 0
    assert [latency["runtime"] for latency in found["latencies"]] == ["onnxruntime", "paretrim"]
    status, found = command_json("bench", graph, "--runtime", "reference", "--effort", "quick")
    assert [latency["runtime"] for latency in found["latencies"]] == ["reference"]


def test_bench_shows_the_layers_of_a_file(files, command, command_json):
    file = files["prune → quantize"].with_name("model.trim")
    status, found = command_json("bench", "--layers", file)
    assert status == 0
    weighted = [layer for layer in found["layers"] if layer["weights"]]
    assert [layer["weights"] for layer in weighted] == [
        node.tensors["weight"].size for node in read(file).nodes if "weight" in node.tensors
    ]
    for layer in weighted:
        seconds = layer["time_ns"] / 1e9
        assert layer["share_of_peak"] * found["peak_multiply_adds_a_second"] * seconds == pytest.approx(
            layer["issued_multiply_adds"]
        )
        assert layer["useful_multiply_adds_a_second"] * seconds == pytest.approx(layer["useful_multiply_adds"])
        assert layer["zeros"] > 0
    status, out, _ = command("bench", "--layers", file)
    assert status == 0
    assert all(layer["layer"] in out for layer in weighted)
    assert "of the peak" in out


def test_bench_shows_the_layers_of_one_integer_graph_alone(files, command):
    graph = files["dense"].with_name("model.trim")
    assert command("bench", "--layers", graph, graph)[0] == 2
