import copy
import inspect
import re
from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import paretrim
import paretrim.runtime
from paretrim.cli import main
from paretrim.cli.reading import described
from paretrim.errors import InvalidRecipe
from paretrim.network.network import Network
from paretrim.run.own import LoaderOptions


def test_five_lines_take_a_module_to_a_file(own, tmp_path, capsys):
    module, train, validation = own
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    stages = [
        paretrim.Prune(sparsity=0.5, last=True, budget=paretrim.Budget(epochs=1)),
        paretrim.Quantize(budget=paretrim.Budget(epochs=1)),
    ]
    result = paretrim.compress(module, train, validation, stages=stages, folder=tmp_path / "run")
    path = result.save(tmp_path / "net.onnx")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "prune: epoch 1/1, loss " in printed.err
    assert "quantize done: validation accuracy " in printed.err

    assert all((tensor == before[name]).all() for name, tensor in module.state_dict().items())
    assert [stage.name for stage in result.history] == ["prune", "quantize"]
    assert result.history[-1].sparsity > 0.45
    assert result.graph.quantized
    images = next(iter(validation))[0].numpy()
    logits = paretrim.open_runnable(path, runtime="onnxruntime")(images)
    shipped = result.network(next(iter(validation))[0]).argmax(1).numpy()
    assert np.mean(logits.argmax(1) == shipped) >= 0.98

    said = repr(result)
    assert said.startswith("CompressedNetwork(prune → quantize, validation accuracy ")
    assert re.search(r"zeros: \d+\.\d % of the prunable weights, \d+\.\d % of all, ", said)
    assert len(said) < 400
    nothing = paretrim.compress(module, train, validation, stages=(), folder=tmp_path / "run")
    assert repr(nothing).startswith(f"CompressedNetwork({nothing.deployed.trim.stat().st_size:,} bytes in '")

    again = paretrim.compress(module, train, validation, stages=stages, folder=tmp_path / "run")
    assert again.history == result.history  # seconds and all: nothing was trained again
    assert f"2 of 2 stages are taken up from '{tmp_path / 'run'}'" in capsys.readouterr().err.replace("\n", "")
    assert again.save(tmp_path / "net.graph").stat().st_size > 0
    session = paretrim.runtime.load(again.save(tmp_path / "net.trim"))
    np.testing.assert_array_equal(session(images), paretrim.open_runnable(tmp_path / "net.graph", runtime="reference")(images))
    assert (tmp_path / "net.trim").read_bytes() == again.deployed.trim.read_bytes()


def test_without_stages_the_usual_three(own, tmp_path, capsys):
    module, train, validation = own
    ticks = []
    result = paretrim.compress(module, train, validation, folder=tmp_path, report=ticks.append)
    assert capsys.readouterr().err == ""
    assert [(stage.name, stage.epochs) for stage in result.history] == [("prune", 2), ("quantize", 4), ("distill", 4)]
    assert {tick.stage for tick in ticks} == {"prune", "quantize", "distill"}
    with pytest.raises(InvalidRecipe, match=r"net\.pt' ends in '\.pt'; it must end in \.onnx, \.trim or \.graph"):
        result.save(tmp_path / "net.pt")
    for wrong in (None, 3, b"net.trim"):
        with pytest.raises(InvalidRecipe, match=r"the path is .*; give a text or a Path that ends in \.onnx, \.trim or \.graph"):
            result.save(wrong)


@pytest.mark.parametrize("wrong", ["prune", paretrim.Prune, paretrim.Budget(), None])
def test_values_that_are_no_stages_are_refused(own, tmp_path, wrong):
    with pytest.raises(InvalidRecipe, match=r"stages holds .*; it must hold stages, such as paretrim\.Prune\(sparsity=0\.8\)"):
        paretrim.compress(*own, stages=[wrong], folder=tmp_path)


def test_a_report_that_cannot_be_called(own, tmp_path):
    with pytest.raises(InvalidRecipe, match=r"report is 3; give a function of the progress, or leave it out"):
        paretrim.compress(*own, folder=tmp_path, report=3)


