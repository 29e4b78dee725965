"""Capture uses every argument of every operation that it knows, or rejects it by name."""

import math
from dataclasses import replace

import pytest
import torch
from torch import fx

from paretrim.capture.call import Arguments, Call, call_of
from paretrim.capture.choices import COMPARISONS
from paretrim.capture.driver import CONVERTERS, _convert
from paretrim.capture.work import Constant, View, Work
from paretrim.errors import UnsupportedOperation
from paretrim.graph.types import INPUT, Graph, InputSpec
from paretrim.network.network import Network

SHAPE = (8, 6, 6)
IMAGES = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
PARAMETERS = {
    "weight": torch.randn(8, 8, 3, 3, generator=torch.Generator().manual_seed(1)),
    "bias": torch.linspace(-1, 1, 8),
    "running_mean": torch.linspace(0, 1, 8),
    "running_var": torch.linspace(1, 2, 8),
}
FITTING = {
    "adaptive_avg_pool2d": {"output_size": [2, 3]},
    "adaptive_max_pool2d": {"output_size": [2, 3]},
    "amax": {"dim": [2, 3]},
    "amin": {"dim": [2, 3]},
    "avg_pool3d": {"self": (1, *SHAPE), "kernel_size": [3, 1, 1], "stride": [1, 1, 1]},
    "batch_norm": {"weight": torch.linspace(1, 2, 8), "training": False, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": False},
    "cat": {"dim": 1},
    "chunk": {"chunks": 2, "dim": 1},
    "clamp": {"min": -0.5, "max": 0.5},
    "conv1d": {"self": (1, 8), "weight": torch.ones(1, 1, 3), "bias": torch.ones(1), "padding": [1]},
    "copy": {"src": "activation"},
    "constant_pad_nd": {"pad": [1, 2, 0, 1]},
    "dropout": {"p": 0.5, "train": False},
    "feature_dropout": {"p": 0.5, "train": False},
    "expand": {"size": [2, *SHAPE]},
    "flatten": {"start_dim": 1},
    "flip": {"dims": [1]},
    "group_norm": {"num_groups": 2, "weight": torch.linspace(1, 2, 8), "eps": 0.1},
    "instance_norm": {
        "weight": torch.linspace(1, 2, 8),
        "running_mean": None,
        "running_var": None,
        "use_input_stats": True,
        "momentum": 0.1,
        "eps": 0.1,
    },
    "layer_norm": {"normalized_shape": list(SHAPE), "weight": None, "bias": None, "eps": 0.1},
    "roll": {"shifts": [1, 2], "dims": [1, 3]},
    "index_copy": {"dim": 1, "index": torch.tensor([3, 0]), "source": (2, 6, 6)},
    "index_fill": {"dim": 1, "index": torch.tensor([2, 5])},
    "rms_norm": {"normalized_shape": list(SHAPE), "weight": None, "eps": 0.1},
    "select_scatter": {"src": (6, 6), "dim": 1, "index": 3},
    "slice_scatter": {"src": (3, 6, 6), "dim": 1, "start": 1, "end": 7, "step": 2},
    **{name: {"dim": [2, 3]} for name in ("std", "std_mean", "var", "var_mean")},
    "index": {"indices": [None, torch.tensor([2, 0, 1])]},
    "index_select": {"dim": 1, "index": torch.tensor([2, 3, 0])},
    "matmul": {"self": (288,), "other": torch.randn(288, 3)},
    "bmm": {"self": (6, 6), "mat2": "activation"},
    "mm": {"self": (288,), "mat2": torch.randn(288, 3)},
    "repeat": {"repeats": [1, 2, 1, 1]},
    "_upsample_nearest_exact2d": {"output_size": [12, 12], "scales_h": None, "scales_w": None, "scale_factors": None},
    "masked_fill": {"mask": torch.arange(8)[:, None, None] > 4, "value": 0.5},
    "convolution": {
        "weight": PARAMETERS["weight"],
        "bias": None,
        "stride": [1, 1],
        "padding": [1, 1],
        "dilation": [1, 1],
        "transposed": False,
        "output_padding": [0, 0],
        "groups": 1,
    },
    "lerp": {"end": "activation", "weight": 0.3},
    "linear": {"self": (288,), "weight": torch.randn(3, 288), "bias": torch.ones(3)},
    "mean": {"dim": [2, 3]},
    "pad": {"pad": [1, 2, 0, 1]},
    "permute": {"dims": [0, 1, 2, 3]},
    "pixel_shuffle": {"upscale_factor": 2},
    "pixel_unshuffle": {"downscale_factor": 3},
    "prelu": {"weight": torch.linspace(-1, 1, 8)},
    "reflection_pad2d": {"padding": [1, 2, 0, 1]},
    "replication_pad2d": {"padding": [1, 2, 0, 1]},
    "reshape": {"shape": [2, 288]},
    "select": {"dim": 1, "index": 3},
    "slice": {"dim": 1, "start": 1, "end": 7},
    "split": {"split_size": 4, "split_sizes": [3, 5], "dim": 1},
    "split_with_sizes": {"split_sizes": [3, 5], "dim": 1},
    "squeeze": {"self": (8, 1, 1), "dim": 3},
    "stack": {"dim": 1},
    "sum": {"self": (2, 4, 6, 6), "dim": [1]},
    "to": {"dtype": torch.float32, "device": torch.device("cpu")},
    "transpose": {"dim0": 1, "dim1": 1},
    "unsqueeze": {"self": (288,), "dim": -1},
    "upsample_bilinear2d": {"output_size": [12, 12], "align_corners": False, "scale_factors": None},
    "upsample_nearest2d": {"output_size": [12, 12], "scales_h": None, "scales_w": None, "scale_factors": None},
    "view": {"size": [2, 288], "dtype": torch.float32},
}
"""Arguments with which an operation can be written down, where those made up from its schema do not fit; the input's shape as
``self``."""

USUAL = {"Tensor": "activation", "number": 2, "int": 2, "float": 0.5, "bool": False, "List[int]": [2, 2]}
"""For an argument without a default."""

OTHER = {
    "int": lambda given: [given + 1, given - 1, 2],
    "float": lambda given: [given + 0.75, given / 2],
    "number": lambda given: [given + 0.75, -2],
    "bool": lambda given: [not given],
    "str": lambda _: ["floor", "trunc", "tanh", "reflect", "circular", "same", "valid"],
    "ScalarType": lambda _: [torch.float64, torch.int32, torch.bfloat16],
    "MemoryFormat": lambda _: [torch.channels_last],
    "List[int]": lambda _: [[2], [2, 2], [3, 3], [1, 0], [2, 1], [1, 2], [2, 8, 36]],
    "List[float]": lambda _: [[2.0, 2.0], [1.5, 1.5]],
}
"""Further values to try, by the kind of the argument, from the value that fits."""


def overloads(operation):
    for name in (operation, f"{operation}_"):
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet else ():
            found = getattr(packet, overload)
            if isinstance(found, torch._ops.OpOverload) and _is_usual(found._schema, overload):
                yield found


def _is_usual(schema, overload):
    """Whether torch.export can meet it: of tensors, with no result handed in, no named axes, no types of scripts only."""
    kinds = [str(argument.type) for argument in schema.arguments]
    return (
        schema.arguments[0].name in ("self", "input", "tensors")
        and "Tensor" in kinds[0]
        and not any(argument.is_out for argument in schema.arguments)
        and "prim" not in overload
        and "Dimname" not in str(schema)
        and "names" not in overload
    )


def kind_of(argument):
    """The type of an argument without ``Optional``."""
    kind = str(argument.real_type)
    return kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional") else kind


def made_up(operation, schema):
    """Arguments by name that fit an overload, with the input's shape under the name of the first."""
    fitting, first = FITTING.get(operation, {}), schema.arguments[0].name
    found = {first: fitting.get("self", SHAPE)}
    for argument in schema.arguments[1:]:
        name, kind = argument.name, str(argument.real_type)
        usual = argument.default_value if argument.has_default_value() else USUAL.get(kind)
        found[name] = fitting.get(name, PARAMETERS.get(name, usual))
    return found


def written_down(target, values):
    """The captured graph of one operation, its outputs, and those of torch; raises UnsupportedOperation where it is rejected."""
    graph = fx.Graph()
    shape = next(iter(values.values()))
    work = Work({})
    image = graph.placeholder("x")
    base = {math.prod(SHAPE): SHAPE, 36: (1, 6, 6)}.get(math.prod(shape), (8, 1, 1))
    image.meta["val"] = seen = IMAGES[:, : base[0], : base[1], : base[2]].reshape(2, *shape)
    work.shapes[INPUT] = base
    work.known[image] = View(INPUT, shape)
    symbols, numbers = {}, {}
    for name, value in values.items():
        symbols[name], numbers[name] = value, value
        first = name == next(iter(values))
        if first or (isinstance(value, str) and value == "activation"):
            several = name == "tensors"
            symbols[name], numbers[name] = ([image, image], [seen.clone(), seen.clone()]) if several else (image, seen.clone())
        elif isinstance(value, torch.Tensor):
            symbols[name] = graph.placeholder(name)
            work.constants[symbols[name]], numbers[name] = Constant(name, value), value.clone()
        elif name in ("src", "source") and isinstance(value, tuple):
            symbols[name] = part = graph.placeholder(name)
            work.known[part], numbers[name] = _part_of_input(work, part, seen, value)
        elif name == "indices":
            places = graph.placeholder(name)
            work.constants[places], symbols[name] = Constant(name, value[-1]), [*value[:-1], places]
    expected = target(**numbers)
    if isinstance(expected, torch.Tensor) and expected.shape[:1] != (2,):
        raise UnsupportedOperation("the batch is moved")
    named = {argument.name: symbols.pop(argument.name) for argument in target._schema.arguments if argument.kwarg_only}
    node = graph.call_function(target, tuple(symbols.values()), named)
    node.meta["val"] = expected
    for index, part in enumerate(expected if isinstance(expected, list) else ()):
        graph.call_function(torch.ops.aten.select.int, (node, index)).meta["val"] = part
    _convert(work, node)
    value = work.known[node]
    views = value if isinstance(value, tuple) else (value,)
    names = [work.settled(Call(node, Arguments({})), _as_base(work, view)) for view in views]
    network = Network(Graph(InputSpec(base), tuple(work.nodes), (names[0],), ())).eval()
    found = [network.features(seen.reshape(2, *base), (name,))[name] for name in names]
    if isinstance(expected, tuple):  # behind the result stand places in the image, which are not known
        expected = expected[: len(found)]
    return [view.shape for view in views], found, list(expected) if isinstance(expected, list | tuple) else [expected]


def _part_of_input(work, node, seen, shape):
    """The first channels of the input as a value of its own."""
    node.meta["val"] = part = seen[:, : shape[0] if len(shape) == 3 else 1].reshape(2, *shape).clone()
    base = shape if len(shape) == 3 else (1, *shape)
    first = {"axis": 0, "start": 0, "stop": base[0], "step": 1}
    name = work.emit(Call(node, Arguments({})), "slice", [INPUT], shape=base, attributes=first).name
    return View(name, shape), part.clone()


def _as_base(work, view):
    return replace(view, shape=work.shapes[view.name]) if view.plain else view


def is_right(target, values):
    """Whether the outputs are torch's; False where the operation is rejected or does not take these arguments."""
    try:
        shapes, found, expected = written_down(target, values)
    except UnsupportedOperation:
        return False
    except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError):
        return False  # not arguments of this operation
    for shape, ours, theirs in zip(shapes, found, expected, strict=True):
        assert tuple(theirs.shape[1:]) == shape, (target, values)
        compares = target._opname.removesuffix("_") in COMPARISONS
        assert theirs.dtype == torch.float32 or (compares and theirs.dtype == torch.bool), (target, values)
        theirs = theirs.float()
        ours = torch.where(theirs.isfinite(), ours.reshape(theirs.shape), theirs)  # where torch has a number
        torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=1e-5, atol=1e-5, msg=f"{target} with {values}")
    return True


