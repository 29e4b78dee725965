"""Latency, measured reliably.

:func:`paretrim.bench.protocol.measure` takes the samples, in fresh processes and interleaved rounds;
:func:`paretrim.bench.statistics.summarize` turns them into intervals and verdicts; :mod:`paretrim.bench.raw` keeps them.
"""
