"""Functions of one value against torch, at poles and roots too, and as tables of 256 bytes."""

import numpy as np
import pytest
import torch
from random_graphs import FUNCTIONS

from paretrim.graph import functions
from paretrim.graph.types import ValueType
from paretrim.network import float_forms


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_functions_equal_torch(function):
    x = torch.linspace(-8, 8, 161, dtype=torch.float64)
    constant = FUNCTIONS[function]
    nn = torch.nn.functional
    oracle = (
        {
            "clamp_min": lambda v: v.clamp(min=constant),
            "clamp_max": lambda v: v.clamp(max=constant),
            "add_constant": lambda v: v + constant,
            "mul_constant": lambda v: v * constant,
            "leaky_relu": lambda v: nn.leaky_relu(v, constant),
            "requantize": lambda v: v,
            "gelu_tanh": lambda v: nn.gelu(v, approximate="tanh"),
            "log": lambda v: v.clamp(min=functions.SMALLEST).log(),
            "power": lambda v: v.clamp(min=0) ** constant,
            "elu_alpha": lambda v: nn.elu(v, constant),
            "celu": lambda v: nn.celu(v, constant),
            "softplus_beta": lambda v: nn.softplus(v, constant),
            "threshold": lambda v: nn.threshold(v, constant, 0),
            "step": lambda v: (v > constant).to(v.dtype),
            "hardshrink": lambda v: nn.hardshrink(v, constant),
            "softshrink": lambda v: nn.softshrink(v, constant),
        }.get(function)
        or getattr(nn, function, None)
        or getattr(torch, function)
    )
    np.testing.assert_allclose(functions.evaluate(function, x.numpy(), constant), oracle(x).numpy(), atol=1e-9)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, 1 / 3, -0.5, -1.0, -2.0, -3.0, -50.0])
def test_powers_are_finite_everywhere(exponent):
    """Also at a pole and left of a root; equal to torch wherever torch gives a number."""
    x = np.array([-3.0, -1.0, -1e-3, 0.0, 1e-30, 1e-3, 0.5, 1.0, 2.0], np.float32)
    found = functions.evaluate("power", x, exponent).astype(np.float32)
    assert np.isfinite(found).all()
    expected = (torch.from_numpy(x).double() ** exponent).numpy()
    known = np.isfinite(expected) & (np.abs(expected) < 1e12)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-6, atol=1e-37)
    variable = torch.from_numpy(x).requires_grad_()
    trained = float_forms._power(variable, exponent)
    np.testing.assert_allclose(trained.detach().numpy(), found, rtol=1e-5)
    (trained * (trained.detach().abs() < 1e30)).sum().backward()
    assert not variable.grad.isnan().any()


@pytest.mark.parametrize(
    ("function", "constant", "expected"),
    [
        ("log", None, [0, 0, 0, 243, 255]),
        ("power", -1.0, [128, 123, 255, 133, 128]),
        ("power", -0.5, [255, 255, 255, 144, 129]),
        ("exp", None, [128, 128, 178, 255, 255]),
    ],
)
def test_tables_of_steep_functions_end_at_the_ends_of_the_grid(function, constant, expected):
    """At -1280, -10, 0, 10 and 1270: a pole within the input's range, or a result far beyond the output's range."""
    source, output = (ValueType((1,), "uint8", float(np.float32(scale)), 128) for scale in (10.0, 0.02))
    table = functions.pointwise_table(function, constant, source, output)
    assert table[[0, 127, 128, 129, 255]].tolist() == expected