@pytest.mark.parametrize("wrong", [3, "prune", paretrim.Prune(), {"stage": "prune"}, iter(())])
def test_stages_that_are_no_list(own, tmp_path, wrong):
    with pytest.raises(
        InvalidRecipe, match=r"stages is .*; give a list or a tuple, such as \(paretrim\.Prune\(sparsity=0\.8\),\)"
    ):
        paretrim.compress(*own, stages=wrong, folder=tmp_path)


@pytest.mark.parametrize("wrong", [None, 3, b"runs"])
def test_a_folder_that_is_no_path(own, wrong):
    with pytest.raises(InvalidRecipe, match=r"folder is .*; give a text or a Path"):
        paretrim.compress(*own, stages=[], folder=wrong)


def test_int8_in_one_line(own, tmp_path):
    result = paretrim.to_int8(*own, folder=tmp_path)
    (stage,) = result.history
    assert (stage.name, stage.epochs, stage.bits) == ("quantize", 0, 8)
    assert result.graph.quantized


def test_options_are_the_keywords_of_start_from_loaders(own, tmp_path):
    named = inspect.signature(paretrim.start_from_loaders, eval_str=True).parameters.values()
    keywords = {parameter.name: parameter.annotation for parameter in named if parameter.kind is parameter.KEYWORD_ONLY}
    assert get_type_hints(LoaderOptions) == keywords
    assert paretrim.to_int8(*own, folder=tmp_path / "named", classes=list("abcdefghij")).graph.classes == tuple("abcdefghij")
    with pytest.raises(TypeError, match="unexpected keyword argument 'sed'"):
        paretrim.to_int8(*own, folder=tmp_path / "misspelt", sed=1)
    assert not (tmp_path / "misspelt").exists()


def test_the_files_keep_the_normalisation_of_the_loaders(own, tmp_path, capsys):
    plain = paretrim.to_int8(*own, folder=tmp_path)
    stored = next((tmp_path / "stages").glob("*/candidate.safetensors"))
    assert described(plain.deployed.trim).std == paretrim.load_candidate(stored).std == ()
    kept = paretrim.to_int8(*own, folder=tmp_path, mean=[0.5], std=torch.ones(1))
    assert kept.history == plain.history  # nothing was done again
    assert (kept.candidate.mean, kept.candidate.std) == ((0.5,), (1.0,))
    assert paretrim.load_candidate(stored).mean == (0.5,)
    capsys.readouterr()
    for name in ("net.trim", "net.onnx"):
        known = described(kept.save(tmp_path / name))
        assert (known.pixels, known.mean, known.std) == (False, (0.5,), (1.0,))
        assert main(["eval", str(tmp_path / name), "--data", "digits"]) == 0
        assert "images were normalised with mean 0.5 and std 1, kept in the file" in capsys.readouterr().out
    again = paretrim.to_int8(*own, folder=tmp_path, report=lambda _: None)
    assert again.deployed.trim == plain.deployed.trim
    assert described(again.deployed.delivered_onnx()).std == ()


