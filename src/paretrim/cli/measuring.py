"""``--effort``, ``--runtimes`` and ``--threads``: how latency is measured."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from paretrim.bench.effort import EFFORTS
from paretrim.cli.options import NO_TIMING
from paretrim.deploy.runnable import NATIVE, RUNTIMES
from paretrim.errors import InvalidRecipe
from paretrim.results.timing import RuntimeSetting
from paretrim.run.delivery import TimingPlan


def measuring_of(parsed: argparse.Namespace) -> TimingPlan | None:
    """In which runtimes, and how thoroughly, latency is measured; None if it is not."""
    allowed = [runtime for runtime in RUNTIMES if runtime != "reference"]
    runtimes = parsed.runtimes or tuple(runtime for runtime in allowed if _installed(runtime))
    unknown = [runtime for runtime in runtimes if runtime not in allowed]
    if unknown:
        raise InvalidRecipe(f"--runtimes names '{unknown[0]}'; choose from {', '.join(allowed)}")
    if parsed.effort == NO_TIMING:
        idle = [name for name, given in (("--runtimes", parsed.runtimes), ("--threads", parsed.threads != (1,))) if given]
        if idle:
            raise InvalidRecipe(
                f"{' and '.join(idle)} would have no effect: no latency is measured with --effort none; choose another effort"
            )
        return None
    settings = tuple(RuntimeSetting(runtime, threads) for runtime in runtimes for threads in parsed.threads)
    return TimingPlan(settings, EFFORTS[parsed.effort])


def _installed(runtime: str) -> bool:
    return runtime == NATIVE or find_spec(runtime) is not None


def measured_natively(measuring: TimingPlan | None) -> bool:
    """Whether candidates for the native runtime make sense: if latency is measured at all, it must be measured there."""
    return measuring is None or any(setting.runtime == NATIVE for setting in measuring.settings)
