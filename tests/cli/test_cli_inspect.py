"""``paretrim inspect``: the contents of one file, and the difference of two."""

import pytest

from paretrim.results import store


def test_inspect_counts_the_same_in_every_kind_of_file(files, command, command_json):
    file = files["prune → quantize"]
    graph = command_json("inspect", file.with_name("model.trim"))[1]
    weights = command_json("inspect", file)[1]
    convolutions = [layer for layer in weights["layers"] if len(layer["shape"]) == 4]
    assert [layer["zeros"] for layer in convolutions] == [layer["zeros"] for layer in graph["layers"][:2]]
    assert convolutions[1]["dtype"] == "int8"
    assert weights["file_bytes"] == file.stat().st_size
    out = command("inspect", file)[1]
    assert "16×8×3×3" in out
    assert "all weights" in out


def test_inspect_compares_two_files(files, finished, command, command_json):
    dense, small = files["dense"], files["prune → quantize"]
    status, found = command_json("inspect", "--compare", dense, small.with_name("model.trim"), "--data", "digits")
    assert status == 0
    outcomes = {one.label: one for one in store.read(finished / "outcomes.jsonl")}
    assert found["accuracy"] == [outcomes[label].deployed_value for label in ("dense", "prune → quantize")]
    assert found["images"] == 360
    assert found["kl"] > 0
    gained = len(found["better"]) - len(found["worse"])
    assert gained == round(360 * (found["accuracy"][1] - found["accuracy"][0]))
    assert sum(one["worse"] for one in found["classes"]) == len(found["worse"])
    status, out, _ = command("inspect", "--compare", dense, dense, "--data", "digits")
    assert status == 0
    assert "agreement 100.00 % of 360 test images, KL divergence 0.0000 nats" in out
    assert "worse: 0 images" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "inspect needs a file; name one, or two with --compare A B"), (("--compare", 0, 0), "needs test images; name them")],
)
def test_inspect_refuses_invalid_arguments(arguments, said, files, command):
    status, _, err = command("inspect", *(files["dense"] if one == 0 else one for one in arguments))
    assert status == 2
    assert said in err


def test_inspect_of_a_candidate(candidate, command_json):
    status, found = command_json("inspect", candidate)
    assert status == 0
    assert [layer["shape"] for layer in found["layers"]] == [[8, 1, 3, 3], [16, 8, 3, 3], [10, 256]]


def test_inspect_looks_inside_two_files(files, command, command_json, tmp_path):
    dense, small = files["dense"].with_name("model.trim"), files["prune → quantize"].with_name("model.trim")
    page = tmp_path / "page.html"
    status, found = command_json("inspect", "--compare", dense, small, "--data", "digits", "--out", page)
    assert status == 0
    inside = found["inside"]
    assert len(inside["grad_cam"]["images"]) == 256
    assert 0 <= inside["grad_cam"]["similarity"] <= 1
    assert inside["sweep"][0]["sparsity"] == 0
    assert inside["sweep"][0]["accuracy"][0] == pytest.approx(found["accuracy"][0], abs=0.1)
    assert {one["name"] for one in inside["weights"]} == {one["name"] for one in inside["activations"]}
    assert "Where they see the class" in page.read_text(encoding="utf-8")
    status, out, _ = command("inspect", "--compare", dense, dense, "--data", "digits", "--inside")
    assert status == 0
    assert "Grad-CAM: mean cosine similarity 1.000 of the maps of 256 images" in out
    status, _, err = command("inspect", "--compare", dense.with_name("model.onnx"), small, "--data", "digits", "--inside")
    assert status == 2
    assert "is not a .trim or .graph file; --inside needs gradients, which only these provide" in err


@pytest.mark.parametrize("name", ["inspect", "bench"])
def test_a_folder_in_place_of_a_file_is_told_which_file_to_name(finished, command, tmp_path, name):
    status, _, err = command(name, finished)
    assert (status, f"'{finished}' is a folder; name a file in it, such as {finished}/deployed/" in err) == (2, True)
    status, _, err = command(name, tmp_path)
    assert (status, "is a folder; export a file of a run folder with: paretrim export" in err) == (2, True)
