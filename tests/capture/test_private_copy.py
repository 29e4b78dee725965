"""Capture works on a copy of the module: what cannot be copied, what must not change, and how long copying takes."""

import copy
import sys
import threading
import time
import warnings

import pytest
import torch
from hand_bodies import IMAGES, block, body, is_captured
from hand_networks import conv
from torch import nn
from torch.nn.utils import prune

from paretrim.capture.private import private_copy


def weight_normed(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.stem = nn.utils.weight_norm(module.stem)


def spectral_normed(module):
    module.stem = nn.utils.spectral_norm(module.stem)
    module.train()(IMAGES)
    module.eval()


def pruned(module):
    prune.l1_unstructured(module.stem, "weight", 0.5)
    module(IMAGES).sum().backward()
    module(IMAGES)


def keeps_features(module):
    module.seen = {"stem": [module.stem(IMAGES)]}
    module.last = module(IMAGES)


def hooked(module):
    module.norm.register_forward_hook(lambda _module, _inputs, output: output * 2)


def holds_handles(module):
    module.lock, module.stream = threading.Lock(), (number for number in range(3))
    module.file = sys.__stdout__.buffer
    module.parts = [module.stem, module.lock]


def bound(module):
    original = module.body
    module.body = lambda x: original(x) * 3


class Strange:
    def __deepcopy__(self, memo):
        raise ValueError("not to be copied")


def holds_strange(module):
    module.strange = Strange()


KEPT = [weight_normed, spectral_normed, pruned, keeps_features, hooked, holds_handles, bound, holds_strange]


@pytest.mark.parametrize("change", KEPT)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_modules_that_cannot_be_copied_are_captured_and_left_alone(change):
    module = body(block, c=conv(8, 8))
    change(module)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    is_captured(module)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert {key: value.requires_grad for key, value in module.named_parameters()} == dict.fromkeys(
        dict(module.named_parameters()), True
    )


def test_a_copy_shares_no_module_with_the_original():
    module = body(lambda self, x: self.parts[0](x), c=conv(8, 8))
    module.parts = [module.c]
    graph = is_captured(module)
    assert "c" in {node.name for node in graph.nodes}
    copied = private_copy(module)
    assert copied.parts[0] is copied.c
    assert not {id(part) for part in copied.modules()} & {id(part) for part in module.modules()}
    assert not {part.data_ptr() for part in copied.parameters()} & {part.data_ptr() for part in module.parameters()}
    assert module.training is False
    assert isinstance(copy.deepcopy(copied), nn.Module)


def test_empty_containers_of_a_copy_are_its_own_and_shared_where_those_of_the_original_are():
    module = nn.Linear(2, 2)
    module.seen = module.also_seen = {}
    module.last, module.sizes = {}, (1, None, "a")
    copied = private_copy(module)
    copied.seen["a"] = 1
    copied._forward_hooks[0] = print
    assert copied.also_seen == {"a": 1}
    assert (copied.last, copied.sizes) == ({}, (1, None, "a"))
    assert (module.seen, module.last, dict(module._forward_hooks)) == ({}, {}, {})
    assert type(copied._forward_hooks) is type(module._forward_hooks)


def test_copying_takes_time_in_proportion_to_the_layers():
    def seconds(layers):
        module = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(layers)))
        taken = []
        for _ in range(3):
            began = time.process_time()
            private_copy(module)
            taken.append(time.process_time() - began)
        return min(taken)

    assert seconds(800) < 24 * seconds(100)  # in proportion it is 8 times; by their square it would be 64 times
