"""CRD and ReviewKD against direct computations."""

import math
from dataclasses import replace

import pytest
import torch
from distilled_outputs import OtherTask, assert_gradient, between, normal
from tiny import CLASSES, FLOAT32, SHORT, Residual, dense, image_set, network, resources
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretrim import IndexedDataset
from paretrim.errors import InvalidRecipe
from paretrim.run.own import start_from_loaders
from paretrim.run.pipeline import run_stage, run_stages
from paretrim.stages.distill.contrast import UNSEEN, Contrast, _labels, _OtherClasses, contrast
from paretrim.stages.distill.features import attention_distance
from paretrim.stages.distill.review import FeatureFusion, Review, hierarchical
from paretrim.stages.distill.stage import Distill
from paretrim.stages.finetune import FineTune
from paretrim.train.task import CLASSIFICATION

IMAGES = 120
INDICES = torch.tensor([5, 0, 17, 64, 99, 3])
STUDENT, TEACHER = normal(6, 12), normal(6, 12, seed=1)


def bank_of(**settings):
    torch.manual_seed(4)
    criterion = Contrast(**{"negatives": 10, "dimensions": 8, **settings})
    return criterion, criterion.begin(network("residual"), resources("residual"))["contrast"]


def labels_of(indices):
    return image_set().labels[indices]


@pytest.mark.parametrize("settings", [{}, {"draw": "batch", "embedding": "mlp"}], ids=["published", "simplified"])
def test_crd_is_its_formula(settings, monkeypatch):
    criterion, bank = bank_of(**settings)
    banks = bank.teacher_bank.double(), bank.student_bank.double()
    drawn = {}
    draw = bank._negatives
    monkeypatch.setattr(bank, "_negatives", lambda *given: drawn.setdefault("found", draw(*given)))
    loss = bank(STUDENT, TEACHER, INDICES, labels_of(INDICES))
    embedded = [
        functional.normalize(embedding(features).detach().double())
        for embedding, features in ((bank.student, STUDENT), (bank.teacher, TEACHER))
    ]
    expected = 0.0
    for table, ours in zip(banks, embedded, strict=True):
        rows = [[int(image), *drawn["found"][number].tolist()] for number, image in enumerate(INDICES)]
        raw = [[math.exp(float(table[j] @ ours[i]) / 0.07) for j in row] for i, row in enumerate(rows)]
        scale = IMAGES * sum(map(sum, raw)) / (6 * 11)
        noise = 10 / IMAGES
        for row in raw:
            same, *others = (one / scale for one in row)
            expected -= math.log(same / (same + noise)) + sum(math.log(noise / (one + noise)) for one in others)
    assert loss.item() == pytest.approx(expected / 6, rel=1e-4)
    assert criterion.term(CLASSIFICATION).weight_at(0.0) == 0.8


def test_the_bank_moves_half_way_and_only_where_images_were_seen():
    _, bank = bank_of()
    before = bank.student_bank.clone(), bank.teacher_bank.clone()
    bank(STUDENT, TEACHER, INDICES, labels_of(INDICES))
    for old, new, embedding, features in (
        (before[0], bank.student_bank, bank.student, STUDENT),
        (before[1], bank.teacher_bank, bank.teacher, TEACHER),
    ):
        moved = functional.normalize(old[INDICES] + functional.normalize(embedding(features)))
        torch.testing.assert_close(new[INDICES], moved)
        others = torch.ones(IMAGES, dtype=torch.bool)
        others[INDICES] = False
        assert torch.equal(new[others], old[others])
        assert not new.requires_grad


def test_the_scale_is_that_of_the_first_batch():
    _, bank = bank_of()
    assert not bank.scale.any()
    bank(STUDENT, TEACHER, INDICES, labels_of(INDICES))
    first = bank.scale.clone()
    assert (first > 0).all()
    bank(TEACHER, STUDENT, INDICES, labels_of(INDICES))
    assert torch.equal(bank.scale, first)


