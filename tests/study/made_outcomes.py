"""An outcome with made-up results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from paretrim.bench.types import Latency, Machine
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.results.outcome import Outcome


def one(**changes: Any) -> Outcome:
    stage = StageOutcome("prune", {"sparsity": 0.9, "pattern": "1x4"}, 40, 12.5, 0.9, 32, 0.95, 0.949)
    e = Estimate(1.0, 0.9, 1.1)
    latency = Latency("onnxruntime", "1.31", 1, 1, 900, 3, e, e, e, e, "FP32", e)
    base = Outcome(
        study="demo",
        recipe="r1",
        label="P",
        order=("prune",),
        seed=0,
        data="cifar10",
        network="resnet18",
        trained_value=0.95,
        deployed_value=0.949,
        agreement=0.999,
        test_images=10_000,
        runtime="onnxruntime",
        file="p.onnx",
        file_bytes=1000,
        entropy_bytes=800.5,
        weights=900,
        zeros=450,
        layers=(),
        latencies=(latency,),
        history=(stage,),
        machine=Machine("cpu", 2, ("avx2",), 8, "Linux", "3.11"),
        versions={"numpy": "2"},
        commit="abc",
        created="2026-11-20T10:00:00Z",
    )
    return replace(base, **changes)
