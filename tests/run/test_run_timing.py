from dataclasses import replace

import numpy as np
import pytest
from efforts import LEAST

from paretrim.bench.raw import load_session
from paretrim.bench.statistics import kept_rounds
from paretrim.results import store
from paretrim.results.run_folder import delivered_by, distributions
from paretrim.results.timing import RuntimeSetting
from paretrim.run.delivery import TimingPlan
from paretrim.run.progress import silent
from paretrim.run.run import run_recipe


@pytest.fixture
def notes():
    return []


@pytest.fixture
def watcher(notes):
    return replace(silent(), note=notes.append)


def test_files_are_timed_together_and_never_twice(recipe, tmp_path, watcher, notes):
    measuring = TimingPlan((RuntimeSetting("onnxruntime", 1),), LEAST)
    first = run_recipe(recipe, tmp_path, measuring=measuring, watcher=watcher)
    assert "timing 3 files in onnxruntime with 1 thread" in notes
    assert [outcome.latencies[0].baseline for outcome in first] == ["dense"] * 3
    session = load_session(tmp_path / "timings" / "onnxruntime-1.npz")
    assert [timing.deployment.name for timing in session.timings] == ["dense", "prune", "prune → quantize"]
    assert set(distributions(tmp_path)) == {f"{outcome.label}|onnxruntime|1" for outcome in first}

    notes.clear()
    assert run_recipe(recipe, tmp_path, measuring=measuring, watcher=watcher) == first
    assert not any("timing" in note for note in notes)
    assert len(store.read(tmp_path / "outcomes.jsonl")) == 3

    # Without timings this time: those of the same files stay.
    assert run_recipe(recipe, tmp_path, watcher=watcher) == first

    # A damaged session is measured again.
    (tmp_path / "timings" / "onnxruntime-1.npz").write_bytes(b"")
    run_recipe(recipe, tmp_path, measuring=measuring, watcher=watcher)
    assert any("timing" in note for note in notes)
    assert len(delivered_by(tmp_path)) == 3


def test_everything_but_the_latency_is_delivered_from_a_machine_that_is_too_busy(recipe, tmp_path, watcher, notes, monkeypatch):
    measuring = TimingPlan((RuntimeSetting("paretrim", 1), RuntimeSetting("onnxruntime", 1)), LEAST)
    with monkeypatch.context() as busy:
        busy.setattr("paretrim.bench.statistics.kept_rounds", lambda session: np.zeros_like(kept_rounds(session)))
        outcomes = run_recipe(recipe, tmp_path, measuring=measuring, watcher=watcher)
    assert [outcome.latencies for outcome in outcomes] == [()] * 3
    for runtime in ("paretrim", "onnxruntime"):
        said = f"warning: no latency in {runtime} with 1 thread: every window drifted or was preempted, so no sample is left; "
        assert any(note.startswith(said) for note in notes)
    assert (tmp_path / "report.html").exists()
    assert delivered_by(tmp_path) == outcomes
    assert not list((tmp_path / "timings").glob("*.npz"))

    # A later run, when the machine is quiet, only measures.
    again = run_recipe(recipe, tmp_path, measuring=measuring, watcher=watcher)
    assert [len(outcome.latencies) for outcome in again] == [2] * 3


def test_every_network_is_timed_natively(recipe, tmp_path, watcher, notes):
    settings = (RuntimeSetting("paretrim", 1), RuntimeSetting("onnxruntime", 1))
    first = run_recipe(recipe, tmp_path, measuring=TimingPlan(settings, LEAST), watcher=watcher)
    assert "timing 3 files in paretrim with 1 thread" in notes
    assert [[(latency.runtime, latency.in_place_of) for latency in outcome.latencies] for outcome in first] == [
        [("paretrim", None), ("onnxruntime", None)],
    ] * 3
    assert {latency.baseline for outcome in first for latency in outcome.latencies} == {"dense"}
    session = load_session(tmp_path / "timings" / "paretrim-1.npz")
    assert [(timing.deployment.name, timing.deployment.runtime) for timing in session.timings] == [
        ("dense", "paretrim"),
        ("prune", "paretrim"),
        ("prune → quantize", "paretrim"),
    ]
    assert len(distributions(tmp_path)) == 6
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    # The native runtime comes first.
    assert page.index("paretrim, 1 thread") < page.index("onnxruntime, 1 thread")

    notes.clear()
    assert run_recipe(recipe, tmp_path, measuring=TimingPlan(settings, LEAST), watcher=watcher) == first
    assert not any("timing" in note for note in notes)


def test_files_are_judged_where_they_run_and_a_damaged_judgement_is_made_again(recipe, tmp_path):
    first = run_recipe(recipe, tmp_path)
    assert [outcome.runtime for outcome in first] == ["paretrim"] * 3
    for outcome in first:
        assert outcome.onnx_runtime == "onnxruntime"
        assert outcome.onnx_agreement > 0.97
    # The integers that were trained are those of the file.
    assert first[-1].agreement == 1.0
    assert first[-1].deployed_value == first[-1].trained_value
    for path in tmp_path.glob("deployed/*/judgement-*.json"):
        path.write_text("[]")
    assert run_recipe(recipe, tmp_path) == first
