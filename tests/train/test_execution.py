"""The arithmetic that training steps run in."""

import torch
from torch import nn

from paretrim.train.execution import Execution


def test_no_weights_of_an_earlier_step_are_used_inside_an_autocast_of_the_caller():
    execution, layer, x = Execution(device="cpu", precision="bfloat16"), nn.Linear(4, 4), torch.ones(1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with execution.autocast():
            before = layer(x)
        with torch.no_grad():
            layer.weight.add_(1)  # as an optimizer does
        with execution.autocast():
            after = layer(x)
        with torch.no_grad():
            layer.weight.add_(1)
        at_last = layer(x)
    torch.testing.assert_close(after, before + 4, rtol=0.05, atol=0.1)
    torch.testing.assert_close(at_last, before + 8, rtol=0.05, atol=0.1)
