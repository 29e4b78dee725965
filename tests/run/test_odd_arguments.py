"""Arguments of another type are one typed error in every function of the Python API that takes a file, a folder or a recipe."""

import pytest
import torch
from torch import nn

import paretrim
from paretrim.errors import CorruptFile, InvalidRecipe, UnsupportedOperation

NO_PATHS = [None, 3, b"x.trim", ["x"], torch.zeros(2)]
TEXT = """
[model]
network = "lenet_5"

[data]
name = "digits"
"""


def evaluated(recipe, folder):
    with paretrim.evaluator(recipe, folder):
        pass


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(TEXT)
    return paretrim.read_recipe(str(path))


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_path(path):
    for read in (paretrim.network_from_file, paretrim.load_candidate):
        with pytest.raises(CorruptFile, match=r"the path is .*; give the path of a .* as a text or a Path"):
            read(path)
    with pytest.raises(InvalidRecipe, match=r"the path is .*; give the path of a TOML file as a text or a Path"):
        paretrim.read_recipe(path)


@pytest.mark.parametrize("name", ["", "nowhere", ".", "a" * 5000, "a\0b"])
def test_a_candidate_that_is_not_there(name, tmp_path):
    with pytest.raises(CorruptFile, match=r"cannot be read: .*; give the path of a candidate\.safetensors"):
        paretrim.load_candidate(tmp_path / name)


@pytest.mark.parametrize("function", [paretrim.run_recipe, evaluated])
def test_folders_and_recipes(function, recipe, tmp_path):
    for folder in NO_PATHS:
        with pytest.raises(InvalidRecipe, match=r"folder is .*; give a text or a Path"):
            function(recipe, folder)
    for other in ("recipe.toml", None, tmp_path):
        with pytest.raises(InvalidRecipe, match=r"the recipe is .*; give what paretrim\.read_recipe returns"):
            function(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("graph", [None, "x.trim", nn.Linear(2, 2)])
def test_what_is_no_graph_is_not_exported(graph, tmp_path):
    with pytest.raises(UnsupportedOperation, match=r"the graph is of type \w+; give a Graph, such as the \.graph of a result"):
        paretrim.export_onnx(graph, tmp_path / "a.onnx")
    with pytest.raises(CorruptFile, match="the path is None"):
        paretrim.export_onnx(graph, None)
