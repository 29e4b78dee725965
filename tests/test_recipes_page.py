"""The page of the recipes and the measured columns of docs/which-recipe.md are what their command makes of the stored lines."""

import pytest
import torch
from script_files import script

from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.run.start import captured
from paretrim.train.checkpoint import save_state


@pytest.fixture(scope="module")
def maker():
    return script("benchmarks/recipes_page.py")


@pytest.fixture(scope="module")
def runner():
    return script("benchmarks/recipes.py")


@pytest.fixture(scope="module")
def known(maker):
    return maker.known()


def line(recipe, seed, accuracy, plain, **facts):
    common = {
        "bytes": 1000,
        "zeros": 0.9,
        "epochs": 10,
        "plain": "the same, labels only",
        "plain_bytes": 2000,
        "plain_zeros": 0.9,
    }
    dense = {f"{of}_{key}": 0.98 if key == "accuracy" else 5000 for of in ("dense", "int8") for key in ("accuracy", "bytes")}
    return {"recipe": recipe, "seed": seed, "accuracy": accuracy, "plain_accuracy": plain, **common, **dense, **facts}


def three(recipe, accuracies, plain):
    return [line(recipe, seed, *pair) for seed, pair in enumerate(zip(accuracies, plain, strict=True))]


def test_the_pages_are_fresh(maker, known):
    stored = maker.read(maker.LINES)
    assert maker.PAGE.read_text(encoding="utf-8") == maker.page(stored, known, maker.read(maker.AGAIN))
    text = maker.WHICH.read_text(encoding="utf-8")
    assert text == maker.which(text, stored)


def test_every_line_is_of_a_recipe_as_it_is_now(maker, runner):
    stored = maker.read(maker.LINES)
    wanted = {(name, seed): recipe for seed in range(3) for name, recipe in runner.recipes(seed)}
    assert [key for key in map(runner.key_of, stored) if key not in wanted] == []
    assert len(runner.fresh(stored, wanted)) == len(stored)


def test_lines_measured_again_are_of_recipes_as_they_are_now_and_stand_apart(maker, runner, known):
    stored, again = maker.read(maker.LINES), maker.read(maker.AGAIN)
    wanted = {(name, seed): recipe for seed in range(3) for name, recipe in runner.recipes(seed)}
    assert len(runner.fresh(again, wanted)) == len(again) > 0
    text = maker.page(stored, known, again)
    assert text.startswith(maker.page(stored, known))
    rows = [row for row in text.partition("## Measured later")[2].splitlines() if row.startswith("| [")]
    assert [row.split("]")[0].removeprefix("| [") for row in rows] == [one["recipe"] for one in again]


def test_every_recipe_has_a_line(maker, known):
    """A new recipe is measured before it lands."""
    assert set(known) == {one["recipe"] for path in (maker.LINES, maker.AGAIN) for one in maker.read(path)}


def test_lines_of_one_seed_begin_with_the_same_dense_network(maker, runner):
    """Lines of different machines or versions would differ in it, and recipes could not be compared with each other."""
    dense = {
        (name, seed): runner.companions(recipe)["dense"].digest for seed in range(3) for name, recipe in runner.recipes(seed)
    }
    found = {}
    for one in maker.read(maker.LINES):
        found.setdefault(dense[runner.key_of(one)], set()).add((one["dense_accuracy"], one["dense_bytes"], one["int8_bytes"]))
    assert {len(facts) for facts in found.values()} == {1}


def test_recipes_with_the_same_goal_prune_and_train_as_much(maker, known):
    """Only then is one of them a fair baseline of the others."""
    for goal, names in maker.SAME_GOAL.items():
        recipes = [known[name] for name in names]
        assert {sum(stage.budget.epochs for stage in one.stages) for one in recipes} == {10}, goal
        assert len({(one.model, one.data, one.dense) for one in recipes}) == 1, goal


def test_a_row_compares_seed_by_seed_and_names_a_direction_only_where_the_interval_does(maker, known):
    lines = three("kd", (0.90, 0.92, 0.94), (0.88, 0.90, 0.92)) + three("hint", (0.90, 0.92, 0.94), (0.88, 0.93, 0.95))
    text = maker.page(lines, known)
    rows = {row.split("]")[0].strip("| ["): row.split(" | ")[1:] for row in text.splitlines() if row.startswith("| [")}
    assert rows["kd"] == [
        *("3", "92.0 ± 5.0", "1,000", "90.0", "10", "the same, labels only", "90.0 ± 5.0", "+2.0 [+2.0, +2.0]", "better |"),
    ]
    assert rows["hint"][-2:] == ["+0.0 [-4.3, +4.3]", "no difference shown |"]
    assert "Of 2 recipes 1 are shown to be better than their baseline and 0 worse;\nfor 1 no difference is shown.\n" in text