def test_negatives_come_from_other_classes_and_from_all_of_their_images():
    _, bank = bank_of(negatives=3000)
    labels = torch.arange(CLASSES)
    found = bank._negatives(torch.arange(CLASSES), labels)
    assert found.shape == (CLASSES, 3000)
    for label, drawn in enumerate(found):
        assert set(drawn.tolist()) == {image for image in range(IMAGES) if image % CLASSES != label}
        counts = drawn.bincount(minlength=IMAGES)
        assert float(counts.max()) < 3 * 3000 / 90


def test_one_draw_serves_the_whole_batch():
    _, bank = bank_of(draw="batch", negatives=2000)
    found = bank._negatives(INDICES, labels_of(INDICES))
    assert found.shape == (6, 2000)
    assert (found == found[0]).all()
    assert set(found[0].tolist()) == set(range(IMAGES))


def test_gradients_of_crd_are_those_of_the_loss():
    likeness = normal(4, 6).exp()
    assert_gradient(lambda x: contrast(x.exp(), 0.3), likeness.log())
    _, bank = bank_of()
    bank.eval()
    bank.scale = torch.tensor([50.0, 70.0])

    def loss(features):
        torch.manual_seed(1)
        return bank(features, TEACHER, INDICES, labels_of(INDICES))

    assert_gradient(loss, STUDENT, step=2e-3)