MASKS = {"logical_not", "bitwise_not", "logical_and", "bitwise_and", "__and__", "logical_or", "bitwise_or", "__or__"}

LEFT_OUT = {"softmax", "log_softmax", "where", "index_put"} | MASKS
"""Left out at the end of a network, or known with masks: test_softmax.py and test_choices.py have those."""


@pytest.mark.parametrize("operation", sorted(set(CONVERTERS) - LEFT_OUT))
def test_an_argument_is_used_or_refused(operation):
    torch.manual_seed(0)
    fits = []
    for target in overloads(operation):
        fitting = made_up(operation, target._schema)
        fits.append(is_right(target, fitting))
        for argument in target._schema.arguments[1:]:
            given = fitting[argument.name]
            start = given if isinstance(given, int | float) else 0
            for other in OTHER.get(kind_of(argument), lambda _: [])(start):
                is_right(target, fitting | {argument.name: other})
    assert any(fits), f"FITTING has no arguments with which {operation} can be captured"


def test_a_form_whose_own_argument_is_not_known_is_refused():
    graph = fx.Graph()
    node = graph.call_function(torch.ops.aten.view.dtype, (graph.placeholder("x"), torch.int32))
    call = call_of(node)
    assert call.source is node.args[0]
    with pytest.raises(
        UnsupportedOperation, match=r"its form with dtype = torch.int32 is not supported; use another form of the"
    ):
        call.require_all_read()
