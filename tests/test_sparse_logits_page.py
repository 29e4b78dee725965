"""The section of docs/training-speed.md on stored sparse logits is what its lines make."""

import importlib
import json

import pytest
from script_files import ROOT


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("sparse_logits_page")


LINE = {
    "network": "resnet20",
    "data": "CIFAR-100",
    "top": 10,
    "images": 1000,
    "epochs": 2,
    "batch": 128,
    "threads": 1,
    "bfloat16": True,
    "stored_bytes": 62_000,
    "dense_bytes": 800_000,
    "ratio": 1.01,
    "ratio_low": 0.99,
    "ratio_high": 1.02,
    "plain_cpu_ms": 250.4,
    "rounds": 9,
    "load": 1.5,
    "cpu": "a CPU",
    "versions": {"torch": "2"},
    "commit": "abc",
}


def test_the_section_is_what_its_lines_make(page):
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page_of(text, page.RESULTS.read_text(encoding="utf-8")) == text


def test_a_row_says_what_is_missed(page):
    slow = {**LINE, "stored_bytes": 120_000, "ratio": 1.2, "ratio_low": 1.1, "ratio_high": 1.3}
    made = page.page_of(f"Before\n{page.BEGIN}\nold\n{page.END}\nafter\n", "\n".join(map(json.dumps, (LINE, slow))))
    assert made.startswith("Before\n")
    assert made.endswith(f"{page.END}\nafter\n")
    assert "| resnet20 | 10 | 31.0 | 0.077 | yes | 1.010 [0.990, 1.020] | within 1.05 x |" in made
    assert "| resnet20 | 10 | 60.0 | 0.150 | no | 1.200 [1.100, 1.300] | exceeds 1.05 x |" in made
    assert (
        made.count("a CPU; torch 2; commit abc; 1,000 images of CIFAR-100, batches of 128, 1 thread, 9 rounds; plain step") == 1
    )
