"""A study compares its networks with a teacher: the figures are those of ``inspect --compare``, found once for every line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paretrim.cli import main
from paretrim.errors import InvalidRecipe
from paretrim.report import document, page
from paretrim.results.run_folder import TRIM_FILE
from paretrim.results.store import decode, encode, latest, read
from paretrim.run.progress import silent
from paretrim.search.study import OUTCOMES, run_study
from paretrim.search.study_spec import StudySpec, parse_study

BUDGET = {"batch_size": 50, "learning_rate": 0.05}


def study(**changes: object) -> StudySpec:
    table = {
        "name": "taught",
        "seeds": [0],
        "epochs": 1,
        "dense": False,
        "arms": ["labels", "kd"],
        "compare": {"teacher": "deep", "at": "3", "teacher_at": "layer2"},
        "base": {
            "model": {"network": "small_network:make"},
            "data": {"name": "digits", "train_images": 200},
            "teachers": [{"name": "deep", "network": "small_network:resnet8", "seed": 7, "dense": {"epochs": 1, **BUDGET}}],
        },
        "stages": {"labels": {"stage": "finetune", "budget": BUDGET}, "kd": {"stage": "distill", "budget": BUDGET}},
    }
    return parse_study(table | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("taught")
    run_study(study(), made / "run", made / "results")
    return made


def trims(folder: Path) -> dict[str, Path]:
    index = json.loads((folder / "run" / "index.json").read_text())
    return {entry["label"]: folder / "run" / entry["folder"] / TRIM_FILE for entry in index}


def test_the_figures_are_those_of_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = latest(read(folder / "results" / OUTCOMES))
    assert [one.label for one in outcomes] == ["labels", "kd"]
    (teacher,) = (folder / "run" / "teachers" / "deployed").glob(f"*/{TRIM_FILE}")
    for outcome in outcomes:
        files = (str(teacher), str(trims(folder)[outcome.label]))
        capsys.readouterr()
        command = ["inspect", "--compare", *files, "--data", "digits", "--inside", "--at", "layer2", "--at", "3", "--json"]
        assert main(command) == 0
        said = json.loads(capsys.readouterr().out)
        found = outcome.likeness
        assert found is not None
        assert (found.agreement, found.teacher) == (said["agreement"], "deep")
        assert (found.teacher_value, outcome.deployed_value) == tuple(said["accuracy"])
        assert [found.teacher_calibration_error, found.calibration_error] == pytest.approx(said["calibration_error"])
        assert found.kl == pytest.approx(said["kl"])
        maps = said["inside"]["grad_cam"]
        assert (found.grad_cam_images, found.grad_cam_at) == (len(maps["images"]), ("layer2", "3"))
        assert found.grad_cam == pytest.approx(np.mean(maps["images"]))
        assert 0 < found.grad_cam < 1


def test_lines_without_a_comparison_get_one_and_nothing_is_trained_again(folder: Path) -> None:
    before = latest(read(folder / "results" / OUTCOMES))
    assert run_study(study(), folder / "run", folder / "results") == before  # nothing is left to compare
    store = folder / "again" / OUTCOMES
    store.parent.mkdir()
    store.write_text("".join(f"{encode(replace(one, likeness=None))}\n" for one in before))
    said: list[str] = []
    again = run_study(study(), folder / "run", store.parent, watcher=replace(silent(), note=said.append))
    assert again == before
    assert not [one for one in said if one.startswith("taught: seed")]
    elsewhere = run_study(study(compare={"teacher": "deep"}), folder / "run", store.parent)
    assert [one.likeness.grad_cam_at for one in elsewhere if one.likeness] == [("", "")] * 2
    assert [one.likeness.kl for one in elsewhere if one.likeness] == [one.likeness.kl for one in before if one.likeness]


def test_a_line_whose_file_is_gone_is_left_and_named(folder: Path, tmp_path: Path) -> None:
    lines = [replace(one, likeness=None) for one in latest(read(folder / "results" / OUTCOMES))]
    (tmp_path / OUTCOMES).write_text("".join(f"{encode(one)}\n" for one in lines))
    said: list[str] = []
    found = run_study(study(), tmp_path / "run", tmp_path, watcher=replace(silent(), note=said.append))
    assert found == tuple(lines)
    (named,) = [one for one in said if one.startswith("kd")]
    assert named.startswith(f"kd, seed 0: not compared with the teacher, since its file is not in '{tmp_path / 'run'}'; delete")


def test_the_pages_have_a_table(folder: Path) -> None:
    outcomes = latest(read(folder / "results" / OUTCOMES))
    assert [decode(encode(one)) for one in outcomes] == list(outcomes)
    text, html = document.render(outcomes), page.render(outcomes)
    assert "- Epochs: 1 for every arm with stages" in text
    assert "- Teacher: small_network:resnet8, trained for 1 epochs" in text
    first = outcomes[1].likeness
    assert first is not None
    row = f"| kd | 1 | {100 * outcomes[1].deployed_value:.2f} | {100 * first.agreement:.2f} | {first.kl:.3f} "
    row += f"| {100 * first.calibration_error:.2f} | {first.grad_cam:.3f} |"
    assert row in text.split("## Like the teacher")[1]
    assert f"| the teacher, deep | – | {100 * first.teacher_value:.2f} | – | – |" in text
    assert "at layer2 of the teacher and 3 of the network" in text
    assert '<section id="teacher">' in html
    assert f"<td>{100 * first.agreement:.2f}<td>{first.kl:.3f}<td>" in html
    without = [replace(one, likeness=None) for one in outcomes]
    assert "Like the teacher" not in document.render(without)
    assert 'id="teacher"' not in page.render(without)


def test_several_seeds_have_an_interval(folder: Path) -> None:
    outcomes = latest(read(folder / "results" / OUTCOMES))
    first = outcomes[0]
    assert first.likeness is not None
    other = replace(first, seed=1, likeness=replace(first.likeness, kl=first.likeness.kl + 0.2))
    text = document.render([first, other]).split("## Like the teacher")[1]
    # Half of Student's interval of two values that lie 0.2 apart: 12.706 * 0.1
    assert f"| {first.likeness.kl + 0.1:.3f} ± 1.271 |" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"compare": {"teacher": "shallow"}}, r"study\.compare\.teacher is 'shallow'; name one of \[\[base\.teachers\]\]: deep"),
        ({"compare": "deep"}, r"""study\.compare is 'deep'; write \{ teacher = "NAME" \}"""),
        ({"compare": {"at": "3"}}, r"study\.compare.*teacher"),
        ({"dense": "no"}, r"study\.dense is 'no'; write true, or false in a study that lists arms"),
        ({"dense": False, "arms": []}, r"study\.dense is False; write true, or false in a study that lists arms"),
    ],
)
def test_what_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidRecipe, match=text):
        study(**changes)


@pytest.mark.parametrize(
    ("compare", "text"),
    [
        ({"at": "layer2"}, r"compare\.at: the network has no module 'layer2'"),
        (
            {"teacher_at": "linear"},
            r"compare\.teacher_at: Grad-CAM looks at a map .* 'linear' returns values of shape \[10\]; name a",
        ),
        ({"teacher_at": "layer9"}, r"compare\.teacher_at: the network has no module 'layer9'; near it are layer3"),
    ],
)
def test_modules_are_looked_for_before_anything_trains(compare: dict[str, str], text: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=text):
        run_study(study(compare={"teacher": "deep", **compare}), tmp_path / "run", tmp_path / "results")
    assert not (tmp_path / "run").exists()


def test_a_task_without_classes_has_nothing_to_compare(tmp_path: Path) -> None:
    base = {
        "model": {"network": "small_network:make"},
        "data": {"name": "digits", "train_images": 200},
        "task": "regression",
        "teachers": [{"name": "deep", "network": "small_network:resnet8"}],
    }
    with pytest.raises(InvalidRecipe, match="compare needs classes, and the task is regression; leave it out"):
        run_study(study(base=base), tmp_path / "run", tmp_path / "results")


def test_networks_without_maps_have_nothing_for_grad_cam(tmp_path: Path) -> None:
    base = {
        "model": {"network": "small_network:dense_layers"},
        "data": {"name": "digits", "train_images": 200},
        "teachers": [{"name": "deep", "network": "small_network:resnet8"}],
    }
    with pytest.raises(InvalidRecipe, match=r"compare looks at maps of height and width .* leave it out"):
        run_study(study(base=base, compare={"teacher": "deep"}), tmp_path / "run", tmp_path / "results")
    assert not (tmp_path / "run").exists()
