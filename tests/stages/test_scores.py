"""The contract of every named score, and pruning by the smallest."""

import copy

import pytest
import torch
from tiny import NETWORKS, SHORT, dense, network, resources, same, state
from torch.nn import functional

from paretrim.errors import DataUnavailable, InvalidRecipe, TrainingFailed
from paretrim.network.constraints import set_mask_, weighted_layers
from paretrim.run.pipeline import run_stage
from paretrim.run.recipe import parse_stage, stage_settings
from paretrim.stages.gradients import BATCH, calibration_gradients
from paretrim.stages.prune.score_table import SCORES, channel_scores_of, scores_of
from paretrim.stages.prune.scores import channel_l2
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget

NONE = Budget(epochs=0)
every_score = pytest.mark.parametrize("score", SCORES)
THIS = __name__


def by_position(network, _resources):
    """The user's own: the first weights of a layer matter least."""
    layers = weighted_layers(network)
    return {name: torch.arange(layer.weight.numel()).reshape(layer.weight.shape).float() for name, layer in layers.items()}


def without_a_layer(network, _resources):
    return dict(list(by_position(network, _resources).items())[1:])


def of_another_shape(network, _resources):
    return {name: scores[:1] for name, scores in by_position(network, _resources).items()}


def nothing(_network, _resources):
    return None


def of_numpy(network, _resources):
    return {name: scores.numpy() for name, scores in by_position(network, _resources).items()}


def negative(network, _resources):
    return {name: scores - 1 for name, scores in by_position(network, _resources).items()}


def not_finite(network, _resources):
    return {name: scores / 0 for name, scores in by_position(network, _resources).items()}


@pytest.mark.parametrize("name", NETWORKS)
@every_score
def test_a_score_is_a_number_a_weight_and_leaves_the_network_alone(score, name):
    given, candidate = resources(name), dense(name)
    private = copy.deepcopy(candidate.network).train()
    first = next(iter(weighted_layers(private).values())).weight
    first.grad = torch.ones_like(first)
    before, found = copy.deepcopy(private.state_dict()), scores_of(score, private, given)
    assert {name: scores.shape for name, scores in found.items()} == {
        name: layer.weight.shape for name, layer in weighted_layers(private).items()
    }
    assert all(bool((scores >= 0).all()) and scores.isfinite().all() and scores.any() for scores in found.values())
    assert all(torch.equal(value, before[key]) for key, value in private.state_dict().items() if torch.is_tensor(value))
    assert private.training
    assert torch.equal(first.grad, torch.ones_like(first))
    assert all(parameter.grad is None for parameter in private.parameters() if parameter is not first)
    again = scores_of(score, private, given)
    assert all(torch.equal(found[layer], again[layer]) for layer in found)
    assert not any(scores.requires_grad for scores in found.values())


@every_score
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4", "channel"])
@pytest.mark.parametrize("schedule", ["one_shot", "cubic"])
def test_every_score_prunes_in_every_pattern_and_schedule(score, pattern, schedule):
    if pattern == "2:4" and schedule == "cubic":
        return
    everywhere = {} if pattern == "channel" else {"first": True, "last": True}
    stage = Prune(sparsity=0.5, pattern=pattern, schedule=schedule, score=score, budget=SHORT, **everywhere)
    found = run_stage(dense("residual"), stage, resources("residual"))
    assert parse_stage(stage_settings(stage), "stage") == stage
    if pattern == "channel":
        full = sum(p.numel() for p in network("residual").parameters())
        assert sum(p.numel() for p in found.network.parameters()) < 0.7 * full
    else:
        assert found.history[-1].sparsity == pytest.approx(0.5, abs=0.06)


def test_taylor_is_the_product_of_weight_and_gradient():
    given = resources("plain")
    images, labels = given.labelled_calibration()
    assert len(images) <= BATCH
    private = copy.deepcopy(dense("plain").network).eval()
    functional.cross_entropy(private(images), labels).backward()
    found = scores_of("taylor", private, given)
    for name, layer in weighted_layers(private).items():
        expected = (layer.weight * layer.weight.grad).abs().detach()
        torch.testing.assert_close(found[name], expected.double(), rtol=1e-4, atol=1e-9)


def test_the_smallest_taylor_scores_cost_less_than_the_smallest_magnitudes_before_any_training():
    given = resources("residual")
    losses = {}
    for score in ("taylor", "magnitude", "random"):
        stage = Prune(sparsity=0.6, score=score, first=True, last=True, budget=NONE)
        pruned = stage.begin(dense("residual").network, given).network.eval()
        images, labels = given.labelled_calibration()
        with torch.no_grad():
            losses[score] = float(functional.cross_entropy(pruned(images), labels))
    assert losses["taylor"] < losses["random"]
    assert losses["magnitude"] < losses["random"]


