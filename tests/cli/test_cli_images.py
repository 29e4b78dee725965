"""The preprocessing stored in a file (mean, standard deviation, size) and its use in ``paretrim eval``."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from paretrim.capture import capture
from paretrim.data.digits import load_digits
from paretrim.network.network import Network
from paretrim.run.candidate import Candidate, load_candidate, save_candidate
from paretrim.visible import brief


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
    """A candidate trained with another normalisation than the data set's."""
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
    """A candidate for colour images of 8 pixels, cropped from images with a short side of 10."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10))
    network = Network(capture(module, (3, 8, 8), classes=tuple(map(str, range(10)))))
    path = tmp_path / "resized.safetensors"
    save_candidate(Candidate(network, mean=(0.5,) * 3, std=(0.25,) * 3, resize=10), path)
    return path


@pytest.mark.parametrize("options", [(), ("--mean=0.5,0.5,0.5", "--std=0.25,0.25,0.25")])
@pytest.mark.parametrize("ending", [".trim", ".onnx"])
def test_files_keep_how_images_are_resized(resized, photos, options, ending, command, command_json, tmp_path):
    """Whether they take pixels or floats; without it, images would be resized to 224 pixels, or to a wider view of 8."""
    file = tmp_path / f"a{ending}"
    assert command("export", resized, "--to", file, *options)[0] == 0
    status, found = command_json("eval", file, "--data", photos)
    assert (status, found["resize"]) == (0, 10)
    same = command("eval", file, "--data", photos, "--image-size", 8, "--resize", 10)
    assert "; short sides were resized to 10; " in same[1]
    for other in (("--image-size", 9), ("--image-size", 8, "--resize", 8), ("--resize", 9)):
        status, _, err = command("eval", file, "--data", photos, *other)
        assert status == 2
        assert "made for images resized to 10 pixels on the short side and cropped to 8; --image-size and --resize differ" in err
    if ending == ".trim":
        command("export", file, "--to", tmp_path / "b.onnx")
        assert command_json("eval", tmp_path / "b.onnx", "--data", photos)[1]["resize"] == 10


def test_a_file_that_does_not_know_is_given_sizes(resized, photos, command, command_json, tmp_path):

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
    assert "was made for images normalised with mean 0.3 and std 0.25; --mean and --std differ, so leave them out" in err


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

    save_candidate(replace(load_candidate(candidate), mean=(), std=()), tmp_path / "older.safetensors")
    command("export", tmp_path / "older.safetensors", "--to", tmp_path / "a.onnx")
    out = command("eval", tmp_path / "a.onnx", "--data", "digits")[1]
    assert "the default of the data 'digits'; the file does not store its own, so give --mean and --std if it" in out
    found = command_json("eval", tmp_path / "a.onnx", "--data", "digits", "--mean=0.3", "--std=0.25")[1]
    assert found["normalisation"]["source"] == "from the command line"


def test_eval_refuses_a_normalisation_that_a_file_of_pixels_would_not_use(files, command):
    trim = files["dense"].with_name("model.trim")
    data = load_digits()
    own = f"--mean={data.mean[0]!r}", f"--std={data.std[0]!r}"
    status, out, _ = command("eval", trim, "--data", "digits", *own)
    assert status == 0
    assert f"; the file takes pixels and normalises them itself with mean {data.mean[0]:.4g} and std" in out
    status, out, _ = command("eval", files["dense"], "--data", "digits", *own)
    assert status == 0
    assert f"; the file takes pixels and normalises them itself with mean {data.mean[0]:.4g} and std" in out
    for file in (trim, files["dense"]):
        options = ("--mean=0.5", "--std=0.5")
        status, _, err = command("eval", file, "--data", "digits", *options)
        assert status == 2
        assert "takes pixels and normalises them itself" in err
        assert "leave out --mean and --std" in err


def test_a_file_of_pixels_that_does_not_store_its_normalisation_says_so(files, command, tmp_path):
    """As those of earlier versions."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(files["dense"])
    kept = [one for one in model.metadata_props if one.key not in ("mean", "std")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "old.onnx")
    status, out, _ = command("eval", tmp_path / "old.onnx", "--data", "digits")
    assert status == 0
    assert "; the file takes pixels and normalises them itself; it does not store with which mean and std\n" in out


def with_metadata(file, name, value):
    """Write another value into an entry of an ONNX file's metadata."""
    model = onnx.load(file)
    next(one for one in model.metadata_props if one.key == name).value = value
    onnx.save(model, file)


@pytest.mark.parametrize("kept", ["-3", "ten", "1" * 12, "1" * 5000])
def test_a_size_that_is_none_is_refused(resized, command, tmp_path, kept):
    command("export", resized, "--to", tmp_path / "a.onnx")
    with_metadata(tmp_path / "a.onnx", "resize", kept)
    status, _, err = command("eval", tmp_path / "a.onnx", "--data", "digits")
    assert status == 1
    assert f"has {brief(kept)} as its resize; it must be a whole number of pixels" in err


@pytest.mark.parametrize("kept", ["a,b", "0.1,,x"])
def test_a_normalisation_that_is_none_is_refused(other, command, tmp_path, kept):
    command("export", other, "--to", tmp_path / "a.onnx")
    with_metadata(tmp_path / "a.onnx", "mean", kept)
    status, _, err = command("eval", tmp_path / "a.onnx", "--data", "digits")
    assert status == 1
    assert f"has '{kept}' as its mean or std; it must be numbers separated by commas" in err
