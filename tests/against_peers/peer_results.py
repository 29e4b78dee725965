"""Lines that a comparison with peers could have written."""

import importlib


def module(name):
    return importlib.import_module(name)


def origin(**given):
    said = {"cpu": "a CPU", "cores": 2, "system": "Linux", "versions": {"numpy": "2"}, "commit": "0123abc", "created": "today"}
    return module("peer_lines").Origin(**said | {"load": 3.0} | given)


def result(case="nncf-int8", seed=0, **given):
    said = {"case": case, "network": "resnet20", "seed": seed, "correct": 9150, "images": 10000, "file_bytes": 400_000}
    said |= {"file_digest": f"{case}-{seed}", "wall_s": 9.0, "cpu_s": 8.0, "user_lines": 6, "script": "abc", "origin": origin()}
    return module("peer_lines").ResultLine(**said | given)


def absent(case="torchao-int8", **given):
    said = {"case": case, "network": "resnet20", "seed": 0, "reason": "no such version", "script": "abc", "origin": origin()}
    return module("peer_lines").AbsentLine(**said | given)


def latency(case="nncf-int8", p50_ms=0.2, **given):
    said = {"case": case, "network": "resnet20", "seed": 0, "file_digest": f"{case}-0", "threads": 1, "p50_ms": p50_ms}
    said |= {"p50_ms_low": p50_ms - 0.01, "p50_ms_high": p50_ms + 0.01, "processes": 5, "rounds": 300, "noise": ("a fan",)}
    return module("peer_lines").LatencyLine(**said | {"origin": origin()} | given)


OURS = {"file_bytes": 200_000, "cpu_s": 20.0, "user_lines": 8}


def both_sides():
    return [
        result("float", correct=9173, file_bytes=1_080_000, user_lines=0),
        *(result("paretrim-int8", seed, correct=9160 + seed, **OURS) for seed in range(3)),
        *(result("nncf-int8", seed, correct=9150 + seed) for seed in range(3)),
    ]
