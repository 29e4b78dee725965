"""Values overwritten in place, directly and through views of the same memory."""

import pytest
import torch
from hand_bodies import body, is_captured, is_refused
from hand_networks import conv
from torch.nn import functional as F


def changing(change):
    """A body in which ``change`` overwrites a value, which is read before and after."""

    def forward(self, x):
        x = self.c(x)
        before = 2 * x
        change(self, x)
        return before + x.sigmoid()

    return body(forward, c=conv(8, 8))


def assigned(_, x):
    x[:] = torch.relu(x)


def widened(_, x):
    x[:] = x.mean((2, 3), keepdim=True)


def twice(_, x):
    x[:].view(x.shape[0], -1).mul_(2)
    x.detach().add_(1)
    x.reshape(x.shape).relu_()


RIGHT = {
    "slice": lambda _, x: x[:].mul_(2),
    "slices": lambda _, x: x[:, :].add_(1),
    "assigned": assigned,
    "widened": widened,
    "copied": lambda _, x: x.copy_(2 * x),
    "reshaped": lambda _, x: x.reshape(x.shape).add_(x),
    "like another": lambda _, x: x.view_as(x).add_(1),
    "detached": lambda _, x: x.detach().mul_(2),
    "flattened": lambda _, x: x.flatten(1).mul_(2),
    "flattened, two values": lambda _, x: x.flatten(1).mul_(x.flatten(1)),
    "flattened, a function": lambda _, x: x.flatten(1).sub_(0.1).relu_(),
    "pixels": lambda _, x: x.flatten(2).mul_(2),
    "clamped": lambda _, x: x.view(x.shape[0], -1).clamp_(0, 0.3),
    "an axis of one": lambda _, x: x.unsqueeze(1).mul_(3),
    "expanded to itself": lambda _, x: x.expand(x.shape).mul_(3),
    "written out": lambda _, x: x.detach().addcmul_(x, x),
    "one after the other": twice,
    "a copy": lambda _, x: x.clone().mul_(2),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_changed_through_a_view_of_the_whole_is_changed(name):
    is_captured(changing(RIGHT[name]))


def test_images_changed_through_a_view_are_changed():
    def forward(self, x):
        x.detach().sub_(0.5)
        x[:].div_(0.25)
        return self.c(x)

    is_captured(body(forward, c=conv(8, 8)))


def put(_, x):
    x.data = 2 * x


def halves(_, x):
    halves = x.reshape(x.shape[0], 2, 4, *x.shape[2:])
    halves[:, 0] = 0


def narrow(_, x):
    pixel = x.mean((2, 3))
    pixel.copy_(pixel[:, :1])


REFUSED = {
    "part of what may be a copy": (
        halves,
        r"writing to parts of a value that is read again through another view, or filling all of it",
    ),
    "all in one row": (
        lambda _, x: x.view(-1).mul_(2),
        r"the batch is mixed with another axis; keep the batch as a separate first axis",
    ),
    "data": (
        lambda _, x: x.data.mul_(2),
        r"it reads the .data of an activation.*; use .detach\(\), which shares memory in",
    ),
    "data of two": (
        lambda _, x: x.data.add_(x),
        r"it reads the .data of an activation.*; use .detach\(\), which shares memory",
    ),
    "new data": (put, r"it assigns to the .data of '.*', which is lost when the network is captured; assign the result to"),
    "a copy of a part": (
        lambda _, x: x[:, :, 1:].contiguous().mul_(2),
        r"it overwrites 'contiguous', and '.*', which shares its memory",
    ),
    "a copy that need not be one": (
        lambda _, x: x * x.permute(0, 2, 3, 1).contiguous().mul_(2).permute(0, 3, 1, 2),
        r"unless torch has to copy it, which depends on the layout of the images, is read afterwards; use .clone",
    ),
    "behind a dropout": (
        lambda self, x: F.dropout(x, 0.5, self.training)[:].mul_(2),
        r"it overwrites 'slice_1', and '.*', which",
    ),
    "a narrow copy": (narrow, r"it copies \(1,\) to \(8,\); copy only between equal shapes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_changed_elsewhere_is_refused(name):
    change, message = REFUSED[name]
    is_refused(changing(change), message)


def test_a_flattened_copy_that_a_layer_has_read_is_not_changed_behind_it():
    def forward(self, x):
        flat = x.flatten(1)
        gate = self.c(flat)
        x.mul_(2)
        return x * gate[:, :, None, None] + flat.view(-1, 8, 8, 8)

    is_refused(body(forward, c=torch.nn.Linear(512, 8)), r"it overwrites 'batch_norm|it overwrites '.*', and 'flatten'")
