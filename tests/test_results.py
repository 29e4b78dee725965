"""The pages of the studies say what the lines in results/ say: each is made again and compared, byte for byte."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from paretrim.bench.types import Latency, Machine
from paretrim.cli import main
from paretrim.errors import CorruptFile
from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.results import store
from paretrim.results.outcome import Outcome
from paretrim.search.study_spec import read_study

ROOT = Path(__file__).resolve().parent.parent
STORE = "outcomes.jsonl"
INDEX = "README.md"


def study_files() -> list[Path]:
    """The studies whose lines are in results/."""
    return [ROOT / "studies" / f"{folder.name}.toml" for folder in sorted((ROOT / "results").glob("*")) if folder.is_dir()]


@pytest.mark.parametrize("path", study_files(), ids=lambda path: path.stem)
def test_a_study_still_is_the_one_its_lines_come_from(path):
    """A default that moves must not make a study go on with other settings: new lines would stand beside old ones."""
    spec = read_study(path)
    made = {(spec.recipe(stages, label, seed).digest, seed) for seed in spec.seeds for label, stages in spec.arms}
    lines = store.latest(store.read(ROOT / "results" / path.stem / STORE))
    assert {(line.recipe, line.seed) for line in lines} <= made


def stale(root: Path, scratch: Path) -> list[str]:
    """What is wrong with the studies below ``root``; pages are made again in ``scratch``."""
    found = []
    studies = sorted(path for path in (root / "results").glob("*") if path.is_dir())
    for study in studies:
        try:
            content = (study / STORE).read_bytes()
            outcomes = store.read(study / STORE)
        except (FileNotFoundError, CorruptFile) as error:
            found.append(f"results/{study.name} does not read: {error}")
            continue
        if {outcome.study for outcome in outcomes} != {study.name}:
            found.append(f"results/{study.name} holds lines of another study, or none")
            continue
        found += [f"{page} is missing or stale" for page in remade(study.name, content, root, scratch)]
    known = {path.name for path in studies} | {path.stem for path in (root / "results").glob("*.jsonl")}
    pages = [*(root / "docs" / "studies").glob("*.md"), *(root / "docs" / "figures").glob("*.svg")]
    return found + [f"{page.name} belongs to no study" for page in pages if page.name != INDEX and page.stem not in known]


def remade(study: str, content: bytes, root: Path, scratch: Path) -> list[str]:
    """Pages of a study that differ from those made from its lines now."""
    copy = scratch / "results" / study / STORE
    copy.parent.mkdir(parents=True)
    copy.write_bytes(content)
    made = make(scratch, study)
    there = {page: (root / page).read_bytes() if (root / page).is_file() else None for page in made}
    return [page for page in made if (scratch / page).read_bytes() != there[page]]


def make(root: Path, study: str) -> tuple[str, str]:
    """Run the command of docs/studies/README.md; the page and its figure, as seen from the root."""
    page, figure = f"docs/studies/{study}.md", f"docs/figures/{study}.svg"
    lines = root / "results" / study / STORE
    assert main(["report", str(lines), "--markdown", str(root / page), "--figure", str(root / figure), "--json"]) == 0
    return page, figure


def line(label: str, seed: int, accuracy: float) -> Outcome:
    """A line of the study 'example' with one layer and one latency."""
    return Outcome(
        study="example",
        recipe=label,
        label=label,
        order=("prune",) if label != "dense" else (),
        seed=seed,
        data="digits",
        network="resnet20",
        trained_value=accuracy,
        deployed_value=accuracy,
        agreement=1.0,
        test_images=360,
        runtime="onnxruntime",
        file="model.onnx",
        file_bytes=1000,
        entropy_bytes=700.0,
        weights=90,
        zeros=9,
        layers=(WeightSummary("conv", (10, 1, 3, 3), "float32", 9, 90, 360, 60.0),),
        latencies=(
            Latency(
                "onnxruntime", "1.0", 1, 1, 9, 4, Estimate(1, 0.9, 1.1), None, None, Estimate(1, 1, 1), "dense", Estimate(1, 1, 1)
            ),
        ),
        history=(StageOutcome("prune", {}, 5, 1.0, 0.1, 32, 0.9, 0.9),) if label != "dense" else (),
        machine=Machine("a CPU", 2, (), 1, "Linux", "3.11"),
        versions={"paretrim": "0.1.0"},
        commit="0123abc",
        created="2026-11-20T10:00:00+00:00",
    )


@pytest.fixture
def example(tmp_path):
    """A folder with one study whose page and figure are as they should be."""
    root = tmp_path / "root"
    for label, accuracy in (("dense", 0.97), ("prune", 0.95)):
        for seed in (0, 1):
            store.append(root / "results" / "example" / STORE, line(label, seed, accuracy + 0.01 * seed))
    make(root, "example")
    return root


def test_every_study_s_page_is_what_its_lines_make(tmp_path):
    assert stale(ROOT, tmp_path) == []


def test_a_fresh_page_is_not_stale(example, tmp_path):
    assert stale(example, tmp_path / "scratch") == []


def test_one_changed_number_makes_a_page_stale(example, tmp_path):
    lines = example / "results" / "example" / STORE
    first, *others = lines.read_text().splitlines()
    changed = json.loads(first) | {"deployed_value": 0.9694}
    lines.write_text("\n".join([json.dumps(changed), *others]) + "\n")
    both = ["docs/studies/example.md is missing or stale", "docs/figures/example.svg is missing or stale"]
    assert stale(example, tmp_path / "scratch") == both


def test_a_page_changed_by_hand_is_stale_and_so_is_a_missing_one(example, tmp_path):
    page = example / "docs" / "studies" / "example.md"
    page.write_text(page.read_text().replace("97.50", "98.50"))
    (example / "docs" / "figures" / "example.svg").unlink()
    both = ["docs/studies/example.md is missing or stale", "docs/figures/example.svg is missing or stale"]
    assert stale(example, tmp_path / "scratch") == both


def test_what_belongs_to_no_study_is_named(example, tmp_path):
    (example / "docs" / "studies" / "another.md").write_text("# Another")
    (example / "docs" / "studies" / INDEX).write_text("# Studies")
    assert stale(example, tmp_path / "scratch") == ["another.md belongs to no study"]


def test_results_that_do_not_read_are_named(example, tmp_path):
    (example / "results" / "empty").mkdir()
    (example / "results" / "torn").mkdir()
    (example / "results" / "torn" / STORE).write_text("{}\n")
    store.append(example / "results" / "moved" / STORE, replace(line("dense", 0, 0.9), study="example"))
    found = stale(example, tmp_path / "scratch")
    assert [text.split(":")[0] for text in found] == [
        "results/empty does not read",
        "results/moved holds lines of another study, or none",
        "results/torn does not read",
    ]
