"""Plausible outcomes without training: numbers like those of a compressed ResNet-18 on CIFAR-10."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import permutations

from paretrim.bench.types import Latency, Machine
from paretrim.graph.entropy import WeightSummary
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.results.outcome import Outcome

MACHINE = Machine("Example Zen 5 @ 4.46 GHz", 2, ("avx2", "avx512f", "avx512_vnni"), 8_000_000_000, "Linux 6.1 x86_64", "3.11.7")
VERSIONS = {"numpy": "2.3.1", "onnxruntime": "1.31.1", "openvino": "2026.4.1", "paretrim": "0.1.0", "torch": "2.13.0"}
SETTINGS = (("onnxruntime", 1), ("onnxruntime", 2), ("openvino", 1), ("openvino", 2))
STAGES = ("prune", "quantize", "distill")
_FP32_MS = {("onnxruntime", 1): 4.9, ("onnxruntime", 2): 2.4, ("openvino", 1): 2.27, ("openvino", 2): 1.31}


def layers(*, sparsity: float, bits: int, rng: random.Random) -> tuple[WeightSummary, ...]:
    widths = [(3, 64, 3), *[(64, 64, 3)] * 4, (64, 128, 3), *[(128, 128, 3)] * 3, (128, 256, 3), *[(256, 256, 3)] * 3]
    widths += [(256, 512, 3), *[(512, 512, 3)] * 3, (512, 10, 1)]
    result = []
    for i, (inputs, outputs, k) in enumerate(widths):
        weights = inputs * outputs * k * k
        own = 0.0 if i in (0, len(widths) - 1) else min(0.99, max(0.0, sparsity * rng.uniform(0.85, 1.08)))
        zeros = round(own * weights)
        shape = (outputs, inputs, k, k) if k > 1 else (outputs, inputs)
        name = "fc" if k == 1 else f"layer{i // 4}.{i % 4}.conv"
        size = weights * (1 if bits == 8 else 4)
        entropy = weights * ((1 - own) * (6.2 if bits == 8 else 24) + 1.2 * _entropy(own)) / 8
        result.append(WeightSummary(name, shape, "int8" if bits == 8 else "float32", zeros, weights, size, entropy))
    return tuple(result)


def _entropy(p: float) -> float:
    return 0.0 if p in (0.0, 1.0) else -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def latencies(*, gain: float, rng: random.Random, baseline: str = "FP32 baseline") -> tuple[Latency, ...]:
    result = []
    for runtime, threads in SETTINGS:
        ms = _FP32_MS[runtime, threads] / gain * rng.uniform(0.98, 1.02)
        speedup = _FP32_MS[runtime, threads] / ms
        result.append(
            Latency(
                runtime=runtime,
                runtime_version=VERSIONS[runtime],
                threads=threads,
                batch=1,
                samples=1500,
                processes=5,
                p50_ms=around(ms, 0.01),
                p90_ms=around(ms * 1.06, 0.02),
                p99_ms=around(ms * 1.31, 0.06),
                speedup=around(speedup, 0.012),
                baseline=baseline,
                floor=Estimate(1.0, 0.994, 1.007),
                noise=("load average 1.4 at the start",) if threads == 2 else (),
            )
        )
    return tuple(result)


def around(value: float, relative: float) -> Estimate:
    return Estimate(value, value * (1 - relative), value * (1 + relative))


def outcome(
    label: str,
    *,
    seed: int = 0,
    order: tuple[str, ...] = (),
    accuracy: float = 0.953,
    sparsity: float = 0.0,
    bits: int = 32,
    gain: float = 1.0,
    study: str = "example",
) -> Outcome:
    """One run with plausible numbers; the same arguments give the same outcome."""
    rng = random.Random(f"{label}/{seed}/{study}")
    counted = layers(sparsity=sparsity, bits=bits, rng=rng)
    deployed = round(min(1.0, max(0.0, accuracy + rng.gauss(0, 0.0012))), 4)
    kept = accuracy + 0.004
    history = []
    for name in order:
        settings = {
            "prune": {"pattern": "1x4", "sparsity": sparsity, "scope": "global", "schedule": {"kind": "cubic", "start": 0.0}},
            "quantize": {"weight_bits": bits, "activation_bits": 8, "observer": "percentile", "learned_scales": True},
            "distill": {"temperature": 4.0, "weight": 0.9, "teacher": "resnet18-fp32", "hints": ("layer2", "layer3")},
        }[name]
        after = kept - rng.uniform(0.0, 0.003)
        history.append(StageOutcome(name, settings, 40, rng.uniform(200, 900), sparsity, bits, kept, after))
        kept = after
    return Outcome(
        study=study,
        recipe=f"{rng.getrandbits(48):012x}",
        label=label,
        order=order,
        seed=seed,
        data="cifar10",
        network="resnet18",
        trained_value=round(min(1.0, deployed + rng.choice((-0.0002, 0.0, 0.0001, 0.0004))), 4),
        deployed_value=deployed,
        agreement=round(rng.uniform(0.995, 0.9995), 4),
        test_images=10_000,
        runtime="onnxruntime",
        file=f"{label.replace(' ', '-').replace('/', '-')}-{seed}.onnx",
        file_bytes=sum(layer.bytes for layer in counted) + 31_000
        if bits != 8
        else round(sum(layer.entropy_bytes for layer in counted) + 31_000),
        entropy_bytes=sum(layer.entropy_bytes for layer in counted),
        weights=sum(layer.weights for layer in counted),
        zeros=sum(layer.zeros for layer in counted),
        layers=counted,
        latencies=latencies(gain=gain, rng=rng),
        history=tuple(history),
        machine=MACHINE,
        versions=VERSIONS,
        commit="0123abc",
        created=f"2026-11-20T10:{seed % 60:02d}:00Z",
        settings={"epochs": 40 * len(order), "batch_size": 128},
    )


def baseline(seeds: int = 3) -> tuple[Outcome, ...]:
    return tuple(outcome("FP32 baseline", seed=seed) for seed in range(seeds))


def orders(seeds: int = 3) -> tuple[Outcome, ...]:
    """The six orders of three stages, with the baseline."""
    result = list(baseline(seeds))
    for i, order in enumerate(permutations(STAGES)):
        label = "".join(stage[0].upper() for stage in order)
        made = {"order": order, "accuracy": 0.951 - 0.0012 * i, "sparsity": 0.9, "bits": 8, "gain": 4.3}
        result.extend(outcome(label, seed=seed, **made) for seed in range(seeds))
    return tuple(result)


def many(points: int, seeds: int = 1) -> tuple[Outcome, ...]:
    """A grid: a baseline and ``points - 1`` others with a believable trade-off, a few of them failed."""
    rng = random.Random(points)
    result = list(baseline(seeds))
    for i in range(points - 1):
        sparsity = rng.choice((0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98))
        bits = rng.choice((8, 8, 32))
        order = rng.choice(list(permutations(STAGES, rng.choice((1, 2, 3)))))
        loss = 0.002 + 0.05 * sparsity**6 + (0.004 if bits == 8 else 0.0) + rng.expovariate(250)
        accuracy = 0.953 - loss - (0.6 if rng.random() < 0.01 else 0.0)
        gain = (3.9 if bits == 8 else 1.0) * (1 + 0.25 * sparsity) * rng.uniform(0.94, 1.05)
        label = f"{'-'.join(stage[0].upper() for stage in order)} {round(100 * sparsity)} % {bits} bit #{i + 1}"
        made = {"order": order, "accuracy": accuracy, "sparsity": sparsity, "bits": bits, "gain": gain}
        result.extend(outcome(label, seed=seed, **made) for seed in range(seeds))
    return tuple(result)


def distributions(outcomes: tuple[Outcome, ...], samples: int = 300) -> dict[str, list[float]]:
    """Right-skewed milliseconds for every "label|runtime|threads"."""
    rng = random.Random(5)
    return {
        f"{o.label}|{t.runtime}|{t.threads}": [t.p50_ms.value * (0.97 + rng.lognormvariate(-3.5, 0.9)) for _ in range(samples)]
        for o in outcomes
        for t in o.latencies
    }


def renamed(one: Outcome, label: str) -> Outcome:
    return replace(one, label=label)
