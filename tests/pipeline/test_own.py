from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import CLASSES, FLOAT32, MEAN, NETWORKS, SHORT, STD, image_set, same, state
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from paretrim.data.batches import EvalBatches
from paretrim.errors import DataUnavailable, InvalidRecipe, UnsupportedOperation
from paretrim.graph.interpreter import run
from paretrim.network.freeze import freeze
from paretrim.run.own import start_from_loaders
from paretrim.run.pipeline import run_stages
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.stages.together import Together
from paretrim.train.evaluate import evaluate
from paretrim.train.tasks import Regression


def dataset():
    batch = next(iter(EvalBatches(images=image_set(), batch_size=120, mean=MEAN, std=STD).epoch(0)))
    return TensorDataset(batch.inputs, batch.labels)


def loaders(*, size=40, generator=None):
    return DataLoader(dataset(), size, shuffle=True, generator=generator), DataLoader(dataset(), 60)


def begun(**settings):
    torch.manual_seed(7)
    return start_from_loaders(NETWORKS["residual"](), *loaders(), **{"execution": FLOAT32, **settings})


def test_a_users_module_and_loaders_reach_a_frozen_file(tmp_path):
    start = begun(classes=["a", "b", "c", "d"])
    stages = (Prune(budget=replace(SHORT, epochs=12), sparsity=0.5), Quantize(budget=SHORT))
    found = run_stages(start, stages, tmp_path)[-1]
    graph = freeze(found.network, start.spec)
    assert graph.quantized
    assert graph.classes == ("a", "b", "c", "d")
    assert not graph.input.takes_pixels
    images, labels = dataset().tensors
    accuracy = float((run(graph, images.numpy()).argmax(1) == labels.numpy()).mean())
    assert accuracy == pytest.approx(found.history[-1].value_after, abs=0.05)
    assert accuracy > 0.5


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_the_same_command_finds_and_repeats_its_results(generator, tmp_path):
    stage = Together(parts=(Prune(sparsity=0.5), Quantize()), budget=replace(SHORT, epochs=1))
    results = []
    for folder in ("one", "two"):
        torch.manual_seed(7)
        module = NETWORKS["depthwise"]()
        torch.rand(5)  # whatever else drew from the global stream
        start = start_from_loaders(module, *loaders(generator=generator), execution=FLOAT32, seed=3)
        results.append((start.key(), run_stages(start, (stage,), tmp_path / folder)[-1]))
    assert results[0][0] == results[1][0]
    assert same(state(results[0][1]), state(results[1][1]))


def test_the_callers_random_numbers_and_module_are_left_alone():
    module = NETWORKS["depthwise"]().train()
    before = state(module)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    start_from_loaders(module, *loaders(), execution=FLOAT32)
    assert torch.equal(torch.rand(3), expected)
    assert module.training
    assert same(before, state(module))


def test_the_batch_size_is_the_loaders_own():
    start = begun()
    for size in (1, 7, 4096):
        assert [len(batch.labels) for batch in start.train(size).epoch(0)] == [40, 40, 40]
    assert start.images is None
    assert start.classes == CLASSES


def test_calibration_takes_the_first_training_images():
    assert begun(calibration_images=50).calibration.shape == (50, 3, 8, 8)
    assert begun().calibration.shape == (120, 3, 8, 8)


def test_what_tells_runs_apart():
    keys = {begun().key(), begun(seed=1).key(), begun(data_name="v2").key(), begun(calibration_images=9).key()}
    assert len(keys) == 4
    assert begun().key() in keys
    train, _ = loaders()
    images, labels = dataset().tensors
    for place in (0, -1):  # a label of the validation set was corrected
        corrected = labels.clone()
        corrected[place] = (corrected[place] + 1) % CLASSES
        torch.manual_seed(7)
        keys.add(start_from_loaders(NETWORKS["residual"](), train, loader_of(images, corrected), execution=FLOAT32).key())
    assert len(keys) == 6


def loader_of(images, labels):
    return DataLoader(TensorDataset(images, labels), 4)


def test_labels_to_evaluate_on_are_classes():
    train, _ = loaders()
    wrong = loader_of(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 9]))
    start = start_from_loaders(nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES)), train, wrong, execution=FLOAT32)
    with pytest.raises(
        DataUnavailable, match=r"have labels 0\.\.9 and the network has 4 outputs \(0\.\.3\); number the classes from 0"
    ):
        evaluate(start.network, start.validation.epoch(0), torch.device("cpu"))


def nan_network():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    nn.init.constant_(module[1].bias, torch.nan)
    return module


