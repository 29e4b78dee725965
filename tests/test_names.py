"""A value of a network may have any name: no later step takes it for something else."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent / "stages"))

from tiny import CLASSES, SHAPE, SHORT, resources, start

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.deploy.onnx_file import export_onnx
from paretrim.graph.checks import validate
from paretrim.graph.interpreter import run
from paretrim.graph.names import LONGEST_NAME, free_name, printable
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import INPUT, Graph, InputSpec, Node, ValueType
from paretrim.network.constraints import key_of, name_of, weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.thaw import network_from_file
from paretrim.run.candidate import Candidate, load_candidate, save_candidate
from paretrim.run.pipeline import run_stage
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

ONE_STEP = Budget(epochs=1, batch_size=120, learning_rate=1e-3)
OF_TORCH = sorted({*dir(nn.Module()), *dir(nn.ModuleDict()), *dir(nn.ParameterDict()), *dir({})})
OWN = ["logits", "quantized_images", "normalized_images", "nodes", "network", "layers", "grids", "structure", "input", "output"]
UGLY = [
    "/",
    "//",
    "~",
    "~0",
    "~1",
    "~keys",
    "a/b",
    "a.b",
    "a~b",
    "a~0b",
    ".",
    "..",
    "a.",
    ".a",
    " ",
    "0",
    "größe",
    "卷积",
    "🙂",
    "'",
    '"',
    "\\",
]
CLASHING = [
    "x",
    "x.relu",
    "x.relu_2",
    "x/weight",
    "x/real",
    "x/scale",
    "x/float",
    "x/quantize",
    "x/clamped",
    "x_",
    "logits_",
    "l" * 499,
]
NAMES = [*OF_TORCH, *OWN, *UGLY, *CLASHING]


def chain(names):
    """A graph of a convolution for every name, each behind the one before it, with a BatchNorm and a ReLU of such names too."""
    random = np.random.default_rng(0)
    nodes, before, channels = [], INPUT, SHAPE[0]
    for index, name in enumerate(names):
        kind = ValueType((4, *SHAPE[1:]))
        if index % 3 == 1:
            node = Node(name, "relu", (before,), kind)
        elif index % 3 == 2:
            tensors = {
                key: np.full(4, value, np.float32)
                for key, value in zip(("gamma", "beta", "mean", "variance"), (1, 0.1, 0, 1), strict=True)
            }
            node = Node(name, "batch_norm", (before,), kind, {"epsilon": 1e-5}, tensors)
        else:
            weight = random.normal(0, 1, (4, channels, 1, 1)).astype(np.float32) / 2
            attributes = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
            node = Node(name, "conv2d", (before,), kind, attributes, {"weight": weight})
        nodes.append(node)
        before, channels = name, 4
    pooled, flat = free_name("pool", names), free_name("flat", names)
    nodes.append(Node(pooled, "adaptive_avg_pool", (before,), ValueType((4, 1, 1)), {"output_size": (1, 1)}))
    nodes.append(Node(flat, "flatten", (pooled,), ValueType((4,))))
    head = np.eye(4, dtype=np.float32)[:CLASSES]
    nodes.append(Node(free_name("head", names), "linear", (flat,), ValueType((CLASSES,)), {}, {"weight": head}))
    return Graph(InputSpec(SHAPE), tuple(nodes), (nodes[-1].name,))


PARTS = [NAMES[first : first + 36] for first in range(0, len(NAMES), 36)]


@pytest.mark.parametrize("names", PARTS, ids=[part[0] for part in PARTS])
def test_a_network_with_any_names_goes_all_the_way(names, tmp_path):
    graph = chain(names)
    validate(graph)
    candidate = Candidate(Network(graph))
    for stage in (Prune(budget=ONE_STEP, sparsity=0.5), Quantize(budget=ONE_STEP)):
        candidate = run_stage(candidate, stage, resources("plain"))
    save_candidate(candidate, tmp_path / "candidate.safetensors")
    candidate = load_candidate(tmp_path / "candidate.safetensors")
    frozen = freeze(candidate.network, start("plain").spec)
    images = resources("plain").calibration[:4]
    for kind, shipped in (("int8", frozen), ("float", freeze(Network(graph), start("plain").spec))):
        trimfile.write(shipped, tmp_path / f"{kind}.trim")
        thawed, spec = network_from_file(tmp_path / f"{kind}.trim")
        again = freeze(thawed, spec)
        found, expected = ([node.name for node in made.nodes if node.op in WEIGHTED] for made in (again, shipped))
        assert found == expected
        export_onnx(shipped, tmp_path / f"{kind}.onnx")
        assert len(onnx.load(tmp_path / f"{kind}.onnx").graph.output) == 1
        trained = run_stage(Candidate(thawed), FineTune(budget=ONE_STEP), resources("plain"))
        assert set(weighted_layers(trained.network)) == set(weighted_layers(thawed))
        assert np.isfinite(run(freeze(thawed), images.numpy())).all()


def test_keys_of_modules_are_told_apart():
    keys = [key_of(name) for name in ["", *NAMES]]
    assert len(set(keys)) == len(keys)
    assert [name_of(key) for key in keys] == ["", *NAMES]
    dictionary = nn.ModuleDict({key: nn.Identity() for key in keys})
    assert len(dictionary) == len(keys)


@pytest.mark.parametrize("name", ["conv1", "layer1.0.conv1", "block.1.relu_2", "features.0"])
def test_names_that_always_worked_keep_their_keys(name):
    assert key_of(name) == name.replace(".", "/")


class Named(nn.Module):
    def __init__(self, names, last):
        super().__init__()
        self.names, self.last = names, last
        for name in names:
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
        self.add_module(last, nn.Conv2d(3, CLASSES, 1))

    def forward(self, x):
        for name in self.names:
            x = F.relu(self._modules[name](x))
        return self._modules[self.last](x).mean((2, 3))


LONG, LINES = "long" * 200, "two\nlines\x1b[31m"
OF_LAYERS = ["keys", "items", "values", "pop", "images", "nodes", "block1/conv", "größe", LONG, LINES, "\ud800", "relu", "relu_2"]


@pytest.mark.parametrize("last", ["logits", "output"])
def test_layers_of_any_name_are_captured(last, tmp_path):
    module = Named(OF_LAYERS, last).eval()
    graph = capture(module, SHAPE)
    validate(graph)
    names = {node.name for node in graph.nodes if node.tensors}
    kept = {"keys", "items", "values", "pop", "nodes", "block1/conv", "größe", last}
    assert kept <= names
    assert {"images_2", "two\\nlines\\x1b[31m", "\\ud800", printable(LONG)} <= names
    candidate = run_stage(Candidate(Network(graph)), Quantize(budget=SHORT), resources("plain"))
    frozen = freeze(candidate.network, start("plain").spec)
    trimfile.write(frozen, tmp_path / "named.trim")
    export_onnx(frozen, tmp_path / "named.onnx")
    assert kept - {last} <= {node.name for node in trimfile.read(tmp_path / "named.trim").nodes}


def test_what_cannot_be_printed_is_written_out():
    assert printable("layer1.0.conv1") == "layer1.0.conv1"
    assert printable("a\x00b\n") == "a\\x00b\\n"
    assert len(printable("ö" * 9999).encode()) < LONGEST_NAME
    assert printable("x" * 999 + "1") != printable("x" * 999 + "2")
    assert free_name("a", {"a", "a_"}) == "a__"