def test_crd_learns_to_match_images():
    """A free student learns features closer to the teacher's of the same image than to those of others."""
    _, bank = bank_of(negatives=40)
    features = nn.Parameter(normal(IMAGES, 12))
    teacher = normal(IMAGES, 12, seed=9)
    every, labels = torch.arange(IMAGES), image_set().labels
    optimizer = torch.optim.SGD([features, *bank.parameters()], lr=0.2)
    losses = []
    for _ in range(40):
        loss = bank(features, teacher, every, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_crd_needs_positions_classes_and_more_than_one_of_them():
    given_resources = resources("residual")
    with pytest.raises(
        InvalidRecipe,
        match=r"a loss remembers every training image, and the loader does not say which .* paretrim\.IndexedDataset",
    ):
        Contrast().begin(network("residual"), replace(given_resources, images=None))
    with pytest.raises(InvalidRecipe, match='crd with draw = "image" needs classes, but the task is other'):
        Contrast().begin(network("residual"), replace(given_resources, task=OtherTask()))
    same = replace(image_set(), labels=torch.zeros(IMAGES, dtype=torch.int64))
    with pytest.raises(InvalidRecipe, match="crd draws images of other classes, but there is only one class"):
        Contrast().begin(network("residual"), resources("residual", images=same))


def own_loaders(*, indexed):
    """The tiny images as a user's data set, with a shuffled loader that drops the last few, and a validation loader."""
    images = image_set()
    data = TensorDataset(images.images.float() / 255, images.labels)
    shuffled = {"shuffle": True, "generator": torch.Generator(), "drop_last": True}
    return DataLoader(IndexedDataset(data) if indexed else data, 50, **shuffled), DataLoader(data, 60)


def test_crd_learns_from_a_loader_with_positions(tmp_path):
    start = start_from_loaders(Residual(), *own_loaders(indexed=True), seed=3, execution=FLOAT32)
    assert (start.images, start.positions) == (None, IMAGES)
    stage = Distill(budget=SHORT, criteria=(Contrast(negatives=10, dimensions=8),))
    _, candidate = run_stages(start, [stage], tmp_path)
    assert len(candidate.history) == 1
    resources = start.resources(None)
    assert resources.images == IMAGES
    labels = image_set().labels
    seen = _labels(resources)
    assert int((seen == UNSEEN).sum()) == IMAGES - 100
    assert torch.equal(seen[seen != UNSEEN], labels[seen != UNSEEN])
    drawn = _OtherClasses(seen)(labels[:4], 2000)
    assert not bool((seen[drawn] == UNSEEN).any())
    assert not bool((labels[drawn] == labels[:4, None]).any())
    assert len(drawn.unique()) == 100


def test_crd_without_positions_is_refused_before_training(tmp_path):
    start = start_from_loaders(Residual(), *own_loaders(indexed=False), execution=FLOAT32)
    stages = [FineTune(budget=SHORT), Distill(budget=SHORT, criteria=(Contrast(),))]
    with pytest.raises(InvalidRecipe, match=r"stage 2 \(distill\): a loss remembers every training image"):
        run_stages(start, stages, tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


SHAPES = ((4, 8, 8), (6, 8, 8)), ((6, 4, 4), (8, 4, 4)), ((10, 1, 1), (12, 1, 1))


def test_a_fusion_is_its_formula():
    torch.manual_seed(2)
    fusion = FeatureFusion((4, 8, 8), (6, 4, 4), 5, fuses=True).eval()
    x, deeper = normal(2, 4, 8, 8), normal(2, 5, 4, 4, seed=1)
    found, passed = fusion(x, deeper)
    inner, larger = fusion.enter(x), deeper.repeat_interleave(2, 2).repeat_interleave(2, 3)
    weights = torch.sigmoid(fusion.attention[0](torch.cat((inner, larger), 1)))
    mixed = inner * weights[:, 0:1] + larger * weights[:, 1:2]
    torch.testing.assert_close(passed, mixed[:, :, ::2, ::2])
    torch.testing.assert_close(found, fusion.leave(mixed[:, :, ::2, ::2]))
    assert found.shape == (2, 6, 4, 4)


def test_the_hierarchical_distance_is_its_formula():
    student, teacher = normal(2, 3, 8, 8), normal(2, 3, 8, 8, seed=1)
    expected, total = functional.mse_loss(student, teacher), 1.0
    for kernel, weight in ((2, 0.5), (4, 0.25), (8, 0.125)):
        expected = expected + weight * functional.mse_loss(
            functional.avg_pool2d(student, kernel), functional.avg_pool2d(teacher, kernel)
        )
        total += weight
    torch.testing.assert_close(hierarchical(student, teacher), expected / total)
    assert hierarchical(student, student) == 0
    point = normal(2, 3, 1, 1), normal(2, 3, 1, 1, seed=1)
    torch.testing.assert_close(hierarchical(*point), functional.mse_loss(*point))
    assert_gradient(lambda x: hierarchical(x, teacher), student)


def test_review_compares_every_pair_from_the_deepest():
    criterion = Review(at=("stem", "down", "penultimate"), channels=8)
    modules = criterion.begin(network("residual"), resources("residual"))
    assert [fusion.attention is None for fusion in modules["fusions"]] == [False, False, True]
    term = criterion.term(CLASSIFICATION)
    assert [term.weight_at(progress) for progress in (0.0, 1 / 24, 0.5)] == [0.0, 2.5, 5.0]
    student = {"stem": normal(2, 8, 8, 8), "down": normal(2, 12, 4, 4), "penultimate": normal(2, 12)}
    teacher = {name: normal(*value.shape, seed=7) for name, value in student.items()}
    modules.eval()
    outputs = replace(between(STUDENT[:2], TEACHER[:2], extra=modules), features=student, teacher_features=teacher)
    modules["fusions"].train = lambda _mode: None
    loss, deeper = 0.0, None
    for name, fusion in zip(("penultimate", "down", "stem"), reversed(list(modules["fusions"])), strict=True):
        x = student[name] if student[name].dim() == 4 else student[name][:, :, None, None]
        found, deeper = fusion(x, deeper)
        loss = loss + hierarchical(found, teacher[name].reshape(found.shape))
    torch.testing.assert_close(term.function(outputs), loss)


def test_a_last_batch_of_one_image_is_reviewed():
    stage = Distill(
        criteria=({"loss": "review", "at": ["down", "penultimate"]},), budget=replace(SHORT, epochs=1, batch_size=119)
    )
    assert run_stage(dense("residual"), stage, resources("residual")).history[-1].epochs == 1


def test_attention_of_one_pixel_has_no_loss():
    assert attention_distance(normal(2, 3, 1, 1), normal(2, 3, 1, 1, seed=1)) == 0