def test_numbers_that_the_network_does_not_use_may_be_anything():
    module = NETWORKS["depthwise"]()
    module.register_buffer("best_loss", torch.tensor(torch.inf))
    start_from_loaders(module, *loaders(), execution=FLOAT32)


def test_numbers_of_numpy_are_numbers():
    module = NETWORKS["depthwise"]()
    found = start_from_loaders(module, *loaders(), execution=FLOAT32, seed=np.int64(3), calibration_images=np.int32(8))
    same = start_from_loaders(module, *loaders(), execution=FLOAT32, seed=3, calibration_images=8)
    assert (type(found.seed), found.key()) == (int, same.key())


def negative_variance():
    module = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, CLASSES))
    module[0].running_var[1] = -1
    return module


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"calibration_images": 0}, InvalidRecipe, "calibration_images is 0; quantizers need at least 1"),
        ({"calibration_images": "all"}, InvalidRecipe, "calibration_images is 'all'; quantizers need at least 1, a whole number"),
        ({"seed": 0.5}, InvalidRecipe, "seed is 0.5; give a whole number from 0"),
        ({"execution": "cpu"}, InvalidRecipe, r"execution is 'cpu'; give paretrim\.Execution\(device='cpu'\), or leave it out"),
        ({"task": "regression"}, InvalidRecipe, r"task is 'regression'; give an object, such as .* paretrim\.Regression\(\)"),
        ({"task": 3}, InvalidRecipe, r"task is 3; give an object, such as .* paretrim\.Regression\(\)"),
        ({"task": Regression}, InvalidRecipe, r"task is <class .*; give an object, such as"),
        ({"seed": -1}, InvalidRecipe, "seed is -1; give a whole number from 0 to 4294967295"),
        (
            {"classes": "abcd"},
            InvalidRecipe,
            "classes is 'abcd'; give a list of texts, the name of each class in order, or leave",
        ),
        ({"classes": [0, 1, 2, 3]}, InvalidRecipe, r"classes is \[0, 1, 2, 3\]; give a list of texts, the name of each class"),
        ({"classes": 4}, InvalidRecipe, "classes is 4; give a list of texts"),
        (
            {"classes": ["a", "b", "c", "ü" * 2049]},
            InvalidRecipe,
            "the class name 'ü.* cannot be kept in a file: give at most 4,096",
        ),
        ({"classes": ["\ud800", "b", "c", "d"]}, InvalidRecipe, "the class name .* cannot be kept .* without lone surrogates"),
        ({"classes": ["a", "b\n", "c", "d"]}, InvalidRecipe, r"class name 'b\\n' has a character that does not print"),
        ({"classes": ["a", "b"]}, UnsupportedOperation, "returns 4 logits, but the data has 2 classes"),
        ({"module": nn.Conv2d(3, 4, 3)}, DataUnavailable, r"a map \[4, 6, 6\] for each image, and classification learns from"),
        (
            {"train_loader": loader_of(torch.zeros(4, 3, 8, 8), torch.arange(4) + 1)},
            DataUnavailable,
            r"the training loader has labels 1\.\.4 and the network has 4 outputs \(0\.\.3\); number the classes from 0",
        ),
        (
            {"validation_loader": loader_of(torch.zeros(4, 3, 9, 9), torch.arange(4))},
            DataUnavailable,
            r"training images are \(3, 8, 8\) and validation images \(3, 9, 9\); they must be alike",
        ),
        (
            {"module": nn.Sequential(nn.Flatten(), nn.Linear(192, 1))},
            DataUnavailable,
            "the network returns one number for each image, as for regression or binary classification with one output; for two",
        ),
        ({"train_loader": loader_of}, DataUnavailable, "the loader is of type function; it must"),
        (
            {"train_loader": loader_of(torch.full((4, 3, 8, 8), torch.nan), torch.arange(4))},
            DataUnavailable,
            "batch 0 of the loader has NaN or infinity among its inputs",
        ),
        (
            {"module": torch.relu},
            UnsupportedOperation,
            "the model is of type builtin_function_or_method; it must be an nn.Module",
        ),
        ({"module": negative_variance()}, UnsupportedOperation, "'0.running_var' of the model is -1 in a channel, but a"),
        ({"module": nan_network()}, UnsupportedOperation, "'1.bias' of the model contains NaN or infinity"),
        ({"train_loader": loader_of(torch.zeros(0, 3, 8, 8), torch.arange(0))}, DataUnavailable, "the loader has no batches"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(change, kind, text):
    train, validation = loaders()
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    given = {"module": module, "train_loader": train, "validation_loader": validation, "execution": FLOAT32, **change}
    with pytest.raises(kind, match=text):
        start_from_loaders(**given)
