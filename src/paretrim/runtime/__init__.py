"""Runs deployed files in the native runtime: NumPy in, NumPy out. Imports neither torch nor another inference engine.

>>> import paretrim.runtime
>>> session = paretrim.runtime.load("model.trim", threads=2)  # doctest: +SKIP
>>> session(images).argmax(axis=1)  # doctest: +SKIP
"""

from paretrim.runtime.cards import Card, pretrained, pretrained_cards
from paretrim.runtime.compiled import instruction_sets, peak_multiply_adds_a_second
from paretrim.runtime.libraries import onnxruntime_library
from paretrim.runtime.session import LayerTime, Session, load, plan

__all__ = [
    "Card",
    "LayerTime",
    "Session",
    "instruction_sets",
    "load",
    "onnxruntime_library",
    "peak_multiply_adds_a_second",
    "plan",
    "pretrained",
    "pretrained_cards",
]
