import dataclasses
import json
import sys

import numpy as np
import onnx
import pytest
import torch

from paretrim.bench.raw import load_session
from paretrim.cli.images import _fits
from paretrim.data.digits import load_digits
from paretrim.deploy.runnable import open_runnable
from paretrim.results import store
from paretrim.results.run_folder import index_of
from paretrim.runtime import instruction_sets
from paretrim.trimfile import read, write


@pytest.fixture(scope="session")
def files(finished):
    """The ``.onnx`` files of the finished run by label."""
    return {entry["label"]: finished / entry["folder"] / "model.onnx" for entry in index_of(finished)}


@pytest.fixture(scope="session")
def candidate(finished):
    return next((finished / "stages").glob("*/candidate.safetensors"))


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
    assert "takes float32 images [1, 8, 8]; only files with the same input compare" in err


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


def test_eval_normalises_for_a_file_that_takes_floats(candidate, command, command_json, tmp_path):
    data = load_digits()
    mean, std = (",".join(map(str, values)) for values in (data.mean, data.std))
    command("export", candidate, "--to", tmp_path / "floats.onnx")
    command("export", candidate, "--to", tmp_path / "pixels.onnx", f"--mean={mean}", f"--std={std}")
    floats = command_json("eval", tmp_path / "floats.onnx", "--data", "digits")[1]
    pixels = command_json("eval", tmp_path / "pixels.onnx", "--data", "digits")[1]
    assert floats["accuracy"] == pixels["accuracy"]
    assert floats["accuracy"]["value"] > 0.2


MEAN, STD = (0.3,), (0.25,)


@pytest.fixture
def other(candidate, tmp_path):
    """A candidate whose images were normalised otherwise than the data set's own way."""
    from dataclasses import replace

    from paretrim.run.candidate import load_candidate, save_candidate

    path = tmp_path / "other.safetensors"
    save_candidate(replace(load_candidate(candidate), mean=MEAN, std=STD), path)
    return path


@pytest.fixture
def photos(tmp_path):
    """A folder of images of several sizes, in as many classes as digits has."""
    image = pytest.importorskip("PIL.Image")
    stream = np.random.default_rng(0)
    for part in ("train", "test"):
        for label in map(str, range(10)):
            place = tmp_path / "photos" / part / label
            place.mkdir(parents=True)
            image.fromarray(stream.integers(0, 256, (20, 31, 3), np.uint8)).save(place / "a.png")
    return f"imagefolder:{tmp_path / 'photos'}"


@pytest.fixture
def resized(tmp_path):
    """A candidate for colour images of 8 pixels that were cut out of images with a short side of 10."""
    from paretrim.capture import capture
    from paretrim.network.network import Network
    from paretrim.run.candidate import Candidate, save_candidate

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
    network = Network(capture(module, (3, 8, 8), classes=tuple(map(str, range(10)))))
    path = tmp_path / "resized.safetensors"
    save_candidate(Candidate(network, mean=(0.5,) * 3, std=(0.25,) * 3, resize=10), path)
    return path


@pytest.mark.parametrize("options", [(), ("--mean=0.5,0.5,0.5", "--std=0.25,0.25,0.25")])
@pytest.mark.parametrize("ending", [".trim", ".onnx"])
def test_files_keep_how_images_are_resized(resized, photos, options, ending, command, command_json, tmp_path):
    """Whether they take pixels or floats; without it, images would have become 224 pixels large, or wider views of 8."""
    file = tmp_path / f"a{ending}"
    assert command("export", resized, "--to", file, *options)[0] == 0
    status, found = command_json("eval", file, "--data", photos)
    assert (status, found["resize"]) == (0, 10)
    same = command("eval", file, "--data", photos, "--image-size", 8, "--resize", 10)
    assert "; short sides were resized to 10; " in same[1]
    for other in (("--image-size", 9), ("--image-size", 8, "--resize", 8), ("--resize", 9)):
        status, _, err = command("eval", file, "--data", photos, *other)
        assert status == 2
        assert "whose short side was resized to 10 and whose centre of 8 pixels was cut out, and --image-size and --resize" in err
    if ending == ".trim":
        command("export", file, "--to", tmp_path / "b.onnx")
        assert command_json("eval", tmp_path / "b.onnx", "--data", photos)[1]["resize"] == 10


def test_a_file_that_does_not_know_is_given_sizes(resized, photos, command, command_json, tmp_path):
    from dataclasses import replace

    from paretrim.run.candidate import load_candidate, save_candidate

    save_candidate(replace(load_candidate(resized), resize=0), tmp_path / "older.safetensors")
    command("export", tmp_path / "older.safetensors", "--to", tmp_path / "a.onnx")
    found = command_json("eval", tmp_path / "a.onnx", "--data", photos, "--image-size", 8, "--resize", 9)[1]
    assert found["resize"] == 9
    assert "resize its images with --image-size 8" in command("eval", tmp_path / "a.onnx", "--data", photos)[2]