def test_the_files_keep_the_size_the_loaders_resize_to(own, tmp_path):
    kept = paretrim.to_int8(*own, folder=tmp_path, resize=10)
    stored = next((tmp_path / "stages").glob("*/candidate.safetensors"))
    assert paretrim.load_candidate(stored).resize == 10
    for name in ("net.trim", "net.onnx"):
        assert described(kept.save(tmp_path / name)).resize == 10
    for wrong in (7, 8.5, "10"):
        with pytest.raises(
            InvalidRecipe, match=r"resize is .* and the images of the loaders have a side of 8; give the short side"
        ):
            paretrim.compress(*own, folder=tmp_path, resize=wrong)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.5], (), "mean has 1 numbers and std 0; both need one per channel"),
        ([0.5] * 3, [0.2] * 3, "mean and std have 3 numbers, but the images of the loaders have 1 channels"),
        ([127.5], [58.0], r"seem to be in units of pixels from 0 to 255; .* divide them by 255"),
        (0.5, [0.2], r"mean is 0\.5 and std is \[0\.2\]; give a list of numbers, one per channel"),
        ([0.5], [0.0], r"std is \(0\.0,\); every deviation must be above 0"),
    ],
)
def test_a_normalisation_that_does_not_fit_the_loaders(own, tmp_path, mean, std, message):
    with pytest.raises(InvalidRecipe, match=message):
        paretrim.compress(*own, folder=tmp_path, mean=mean, std=std)


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        wide = 4 * inputs
        self.body = nn.Sequential(
            *(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def random_mobilenet():
    torch.manual_seed(0)
    parts = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), Inverted(8, 12, 1), Inverted(12, 12, 1)
    return nn.Sequential(*parts, Inverted(12, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


@pytest.mark.parametrize("bits", [8, None])
def test_the_network_of_a_result_is_the_file(bits, tmp_path):
    """With random weights all classes are nearly tied: whatever is not the file shows in its classes."""
    random = torch.Generator().manual_seed(1)
    images, labels = torch.randn(64, 3, 16, 16, generator=random), torch.arange(64) % 10
    loader = DataLoader(TensorDataset(images, labels), 32)
    stages = () if bits is None else (paretrim.Quantize(budget=paretrim.Budget(epochs=0)),)
    result = paretrim.compress(random_mobilenet(), loader, loader, stages=stages, folder=tmp_path, report=lambda _: None)
    assert not result.network.training
    with torch.no_grad():
        found = result.network(images).numpy()
    if bits is None:
        expected = paretrim.open_runnable(result.deployed.onnx, runtime="onnxruntime")(images.numpy())
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    else:
        expected = paretrim.runtime.load(result.deployed.trim, measure=False)(images.numpy())
        np.testing.assert_array_equal(found, expected)
    assert isinstance(result.trainable, Network)
    assert result.trainable is result.candidate.network
    assert result.network is result.network


@pytest.mark.parametrize("grid", ["float16", "bfloat16", "float32"])
def test_the_network_of_float_layers_beside_integers_is_the_file(grid, tmp_path):
    random = torch.Generator().manual_seed(1)
    images, labels = torch.randn(64, 3, 16, 16, generator=random), torch.arange(64) % 10
    loader = DataLoader(TensorDataset(images, labels), 32)
    formats = {"0": paretrim.Format(grid=grid), "[45].*": paretrim.Format(grid=grid), "8": paretrim.Format(grid=grid)}
    stage = paretrim.Quantize(budget=paretrim.Budget(epochs=0), formats=formats)
    result = paretrim.compress(random_mobilenet(), loader, loader, stages=[stage], folder=tmp_path, report=lambda _: None)
    operations = [node.op for node in result.graph.nodes]
    assert operations.count("quantize") > 1
    assert "clamp" in operations
    found = copy.deepcopy(result.network)(images).numpy()
    expected = paretrim.runtime.load(result.deployed.trim, measure=False)(images.numpy())
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"weight_bits": 4},
        *({"formats": {"*": paretrim.Format(grid=grid)}} for grid in ("float16", "bfloat16", "codebook", "ternary")),
    ],
    ids=str,
)
def test_the_network_of_quantized_weights_is_the_file(settings, tmp_path):
    random = torch.Generator().manual_seed(1)
    images, labels = torch.randn(64, 3, 16, 16, generator=random), torch.arange(64) % 10
    loader = DataLoader(TensorDataset(images, labels), 32)
    stage = paretrim.Quantize(budget=paretrim.Budget(epochs=0), activations="float32", **settings)
    result = paretrim.compress(random_mobilenet(), loader, loader, stages=[stage], folder=tmp_path, report=lambda _: None)
    with torch.no_grad():
        found = result.network(images).numpy()
    expected = paretrim.runtime.load(result.deployed.trim, measure=False)(images.numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
