"""Starting weights, the same rule for every family."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module, *, linear_std: float | None = None) -> None:
    """Draw fresh weights in place from torch's global random stream.

    Convolutions: normal with variance 2 / fan_out, biases 0. BatchNorm: scale 1, offset 0. Linear layers keep torch's own
    initialisation unless ``linear_std`` asks for a normal with that deviation and zero bias.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2 (backward case); torchvision's ResNet and VGG.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)
