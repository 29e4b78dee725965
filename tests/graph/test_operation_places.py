"""A new operation is written in few places: docs/architecture.md, "Adding something"."""

from pathlib import Path

import pytest

from paretrim.graph.operations.table import OPERATIONS
from paretrim.network.torch_forms import TORCH_FORMS

SOURCE = Path(__file__).resolve().parents[2] / "src" / "paretrim"


@pytest.mark.parametrize(("name", "family"), [("channel_shuffle", "movement"), ("pad", "movement"), ("unflatten", "movement")])
def test_an_operation_is_named_in_its_value_and_two_tables(name, family):
    naming = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if f'"{name}"' in path.read_text("utf-8")}
    beside = {place for place in naming if not place.startswith("capture/")}
    assert beside == {f"graph/operations/{family}.py", "network/torch_forms.py", "deploy/onnx_operations.py"}
    assert naming > beside


def test_the_torch_forms_hold_every_operation():
    assert set(TORCH_FORMS) == set(OPERATIONS)
    for name, operation in OPERATIONS.items():
        if name not in ("normalize", "quantize", "dequantize"):
            assert (TORCH_FORMS[name].real is None) == (operation.real is None)
            assert (TORCH_FORMS[name].integer is None) == (operation.integer is None or operation.weighted)