@pytest.mark.parametrize("ending", [".trim", ".onnx"])
def test_a_file_of_floats_keeps_what_its_images_were_normalised_with(other, ending, command, command_json, tmp_path):
    file = tmp_path / f"floats{ending}"
    assert command("export", other, "--to", file)[0] == 0
    status, found = command_json("eval", file, "--data", "digits")
    assert status == 0
    assert found["normalisation"] == {"source": "kept in the file", "mean": [0.3], "std": [0.25]}
    command("export", other, "--to", tmp_path / "pixels.onnx", "--mean=0.3", "--std=0.25")
    assert found["accuracy"] == command_json("eval", tmp_path / "pixels.onnx", "--data", "digits")[1]["accuracy"]
    out = command("eval", file, "--data", "digits", "--mean=0.3", "--std=0.25")[1]
    assert "; images were normalised with mean 0.3 and std 0.25, kept in the file\n" in out
    status, _, err = command("eval", file, "--data", "digits", "--mean=0.5", "--std=0.25")
    assert status == 2
    assert "was made for images normalised with mean 0.3 and std 0.25, and --mean and --std are others; leave them out" in err


def test_what_a_trim_file_keeps_goes_into_the_onnx_file_made_of_it(other, command, command_json, tmp_path):
    command("export", other, "--to", tmp_path / "a.trim")
    command("export", tmp_path / "a.trim", "--to", tmp_path / "b.onnx")
    assert command_json("eval", tmp_path / "b.onnx", "--data", "digits")[1]["normalisation"]["mean"] == [0.3]


def test_candidates_of_a_run_know_their_normalisation(candidate, command, tmp_path):
    command("export", candidate, "--to", tmp_path / "a.trim")
    data = load_digits()
    out = command("eval", tmp_path / "a.trim", "--data", "digits")[1]
    assert f"normalised with mean {data.mean[0]:.4g} and std {data.std[0]:.4g}, kept in the file" in out


def test_eval_says_that_a_file_does_not_say(candidate, command, command_json, tmp_path):
    from dataclasses import replace

    from paretrim.run.candidate import load_candidate, save_candidate

    save_candidate(replace(load_candidate(candidate), mean=(), std=()), tmp_path / "older.safetensors")
    command("export", tmp_path / "older.safetensors", "--to", tmp_path / "a.onnx")
    out = command("eval", tmp_path / "a.onnx", "--data", "digits")[1]
    assert "the default of the data 'digits'; the file does not say which it wants, so give --mean and --std if it" in out
    found = command_json("eval", tmp_path / "a.onnx", "--data", "digits", "--mean=0.3", "--std=0.25")[1]
    assert found["normalisation"]["source"] == "from the command line"


def test_eval_refuses_a_normalisation_that_a_file_of_pixels_would_not_use(files, command):
    trim = files["dense"].with_name("model.trim")
    data = load_digits()
    own = f"--mean={data.mean[0]!r}", f"--std={data.std[0]!r}"
    status, out, _ = command("eval", trim, "--data", "digits", *own)
    assert status == 0
    assert f"; pixels went in, and the file normalises them itself with mean {data.mean[0]:.4g} and std" in out
    for file, options in ((trim, ("--mean=0.5", "--std=0.5")), (files["dense"], own)):
        status, _, err = command("eval", file, "--data", "digits", *options)
        assert status == 2
        assert "takes pixels and normalises them itself" in err
        assert "leave out --mean and --std" in err


