import textwrap

import pytest
import safetensors.torch
import torch
from torch import nn

from paretrim.errors import InvalidRecipe, InvalidSettings, WeightsMismatch
from paretrim.models.spec import ModelSpec, build

OWN = """
    from torch import nn

    NUMBER = 3

    def takes_both(*, classes, channels):
        return nn.Conv2d(channels, classes, 1)

    def takes_classes(classes):
        return nn.Linear(4, classes)

    def takes_nothing():
        return nn.Linear(4, 6)

    def takes_anything(**settings):
        return nn.Conv2d(settings["channels"], settings["classes"], 1)

    def positional(classes, /):
        return nn.Linear(4, classes)

    def forgets():
        nn.Linear(4, 6)

    def returns_number():
        return 3

    class Network(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.fc = nn.Linear(4, classes)

    def leaves():
        raise SystemExit(3)

    def stopped():
        raise KeyboardInterrupt

    def nothing():
        pass

    def unspeakable():
        class Unspeakable(BaseException):
            def __str__(self):
                raise ValueError
        raise Unspeakable
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module named own_networks on the path."""
    (tmp_path / "own_networks.py").write_text(textwrap.dedent(OWN))
    (tmp_path / "broken_networks.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "empty_networks.py").write_text("")
    (tmp_path / "gone_networks.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_catalog_network_is_built():
    network = build(ModelSpec("resnet20"), classes=7, channels=1)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_unknown_network_names_near_ones():
    with pytest.raises(InvalidRecipe, match=r"no network 'resnet_18'; near it are .*resnet18.*'package.module:factory'"):
        ModelSpec("resnet_18")


def test_unknown_network_far_from_all_lists_all():
    with pytest.raises(InvalidRecipe, match=r"no network '1234567'; known are lenet_300_100, .*resnet18, .*wide_resnet_40_2"):
        ModelSpec("1234567")


@pytest.mark.parametrize("network", ["own_networks:", ":takes_both", ":"])
def test_half_a_factory_is_refused(network):
    with pytest.raises(InvalidRecipe, match=f"network '{network}' names no module or no factory"):
        ModelSpec(network)


def test_empty_weights_are_refused():
    with pytest.raises(InvalidRecipe, match="weights is an empty path"):
        ModelSpec("resnet18", weights="")


def test_unknown_settings_are_refused():
    with pytest.raises(InvalidSettings, match="there is no such key; did you mean 'weights'"):
        ModelSpec("resnet18", wieghts="x")


def test_spec_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign"):
        ModelSpec("resnet18").network = "resnet50"


@pytest.mark.parametrize(
    ("factory", "shape"),
    [
        ("takes_both", (5, 2, 1, 1)),
        ("takes_classes", (5, 4)),
        ("takes_nothing", (6, 4)),
        ("takes_anything", (5, 2, 1, 1)),
    ],
)
def test_own_factory_gets_what_it_takes(own, factory, shape):
    network = build(ModelSpec(f"own_networks:{factory}"), classes=5, channels=2)
    assert next(network.parameters()).shape == shape


def test_own_class_is_a_factory(own):
    assert isinstance(build(ModelSpec("own_networks:Network"), classes=5, channels=2), nn.Module)


def test_stopping_in_a_factory_stops(own):
    with pytest.raises(KeyboardInterrupt):
        build(ModelSpec("own_networks:stopped"), classes=5, channels=2)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("own_networks:forgets", "the factory returned None; it must return an nn.Module"),
        ("own_networks:returns_number", "the factory returned an object of type builtins.int"),
        ("own_networks:positional", "the factory failed with TypeError"),
        ("own_networks:take_both", "module 'own_networks' has no 'take_both'; near it are takes_both"),
        ("own_networks:zzz", "has no 'zzz'; it has takes_both"),
        ("own_networks:NUMBER", "'NUMBER' is an object of type builtins.int; it must be a function or class"),
        ("empty_networks:zzz", "has no 'zzz'; it has no functions"),
        (
            "broken_networks:f",
            "importing 'broken_networks' failed with ModuleNotFoundError: No module named 'no_such_package_at_all'",
        ),
        ("own_networks:leaves", "the factory failed with SystemExit: 3; correct it"),
        ("own_networks:unspeakable", "the factory failed with Unspeakable; correct it"),
        ("sys:exit", "the factory failed with SystemExit; correct it, or name another"),
        ("gone_networks:f", "importing 'gone_networks' failed with SystemExit: 0; run from"),
        ("own_networks:nothing", "the factory returned None; it must return an nn.Module"),
        ("own_networks:Network.__class__", "has no 'Network.__class__'; near it are Network"),
        ("no_such_networks:f", "importing 'no_such_networks' failed.*PYTHONPATH"),
    ],
)
def test_own_factory_that_does_not_work_is_explained(own, network, message):
    with pytest.raises(InvalidRecipe, match=f"network '{network}': .*{message}"):
        build(ModelSpec(network), classes=5, channels=2)


def test_weights_are_loaded(tmp_path):
    source = build(ModelSpec("resnet20"), classes=10, channels=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "w.safetensors")
    loaded = build(ModelSpec("resnet20", weights=str(tmp_path / "w.safetensors")), classes=10, channels=1)
    assert all(torch.equal(a, b) for a, b in zip(source.state_dict().values(), loaded.state_dict().values(), strict=True))


def test_weights_for_other_classes_are_refused(tmp_path):
    safetensors.torch.save_file(build(ModelSpec("resnet20"), classes=10, channels=3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsMismatch, match=r"linear.weight file \[10, 64\], network \[100, 64\]"):
        build(ModelSpec("resnet20", weights=str(tmp_path / "w.safetensors")), classes=100, channels=3)
