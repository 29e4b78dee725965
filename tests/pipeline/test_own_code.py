"""Code of the user's own decides the keys of a run folder, as settings do."""

import importlib
import sys

import pytest
from tiny import SHORT, start

from paretrim.own_code import sources_in
from paretrim.run.pipeline import deployment_key
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
    """Writes a module of the user's own and imports it afresh."""
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
        return deployment_key(begin, [alone]), deployment_key(begin, [inside])

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
