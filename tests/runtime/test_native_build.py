"""The native code alone: under sanitizers, and cross-compiled."""

import shutil
import subprocess
from pathlib import Path

import pytest

from paretrim.graph.functions import EXACT
from paretrim.graph.operations.table import OPERATIONS

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_sanitizers_find_nothing_and_instruction_sets_agree():
    done = subprocess.run([ROOT / "scripts/native_tests.sh", "40"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 graphs in" in done.stderr
    assert "of 800 damaged graphs ran" in done.stdout


@pytest.mark.slow
def test_random_graphs_have_every_operation_and_exact_function():
    """Functions of the mathematics library are left out: results are compared between machines bit for bit."""
    made = subprocess.run(
        [ROOT / "scripts/native_program.sh", "selfcheck", "sanitized", "-DPARETRIM_SANITIZE=ON"],
        capture_output=True,
        text=True,
        check=True,
    )
    done = subprocess.run([made.stdout.strip(), "1000", "0", "operations"], capture_output=True, text=True, check=True)
    # Seeds whose products of maps left float32: a graph that is no network ends the program.
    subprocess.run([made.stdout.strip(), "20", "5040", "digest"], capture_output=True, text=True, check=True)
    shipped = {operation.name for operation in OPERATIONS.values() if operation.ships}
    assert set(done.stdout.splitlines()) == shipped | {f"pointwise {name}" for name in EXACT}


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="no cross compiler or no emulator for Arm",
)
def test_arm_gives_the_same_bits():
    done = subprocess.run([ROOT / "scripts/arm.sh", "20"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 graphs have the same bits on Arm as here" in done.stdout
