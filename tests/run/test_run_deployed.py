"""The files of a candidate: what is written, what is in it, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from paretrim import trimfile
from paretrim.data.load import load
from paretrim.deploy import onnx_check
from paretrim.errors import CorruptFile, ExportMismatch
from paretrim.graph import interpreter
from paretrim.graph.storage import save
from paretrim.results.run_folder import graph_file_in, index_of
from paretrim.results.timing import RuntimeSetting, deployments_of
from paretrim.run import judge
from paretrim.run.candidate import Candidate
from paretrim.run.judge import deploy
from paretrim.run.pipeline import run_stages
from paretrim.run.run import run_recipe
from paretrim.run.start import start_from
from paretrim.runtime import plan
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stages")


@pytest.fixture
def start(recipe):
    return start_from(recipe, load(recipe.data))[0]


@pytest.fixture
def dense(start):
    return Candidate(start.network)


@pytest.fixture
def quantized(start, folder):
    return run_stages(start, [Quantize(budget=Budget(epochs=0))], folder)[-1]


def test_a_float_and_an_integer_network_have_the_same_two_files(start, dense, quantized, tmp_path):
    for name, candidate in (("dense", dense), ("int8", quantized)):
        deployed = deploy(candidate, start, tmp_path / name, recipe="0123")
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["model.onnx", "model.onnx.sha256", "model.trim"]
        found = trimfile.open_file(deployed.trim)
        assert found.graph.quantized == (name == "int8")
        assert found.provenance.recipe == "0123"
        assert found.provenance.history == tuple(replace(stage, seconds=0.0) for stage in candidate.history)


def test_how_long_it_took_is_not_in_the_file(start, quantized, tmp_path):
    (stage,) = quantized.history
    slower = replace(quantized, history=(replace(stage, seconds=stage.seconds + 1),))
    first, second = (deploy(one, start, tmp_path / str(i)) for i, one in enumerate((quantized, slower)))
    assert first.trim.read_bytes() == second.trim.read_bytes()
    worse = replace(quantized, history=(replace(stage, value_after=0.0),))
    assert deploy(worse, start, tmp_path / "other").trim.read_bytes() != first.trim.read_bytes()


def test_files_that_are_there_are_used_again(start, quantized, tmp_path):
    first = deploy(quantized, start, tmp_path)
    times = [path.stat().st_mtime_ns for path in (first.onnx, first.trim)]
    second = deploy(quantized, start, tmp_path)
    assert [path.stat().st_mtime_ns for path in (second.onnx, second.trim)] == times
    assert second.graph.output == first.graph.output


@pytest.mark.parametrize("name", ["model.onnx", "model.trim"])
@pytest.mark.parametrize(
    "damaged", [lambda content: b"", lambda content: content[:-9], lambda content: content[:-9] + b"!" + content[-8:]]
)
def test_damaged_files_are_written_again(start, quantized, tmp_path, name, damaged):
    first = deploy(quantized, start, tmp_path)
    whole = [path.read_bytes() for path in (first.onnx, first.trim)]
    (tmp_path / name).write_bytes(damaged((tmp_path / name).read_bytes()))
    second = deploy(quantized, start, tmp_path)
    assert [path.read_bytes() for path in (second.onnx, second.trim)] == whole
    assert second.onnx_problem is None


@pytest.mark.parametrize("digest", [None, b"", b"0" * 64, b"\xff"])
def test_a_file_whose_digest_is_missing_or_damaged(start, quantized, tmp_path, digest):
    """Earlier versions stored none; a damaged one costs an export, and is written again."""
    first = deploy(quantized, start, tmp_path)
    kept = tmp_path / "model.onnx.sha256"
    whole, said = first.onnx.read_bytes(), kept.read_bytes()
    kept.unlink() if digest is None else kept.write_bytes(digest)
    assert deploy(quantized, start, tmp_path).onnx.read_bytes() == whole
    assert kept.exists() == (digest is not None)
    assert digest is None or kept.read_bytes() == said


def with_another_bias(graph):
    """The same network, but for one bias."""
    *nodes, last = graph.nodes
    bias = last.tensors["bias"].copy()
    bias[0] += 1 if bias.dtype == np.int32 else np.spacing(np.abs(bias[0]) + 1)
    return replace(graph, nodes=(*nodes, replace(last, tensors={**last.tensors, "bias": bias})))


@pytest.mark.parametrize("name", ["dense", "quantized"])
def test_a_file_that_holds_another_network_is_no_deployed_file(name, start, request, tmp_path, monkeypatch):
    def write_another(graph, path, provenance, **settings):
        trimfile_write(with_another_bias(graph), path, provenance, **settings)

    trimfile_write = trimfile.write
    monkeypatch.setattr(judge.trimfile, "write", write_another)
    with pytest.raises(CorruptFile, match=r"unchecked\.trim': it does not decode to the network that it was written from"):
        deploy(request.getfixturevalue(name), start, tmp_path)
    assert not (tmp_path / "model.trim").exists()
    monkeypatch.undo()
    deploy(request.getfixturevalue(name), start, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.sha256", "model.trim"]


@pytest.mark.parametrize("name", ["dense", "quantized"])
def test_a_runtime_that_computes_something_else_delivers_no_file(name, start, request, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "open_session", lambda _, *, known, **given: plan(with_another_bias(known), **given))
    with pytest.raises(ExportMismatch, match=r"unchecked\.trim' in paretrim \S+ gives the outputs .* on \d+ of 32 images"):
        deploy(request.getfixturevalue(name), start, tmp_path)
    assert not (tmp_path / "model.trim").exists()


def test_a_folder_of_an_earlier_version_is_read_and_brought_up_to_date(recipe, tmp_path):
    first = run_recipe(recipe, tmp_path)
    place = tmp_path / str(index_of(tmp_path)[-1]["folder"])
    trim = place / "model.trim"
    content, graph = trim.read_bytes(), trimfile.read(trim)
    save(graph, place / "model.graph")
    trim.unlink()
    assert graph_file_in(place) == place / "model.graph"
    (deployment,) = deployments_of({"x": place / "model.onnx"}, RuntimeSetting("paretrim", 1))
    assert deployment.path == str(place / "model.graph")
    assert run_recipe(recipe, tmp_path) == first
    assert trim.read_bytes() == content
    assert graph_file_in(place) == trim
    with pytest.raises(CorruptFile, match=r"has neither model\.trim nor model\.graph; run the command that made it again"):
        graph_file_in(tmp_path)


def test_checks_ask_the_slow_interpreter_for_few_images_of_a_large_network(start, quantized, tmp_path, monkeypatch):
    interpreted, compared = [], []

    def counted(graph, images, *, threads):
        interpreted.append(len(images))
        return interpret(graph, images, threads=threads)

    def seen(path, names, images):
        compared.append(len(images))
        return values(path, names, images)

    interpret, values = judge.interpret, onnx_check.intermediate_values
    monkeypatch.setattr(judge, "interpret", counted)
    monkeypatch.setattr(onnx_check, "intermediate_values", seen)
    work = judge.freeze(quantized.network).multiply_adds
    for name, images in (("small", 1000), ("large", 5), ("huge", 0.5)):
        monkeypatch.setattr(interpreter, "CHECKED_WORK", images * work)
        deploy(quantized, start, tmp_path / name)
    assert interpreted == [32, 5, 1]
    assert compared == [8, 5, 1]