def test_the_page_names_recipes_that_are_far_from_their_baseline(maker, known):
    lines = three("kd", (0.90, 0.92, 0.94), (0.90, 0.91, 0.94)) + three("random", (0.2, 0.2, 0.2), (0.9, 0.9, 0.9))
    text = maker.page(lines + three("obs", (0.9, 0.9, 0.9), (0.6, 0.6, 0.6)), known)
    assert "- At most 4 images from their baseline in every seed: 1 of 3 recipes\n" in text
    assert "- More than 10 images ahead of it on average: obs\n" in text
    assert f"on average, or shown to be worse: random\n  - random: {maker.REASONS['random']}\n\n" in text


def test_a_recipe_that_is_shown_to_be_worse_is_named_with_what_is_known_of_why(maker, known):
    text = maker.page(three("kd", (0.90, 0.92, 0.94), (0.92, 0.94, 0.96)), known)
    assert "on average, or shown to be worse: kd\n  - kd: the reason is not known\n\n" in text


def test_lines_with_a_pruned_baseline_have_as_many_zeros_as_it(maker):
    """A baseline that prunes more or less than the recipe says nothing of the method."""
    pruned = ("global magnitude, one shot", "single weights", "dense training, then magnitude", "magnitude, not compensated")
    found = {one["recipe"]: abs(one["zeros"] - one["plain_zeros"]) for one in maker.read(maker.LINES) if one["plain"] in pruned}
    assert {name: off for name, off in found.items() if off > 0.005} == {}
    assert found


def test_one_seed_shows_no_direction(maker, known):
    text = maker.page([line("kd", 0, 0.95, 0.90)], known)
    assert "| 95.0 | 1,000 | 90.0 | 10 | the same, labels only | 90.0 | +5.0 | one seed |\n" in text
    assert "for 0 no difference is shown, and 1 were run with one seed only.\n" in text


@pytest.mark.parametrize(
    ("images", "found"), [(1, "no difference shown"), (2, "better"), (-1, "no difference shown"), (-2, "worse")]
)
def test_a_few_images_show_no_direction_though_every_seed_agrees(images, found, maker):
    """One image more in each of three seeds has an interval of no width; a sign test of three images decides nothing."""
    assert maker.verdict(dict.fromkeys(range(3), images / 360)) == found


def test_the_last_column_says_what_was_measured_of_every_recipe_of_a_row(maker):
    table = (
        "| goal | use | why | on digits |\n|---|---|---|---|\n"
        "| one | [kd](../recipes/methods/kd.toml) | words | old |\n"
        "| two | [kd](../recipes/methods/kd.toml), [dkd](../recipes/methods/dkd.toml) | words | |\n"
    )
    found = maker.by_recipe(three("kd", (0.90, 0.92, 0.94), (0.88, 0.90, 0.92)))
    told = "92.0 ± 5.0 %; against *the same, labels only* +2.0 [+2.0, +2.0]: better"
    assert maker.with_measured(table, found).splitlines()[2:] == [
        f"| one | [kd](../recipes/methods/kd.toml) | words | {told} |",
        "| two | [kd](../recipes/methods/kd.toml), [dkd](../recipes/methods/dkd.toml) | words | "
        f"kd: {told} <br> dkd: not run yet |",
    ]


def test_recipes_are_compared_only_on_the_same_dense_network(maker):
    """Lines of another machine or version begin with other weights, whatever their seed."""
    kd, dkd = three("kd", (0.90, 0.92, 0.94), (0.9, 0.9, 0.9)), three("dkd", (0.91, 0.93, 0.95), (0.9, 0.9, 0.9))
    dkd[2]["dense_bytes"] += 1
    found = maker.by_recipe(kd + dkd)
    assert found["dkd"].against_recipe(found["kd"]) == pytest.approx({0: 0.01, 1: 0.01})
    assert "| [dkd](../recipes/methods/dkd.toml) | 93.0 ± 5.0 | +1.0 [+1.0, +1.0] |" in maker.same_goal(found)
    other = maker.by_recipe(kd + [{**one, "dense_accuracy": 0.5} for one in dkd])
    assert "| [dkd](../recipes/methods/dkd.toml) | 93.0 ± 5.0 | – |  |" in maker.same_goal(other)


def test_a_teacher_trained_here_loads_as_weights_of_its_module(runner, tmp_path):
    """A recipe that expects weights from the user gets those of a network that was trained captured."""
    spec = ModelSpec("small_network:resnet8")
    network = captured(spec, load(DataSpec(name="digits")), seed=1).eval()
    save_state(tmp_path / "teacher.safetensors", runner.as_torch_names_them(network.state_dict()), {})
    module = build(ModelSpec(spec.network, str(tmp_path / "teacher.safetensors")), classes=10, channels=1).eval()
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module(images), network(images), atol=1e-5)
    assert not torch.allclose(build(spec, classes=10, channels=1).eval()(images), network(images), atol=1e-2)
