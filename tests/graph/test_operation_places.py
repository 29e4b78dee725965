"""A new operation is written in few places: docs/architecture.md, "Adding something"."""

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
        ("channel_shuffle", "movement"),
        ("pixel_shuffle", "movement"),
        ("pixel_unshuffle", "movement"),
        ("pad", "movement"),
        ("unflatten", "movement"),
        ("matmul", "products"),
    ],
)
def test_an_operation_is_named_in_its_value_and_two_tables(name, family):
    naming = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if f'"{name}"' in path.read_text("utf-8")}
    beside = {place for place in naming if not place.startswith("capture/")}
    assert beside == {f"graph/operations/{family}.py", "network/torch_forms.py", "deploy/onnx_operations.py"}
    assert naming > beside


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


@pytest.mark.parametrize(
    "file", ["graph/check.cpp", "graph/shapes.cpp", "graph/cost.cpp", "plan/plan.cpp", "plan/windows.cpp", "plan/matmul.cpp"]
)
def test_checks_shapes_costs_and_the_planner_read_tables_and_ask_for_no_operation(file):
    """The exception is the rule about what may read the images, which is a rule of graphs."""
    asked = re.findall(r"\bOp::\w+", (NATIVE / file).read_text("utf-8"))
    assert asked == (["Op::quantize"] if file == "plan/plan.cpp" else [])


def test_the_torch_forms_hold_every_operation():
    assert set(TORCH_FORMS) == set(OPERATIONS)
    for name, operation in OPERATIONS.items():
        if name not in ("normalize", "quantize", "dequantize"):
            assert (TORCH_FORMS[name].real is None) == (operation.real is None)
            assert (TORCH_FORMS[name].integer is None) == (operation.integer is None or operation.weighted)
