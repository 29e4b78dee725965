"""Every kernel of every instruction set alone, and the members that a vector type must have."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from paretrim.runtime.compiled import native

ROOT = Path(__file__).resolve().parent.parent.parent
KERNELS = ROOT / "native/kernels"


def program(name):
    """Build one of the runtime's own programs; the path it lies at."""
    done = subprocess.run([ROOT / "scripts/native_program.sh", name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def kernels_of_the_table():
    header = (KERNELS / "kernels.h").read_text(encoding="utf-8")
    table = header.split("struct Kernels {")[1].split("\n};")[0]
    members = re.findall(r"\(\*(\w+)\)\(|^ *(?:SparseTile|DenseTile|RowTile|Requantize) (\w+)", table, re.MULTILINE)
    training = (KERNELS / "training.h").read_text(encoding="utf-8").split("struct TrainingKernels {")[1].split("\n};")[0]
    kinds = re.findall(r"^ *(\w+) \w+\[", training, re.MULTILINE)  # tested by kind, over all grids and element types
    return {pointer or member for pointer, member in members} | {re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower() for kind in kinds}


def test_the_table_of_kernels_is_read():
    assert {"sparse", "dense", "float_sparse", "float_rows", "requantize", "dot", "pick_maximum"} < kernels_of_the_table()
    assert {"fake_quantize", "fake_quantize_backward", "range_of"} < kernels_of_the_table()
    assert len(kernels_of_the_table()) == 23


@pytest.mark.slow
def test_every_kernel_of_every_set_gives_what_its_reference_gives():
    done = subprocess.run([program("kernel_test"), "400"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tried = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert tried == {(name, kernel, "400") for name in native.instruction_sets() for kernel in kernels_of_the_table()}


@pytest.mark.slow
def test_every_kernel_of_every_set_is_timed():
    done = subprocess.run([program("kernel_bench"), "0"], capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {(line[0], line[1]) for line in lines} == {
        (name, kernel) for name in native.instruction_sets() for kernel in kernels_of_the_table()
    }
    assert {line[-1] for line in lines} == {"GMAC/s", "GB/s"}
    assert all(float(line[-2]) > 0 and float(line[-4]) > 0 for line in lines)


def demanded():
    return set(re.findall(r"PARETRIM_V_NEEDS\((\w+), ", (KERNELS / "vector_type.inl").read_text(encoding="utf-8")))


def test_whatever_tiles_take_of_a_vector_type_is_demanded():
    taken = set(re.findall(r"\bV::(\w+)", (KERNELS / "tiles.inl").read_text(encoding="utf-8")))
    assert len(taken) == 35
    assert taken <= demanded()


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("lanes", "static constexpr int lanes"),
        ("Floats", "Floats: a type of float32 lanes"),
        ("dot", "static Sum dot(Sum, Pixels, Weights)"),
        ("store_rounded", "static void store_rounded(Floats, Floats, Floats, Floats, Requantization, uint8*)"),
        ("Table", "Table: a type made from 256 uint8, with Bytes operator[](Bytes) const"),
    ],
)
def test_a_vector_type_that_lacks_a_member_is_told_which(tmp_path, member, words):
    compiler = shutil.which("c++")
    assert compiler, "the native runtime was built, so there is a compiler"
    whole = (KERNELS / "isa_plain.cpp").read_text(encoding="utf-8")
    assert member in demanded()
    (tmp_path / "isa.cpp").write_text(re.sub(rf"\b{member}\b", f"{member}_", whole), encoding="utf-8")
    command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{ROOT / 'native'}", tmp_path / "isa.cpp"]
    done = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}, check=False)
    assert done.returncode != 0
    assert f"the vector type lacks `{words}`" in done.stderr
