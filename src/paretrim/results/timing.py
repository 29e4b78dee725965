"""Latency of a run's or a study's deployed files: which file in which runtime, and against which baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import numpy as np
import numpy.typing as npt

from paretrim.bench.effort import Effort
from paretrim.bench.protocol import measure
from paretrim.bench.raw import save_session
from paretrim.bench.statistics import summarize
from paretrim.bench.types import Deployment, Latency, TimingSession
from paretrim.deploy.runnable import NATIVE, RUNTIMES
from paretrim.plain_settings import OneOrMore, one_of, plain_settings
from paretrim.results.run_folder import graph_file_in


@plain_settings()
class RuntimeSetting:
    """A runtime with a number of threads.

    Raises:
        InvalidSettings: there is no such runtime, or there are fewer than 1 threads.
    """

    runtime: Annotated[str, one_of(RUNTIMES)]
    threads: OneOrMore


Problems = Mapping[str, Mapping[str, str]]
"""Why ONNX files do not run: by the name of the network, then by runtime."""

NO_PROBLEMS: Problems = MappingProxyType({})


def deployments_of(
    files: Mapping[str, Path], setting: RuntimeSetting, problems: Problems = NO_PROBLEMS
) -> tuple[Deployment, ...]:
    """Deployments of one session about a runtime, from the paths of ONNX files by name.

    In the native runtime it is the ``.trim`` file beside the ONNX file that is deployed. A network whose ONNX file was not
    delivered, or does not run in the runtime as ``problems`` say, has no deployment in the runtimes of ONNX files.
    """
    return tuple(
        Deployment(name, str(path), runtime, setting.threads)
        for name, (path, runtime) in _places(files, setting).items()
        if runtime not in problems.get(name, {})
    )


def left_out(files: Mapping[str, Path], setting: RuntimeSetting, problems: Problems) -> tuple[str, ...]:
    """In words, the networks that :func:`deployments_of` leaves out because their ONNX file does not run."""
    return tuple(
        f"{name} is not timed in {runtime}: its ONNX file does not run there: {problems[name][runtime]}"
        for name, (_, runtime) in _places(files, setting).items()
        if runtime in problems.get(name, {})
    )


def _places(files: Mapping[str, Path], setting: RuntimeSetting) -> dict[str, tuple[Path, str]]:
    """The file of every network that a session about a runtime can hold, and the runtime it is timed in."""
    if setting.runtime == NATIVE:
        return {name: (graph_file_in(path.parent), NATIVE) for name, path in files.items()}
    return {name: (path, setting.runtime) for name, path in files.items() if path.is_file()}


def time_files(
    files: Mapping[str, Path],
    images: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    *,
    baseline: str,
    settings: Sequence[RuntimeSetting],
    effort: Effort,
    folder: Path | None = None,
    problems: Problems = NO_PROBLEMS,
) -> dict[str, tuple[Latency, ...]]:
    """Latency of every file in every setting, one interleaved session a setting, against ``baseline``.

    If the baseline has no deployment (see :func:`deployments_of`), the first network that has one takes its place. With a
    ``folder`` the raw samples are kept there.
    """
    found: dict[str, tuple[Latency, ...]] = dict.fromkeys(files, ())
    for setting in settings:
        deployments = deployments_of(files, setting, problems)
        if not deployments:
            continue
        first = baseline if baseline in {deployment.name for deployment in deployments} else deployments[0].name
        session = measure(deployments, images, baseline=first, effort=effort)
        latencies = latencies_of(session, setting)
        if folder:  # only a session that says something
            save_session(session, folder / f"{setting.runtime}-{setting.threads}.npz")
        for name, latency in latencies.items():
            found[name] += (latency,)
    return found


def latencies_of(session: TimingSession, setting: RuntimeSetting) -> dict[str, Latency]:
    """Latencies of a session about a runtime, by name; those that had to be measured in another runtime say so."""
    return {
        latency.name: latency if latency.runtime == setting.runtime else replace(latency, in_place_of=setting.runtime)
        for latency in summarize(session)
    }
