"""The native reader under sanitizers on damaged files."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 6


def fuzzed(driver, seconds):
    """What the fuzzer says, and how often it handed over a file."""
    done = subprocess.run(
        [ROOT / "scripts/fuzz-trim.sh", str(seconds)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "FUZZ_DRIVER": driver},
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    said = done.stdout + done.stderr
    runs = re.search(r"Done (\d+) runs|stat::number_of_executed_units: +(\d+)", said)
    assert runs, said[-2000:]
    return int(runs[1] or runs[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "seconds"),
    [
        ("", SECONDS),
        pytest.param("own", 5, marks=pytest.mark.skipif(not shutil.which("clang++"), reason="the first run has this driver")),
    ],
)
def test_no_damaged_file_breaks_the_reader(driver, seconds):
    assert fuzzed(driver, seconds) >= 20 * seconds
