"""How hard tests measure: no more than shows that measuring works, and on a machine of any noise."""

from paretrim.bench.effort import Effort

LEAST = Effort(
    processes=1, rounds=5, warmup_calls=1, warmup_seconds=0, warmup_limit_seconds=0.1, gate_seconds=0, drift=1e6, preempted=1e6
)
"""No window is left out, however busy the machine; what is left out otherwise is tested on simulated sessions."""
