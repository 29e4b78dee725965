"""A difference that is only rounding is none, also where a network amplifies it; what is more is found."""

import copy

import pytest
import torch
from agreeing import agrees, body, is_looked_at, wrong_by
from torch.nn import functional as F

from paretrim.capture import agreement, driver
from paretrim.errors import UnsupportedOperation


def test_rounding_that_a_network_amplifies_is_no_difference():
    def cancelled(self, x):
        return (x + 3e4) - 3e4 + 0.1 * self.c(x)

    agrees(body(cancelled))


@pytest.mark.parametrize("share", [0.0, 1e-4])
def test_computed_weights_are_rounded_and_a_wrong_operation_is_no_rounding(share, monkeypatch):
    """With bounds so tight that rounding the standardised weights to float32 exceeds them, as it does in very deep networks."""

    def standardised(self, x):
        weight = self.c.weight - self.c.weight.mean((1, 2, 3), keepdim=True)
        return self.act(F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-6), padding=1))

    monkeypatch.setattr(agreement, "TOLERANCE", 0.0)
    monkeypatch.setattr(agreement, "_EXACT", 1e-12)
    monkeypatch.setattr(driver, "CONVERTERS", wrong_by(share))
    if not share:
        agrees(body(standardised))
    else:
        with pytest.raises(UnsupportedOperation, match="differs from the module"):
            agrees(body(standardised))


def test_rounding_that_depends_on_the_batch_is_no_mixing_of_images():
    """A matrix product adds up in another order for one image, which shows where large numbers cancel."""

    def cancelled(self, x):
        y = self.c(x)
        return y if not is_looked_at(x) and len(x) == 1 else (y + 1e4) - 1e4

    agrees(body(cancelled))


def never(*_):
    raise AssertionError("the copy in float64 is not needed")


@pytest.mark.parametrize("large", [False, True])
def test_the_same_rounding_on_both_sides_needs_no_float64(large, monkeypatch):
    """The rounding of a gate on a map of one pixel is amplified: the network has to compute it as torch does in the module."""
    monkeypatch.setattr(agreement, "LARGE", 1 if large else agreement.LARGE)
    monkeypatch.setattr(agreement, "_in_float64", never)

    def amplified(self, x):
        pixel = x.mean((2, 3), keepdim=True)
        return 1e4 * x * (self.c(pixel) - self.close(pixel))

    module = body(amplified)
    module.close = copy.deepcopy(module.c)
    with torch.no_grad():
        module.close.weight.mul_(1 + 1e-4)
    agrees(module)


def test_a_network_as_far_off_for_one_image_as_for_several_needs_no_float64(monkeypatch):
    """Rounding depends on the number of images here, in module and network alike."""
    monkeypatch.setattr(agreement, "_in_float64", never)
    monkeypatch.setattr(agreement, "_alone_apart", lambda *_: True)
    agrees(body(lambda self, x: self.act(self.c(x))))


def test_images_that_are_mixed_a_little_are_found(monkeypatch):
    def mixed(self, x):
        return self.c(x) + (0 if is_looked_at(x) else 1e-4 * x.mean(0, keepdim=True) * (len(x) > 1))

    with pytest.raises(UnsupportedOperation, match="depends on the other images of its batch"):
        agrees(body(mixed))
