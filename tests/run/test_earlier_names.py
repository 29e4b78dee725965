"""Fields that earlier versions called accuracies are read as values of a metric."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from paretrim.bench.machine import versions
from paretrim.bench.protocol import digest
from paretrim.history import StageOutcome, stage_of
from paretrim.metric import SQUARED_ERROR
from paretrim.run.delivery import judged
from paretrim.run.judge import DeployedFiles, Judgement
from paretrim.trimfile import provenance
from paretrim.trimfile.provenance import Provenance

STAGE = StageOutcome("prune", {"sparsity": 0.5}, 1, 2.0, 0.5, 32, 0.25, 0.75)
OF_STAGE = {"value_before": "accuracy_before", "value_after": "accuracy_after"}
OF_JUDGEMENT = {"trained_value": "trained_accuracy", "deployed_value": "deployed_accuracy", "onnx_value": "onnx_accuracy"}


def renamed(facts: dict[str, object], names: dict[str, str]) -> dict[str, object]:
    return {names.get(name, name): value for name, value in facts.items()}


def test_a_stage_of_an_earlier_candidate_is_read() -> None:
    facts = STAGE.facts()
    assert (facts["value_before"], facts["value_after"]) == (0.25, 0.75)
    assert stage_of(facts) == stage_of(renamed(facts, OF_STAGE)) == STAGE
    with pytest.raises(TypeError, match="accuracy_between"):
        stage_of({**facts, "accuracy_between": 0.5})


def test_files_keep_the_first_names_for_every_metric() -> None:
    stage = dataclasses.replace(STAGE, metric=SQUARED_ERROR)
    text = provenance.encode(Provenance("", (stage,)))
    (kept,) = json.loads(text)["history"]
    assert (kept["accuracy_before"], kept["accuracy_after"]) == (0.25, 0.75)
    assert not OF_STAGE.keys() & kept.keys()
    assert provenance.decode(text).history == (stage,)


def test_an_earlier_judgement_is_kept_and_not_made_again(tmp_path: Path) -> None:
    trim = tmp_path / "model.trim"
    trim.write_bytes(b"a network")
    known = Judgement(
        trained_value=0.5, deployed_value=0.25, agreement=0.75, test_images=8, runtime="paretrim", onnx_value=0.125, right="/w=="
    )
    facts = renamed(dataclasses.asdict(known), OF_JUDGEMENT) | {"sha256": digest(trim), "versions": versions()}
    (tmp_path / "judgement-onnxruntime.json").write_text(json.dumps(facts))
    files = DeployedFiles(graph=None, onnx=None, trim=trim)  # type: ignore[arg-type]
    assert judged(None, files, None, None, onnx_runtime="onnxruntime") == known  # type: ignore[arg-type]
