"""The keys of a dictionary of outputs are names of the outputs, in the graph, in both files and in sessions."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from small_network import put_on_grids_
from torch import nn

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.cli.main import main
from paretrim.deploy.onnx_check import check_onnx
from paretrim.deploy.onnx_file import export_onnx
from paretrim.errors import UnsupportedOperation
from paretrim.graph.entropy import summarize_weights
from paretrim.graph.interpreter import run_outputs
from paretrim.graph.outputs import with_user_names
from paretrim.graph.storage import from_bytes, save, to_bytes
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file
from paretrim.run.candidate import Candidate, load_candidate, save_candidate
from paretrim.run.start import content_of
from paretrim.runtime import load, plan
from paretrim.runtime.compiled import native


class Detector(nn.Module):
    """A map and a vector; each key is the name of a layer that gives another output or none."""

    def __init__(self, returns):
        super().__init__()
        torch.manual_seed(2)
        self.boxes, self.scores, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 1), nn.Linear(5, 2)
        self.returns = returns

    def forward(self, x):
        trunk = self.boxes(x).relu()
        maps = self.scores(trunk)
        return self.returns(maps, self.head(maps.mean((2, 3))))


def detector():
    return Detector(lambda maps, vector: {"scores": vector, "boxes": maps}).eval()


class Named(NamedTuple):
    """Two outputs with names."""

    boxes: torch.Tensor
    scores: torch.Tensor


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FORMS = {
    "dictionary": (lambda a, b: {"scores": b, "boxes": a}, ("scores", "boxes")),
    "tuple": (lambda a, b: (a, b), ("output_0", "output_1")),
    "nested": (lambda a, b: (a, {"head": [b]}), ("output_0", "output_1.head.0")),
    "named tuple": (lambda a, b: Named(boxes=a, scores=b), ("boxes", "scores")),
    "numbers": (lambda a, b: {0: a, 1: b}, ("output_0", "output_1")),
    "strange": (lambda a, b: {"images": a, "a/b\n": b}, ("images_", "a/b\\n")),
    "same": (lambda a, b: {"a": {"b": a}, "a.b": b}, ("a.b", "a.b_")),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_a_module_returns_is_named(form):
    returns, names = FORMS[form]
    assert capture(Detector(returns), (3, 8, 8)).output_names == names


def test_one_output_has_no_name_of_its_own():
    graph = capture(Detector(lambda a, b: {"scores": b}), (3, 8, 8))
    assert (graph.outputs, graph.output_names) == (("head",), ())


@pytest.fixture(scope="module", params=["integers", "floats"])
def network(request):
    found = Network(capture(detector(), (3, 8, 8))).eval()
    return found if request.param == "floats" else put_on_grids_(found, IMAGES)


def test_files_and_sessions_have_the_names(network, tmp_path):
    graph = freeze(network)
    assert (graph.outputs, graph.output_names) == (("scores", "boxes"), ())
    trimfile.write(graph, tmp_path / "model.trim")
    save(graph, tmp_path / "model.graph")
    export_onnx(graph, tmp_path / "model.onnx")
    check_onnx(graph, tmp_path / "model.onnx", IMAGES.numpy())
    outputs = onnx.load(tmp_path / "model.onnx").graph.output
    assert [output.name for output in outputs] == ["scores", "boxes"]
    sessions = plan(graph, measure=False), *(load(tmp_path / f"model.{kind}", remember=False) for kind in ("trim", "graph"))
    for session in sessions:
        assert session.output_names == ("scores", "boxes")
        found = dict(zip(session.output_names, session.outputs(IMAGES.numpy()), strict=True))
        for name, other in zip(graph.outputs, run_outputs(graph, IMAGES.numpy()), strict=True):
            np.testing.assert_allclose(found[name], other, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for name, other in zip(graph.outputs, network(IMAGES), strict=True):
            np.testing.assert_allclose(found[name], other.numpy(), rtol=1e-4, atol=0.05)


def test_a_session_decodes_its_file_once(network, tmp_path, monkeypatch):
    """The native network knows the names; nothing reads the file again for them."""
    trimfile.write(freeze(network), tmp_path / "model.trim")
    monkeypatch.setattr(native, "read_trim", None)
    assert load(tmp_path / "model.trim", remember=False).output_names == ("scores", "boxes")


def test_the_one_output_of_a_network_is_called_logits():
    graph = replace(freeze(Network(capture(detector(), (3, 8, 8))).eval()), outputs=("scores",))
    planned = native.plan_graph(graph, threads=1, instruction_set="", measure=False, choices="")
    assert planned.output_names == ("logits",)


def test_a_graph_as_it_was_captured_has_them_in_files_too(tmp_path):
    graph = capture(detector(), (3, 8, 8))
    assert graph.outputs == ("head", "scores")
    assert trimfile.from_bytes(trimfile.to_bytes(graph)).graph.outputs == ("scores", "boxes")
    assert plan(graph, measure=False).output_names == ("scores", "boxes")
    export_onnx(graph, tmp_path / "model.onnx")
    assert [output.name for output in onnx.load(tmp_path / "model.onnx").graph.output] == ["scores", "boxes"]
    check_onnx(graph, tmp_path / "model.onnx", IMAGES.numpy())


def test_layers_keep_their_names_in_tables(network, tmp_path, capsys):
    layers = tuple(weighted_layers(network))
    assert layers == ("boxes", "scores", "head")
    graph = freeze(network)
    assert tuple(one.name for one in summarize_weights(graph)) == layers
    trimfile.write(graph, tmp_path / "model.trim")
    found = trimfile.inspect(tmp_path / "model.trim")
    assert tuple(one.name for one in found.layers) == layers
    assert found.outputs == {"scores": (2,), "boxes": (5, 8, 8)}
    assert main(["inspect", str(tmp_path / "model.trim")]) == 0
    assert "outputs: scores [N, 2], boxes [N, 5, 8, 8]" in capsys.readouterr().out


def test_names_survive_a_candidate_and_the_way_back_from_a_file(network, tmp_path):
    save_candidate(Candidate(network), tmp_path / "candidate.safetensors")
    loaded = load_candidate(tmp_path / "candidate.safetensors").network
    graph = freeze(network)
    assert to_bytes(freeze(loaded)) == to_bytes(graph)
    trimfile.write(graph, tmp_path / "model.trim")
    again, _ = network_from_file(tmp_path / "model.trim")
    assert again.structure.output_names == ("scores", "boxes")
    assert freeze(again).outputs == ("scores", "boxes")
    assert trimfile.to_bytes(freeze(again)) == trimfile.to_bytes(graph)


def test_names_of_outputs_are_not_in_the_digest_of_a_network(network):
    other = Network(replace(network.graph(), output_names=("a", "b")))
    plain = Network(replace(network.graph(), output_names=()))
    assert content_of(other) == content_of(plain)


def test_a_graph_of_earlier_versions_keeps_the_names_of_its_values():
    graph = replace(capture(detector(), (3, 8, 8)), output_names=())
    assert with_user_names(graph) is graph
    assert from_bytes(to_bytes(graph)).outputs == ("head", "scores")


def test_there_are_as_many_names_as_outputs():
    graph = capture(detector(), (3, 8, 8))
    for names in (("a",), ("a", "a")):
        with pytest.raises(UnsupportedOperation, match=r"has 2 outputs and the names a.*; give each a name of its own"):
            replace(graph, output_names=names)
