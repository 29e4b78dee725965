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
    ("name", "family"), [("channel_shuffle", "movement"), ("pad", "movement"), ("unflatten", "movement"), ("matmul", "products")]
)
def test_an_operation_is_named_in_its_value_and_two_tables(name, family):
    naming = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if f'"{name}"' in path.read_text("utf-8")}
    beside = {place for place in naming if not place.startswith("capture/")}
    assert beside == {f"graph/operations/{family}.py", "network/torch_forms.py", "deploy/onnx_operations.py"}
    assert naming > beside


NATIVE_PLACES = {
    "channel_shuffle": {"plan/plan.cpp"},  # what only moves values is joined with its neighbours
    "batch_norm": {"plan/steps.cpp"},
    "mul": {"plan/steps.cpp"},
    "matmul": {"plan/steps.cpp", "graph/cost.cpp"},  # more work than its results are many
}


@pytest.mark.parametrize("name", NATIVE_PLACES)
def test_an_operation_is_named_once_in_the_native_runtime(name):
    """Beside the generated table, which names its number, inputs, attributes, tensors, grid and shape rule."""
    spelled = re.compile(rf"\bOp::{name}\b")
    naming = {path.relative_to(NATIVE).as_posix() for path in NATIVE_SOURCES if spelled.search(path.read_text("utf-8"))}
    assert naming == NATIVE_PLACES[name]


def test_no_shape_rule_of_the_native_runtime_asks_for_the_operation():
    assert "Op::" not in (NATIVE / "graph" / "shapes.cpp").read_text("utf-8")


def test_the_torch_forms_hold_every_operation():
    assert set(TORCH_FORMS) == set(OPERATIONS)
    for name, operation in OPERATIONS.items():
        if name not in ("normalize", "quantize", "dequantize"):
            assert (TORCH_FORMS[name].real is None) == (operation.real is None)
            assert (TORCH_FORMS[name].integer is None) == (operation.integer is None or operation.weighted)