def test_gradients_are_those_of_batches_and_zero_where_masked():
    private = copy.deepcopy(dense("plain").network)
    layer = next(iter(weighted_layers(private).values()))
    mask = torch.ones_like(layer.weight, dtype=torch.bool)
    mask[0] = False
    set_mask_(layer, mask)
    (found,) = calibration_gradients(private, resources("plain"))
    gradient = found[next(iter(weighted_layers(private)))]
    assert not gradient[0].any()
    assert gradient[1].any()


def test_channels_by_magnitude_are_those_of_the_weights_that_compute():
    quantized = Quantize(budget=NONE, weight_bits=3).begin(dense("plain").network, resources("plain")).network
    found = channel_scores_of("magnitude", quantized, resources("plain"))
    for name, layer in weighted_layers(quantized).items():
        assert torch.equal(found[name], channel_l2(layer.effective_weight()))
    others = channel_scores_of("random", quantized, resources("plain"))
    assert torch.equal(others["0.0"], channel_l2(scores_of("random", quantized, resources("plain"))["0.0"]))


def test_a_score_of_ones_own_says_which_weights_go():
    stage = Prune(sparsity=0.5, allocation="uniform", score=f"{THIS}:by_position", first=True, last=True, budget=NONE)
    pruned = stage.begin(dense("plain").network, resources("plain")).network
    for layer in weighted_layers(pruned).values():
        mask = layer.mask.flatten()
        assert not mask[: len(mask) // 2 - 1].any()
        assert mask[len(mask) // 2 + 1 :].all()


@pytest.mark.parametrize(
    ("score", "match"),
    [
        (
            "largest",
            r"prune: score 'largest' is unknown; choose one of magnitude, taylor, random, .*fisher, obs; for your own write",
        ),
        (":by_position", r"prune: score ':by_position' is unknown"),
        ("no_such_module_:f", r"score 'no_such_module_:f': importing 'no_such_module_' failed"),
        (f"{THIS}:by_positoin", r"has no 'by_positoin'; near it are by_position"),
        (f"{THIS}:THIS", r"'THIS' is an object of type builtins.str; it must be a function or class"),
        ("math:sqrt", r"score 'math:sqrt' takes \(x, /\); it is called with network and resources"),
        (f"{THIS}:state", r"score '.*:state' takes .*; it is called with network and resources"),
    ],
)
def test_an_unknown_score_is_refused_early(score, match):
    with pytest.raises(InvalidRecipe, match=match):
        Prune(score=score)


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("without_a_layer", InvalidRecipe, "has none for layer '0.0'; return one tensor for every weighted layer"),
        ("of_another_shape", InvalidRecipe, r"of layer '0.0' has shape \(1, .*return one number per weight"),
        ("nothing", InvalidRecipe, "is None; return a mapping from every weighted layer to a tensor"),
        ("of_numpy", InvalidRecipe, r"of layer '0.0' is an object of type numpy.ndarray; return a tensor of shape \("),
        ("negative", InvalidRecipe, "of layer '0.0' is -1 at its smallest; scores must be 0 or more, and larger means keep"),
        ("not_finite", TrainingFailed, "layer '0.0': .* scores are NaN or infinite; check the weights, or train with a lower"),
    ],
)
def test_score_results_are_checked(name, error, match):
    with pytest.raises(error, match=match):
        Prune(score=f"{THIS}:{name}", first=True).begin(dense("plain").network, resources("plain"))


@pytest.mark.parametrize("settings", [{"first": True}, {"pattern": "channel"}])
@pytest.mark.parametrize("name", ["operator:add", "math:hypot"])
def test_a_score_that_a_library_fails_to_compute_is_a_wrong_name(name, settings):
    with pytest.raises(
        InvalidRecipe, match=f"prune: score '{name}' failed with TypeError: .*; for your own write 'package.module:fun"
    ):
        Prune(score=name, **settings).begin(dense("plain").network, resources("plain"))


def test_regrouping_is_by_magnitude_alone():
    with pytest.raises(
        InvalidRecipe, match=r"regroup orders channels by magnitude, but score is 'taylor'; leave one of them out"
    ):
        Prune(pattern="1x4", regroup=True, score="taylor")


def test_a_score_that_needs_labels_says_so():
    given = resources("plain")
    object.__setattr__(given, "calibration_labels", None)
    with pytest.raises(DataUnavailable, match="calibration images have no labels here"):
        Prune(score="taylor", first=True).begin(dense("plain").network, given)


def test_magnitude_is_the_default_and_is_not_written():
    assert "score" not in stage_settings(Prune())
    assert stage_settings(Prune(score="taylor"))["score"] == "taylor"
    one = Prune(sparsity=0.5, first=True, budget=SHORT)
    explicit = Prune(sparsity=0.5, first=True, budget=SHORT, score="magnitude")
    results = [run_stage(dense("plain"), stage, resources("plain")) for stage in (one, explicit)]
    assert same(*map(state, results))
