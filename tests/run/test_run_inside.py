"""``--inside`` on large networks: the number of images is bounded by their work, the batch by memory."""

import numpy as np
import pytest
import torch

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.errors import InvalidRecipe
from paretrim.graph.types import InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.constraints import weighted_layers
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.run import inside

SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network(capture(build(ModelSpec("resnet20"), classes=10, channels=3), SHAPE)).eval()


def test_images_are_as_many_as_the_work_allows(network, monkeypatch):
    each = 2 * inside.PASSES * network.graph(weights=False).multiply_adds
    assert inside.affordable((network, network)) == inside.IMAGES
    monkeypatch.setattr(inside, "WORK", 40 * each + 1)
    assert inside.affordable((network, network)) == 40
    monkeypatch.setattr(inside, "WORK", 1)
    assert inside.affordable((network, network)) == inside.SHOWN


def test_files_are_looked_into_at_that_many_images_whatever_is_computed_at_once(network, monkeypatch, tmp_path):
    (tmp_path / "a.trim").write_bytes(trimfile.to_bytes(freeze(network, InputSpec(SHAPE, (0.5,) * 3, (0.5,) * 3))))
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, *SHAPE), np.uint8), random.integers(0, 10, 20)
    monkeypatch.setattr(inside, "WORK", 8 * 2 * inside.PASSES * network.graph(weights=False).multiply_adds)

    def look():
        return inside.look_into_files((tmp_path / "a.trim",) * 2, (images, images), labels)

    whole = look()
    assert len(whole.similarity) == 8
    assert len(whole.examples) == inside.SHOWN
    monkeypatch.setattr(inside, "VALUES", 3 * sum(kind.size for kind in network.structure.types.values()))
    assert inside._at_once(network) == 3
    parted = look()
    assert parted.similarity == pytest.approx(whole.similarity, abs=1e-4)
    assert parted.sweep == whole.sweep
    assert [sum(one.counts[0]) for one in parted.weights] == [sum(one.counts[0]) for one in whole.weights]
    assert 0 < sum(parted.activations[0].counts[0]) < sum(whole.activations[0].counts[0])  # those of fewer images


def test_a_sweep_sets_the_smallest_weights_to_zero_and_leaves_the_network_as_it_is(network, monkeypatch):
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    zeros = []

    def counted(pruned, _inputs, labels):
        weights = torch.cat([layer.masked_weight().detach().flatten() for layer in weighted_layers(pruned).values()])
        largest, sizes = weights[weights == 0].numel(), weights.abs()
        whole = torch.cat([layer.weight.detach().abs().flatten() for layer in weighted_layers(network).values()])
        assert whole[sizes == 0].max() <= whole[sizes > 0].min() if largest else True
        zeros.append(largest / len(weights))
        return int((labels == 0).sum())

    monkeypatch.setattr(inside, "_right", counted)
    assert inside.sweep(network, torch.zeros(4, *SHAPE), torch.tensor([0, 0, 0, 1])) == [0.75] * len(inside.SHARES)
    assert zeros == pytest.approx(inside.SHARES, abs=1e-3)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_without_maps_everything_else_is_looked_at(tmp_path):
    torch.manual_seed(0)
    layers = Network(capture(build(ModelSpec("small_network:dense_layers"), classes=10, channels=1), (1, 8, 8))).eval()
    (tmp_path / "a.trim").write_bytes(trimfile.to_bytes(freeze(layers, InputSpec((1, 8, 8), (0.5,), (0.5,)))))
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (20, 1, 8, 8), np.uint8), random.integers(0, 10, 20)

    def look(**places):
        return inside.look_into_files((tmp_path / "a.trim",) * 2, (images, images), labels, **places)

    found = look()
    assert (found.images, found.similarity, found.examples) == (20, (), ())
    assert [one.name for one in found.weights] == list(weighted_layers(layers))
    assert len(found.sweep) == len(inside.SHARES)
    with pytest.raises(InvalidRecipe, match="the network has no module 'layer9'"):
        look(at=("layer9", "layer9"))
