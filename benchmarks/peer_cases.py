"""What is compared: each case is a script of plain user code, the environment it runs in, and the runtime for its file."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "peers"
HERE = "here"
"""The environment that runs the command: Paretrim's own."""

ENVIRONMENTS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime==1.32.0", "onnx==1.23.2", "sympy==1.14.0", "numpy==2.4.6"),
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1"),
    "nncf-torch": ("nncf==3.4.0", "openvino==2026.4.1", "torch==2.13.0", "safetensors==0.8.0"),
    "torchao": ("torchao==0.18.0", "torch==2.13.0", "safetensors==0.8.0", "numpy==2.4.6"),
    "torch-pruning": ("torch-pruning==1.6.1", "torch==2.13.0", "safetensors==0.8.0", "nncf==3.4.0", "openvino==2026.4.1"),
    "fasterai": (
        "fasterai==0.4.1",
        "torch==2.14.1",
        "safetensors==0.8.0",
        "onnx==1.23.2",
        "onnxruntime==1.32.0",
        "sympy==1.14.0",
    ),
}
"""Pinned packages of every environment that the command makes."""

INT8, HALF, FLOAT = "INT8 without training", "Half of the weights gone and INT8, without training", "as trained"
TRAINED = "INT8 after two epochs of training"
SPARSE = "80 % of the weights gone and INT8, after four epochs with the network itself as teacher"
ONNXRUNTIME, OPENVINO, INDUCTOR, NATIVE = "onnxruntime", "openvino", "inductor", "paretrim"


@dataclass(frozen=True)
class Case:
    """One way to a deployed file. ``files`` ship, and the first is opened; without a ``script`` they are prepared for it."""

    name: str
    title: str
    task: str
    script: str
    environment: str
    runtime: str
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes with the script."""
        return sha256((SCRIPTS / self.script).read_bytes()).hexdigest()[:12] if self.script else ""

    @property
    def user_lines(self) -> int:
        """Lines of code that the user writes."""
        return code_lines((SCRIPTS / self.script).read_text(encoding="utf-8")) if self.script else 0


CASES = (
    Case("float", "the network itself", FLOAT, "", "onnxruntime", ONNXRUNTIME, ("model.onnx",)),
    Case("paretrim-int8", "Paretrim", INT8, "paretrim_int8_plain.py", HERE, NATIVE, ("int8.trim",)),
    Case("paretrim-int8-bias", "Paretrim, `bias`", INT8, "paretrim_int8.py", HERE, NATIVE, ("int8.trim",)),
    Case("nncf-int8", "NNCF", INT8, "nncf_int8.py", "nncf", OPENVINO, ("int8.xml", "int8.bin")),
    Case("onnxruntime-int8", "ONNX Runtime", INT8, "onnxruntime_int8.py", "onnxruntime", ONNXRUNTIME, ("int8.onnx",)),
    Case(
        "onnxruntime-int8-channels",
        "ONNX Runtime, a scale a channel",
        INT8,
        "onnxruntime_int8_channels.py",
        "onnxruntime",
        ONNXRUNTIME,
        ("int8.onnx",),
    ),
    Case("torchao-int8", "torchao PT2E", INT8, "torchao_int8.py", "torchao", INDUCTOR, ("int8.pt2",)),
    Case("paretrim-half", "Paretrim, blocks, `obs`, fitted", HALF, "paretrim_half.py", HERE, NATIVE, ("int8.trim",)),
    Case(
        "paretrim-half-magnitude", "Paretrim, blocks, magnitude", HALF, "paretrim_half_magnitude.py", HERE, NATIVE, ("int8.trim",)
    ),
    Case(
        "torch-pruning-half",
        "Torch-Pruning, channels, then NNCF",
        HALF,
        "torch_pruning_half.py",
        "torch-pruning",
        OPENVINO,
        ("int8.xml", "int8.bin"),
    ),
    Case("fasterai-half", "fasterai, single weights", HALF, "fasterai_half.py", "fasterai", ONNXRUNTIME, ("half_int8.onnx",)),
    Case("paretrim-int8-trained", "Paretrim", TRAINED, "paretrim_int8_trained.py", HERE, NATIVE, ("int8.trim",)),
    Case("nncf-int8-trained", "NNCF", TRAINED, "nncf_int8_trained.py", "nncf-torch", OPENVINO, ("int8.xml", "int8.bin")),
    Case("torchao-int8-trained", "torchao PT2E", TRAINED, "torchao_int8_trained.py", "torchao", INDUCTOR, ("int8.pt2",)),
    Case("paretrim-sparse", "Paretrim, blocks", SPARSE, "paretrim_sparse.py", HERE, NATIVE, ("int8.trim",)),
    Case(
        "torch-pruning-sparse",
        "Torch-Pruning, channels, then NNCF",
        SPARSE,
        "torch_pruning_sparse.py",
        "torch-pruning",
        OPENVINO,
        ("int8.xml", "int8.bin"),
    ),
    Case(
        "fasterai-sparse",
        "fasterai, single weights",
        SPARSE,
        "fasterai_sparse.py",
        "fasterai",
        ONNXRUNTIME,
        ("sparse_int8.onnx",),
    ),
)


def code_lines(source: str) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    found: set[int] = set()
    before = tokenize.NEWLINE
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        text_alone = token.type == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        if token.type not in layout and not text_alone:
            found.update(range(token.start[0], token.end[0] + 1))
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type
    return len(found)