@pytest.mark.parametrize("kept", ["-3", "ten", "1" * 12])
def test_a_size_that_is_none_is_refused(resized, command, tmp_path, kept):
    command("export", resized, "--to", tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    next(one for one in model.metadata_props if one.key == "resize").value = kept
    onnx.save(model, tmp_path / "a.onnx")
    status, _, err = command("eval", tmp_path / "a.onnx", "--data", "digits")
    assert status == 1
    assert f"keeps '{kept}' as its resize; it must be a whole number of pixels" in err


@pytest.mark.parametrize("kept", ["a,b", "0.1,,x"])
def test_a_normalisation_that_is_none_is_refused(other, command, tmp_path, kept):
    command("export", other, "--to", tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    next(one for one in model.metadata_props if one.key == "mean").value = kept
    onnx.save(model, tmp_path / "a.onnx")
    status, _, err = command("eval", tmp_path / "a.onnx", "--data", "digits")
    assert status == 1
    assert f"keeps '{kept}' as its mean or std; it must be numbers separated by commas" in err


def test_eval_names_the_data_that_do_not_fit(command, files, monkeypatch):
    from dataclasses import replace

    from paretrim.data import load as loading
    from paretrim.data.types import ImageSet

    digits = load_digits()
    small = ImageSet(digits.test.images[:, :, :4, :4], digits.test.labels)
    train = ImageSet(digits.train.images[:, :, :4, :4], digits.train.labels)
    monkeypatch.setattr(loading, "load", lambda *_, **__: replace(digits, test=small, train=train, broken=("a.png",)))
    status, _, err = command("eval", files["dense"], "--data", "digits")
    assert status == 1
    assert "takes images (1, 8, 8) and 'digits' has (1, 4, 4); name the data it was made for" in err
    assert "note: 1 image files cannot be read and were left out: a.png" in err


@pytest.mark.parametrize("name", ["eval", "bench"])
@pytest.mark.parametrize(
    ("options", "has"),
    [(["cifar10"], (3, 32, 32)), (["cifar100"], (3, 32, 32)), (["imagefolder:nowhere", "--image-size", "16"], (3, 16, 16))],
)
def test_data_that_cannot_fit_are_neither_downloaded_nor_read(command, files, monkeypatch, name, options, has):
    monkeypatch.setattr("paretrim.data.load.load", None)
    status, _, err = command(name, files["dense"], "--data", *options)
    assert status == 1
    assert f"takes images (1, 8, 8) and '{options[0]}' has {has}; name the data it was made for" in err


def test_data_of_other_classes_are_not_read(command, files, monkeypatch, tmp_path):
    graph = read(files["dense"].with_name("model.trim"))
    write(dataclasses.replace(graph, classes=tuple(f"sign {name}" for name in graph.classes)), tmp_path / "a.trim")
    monkeypatch.setattr("paretrim.data.load.load", None)
    status, _, err = command("eval", tmp_path / "a.trim", "--data", "digits")
    assert status == 1
    assert "tells 10 classes (sign 0, sign 1, sign 2, sign 3, sign 4, ...) apart and 'digits' has 10 classes (0, 1, 2" in err


def test_an_extent_that_a_file_leaves_open_fits_any():
    assert _fits((3, 32, 32), (3, 0, 0))
    assert not _fits((3, 32, 32), (1, 0, 0))
    assert not _fits((3, 32, 32), (0, 0))


@pytest.mark.parametrize("ending", [".trim", ".onnx", ".graph"])
def test_eval_refuses_other_classes(command, finished, monkeypatch, tmp_path, ending):
    from dataclasses import replace

    from paretrim.data import load as loading

    file = tmp_path / f"net{ending}"
    assert command("export", finished, "--to", file)[0] == 0
    digits = load_digits()
    names = ("extra", *digits.classes[:-1])
    monkeypatch.setattr(loading, "load", lambda *_, **__: replace(digits, classes=names))
    status, _, err = command("eval", file, "--data", "digits")
    assert status == 1
    assert "tells 10 classes (0, 1, 2, 3, 4, ...) apart and 'digits' has 10 classes (extra, 0, 1, 2, 3, ...)" in err


def test_eval_says_how_images_of_a_folder_fit(command, files, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        image.new("RGB", (16, 16)).save(tmp_path / place / "0.png")
    status, _, err = command("eval", files["dense"], "--data", f"imagefolder:{tmp_path}")
    assert status == 1
    assert "has (3, 16, 16); name the data it was made for, or resize its images with --image-size 8" in err


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
        (["RUN", "--mean", "0.5"], "--mean and --std are for a lone candidate"),
        (["CANDIDATE", "--label", "dense"], "--label 'dense' chooses among the candidates of a run folder"),
        (["CANDIDATE", "--mean", "0.5"], "--mean and --std belong together; give both or neither"),
        (["CANDIDATE", "--mean", "0.5,0.5", "--std", "1,1"], "--mean has 2 and --std 2 numbers; the network takes 1 channels"),
        (["FILE"], "is deployed already; give a candidate.safetensors, a .trim or .graph file or a run folder"),
        (["RUN", "--to", "net.tflite"], "'net.tflite' ends in '.tflite'; name a file that ends in .onnx, .trim or .graph"),
        (["runs/none"], "there is no file or folder 'runs/none'; check the path"),
        (["notes.txt"], "'notes.txt' ends in '.txt'; give an .onnx, .trim or .graph file, or a candidate.safetensors"),
    ],
)
def test_exports_that_cannot_be(arguments, said, finished, files, candidate, command, tmp_path):
    known = {"RUN": finished, "CANDIDATE": candidate, "FILE": files["dense"]}
    given = [known.get(argument, argument) for argument in arguments]
    status, _, err = command("export", "--to", tmp_path / "out.onnx", *given)
    assert status == 2
    assert said in err


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
def test_inspect_says_what_it_lacks(arguments, said, files, command):
    status, _, err = command("inspect", *(files["dense"] if one == 0 else one for one in arguments))
    assert status == 2
    assert said in err


def test_inspect_of_a_candidate(candidate, command_json):
    status, found = command_json("inspect", candidate)
    assert status == 0
    assert [layer["shape"] for layer in found["layers"]] == [[8, 1, 3, 3], [16, 8, 3, 3], [10, 256]]


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


def test_files_that_are_not_what_they_should_be(command, candidate, tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("no protobuf at all")
    (tmp_path / "empty.onnx").write_bytes(onnx.ModelProto().SerializeToString())
    assert "text.onnx' is no ONNX file (" in command("inspect", tmp_path / "text.onnx")[2]
    assert "empty.onnx' is no ONNX file with an input; export it again" in command("inspect", tmp_path / "empty.onnx")[2]
    status, _, err = command("bench", candidate)
    assert (status, "is a candidate and not deployed; write its file with: paretrim export" in err) == (2, True)
    status, _, err = command("eval", tmp_path / "empty.onnx", "--data", "digits", "--runtime", "tensorrt")
    assert status == 1  # the file is looked at first
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert (
        "reading ONNX files needs the package onnx; install it with: pip install onnx"
        in command("inspect", tmp_path / "text.onnx")[2]
    )


def test_a_runtime_that_is_unknown(files, command):
    status, _, err = command("eval", files["dense"], "--data", "digits", "--runtime", "tensorrt")
    assert (status, "--runtime is 'tensorrt'; choose from paretrim, onnxruntime, openvino, reference" in err) == (2, True)


def test_report_of_a_folder_and_of_a_store(finished, command, command_json, tmp_path):
    status, out, _ = command("report", finished, "--out", tmp_path / "page.html", "--title", "Of mine")
    assert status == 0
    assert "prune → quantize" in out
    assert "<title>Of mine</title>" in (tmp_path / "page.html").read_text()
    status, found = command_json("report", finished / "outcomes.jsonl")
    assert status == 0
    assert found["report"] is None


def test_a_table_where_its_signs_cannot_be_written(finished, launch, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = launch("report", finished, "--out", tmp_path / "page.html")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "prune ? quantize" in out


def test_a_report_made_again_keeps_its_title_and_the_command(at_desk, command, tmp_path):
    folder = tmp_path / "run"
    assert command("run", "short.toml", "--folder", folder, "--effort", "none")[0] == 0
    first = (folder / "report.html").read_text()
    assert "<title>cli_tiny_network:make on digits</title>" in first
    assert f"<pre><code>paretrim run short.toml --folder {folder} --effort none</code></pre>" in first
    (folder / "report.html").unlink()
    assert command("report", folder)[0] == 0
    assert (folder / "report.html").read_text() == first
    (folder / "reproduce.json").write_text("{}")
    status, _, err = command("report", folder)
    assert (status, "reproduce.json' cannot be read (dict, not a list); delete it, or run the command" in err) == (1, True)
    (folder / "reproduce.json").unlink()  # a folder of an earlier version
    assert command("report", folder)[0] == 0
    assert "<pre><code>" not in (folder / "report.html").read_text()


def test_folders_without_outcomes_say_what_to_do(command, tmp_path):
    (tmp_path / "stages").mkdir()
    for given in (("report", tmp_path), ("export", tmp_path, "--to", tmp_path / "a.onnx")):
        status, _, err = command(*given)
        assert (status, "has no outcomes yet: the run in it is not finished; give its command again" in err) == (1, True)
    file = tmp_path / "deployed" / "0123" / "model.onnx"
    file.parent.mkdir(parents=True)
    file.write_text("")
    for given in (("report", tmp_path), ("export", tmp_path, "--to", tmp_path / "a.onnx")):
        status, _, err = command(*given)
        assert status == 1
        assert "paretrim.compress() made it from Python, which sees no test images" in err
        assert f"the newest file is '{file}'" in err


def test_report_of_nothing(command, tmp_path):
    status, _, err = command("report", tmp_path)
    assert status == 1
    assert "holds no outcomes: there is no file '" in err
    (tmp_path / "outcomes.jsonl").write_text("")
    (tmp_path / "index.json").write_text("[{}]")
    status, _, err = command("report", tmp_path)
    assert status == 1
    assert "run the command that made the folder again to write it" in err


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
    assert "is no .trim or .graph file; --inside needs gradients, which only these give back" in err
