"""Write native/graph/operations.inc, the native runtime's table of operations, from the operations of the graph.

Run it after adding or changing an operation; with --check it only checks whether the file is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from paretrim.graph.operations.attributes import AttributeRule
from paretrim.graph.operations.operation import Operation, TensorRule
from paretrim.graph.operations.table import OPERATIONS

FILE = Path(__file__).resolve().parent.parent / "native" / "graph" / "operations.inc"

HEAD = """\
// Written by scripts/native_operations.py from paretrim.graph.operations; do not edit. Define a macro before including this.
//
// PARETRIM_OPERATION(name, inputs, grid, multiplies, ships, rescaling, work, shape_rule), in the order of the numbers in .trim
//   files; 0 inputs: any number. The shape rule is a function of graph/shapes.cpp.
// PARETRIM_ATTRIBUTE(operation, name, kind, length, minimum, required, fallback), in the order in which errors list them.
// PARETRIM_TENSOR(operation, quantized, name, dtype, form, optional), of nodes whose input is quantized and of others.

#ifndef PARETRIM_OPERATION
#define PARETRIM_OPERATION(name, inputs, grid, multiplies, ships, rescaling, work, shape_rule)
#endif
#ifndef PARETRIM_ATTRIBUTE
#define PARETRIM_ATTRIBUTE(operation, name, kind, length, minimum, required, ...)
#endif
#ifndef PARETRIM_TENSOR
#define PARETRIM_TENSOR(operation, quantized, name, dtype, form, optional)
#endif

"""

TAIL = """
#undef PARETRIM_OPERATION
#undef PARETRIM_ATTRIBUTE
#undef PARETRIM_TENSOR
"""

KINDS = {"int": "integer", "ints": "integers", "float": "number", "str": "text"}


def text() -> str:
    """The content of the file."""
    operations = sorted(OPERATIONS.values(), key=lambda operation: operation.number)
    lines = [_operation(operation) for operation in operations]
    for operation in operations:
        lines += [_attribute(operation, name, rule) for name, rule in operation.attributes.items() if rule.ships]
    for operation in operations:
        for quantized, tensors in ((False, operation.real_tensors), (True, operation.integer_tensors)):
            lines += [_tensor(operation, quantized, name, rule) for name, rule in tensors.items()]
    return HEAD + "\n".join(lines) + "\n" + TAIL


def _operation(operation: Operation) -> str:
    multiplies, ships = operation.multiplies or "nothing", str(operation.ships).lower()
    shape_rule = operation.shape.__name__.removeprefix("_")
    facts = (operation.name, str(operation.arity or 0), operation.grid, multiplies, ships, operation.rescaling, operation.work)
    return f"PARETRIM_OPERATION({', '.join((*facts, shape_rule))})"


def _attribute(operation: Operation, name: str, rule: AttributeRule) -> str:
    fallback = rule.default if isinstance(rule.default, tuple) else (rule.default or 0,)
    numbers = ", ".join(map(str, (*fallback, 0, 0, 0, 0)[:4]))
    settings = f"{KINDS[rule.kind]}, {rule.length}, {rule.minimum}, {str(rule.required).lower()}"
    return f"PARETRIM_ATTRIBUTE({operation.name}, {name}, {settings}, {numbers})"


def _tensor(operation: Operation, quantized: bool, name: str, rule: TensorRule) -> str:
    settings = f"{name}, {rule.dtype}, {rule.form}, {str(rule.optional).lower()}"
    return f"PARETRIM_TENSOR({operation.name}, {str(quantized).lower()}, {settings})"


def main() -> int:
    """Write the file, or check it."""
    if "--check" in sys.argv[1:]:
        return 0 if FILE.read_text(encoding="utf-8") == text() else 1
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
