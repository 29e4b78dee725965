"""Runs the code that TorchScript stores for a method, statement by statement."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import MappingProxyType

from paretrim.errors import UnsupportedOperation


def _attribute(owner: object, name: str) -> object:
    """An attribute of a layer or of a collection of functions; values have none in TorchScript."""
    if type(owner).__module__ in ("builtins", "torch"):
        raise UnsupportedOperation(f"a scripted layer reads the attribute '{name}' of a value, which is not supported")
    return getattr(owner, name)


_BUILTIN: Mapping[str, Callable[..., object]] = MappingProxyType(
    {"range": range, "getattr": _attribute, "int": int, "float": float, "bool": bool, "str": str}
)

_OF_TYPES = ("annotate", "unchecked_cast")
"""They only state the type of their second argument."""

Names = MutableMapping[str, object]


def run(code: str, given: Sequence[object], names: Mapping[str, object]) -> object:
    """The return value of the method in ``code`` for positional arguments; ``names`` are the globals that it may use.

    Raises:
        UnsupportedOperation: it contains an unsupported construct.
    """
    function = ast.parse(code).body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = [argument.arg for argument in function.args.args]
    return _execute(function.body, {**_BUILTIN, **names, **dict(zip(arguments, given, strict=True))})[1]


def _execute(statements: Sequence[ast.stmt], names: Names) -> tuple[bool, object]:
    """Execute statements; returns whether they ended in a ``return``, and its value."""
    for statement in statements:
        match statement:
            case ast.Return(value):
                return True, None if value is None else _value(value, names)
            case ast.Assign([target], value):
                _assign(target, _value(value, names), names)
            case ast.AnnAssign(target, _, ast.expr() as value):
                _assign(target, _value(value, names), names)
            case ast.If(test, body, orelse):
                done = _execute(body if _value(test, names) else orelse, names)
                if done[0]:
                    return done
            case ast.For(target, iterable, body):
                for item in _value(iterable, names):  # type: ignore[attr-defined]
                    _assign(target, item, names)
                    if (done := _execute(body, names))[0]:
                        return done
            case ast.While(test, body):
                while _value(test, names):
                    if (done := _execute(body, names))[0]:
                        return done
            case ast.Expr(value):
                _value(value, names)
            case ast.Pass():
                pass
            case _:
                raise _unknown(statement)
    return False, None


def _assign(target: ast.expr, value: object, names: Names) -> None:
    if isinstance(target, ast.Name):
        names[target.id] = value
    elif isinstance(target, ast.Tuple):
        for part, item in zip(target.elts, value, strict=True):  # type: ignore[call-overload]
            _assign(part, item, names)
    else:
        raise _unknown(target)


def _value(expression: ast.expr, names: Names) -> object:
    match expression:
        case ast.Constant(value):
            return value
        case ast.Name(name) if name in names:
            return names[name]
        case ast.Attribute(owner, name):
            return _attribute(_value(owner, names), name)
        case ast.Call(ast.Name(name), [_, value]) if name in _OF_TYPES:
            return _value(value, names)
        case ast.Call(ast.Name("uninitialized")):
            return None
        case ast.Call(function, arguments, keywords):
            called = _value(function, names)
            assert callable(called)
            given = [_value(argument, names) for argument in arguments]
            return called(*given, **{word.arg: _value(word.value, names) for word in keywords if word.arg})
        case ast.List(parts):
            return [_value(part, names) for part in parts]
        case ast.Tuple(parts):
            return tuple(_value(part, names) for part in parts)
        case ast.Subscript(owner, index):
            return _value(owner, names)[_value(index, names)]  # type: ignore[index]
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand, names)  # type: ignore[operator]
        case ast.IfExp(test, body, orelse):
            return _value(body if _value(test, names) else orelse, names)
    raise _unknown(expression)


def _unknown(part: ast.AST) -> UnsupportedOperation:
    return UnsupportedOperation(f"a scripted layer contains '{ast.unparse(part)}', which is not supported")
