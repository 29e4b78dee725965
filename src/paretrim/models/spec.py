"""The network of a recipe, and how it is built."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path

from torch import nn

from paretrim.errors import InvalidRecipe
from paretrim.files import is_file
from paretrim.models.catalog import NETWORKS
from paretrim.models.weights import load_weights
from paretrim.own_code import described, explained, imported, split_name
from paretrim.settings import settings
from paretrim.visible import brief

_FILES = (".onnx", ".trim", ".graph", ".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".tflite", ".h5", ".py")
"""Extensions of files that users may take for a network."""

OWN_NETWORK = "for your own network write 'package.module:factory', a function that returns an nn.Module"


@settings()
class ModelSpec:
    """A network: ``network`` is a catalog name or ``package.module:factory``; ``weights`` a file to start from, or none.

    Raises:
        InvalidRecipe: ``network`` is neither, or ``weights`` is an empty string.
    """

    network: str
    weights: str | None = None

    def __post_init__(self) -> None:
        if ":" not in self.network and self.network not in NETWORKS:
            raise InvalidRecipe(_unknown(self.network))
        if ":" in self.network and not all(split_name(self.network)):
            raise InvalidRecipe(f"network {brief(self.network)} names no module or no factory; {OWN_NETWORK}")
        if self.weights == "":
            raise InvalidRecipe("weights is an empty path; name a .safetensors or .pt file, or leave the key out to start fresh")


def build(spec: ModelSpec, *, classes: int, channels: int) -> nn.Module:
    """Make the network on the CPU, with the file's weights or freshly initialised from torch's global random stream.

    A user's factory is called with ``classes`` and ``channels`` only if its signature takes them.

    Raises:
        InvalidRecipe: the user's factory cannot be imported, fails, or returns something else; the weights file is missing.
        WeightsMismatch: the weights do not fit the network.
        CorruptFile: the weights file cannot be what it claims to be.
    """
    if ":" in spec.network:
        network = _own(spec.network, classes=classes, channels=channels)
    else:
        network = NETWORKS[spec.network](classes=classes, channels=channels)
    if spec.weights is not None:
        load_weights(network, Path(spec.weights))
    return network


def _unknown(network: str) -> str:
    if Path(network).suffix in _FILES or is_file(Path(network)):
        return (
            f"network {brief(network)} is a file; the network itself is needed, as a torch module that can be trained: "
            f"{OWN_NETWORK}, and give a file of its weights with --weights, or as the recipe's weights"
        )
    near = difflib.get_close_matches(network, NETWORKS, n=3, cutoff=0.5)
    hint = f"near it are {', '.join(near)}" if near else f"known are {', '.join(NETWORKS)}"
    return f"there is no network {brief(network)}; {hint}; {OWN_NETWORK}"


def _own(network: str, *, classes: int, channels: int) -> nn.Module:
    factory = imported(network, "network")
    given = {"classes": classes, "channels": channels}
    with explained(f"network {brief(network)}: the factory failed", "correct it, or name another"):
        taken = {name: value for name, value in given.items() if _takes(factory, name)}
        made = factory(**taken)
    if not isinstance(made, nn.Module):
        raise InvalidRecipe(f"network {brief(network)}: the factory returned {described(made)}; it must return an nn.Module")
    return made


def _takes(factory: Callable[..., object], name: str) -> bool:
    """Whether ``name`` can be given by keyword."""
    kinds = inspect.Parameter
    parameters = inspect.signature(factory).parameters
    if name in parameters:
        return parameters[name].kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    return any(parameter.kind is kinds.VAR_KEYWORD for parameter in parameters.values())
