"""Changed decisions are stored beside a file, once, and only where there are probabilities to compare."""

from types import SimpleNamespace

import numpy as np
import pytest

from paretrim.results.run_folder import CHANGES, change_in
from paretrim.run import changes
from paretrim.run.changes import TestLogits
from paretrim.run.judge import DeployedFiles

LOGITS = {"first": np.eye(2, dtype=np.float32), "second": np.eye(2, dtype=np.float32)[::-1]}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files whose logits are those of ``LOGITS``, by the name of their folder."""

    def session(path, **_):
        return SimpleNamespace(outputs=lambda _: (LOGITS[path.parent.name],), class_names=("cat", "dog"))

    monkeypatch.setattr(changes, "open_session", session)
    for name in LOGITS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.trim").write_text(name)
    return [DeployedFiles(None, None, tmp_path / name / "model.trim") for name in LOGITS]


def logits_of(files):
    return TestLogits(SimpleNamespace(images=np.zeros((2, 1, 1, 1)), labels=np.array([0, 1])), files[0])


def test_a_change_is_kept_and_not_made_again(files, monkeypatch):
    for one in files:
        logits_of(files).keep_change(one)
    assert not (files[0].folder / CHANGES).exists()
    assert change_in(files[1].folder).worse == (0, 1)
    assert [one.title for one in change_in(files[1].folder).classes] == ["0 cat", "1 dog"]
    monkeypatch.setattr(changes, "open_session", None)  # would fail if it were called
    logits_of(files).keep_change(files[1])


@pytest.mark.parametrize("broken", ["first", "second"])
def test_logits_that_are_not_finite_are_not_compared(files, broken, monkeypatch):
    monkeypatch.setitem(LOGITS, broken, np.full((2, 2), np.nan, np.float32))
    logits_of(files).keep_change(files[1])
    assert change_in(files[1].folder) is None
