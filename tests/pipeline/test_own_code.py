"""The source of user code enters the keys of a run folder, as settings do."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import SHORT, start

from paretrim.digest import digest_of
from paretrim.own_code import sources_in
from paretrim.run.pipeline import deployed_key
from paretrim.stages.finetune import FineTune
from paretrim.stages.prune.stage import Prune
from paretrim.stages.together import Together

SCORE = """
from paretrim import weighted_layers

FACTOR = {factor}

def score(network, resources):
    return {{name: FACTOR * layer.weight.detach().abs() for name, layer in weighted_layers(network).items()}}
"""

STAGE = """
from dataclasses import dataclass, field
from paretrim import Budget

@dataclass(frozen=True)
class Own:
    name = "own"
    budget: Budget = field(default_factory=Budget)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes a user module and imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return write


def test_a_changed_score_is_another_key(written):
    begin = start("plain")

    def key(factor):
        written("key_score", SCORE.format(factor=factor))
        alone = Prune(budget=SHORT, score="key_score:score")
        inside = Together(parts=(Prune(score="key_score:score"),), budget=SHORT)
        return deployed_key(begin, [alone]), deployed_key(begin, [inside])

    first, again, other = key(1), key(1), key(2)
    assert first == again
    assert all(one != changed for one, changed in zip(first, other, strict=True))


def test_a_changed_stage_is_another_key(written):
    first = written("key_stage", STAGE)
    known = sources_in((first.Own(),))
    other = written("key_stage", STAGE + "\nSTEPS = 2\n")
    assert list(known) == ["key_stage:Own"]
    assert known != sources_in((other.Own(),))


def test_settings_of_the_package_alone_name_no_code():
    assert sources_in((Prune(pattern="2:4", sparsity=0.5), FineTune(), {"text": "no:code", "both": ["os:path:x", ":"]})) == {}


def test_code_without_a_text_counts_by_its_name():
    made = {}
    text = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Typed:\n    pass\n"
    exec(compile(text, "<prompt>", "exec"), made)
    made["Typed"].__module__ = "nowhere"
    assert sources_in(made["Typed"]()) == {"nowhere:Typed": ""}


def test_modules_beside_the_named_one_count_and_those_they_import(written):
    written("key_deep", "FACTOR = 1")
    written("key_beside", "from key_deep import FACTOR")
    text = "def score(network, resources):\n    from key_beside import FACTOR\n"
    written("key_far", text)

    def key():
        return sources_in("key_far:score")

    first = key()
    assert list(first) == ["key_far:score"]
    written("key_unused", "FACTOR = 1")
    assert key() == first
    written("key_deep", "FACTOR = 2")
    changed = key()
    assert changed != first
    written("key_beside", "FACTOR = 1  # no more from key_deep")
    assert first != key() != changed


def test_a_module_alone_keeps_the_key_it_always_had(written):
    text = "import json\nfrom paretrim import Budget\ndef score(network, resources): ...\n"
    written("key_alone", text)
    assert sources_in("key_alone:score") == {"key_alone:score": digest_of(text)}


def test_relative_imports_of_a_package(written, tmp_path):
    folder = tmp_path / "key_package"
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__", "inner/__init__"):
        (folder / f"{name}.py").write_text("")
    (folder / "beside.py").write_text("FACTOR = 1")
    (folder / "inner/score.py").write_text(
        "from ..beside import FACTOR\nfrom . import __doc__ as text\ndef score(network, resources): ...\n"
    )
    importlib.invalidate_caches()
    importlib.import_module("key_package.inner.score")
    first = sources_in("key_package.inner.score:score")
    (folder / "beside.py").write_text("FACTOR = 2")
    assert sources_in("key_package.inner.score:score") != first


def test_a_task_counts_that_is_no_dataclass(written):
    first = written("key_task", "class Own:\n    name = 'own'\n").Own()
    known = sources_in(first)
    assert list(known) == ["key_task:Own"]
    other = written("key_task", "class Own:\n    name = 'own'\n    weight = 2\n").Own()
    assert sources_in(other) != known
    assert sources_in((Path("a"), 1, None, np.float32(2), range(3))) == {}
