"""A tiny study on digits, interrupted and gone on with; timed apart."""

from pathlib import Path

import pytest

from paretrim.bench.effort import Effort
from paretrim.study.grid import Grid, parse_grid
from paretrim.study.runner import OUTCOMES, run_study, time_study
from paretrim.study.store import latest, read
from paretrim.timing import Setting

FAST = Effort(processes=1, rounds=3, warmup_calls=1, warmup_seconds=0.0, warmup_limit_seconds=0.1, gate_seconds=0.0, window=3)


@pytest.fixture(scope="module")
def grid() -> Grid:
    budget = {"batch_size": 64, "learning_rate": 0.01}
    return parse_grid(
        {
            "name": "tiny",
            "seeds": [3, 4],
            "epochs": 2,
            "arms": ["prune quantize", "quantize prune"],
            "base": {
                "model": {"network": "resnet20"},
                "data": {"name": "digits", "train_images": 200},
                "dense": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05},
                "calibration_images": 32,
            },
            "stages": {"prune": {"sparsity": 0.5, "budget": budget}, "quantize": {"budget": budget}},
        }
    )


class Stop(Exception):
    """Stands for whatever ends a run."""


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped_and_is_timed_apart(grid: Grid, tmp_path: Path) -> None:
    folder, results = tmp_path / "run", tmp_path / "results"
    said: list[str] = []

    def stop_at_fourth(text: str) -> None:
        said.append(text)
        if len(said) == 4:
            raise Stop

    with pytest.raises(Stop):
        run_study(grid, folder, results, say=stop_at_fourth)
    before = read(results / OUTCOMES)
    assert [(o.seed, o.label) for o in before] == [(3, "dense"), (3, "prune quantize"), (3, "quantize prune")]

    outcomes = run_study(grid, folder, results)
    assert outcomes[:3] == before
    assert [(o.seed, o.label) for o in outcomes[3:]] == [(4, "dense"), (4, "prune quantize"), (4, "quantize prune")]
    assert run_study(grid, folder, results) == outcomes
    for outcome in outcomes[1:3]:
        assert outcome.sparsity > 0.45
        assert outcome.history[-1].bits == 8
        assert (outcome.runtime, outcome.agreement) == ("paretrim", 1.0)
        assert sum(stage.epochs for stage in outcome.history) == grid.epochs

    settings = [Setting("paretrim", 1)]
    timed = time_study(grid, folder, results, effort=FAST, settings=settings)
    assert {(o.label, latency.runtime, latency.in_place_of, latency.baseline) for o in timed for latency in o.latencies} == {
        ("dense", "onnxruntime", "paretrim", "dense"),
        ("prune quantize", "paretrim", None, "dense"),
        ("quantize prune", "paretrim", None, "dense"),
    }
    lines = len(read(results / OUTCOMES))
    assert time_study(grid, folder, results, effort=FAST, settings=settings) == timed
    assert len(read(results / OUTCOMES)) == lines == 2 * len(latest(timed))


def test_a_seed_with_a_missing_arm_is_not_timed(grid: Grid, tmp_path: Path) -> None:
    assert time_study(grid, tmp_path / "run", tmp_path / "results", effort=FAST) == ()
