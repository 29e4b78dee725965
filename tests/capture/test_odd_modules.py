"""Modules with unusual Python: slots, methods that return or raise other things than torch's, other arguments."""

import dataclasses
import warnings

import pytest
import torch
from hand_bodies import IMAGES, SHAPE, body, is_captured, is_refused
from torch import fx, nn
from torch.nn.utils import parametrizations
from torch.optim import swa_utils

from paretrim.capture import capture, driver
from paretrim.capture.agreement import captured_network
from paretrim.errors import UnsupportedOperation


class Slots(nn.Conv2d):
    __slots__ = ("__hidden", "extra", "never")

    def __init__(self, *args):
        super().__init__(*args)
        self.extra, self.__hidden = 2.0, [torch.full((8, 1, 1), 0.5)]

    def forward(self, x):
        return super().forward(x) * self.extra + self.__hidden[0]


def test_attributes_in_slots_are_copied():
    is_captured(body(lambda self, x: self.k(x), k=Slots(8, 8, 1)))


class TrainReturnsNothing(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)


def test_train_need_not_return_the_module():
    module = TrainReturnsNothing(body(lambda _, x: x), nn.Dropout(0.5))
    module.train(False)
    is_captured(module)


def plain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def test_what_torch_fx_traced_is_captured():
    is_captured(fx.symbolic_trace(plain().eval()))


def test_a_number_of_a_parameter_is_a_number():
    def scaled(self, x):
        return x * self.k.item() + (2 * self.k.item() - 1) / self.k.item() + torch.clamp(x, max=self.k.item())

    is_captured(body(scaled, k=nn.Parameter(torch.tensor(0.75))))


