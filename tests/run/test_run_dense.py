"""Weights and [dense] together: training starts from the weights, in every command."""

import pytest
import small_network
import torch
from safetensors.torch import save_file

from paretrim import Budget, run_recipe
from paretrim.cli import main
from paretrim.run.pipeline import finished_dense
from paretrim.run.recipe import parse_recipe
from paretrim.run.start import start_from

STUDY = """
name = "small"
seeds = [0]
epochs = 0
arms = ["quantize"]
[base.model]
network = "small_network:make"
weights = "weights.safetensors"
[base.data]
name = "digits"
train_images = 64
[base.dense]
epochs = 1
learning_rate = 0.05
[stages.quantize]
"""
RECIPE = STUDY[STUDY.index("[base.model]") : STUDY.index("[stages")].replace("base.", "")


def by_run():
    return main(["run", "recipe.toml", "--folder", "run", "--effort", "none"])


def by_study():
    return main(["study", "study.toml", "--folder", "run", "--results", "results", "--effort", "none"])


def by_compress():
    training = ["--dense-epochs", "1", "--dense-learning-rate", "0.05", "--train-images", "64", "--epochs", "0"]
    model = ["--model", "small_network:make", "--weights", "weights.safetensors", "--data", "digits"]
    return main(["compress", *model, *training, "--int8", "--folder", "run", "--effort", "none"])


def by_api(recipe, folder):
    run_recipe(recipe, folder)


@pytest.mark.parametrize("caller", ["run", "study", "compress", "api"])
def test_the_dense_network_is_trained_from_its_weights(caller, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)
    module = small_network.make(classes=10, channels=1)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, "weights.safetensors")
    table = {
        "model": {"network": "small_network:make", "weights": "weights.safetensors"},
        "data": {"name": "digits", "train_images": 64},
    }
    recipe = parse_recipe({**table, "dense": {"epochs": 1, "learning_rate": 0.05}})
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    start, _ = start_from(recipe)
    assert finished_dense(start, recipe.dense, tmp_path / "run") is None
    {"run": by_run, "study": by_study, "compress": by_compress, "api": lambda: by_api(recipe, tmp_path / "run")}[caller]()
    # Found under a key of which the weights and the budget are a part.
    trained = finished_dense(start, recipe.dense, tmp_path / "run")
    assert trained.key() != start.key()
    assert finished_dense(start, Budget(epochs=2), tmp_path / "run") is None
