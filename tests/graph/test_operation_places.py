"""A new operation is written in few places: docs/architecture.md, "Adding something"."""

import ast
import re
from pathlib import Path

import pytest

from paretrim.graph.operations.table import OPERATIONS
from paretrim.network.torch_forms import TORCH_FORMS

SOURCE = Path(__file__).resolve().parents[2] / "src" / "paretrim"
NATIVE = SOURCE.parents[1] / "native"
NATIVE_SOURCES = [path for path in NATIVE.rglob("*") if path.suffix in (".cpp", ".h", ".inl") and "tests" not in path.parts]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("channel_shuffle", "data_movement"),
        ("pixel_shuffle", "data_movement"),
        ("pixel_unshuffle", "data_movement"),
        ("pad", "data_movement"),
        ("unflatten", "data_movement"),
        ("matmul", "products"),
    ],
)
def test_an_operation_is_named_in_its_value_and_two_tables(name, family):
    naming = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if f'"{name}"' in path.read_text("utf-8")}
    beside = {place for place in naming if not place.startswith("capture/")}
    assert beside == {f"graph/operations/{family}.py", "network/torch_forms.py", "deploy/onnx_operations.py"}
    assert naming > beside


BY_NAME = {
    "deploy/onnx_file.py": {"normalize", "quantize", "dequantize"},  # the ONNX forms of what reads pixels or changes the type
    "graph/fold.py": {"normalize", "conv2d", "PAD"},  # makes a normalize; a pad that is not merged is only computed on its own
    "graph/lower.py": {"quantize", "dequantize", "pointwise", "clamp"},  # makes these nodes
    "network/float_layers.py": {"flatten"},  # makes one
    "network/thaw.py": {"relu", "clamp"},  # makes them from fused clamps
    "stages/prune/absolute.py": {"dropout"},  # makes one, which is the identity
    "stages/quantize/reciprocals.py": {"mul", "pointwise", "adaptive_avg_pool"},  # without it a range is only chosen as usual
}
"""Code that knows an operation by its name, beside its value, its two tables and capture: it makes such nodes, or leaves what it
does not know as it is. All else asks the operation's value, so that a new operation is not forgotten."""

OTHER_MEANINGS = {
    "cli/main.py": {"quantize"},  # commands
    "cli/parser.py": {"quantize"},
    "cli/quantizing.py": {"quantize"},  # a stage
    "stages/quantize/stage.py": {"quantize"},
    "models/initialise.py": {"relu"},  # settings of torch
    "stages/prune/thin.py": {"relu"},
    "models/lenet.py": {"flatten"},  # paths of modules
    "stages/distill/contrast.py": {"linear"},  # an embedding
    "train/budget.py": {"linear"},  # a schedule
}


def known_by_name(path):
    """Names of operations among the texts of a module, and their values where it imports them."""
    nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and "graph.operations" in (node.module or "")]
    taken = {alias.name for node in imports for alias in node.names if not node.module.endswith("table")}
    taken |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    values = {name.upper() for name in OPERATIONS} | {"CLAMP_VALUES"}
    return (texts & set(OPERATIONS)) | (taken & values)


def test_nothing_else_knows_an_operation_by_its_name():
    tables = {"network/torch_forms.py", "deploy/onnx_operations.py"}
    found = {path.relative_to(SOURCE).as_posix(): known_by_name(path) for path in SOURCE.rglob("*.py")}
    beside = {
        place: names
        for place, names in found.items()
        if names and place not in tables and not place.startswith(("graph/operations/", "capture/"))
    }
    assert beside == BY_NAME | OTHER_MEANINGS


def test_the_file_format_lists_operations_by_their_numbers():
    names = sorted(OPERATIONS, key=lambda name: OPERATIONS[name].number)
    assert [OPERATIONS[name].number for name in names] == [*range(len(names))]
    assert f"| operation | one byte: {', '.join(names)}" in (SOURCE / "trimfile" / "SPEC.md").read_text("utf-8")
    reader = (SOURCE.parents[1] / "tests" / "trimfile" / "spec_reader" / "structure.py").read_text("utf-8")
    assert re.findall(r'"(\w+)"', reader.split("OPERATIONS = (")[1].split(")")[0]) == names


def test_nothing_asks_which_channel_rule_an_operation_has():
    """That would be its name in another way; rules say what they do."""
    rules = re.compile(r"\bchannel_rules\.[A-Z]+\b|channel_rules import [^\n]*\b[A-Z]{2,}\b")
    naming = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if rules.search(path.read_text("utf-8"))}
    assert {place for place in naming if not place.startswith("graph/operations/")} == set()


NATIVE_PLACES = {
    "channel_shuffle": {"plan/steps.cpp", "plan/meaning.cpp"},  # what only moves values is joined with its neighbours
    "batch_norm": {"plan/steps.cpp"},
    "mul": {"plan/steps.cpp"},
    "matmul": {"plan/steps.cpp"},
    "pixel_shuffle": {"plan/steps.cpp"},
    "pixel_unshuffle": {"plan/steps.cpp"},
    "max_pool": {"plan/steps.cpp"},
    "adaptive_avg_pool": {"plan/steps.cpp"},
    "concat": {"plan/steps.cpp"},
}


@pytest.mark.parametrize("name", NATIVE_PLACES)
def test_an_operation_is_named_once_in_the_native_runtime(name):
    """In addition to the generated table of numbers, inputs, attributes, tensors, grids, work and shape rules."""
    spelled = re.compile(rf"\bOp::{name}\b")
    naming = {path.relative_to(NATIVE).as_posix() for path in NATIVE_SOURCES if spelled.search(path.read_text("utf-8"))}
    assert naming == NATIVE_PLACES[name]


def test_all_other_native_code_reads_tables_and_asks_for_no_operation():
    """The one beside the two tables is what a node is before it is read."""
    asked = {path.relative_to(NATIVE).as_posix(): re.findall(r"\bOp::\w+", path.read_text("utf-8")) for path in NATIVE_SOURCES}
    tables = {"plan/steps.cpp", "plan/meaning.cpp"}
    macros = {"graph/graph.h": ["Op::relu"], "graph/attributes.cpp": ["Op::operation"], "graph/tensors.cpp": ["Op::operation"]}
    assert {place: names for place, names in asked.items() if names and place not in tables} == macros


def test_the_torch_forms_hold_every_operation():
    assert set(TORCH_FORMS) == set(OPERATIONS)
    for name, operation in OPERATIONS.items():
        if name not in ("normalize", "quantize", "dequantize"):
            assert (TORCH_FORMS[name].real is None) == (operation.real is None)
            assert (TORCH_FORMS[name].integer is None) == (operation.integer is None or operation.weighted)
