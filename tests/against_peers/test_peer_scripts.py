"""The files that peers get, and the scripts and environments that run them, without installing anything."""

import importlib
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from peer_results import module
from torch import nn

from paretrim.errors import MissingDependency
from paretrim.models.resnet_cifar import resnet20

# The scripts


def test_every_case_is_code_that_compiles_for_a_runtime_that_is_served_in_an_environment_with_pins():
    cases = module("peer_cases")
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
    for case in cases.CASES:
        if case.script:
            compile((cases.SCRIPTS / case.script).read_text(), case.script, "exec")
            assert case.user_lines >= 5
        assert case.runtime in module("serve").RUNTIMES
        assert case.environment in {cases.HERE, *cases.ENVIRONMENTS}
    assert all("==" in pin for pins in cases.ENVIRONMENTS.values() for pin in pins)


def test_lines_of_code_are_those_that_do_something():
    source = (
        '"""What it is.\n\nAt length."""\n\nimport a  # needed\n\n# why\ndef f():\n    "text"\n    return a(\n        1,\n    )\n'
    )
    assert module("peer_cases").code_lines(source) == 5  # import, def, and three of the call
    assert module("peer_cases").code_lines('x = """two\nlines"""\n') == 2


def test_the_network_of_the_scripts_is_the_one_that_is_handed_over(tmp_path):
    torch.manual_seed(0)
    network = resnet20(classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    safetensors = importlib.import_module("safetensors.torch")
    safetensors.save_file(network.state_dict(), tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(module("network").trained(str(tmp_path / "model.safetensors"))(images), network(images))


def test_the_training_of_the_scripts_augments_and_learns(tmp_path, monkeypatch):
    training = module("training")
    images = np.arange(256 * 3 * 32 * 32, dtype=np.uint64).reshape(256, 3, 32, 32) % 251
    np.savez(tmp_path / "training.npz", images=images.astype(np.uint8), labels=np.arange(256) % 3)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    given = training.Training()
    image, label = given[4]
    windows = given.images[4].unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    assert any(torch.equal(image, one) or torch.equal(image, one.flip(2)) for one in windows)
    assert (label, len(training.batches())) == (1, 2)
    network, teacher = nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), nn.Sequential(nn.Flatten(), nn.Linear(3072, 3))
    before = (network[1].weight.clone(), teacher[1].weight.clone())
    training.train(network, 1, teacher)
    assert not torch.equal(network[1].weight, before[0])
    assert torch.equal(teacher[1].weight, before[1])


# Handing over


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.linear = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 3)

    def forward(self, x):
        return self.linear(self.bn(self.conv(x)).relu().mean((2, 3)))


def test_a_peer_is_given_the_network_and_its_images_as_files(tmp_path):
    torch.manual_seed(0)
    network, images, labels = Tiny(), torch.randn(4, 1, 5, 5), torch.tensor([0, 1, 2, 1])
    network.bn.running_mean += 1  # something that only evaluation uses
    module("peer_files").hand_over(network, images, labels, tmp_path)
    given = np.load(tmp_path / "calibration.npz")
    assert (given["images"].tolist(), given["labels"].tolist()) == (images.tolist(), labels.tolist())
    weights = importlib.import_module("safetensors.torch").load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    module("serve").main("onnxruntime", str(tmp_path / "model.onnx"), "1", *save(tmp_path, images.numpy()))
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), network.eval()(images).numpy(), atol=1e-5)
    assert onnxruntime.InferenceSession(tmp_path / "model.onnx").get_inputs()[0].shape == [1, 1, 5, 5]


def save(folder, images):
    np.save(folder / "images.npy", images)
    return str(folder / "images.npy"), str(folder / "logits.npy")


def test_other_seeds_draw_other_images_and_none_twice():
    drawn = module("peer_files").drawn
    assert len(set(drawn(5000, 0).tolist())) == 512
    assert torch.equal(drawn(5000, 1), drawn(5000, 1))
    assert not torch.equal(drawn(5000, 0), drawn(5000, 1))


def test_images_are_normalized_by_channel():
    images = SimpleNamespace(images=torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1))
    assert module("peer_files").normalized(images, (0.5, 0.25), (0.5, 0.5)).flatten().tolist() == [-1.0, 1.5]


def test_the_server_says_how_long_an_image_took(tmp_path, monkeypatch, capsys):
    serve = module("serve")
    seen = []
    monkeypatch.setitem(serve.RUNTIMES, "fake", lambda path, threads: lambda image: seen.append((path, threads, image.item())))
    monkeypatch.setattr("sys.stdin", ["2\n", "0\n"])
    images, _ = save(tmp_path, np.array([5, 6, 7], np.float32).reshape(3, 1, 1, 1))
    serve.main("fake", "file", "1", images)
    assert seen == [("file", 1, 7.0), ("file", 1, 5.0)]
    assert all(int(word) >= 0 for word in capsys.readouterr().out.split())


# Environments


def test_a_peer_that_cannot_be_installed_is_named_with_the_reason_and_leaves_nothing(tmp_path, monkeypatch):
    environments = module("peer_environments")

    def run(command, stdout, **_):
        stdout.write("looking\nERROR: No matching distribution found for torchao==0.18.0\n")
        (tmp_path / "torchao").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=int("pip" in command))

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(
        MissingDependency, match=r"'torchao' \(torchao==0.18.0, .*No matching distribution.*torchao.log'; fix the"
    ):
        environments.interpreter("torchao", tmp_path)
    assert not (tmp_path / "torchao").exists()


def test_an_environment_with_the_same_pins_is_kept_and_with_others_is_made_anew(tmp_path, monkeypatch):
    environments = module("peer_environments")
    asked = []

    def run(command, **_):
        asked.append(command[1:3])
        (tmp_path / "nncf").mkdir(exist_ok=True)
        return SimpleNamespace(returncode=0, stdout='[{"name": "nncf", "version": "3.4.0"}, {"name": "rich", "version": "1"}]')

    monkeypatch.setattr(environments.subprocess, "run", run)
    python = environments.interpreter("nncf", tmp_path)
    assert python == tmp_path / "nncf" / "bin" / "python"
    assert asked == [["-m", "venv"], ["-m", "pip"], ["-m", "pip"]]  # made, installed, listed
    assert environments.versions_of("nncf", tmp_path) == {"nncf": "3.4.0"}
    assert environments.interpreter("nncf", tmp_path) == python
    assert len(asked) == 3
    monkeypatch.setattr(environments, "ENVIRONMENTS", {"nncf": ("nncf==3.5.0",)})
    environments.interpreter("nncf", tmp_path)
    assert len(asked) == 6


def test_processes_of_peers_do_not_see_the_python_of_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    given = module("peer_environments").variables(1)
    assert "PYTHONPATH" not in given
    assert given["OMP_NUM_THREADS"] == "1"
