"""HKDP in both descriptions: global sparse momentum, and channels correlated with the teacher's."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import SHORT, dense, network, resources

from paretrim.errors import InvalidRecipe
from paretrim.network.constraints import sparsity, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.stages.prune.gsm import Gsm, active_weights
from paretrim.stages.prune.score_table import channel_scores_of
from paretrim.stages.prune.stage import Prune
from paretrim.stages.prune.teacher_score import likeness
from paretrim.train.training import Step


def test_trained_weights_have_the_largest_products():
    weights = {"a": torch.tensor([[1.0, -2.0], [3.0, 0.5]]), "b": torch.tensor([[0.1, 4.0]])}
    gradients = {"a": torch.tensor([[1.0, 1.0], [-0.1, 4.0]]), "b": torch.tensor([[9.0, 1.0]])}
    found = active_weights(weights, gradients, 0.5, "unstructured")
    assert found["a"].tolist() == [[False, True], [False, True]]  # products 1, 2, 0.3, 2, 0.9 and 4
    assert found["b"].tolist() == [[False, True]]


def test_a_step_leaves_the_gradient_of_exactly_that_share():
    stage = Gsm(sparsity=0.75, first=True, last=True)
    training = stage.begin(dense("plain").network, resources("plain"))
    images, labels = resources("plain").labelled_calibration()
    loss = torch.nn.functional.cross_entropy(training.network(images), labels)
    loss.backward()
    layers = weighted_layers(training.network)
    before = {name: layer.weight.grad.clone() for name, layer in layers.items()}
    stage.observe(training, Step(None, loss.detach(), 0.0, 0, 0))
    active = {name: layer.weight.grad != 0 for name, layer in layers.items()}
    total = sum(layer.weight.numel() for layer in layers.values())
    assert sum(int(some.sum()) for some in active.values()) == total - round(0.75 * total)
    for name, layer in layers.items():
        assert torch.equal(layer.weight.grad, before[name] * active[name])
        assert bool(active[name].any())


def test_other_weights_decay_and_the_final_sparsity_is_exact():
    stage = Gsm(sparsity=0.75, first=True, last=True, budget=replace(SHORT, epochs=12, momentum=0.9, weight_decay=0.05))
    plain = Prune(sparsity=0.75, first=True, last=True)
    training = stage.begin(dense("plain").network, resources("plain"))
    found = run_stage(dense("plain"), stage, resources("plain"))
    total = sum(layer.weight.numel() for layer in weighted_layers(training.network).values())
    assert round(sparsity(found.network) * total) == round(0.75 * total)
    assert plain.sparsity == stage.sparsity


def test_zeros_of_earlier_stages_do_not_learn():
    pruned = run_stage(dense("plain"), Prune(sparsity=0.5, budget=replace(SHORT, epochs=0)), resources("plain"))
    found = run_stage(pruned, Gsm(sparsity=0.6, budget=SHORT), resources("plain")).network
    for name, layer in weighted_layers(pruned.network).items():
        if layer.mask is not None:
            assert not weighted_layers(found)[name].weight[~layer.mask].any()


def test_patterns_without_blocks_are_refused():
    for pattern in ("channel", "2:4"):
        with pytest.raises(InvalidRecipe, match=f"gsm: pattern {pattern} has no blocks to rank; choose unstructured or 1x4"):
            Gsm(pattern=pattern, sparsity=0.5)


def test_similarity_is_the_largest_absolute_correlation():
    random = np.random.default_rng(0)
    own, theirs = random.standard_normal((50, 4)), random.standard_normal((50, 3))
    own[:, 1] = -2 * theirs[:, 2] + 5
    own[:, 3] = 7.0
    found = likeness(torch.from_numpy(own), torch.from_numpy(theirs))
    expected = np.abs(np.corrcoef(own[:, :3].T, theirs.T)[:3, 3:]).max(1)
    np.testing.assert_allclose(found[:3], expected, atol=1e-9)
    assert found[1] == pytest.approx(1.0)
    assert found[3] == 0


def test_a_network_that_is_its_own_teacher_is_ranked_by_its_norms():
    found = copy.deepcopy(network("plain"))
    scores = channel_scores_of("hkdp", found, resources("plain"))
    for name, layer in weighted_layers(found).items():
        norms = layer.weight.detach().double().flatten(1).norm(dim=1)
        torch.testing.assert_close(scores[name], 0.5 * norms / norms.max() + 0.5, rtol=1e-4, atol=1e-5)


def test_another_network_than_the_teacher_is_not():
    scores = channel_scores_of("hkdp", dense("plain").network, resources("plain"))
    norms = weighted_layers(dense("plain").network)["0.0"].weight.detach().double().flatten(1).norm(dim=1)
    likenesses = scores["0.0"] - 0.5 * norms / norms.max()
    assert bool((likenesses < 0.5).any())
    assert bool((likenesses >= 0).all())


def test_the_score_needs_a_teacher():
    said = "score 'hkdp' compares channels with a teacher's, but there is none; name one, or choose magnitude"
    with pytest.raises(InvalidRecipe, match=said):
        channel_scores_of("hkdp", network("plain"), replace(resources("plain"), teacher=None))
