"""Studies as data: arms, shares of epochs, and what is refused."""

from pathlib import Path

import pytest

from paretrim.errors import InvalidRecipe
from paretrim.run.recipe import DENSE
from paretrim.search.study_spec import StudySpec, parse_study, read_study
from paretrim.stages.together import Together

STUDIES = Path(__file__).resolve().parents[2] / "studies"


def table(**changes):
    given = {
        "name": "small",
        "seeds": [0, 1],
        "epochs": 10,
        "arms": ["prune quantize distill", "quantize", "prune+distill quantize"],
        "base": {"model": {"network": "resnet20"}, "data": {"name": "digits"}},
        "stages": {
            "prune": {"share": 0.2, "sparsity": 0.5, "budget": {"learning_rate": 0.02}},
            "quantize": {"share": 0.4},
            "distill": {"share": 0.4, "budget": {"learning_rate": 0.03}},
        },
    }
    return given | changes


def epochs(spec: StudySpec) -> dict[str, list[int]]:
    return {label: [stage.budget.epochs for stage in stages] for label, stages in spec.arms}


def test_every_arm_trains_for_equally_long_and_the_dense_one_comes_first() -> None:
    spec = parse_study(table())
    assert epochs(spec) == {
        DENSE: [],
        "prune quantize distill": [2, 4, 4],
        "quantize": [10],
        "prune+distill quantize": [6, 4],
    }
    assert spec.arms[0][0] == DENSE


def test_a_joint_step_has_the_budget_of_its_largest_share_and_parts_without_one() -> None:
    together = dict(parse_study(table()).arms)["prune+distill quantize"][0]
    assert isinstance(together, Together)
    assert [part.name for part in together.parts] == ["prune", "distill"]
    assert together.budget.learning_rate == 0.03


def test_a_recipe_carries_arm_and_seed() -> None:
    spec = parse_study(table())
    label, stages = spec.arms[1]
    recipe = spec.recipe(stages, label, 1)
    assert (recipe.order, recipe.seed, recipe.title) == (("prune", "quantize", "distill"), 1, label)


def test_a_stage_may_have_a_name_of_its_own() -> None:
    stages = table()["stages"] | {"half": {"stage": "prune", "sparsity": 0.5}}
    spec = parse_study(table(arms=["half"], stages=stages))
    assert spec.arms[1][1][0].name == "prune"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seeds": []}, r"seeds is \[\]; list different whole numbers"),
        ({"seeds": [1, 1]}, r"list different whole numbers from 0"),
        ({"epochs": -1}, "epochs is -1; give a whole number from 0"),
        ({"epochs": 4}, r"4 epochs split by .* give \[1, 2, 2\], 5 in all; choose another total"),
        ({"arms": ["prune squeeze"]}, r"arms\[0\]: there is no stage squeeze; known are prune, quantize, distill"),
        (
            {"arms": ["prune+distill quantize"]},
            r"stages\.prune\.budget is \{'learning_rate': 0\.02\}, but a joint arm trains with the budget of its stage with",
        ),
        ({"arms": [""]}, r"arms\[0\] is ''; write stage names"),
        ({"arms": ["prune", "prune"]}, "arms lists an arm twice"),
        ({"base": table()["base"] | {"stages": [{"stage": "prune"}]}}, "base has stages"),
        ({"surprise": 1}, "exactly arms, base, epochs, name, seeds, stages are needed"),
        ({"stages": table()["stages"] | {"quantize": {"share": 0.4, "bits": 8}}}, "quantize.bits: there is no such key"),
    ],
)
def test_what_is_refused(changes, text) -> None:
    with pytest.raises(InvalidRecipe, match=text):
        parse_study(table(**changes))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=r"study '.*nowhere\.toml' cannot be read"):
        read_study(tmp_path / "nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("seeds = [")
    with pytest.raises(InvalidRecipe, match=r"study '.*broken\.toml' is not TOML"):
        read_study(broken)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_studies_of_the_repository_read(path: Path) -> None:
    spec = read_study(path)
    assert spec.name == path.stem
    totals = {sum(counts) for label, counts in epochs(spec).items() if label != DENSE}
    assert totals == {spec.epochs}
