"""A tiny study on digits, interrupted and resumed; timed separately."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from efforts import LEAST
from made_outcomes import one

from paretrim.data.load import load
from paretrim.data.split import split
from paretrim.deploy.saturation import SATURATES
from paretrim.results.store import append, latest, read
from paretrim.results.timing import RuntimeSetting
from paretrim.run.progress import silent
from paretrim.search import study
from paretrim.search.study import OUTCOMES, run_study, time_study
from paretrim.search.study_spec import StudySpec, parse_study


@pytest.fixture(scope="module")
def spec() -> StudySpec:
    budget = {"batch_size": 64, "learning_rate": 0.01}
    return parse_study(
        {
            "name": "tiny",
            "seeds": [3, 4],
            "epochs": 2,
            "arms": ["prune quantize", "quantize prune"],
            "base": {
                "model": {"network": "small_network:make"},
                "data": {"name": "digits", "train_images": 200},
                "dense": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05},
                "calibration_images": 32,
            },
            "stages": {"prune": {"sparsity": 0.5, "budget": budget}, "quantize": {"budget": budget}},
        }
    )


def test_a_dense_network_that_has_seen_the_validation_images_is_told_once(spec: StudySpec, tmp_path: Path) -> None:
    def store_all(folder: Path, validation: float) -> None:
        for seed in spec.seeds:
            for label, stages in spec.arms:
                made = one(recipe=spec.recipe(stages, label, seed).digest, seed=seed, label=label, test_images=360)
                history = tuple(replace(stage, value_before=validation) for stage in made.history) if stages else ()
                append(folder / OUTCOMES, replace(made, history=history, trained_value=0.9))

    for name, validation in (("seen", 1.0), ("unseen", 0.91)):
        store_all(tmp_path / name, validation)
    said: list[str] = []
    run_study(spec, tmp_path / "run", tmp_path / "seen", watcher=replace(silent(), note=said.append))
    (warning,) = [text for text in said if text.startswith("warning: ")]
    images = len(split(load(spec.base.data), spec.base.data).validation)
    assert f"the dense network is right on 100.00 % of {images} validation images" in warning
    assert "and on 90.00 % of 360 test images" in warning
    run_study(spec, tmp_path / "run", tmp_path / "unseen", watcher=replace(silent(), note=said.append))
    assert [text for text in said if text.startswith("warning: ")] == [warning]


def test_cpus_that_saturate_are_told_once_for_all_arms_and_seeds(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delivered(_experiment: object, _folder: Path, label: str, **_: object) -> SimpleNamespace:
        return SimpleNamespace(entries=(label,), deployed=())

    monkeypatch.setattr(study, "carry_out", delivered)
    monkeypatch.setattr(study, "open_with", lambda *_: None)
    monkeypatch.setattr(study, "after_all_stages", lambda _, label: label)
    monkeypatch.setattr(study, "saturating", lambda entries, _: () if entries == ("dense",) else entries)
    said: list[str] = []
    run_study(spec, tmp_path / "run", tmp_path / "results", watcher=replace(silent(), note=said.append))
    assert [text for text in said if SATURATES in text] == [f"prune quantize, quantize prune: {SATURATES}"]


class Stop(Exception):
    """Stands for whatever ends a run."""


def test_an_arm_whose_line_is_damaged_is_carried_out_again(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carried_out(_experiment: object, _folder: Path, label: str, **_: object) -> SimpleNamespace:
        again.append(label)
        return SimpleNamespace(entries=(), deployed=())

    again: list[str] = []
    monkeypatch.setattr(study, "carry_out", carried_out)
    monkeypatch.setattr(study, "open_with", lambda *_: None)
    monkeypatch.setattr(study, "after_all_stages", lambda _, label: label)
    store = tmp_path / OUTCOMES
    for seed in spec.seeds:
        for label, stages in spec.arms:
            append(store, one(recipe=spec.recipe(stages, label, seed).digest, seed=seed, label=label))
    lines = store.read_bytes().splitlines(keepends=True)
    store.write_bytes(b"".join([*lines[:1], b"damaged\n", *lines[2:]]))
    with pytest.warns(UserWarning, match=r"a line was damaged and is now in 'outcomes\.jsonl\.damaged'"):
        run_study(spec, tmp_path / "run", tmp_path)
    assert again == [spec.arms[1][0]]


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped_and_is_timed_apart(spec: StudySpec, tmp_path: Path) -> None:
    folder, results = tmp_path / "run", tmp_path / "results"
    said: list[str] = []

    def stop_at_fourth(text: str) -> None:
        said.extend([text] * text.startswith("tiny: seed"))
        if len(said) == 4:
            raise Stop

    with pytest.raises(Stop):
        run_study(spec, folder, results, watcher=replace(silent(), note=stop_at_fourth))
    before = read(results / OUTCOMES)
    assert [(o.seed, o.label) for o in before] == [(3, "dense"), (3, "prune quantize"), (3, "quantize prune")]

    outcomes = run_study(spec, folder, results)
    assert outcomes[:3] == before
    assert [(o.seed, o.label) for o in outcomes[3:]] == [(4, "dense"), (4, "prune quantize"), (4, "quantize prune")]
    assert run_study(spec, folder, results) == outcomes
    for outcome in outcomes[1:3]:
        assert outcome.sparsity > 0.45
        assert outcome.history[-1].bits == 8
        assert (outcome.runtime, outcome.agreement) == ("paretrim", 1.0)
        assert sum(stage.epochs for stage in outcome.history) == spec.epochs

    settings = [RuntimeSetting("paretrim", 1)]
    timed = time_study(spec, folder, results, effort=LEAST, settings=settings)
    assert {(o.label, latency.runtime, latency.in_place_of, latency.baseline) for o in timed for latency in o.latencies} == {
        ("dense", "paretrim", None, "dense"),
        ("prune quantize", "paretrim", None, "dense"),
        ("quantize prune", "paretrim", None, "dense"),
    }
    lines = len(read(results / OUTCOMES))
    assert time_study(spec, folder, results, effort=LEAST, settings=settings) == timed
    assert len(read(results / OUTCOMES)) == lines == 2 * len(latest(timed))


def test_a_seed_with_a_missing_arm_is_not_timed(spec: StudySpec, tmp_path: Path) -> None:
    assert time_study(spec, tmp_path / "run", tmp_path / "results", effort=LEAST) == ()