class FloatSums(nn.Module):
    """Sums through a module that a quantizer could observe, as in the quantizable networks of torchvision."""

    def __init__(self):
        super().__init__()
        self.sums, self.layer = nn.quantized.FloatFunctional(), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.sums.add_relu(self.sums.mul(x, self.layer(x)), x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_sums_that_a_quantizer_could_observe_are_sums_in_floats():
    is_captured(body(lambda self, x: self.k(x), k=FloatSums()))
    observed = torch.ao.quantization.prepare(FloatSums().eval().apply(_to_be_quantized))
    is_refused(observed, "'sums.activation_post_process' of the model is a .*Observer of torch.ao, which quantizes")


def _to_be_quantized(module):
    module.qconfig = torch.ao.quantization.get_default_qconfig("qnnpack")


def test_what_torch_exported_is_captured():
    sizes = ({0: torch.export.Dim("batch", min=1)},)
    is_captured(torch.export.export(plain().eval(), (torch.zeros(2, *SHAPE),), dynamic_shapes=sizes).module())


class EvalFails(nn.Sequential):
    def eval(self):
        raise KeyError("no eval \x1b[31m")


class Takes(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.layer, self.forward = nn.Conv2d(3, 4, 1), forward


def fails(_):
    raise ValueError("not today \x1b[31m")


def sparse():
    module = body(lambda self, x: x)
    module.register_buffer("table", torch.eye(3).to_sparse())
    return module


def quantized():
    module = body(lambda self, x: x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch will drop such tensors, and old models hold them
        module.register_buffer("table", torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8))
    return module


def observed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves this elsewhere
        return nn.Sequential(nn.Conv2d(3, 4, 1), torch.ao.quantization.MinMaxObserver())


REFUSED = {
    "observer": (
        observed,
        r"'1' of the model is a MinMaxObserver of torch.ao, which quantizes; capture the float model",
    ),
    "eval fails": (
        lambda: EvalFails(nn.Conv2d(3, 4, 1)),
        r"EvalFails could not be put into eval, .* \(KeyError: 'no eval",
    ),
    "two inputs": (
        lambda: Takes(lambda x, y: x),
        r"forward\(x, y\) of Takes takes no images alone \(missing a req",
    ),
    "by name only": (lambda: Takes(lambda *, x: x), r"forward\(\*, x\) of Takes takes no images alone \(too many positional"),
    "escapes": (lambda: Takes(fails), "free batch size: not today \ufffd\\[31m"),
    "sparse": (
        sparse,
        r"'table' of the model is a sparse tensor; capture the model with plain tensors, such as",
    ),
    "quantized": (quantized, r"'table' of the model is a quantized tensor; capture .* such as those of .dequantize\(\)"),
    "size of the batch": (
        lambda: body(lambda _, x: x / x.shape[0]),
        r"it computes with the number of images in a batch, and a file computes every image by itself",
    ),
    "mean of the batch": (lambda: body(lambda _, x: x - x.mean(0, keepdim=True)), r"it takes the mean over the batch too"),
    "gradient": (
        lambda: body(lambda _, x: torch.func.grad(lambda y: (y**2).sum())(x)),
        r"Custom calls a function of torch.func, such as grad, while it runs, which is not supported; write out what it comp",
    ),
    "map over the batch": (
        lambda: body(lambda _, x: torch.vmap(lambda y: 2 * y)(x)),
        "the network calls torch.vmap, which is not supported; write out what it computes, for all images at once",
    ),
    "a class": (lambda: Slots, r"the model is the class Slots; give an object of it, which Slots\(...\) makes"),
    "weights alone": (
        lambda: nn.Linear(3, 4).state_dict(),
        r"the model is of type OrderedDict; it must be an nn.Module: build the network, and load weights with load_state_dict",
    ),
    "a program": (
        lambda: torch.export.export(body(lambda _, x: x), (IMAGES,)),
        r"the model is of type ExportedProgram; it must be an nn.Module, which its .module\(\) returns",
    ),
    "a program of one batch size": (
        lambda: torch.export.export(body(lambda _, x: x), (IMAGES[:2],)).module(),
        r"Constraints violated \(batch\)\. Data-dependent .* fixed batch sizes are the usual causes$",
    ),
    "NumPy": (
        lambda: body(lambda _, x: torch.from_numpy(x.numpy() * 2)),
        r"it turns an activation into a NumPy array \(at x.numpy\(\) in .*\); use the functions of torch, and return tensors",
    ),
    "a loop over images": (
        lambda: body(lambda _, x: torch.stack([image * 2 for image in x])),
        r"works for some numbers of images only; loops over the images, .* and fixed batch sizes are the usual causes",
    ),
    "another type": (
        lambda: body(lambda self, x: self.k(x.double()).float(), k=nn.Conv2d(8, 8, 1).double()),
        r"It also fails when run on 2 such images, with its weights and images in float32: leave out casts such as",
    ),
    "number of a buffer that changes": (
        lambda: body(lambda self, x: x * self.k.mul_(2).item(), k=nn.Parameter(torch.tensor(2.0), requires_grad=False)),
        r"\(aten.item.default\): it reads 'k', which the network itself changes at every call; .* do not change it in eval mode",
    ),
    "decision by a buffer": (
        lambda: body(lambda self, x: x if self.norm.running_mean.sum() > 0 else -x),
        r"Data-dependent control flow, also by the value of a buffer, numbers read from one \(float\(\), int\(\),",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_with_a_module_is_said(name):
    make, message = REFUSED[name]
    is_refused(make(), message)


class OnlyTwo(nn.Module):
    """Fails on one image when run, but not when captured."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        if not torch.compiler.is_compiling() and len(x) == 1:
            raise ValueError("one image is too few")
        return self.layer(x).mean((2, 3))


def test_a_module_that_runs_only_while_it_is_captured_is_refused():
    with pytest.raises(UnsupportedOperation, match=r"OnlyTwo was captured, but fails on 2 or 1 .* one image is too few"):
        captured_network(OnlyTwo(), SHAPE, images=IMAGES)


def test_the_batch_must_stay_when_there_is_one_image():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), Squeezed())
    message = r"returns \[4\] for one image and \[2, 4\] for 2; keep the batch as the first axis, for example with flatten\(1\)"
    with pytest.raises(UnsupportedOperation, match=message):
        captured_network(module, SHAPE, images=IMAGES)


class Squeezed(nn.Module):
    def forward(self, x):
        return x.squeeze()


def test_a_fault_of_a_converter_names_the_layer(monkeypatch):
    def broken(_work, _call):
        raise IndexError("list index out of range")

    monkeypatch.setattr(driver, "CONVERTERS", {**driver.CONVERTERS, "relu": broken})
    message = r"layer '.*' \(aten.relu.*\) could not be captured \(IndexError: list index out of range\); write it another way"
    with pytest.raises(UnsupportedOperation, match=message):
        capture(body(lambda _, x: x), SHAPE)


def single():
    return body(lambda self, x: self.k(x), k=nn.Conv2d(8, 8, 3, padding=1))


def hooked(hook):
    module = single()
    module.k.register_forward_hook(hook)
    return module


def shifted():
    module = single()
    module.k.register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    return module


def averaged():
    module = swa_utils.AveragedModel(single(), multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    module.update_parameters(single())
    return module.eval()


def parametrized(parametrization):
    return body(lambda self, x: self.k(x), k=parametrization(nn.Conv2d(8, 8, 3, padding=1)))


WRAPPED = {
    "averaged": averaged,
    "compiled": lambda: torch.compile(single(), backend="eager"),
    "data parallel": lambda: nn.DataParallel(single()),
    "weight norm": lambda: parametrized(parametrizations.weight_norm),
    "spectral norm": lambda: parametrized(parametrizations.spectral_norm),
    "a hook that doubles": lambda: hooked(lambda _, __, result: 2 * result),
    "a hook that shifts": shifted,
    "a hook that prints nothing": lambda: hooked(lambda *_: None),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_wrapped_module_is_what_it_computes(name):
    is_captured(WRAPPED[name]())


def test_a_hook_that_only_records_is_named():
    seen = []
    module = hooked(lambda _, __, result: seen.append(float(result.mean())))
    is_refused(module, r"It has hooks, on 'k': remove those that only record or print values")


def test_an_unknown_kind_of_result_is_named():
    @dataclasses.dataclass
    class Result:
        logits: torch.Tensor

    class Returns(nn.Module):
        def forward(self, x):
            return Result(x)

    is_refused(Returns(), r"Result'> in output, which is not a known type; return tensors, in a tuple, a list or a dictionary$")
