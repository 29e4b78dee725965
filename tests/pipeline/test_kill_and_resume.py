import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    """Killed at random times and in the middle of writes; the newest checkpoint cut short; then the same command again."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    found = subprocess.run(
        [sys.executable, here / "killed_runs.py", tmp_path / "runs", "4"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    report = json.loads(found.stdout)
    assert len(report["digests"]) == 7
    assert set(report["digests"].values()) == {report["digests"]["undisturbed"]}
    assert report["kills"].count(-signal.SIGKILL) == 4
    assert report["kills"].count(-signal.SIGPROF) >= 3  # of 6: some runs end before their random moment
    assert report["torn"] == ["stages", "teachers", "teachers"]  # each kill struck in a write, and where it was meant to
    assert report["left"] == []
