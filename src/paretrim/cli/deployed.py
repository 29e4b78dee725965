"""Commands on deployed files: ``bench``, ``export`` and ``inspect``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paretrim.bench.effort import EFFORTS
from paretrim.bench.machine_load import shortened
from paretrim.bench.protocol import measure
from paretrim.bench.raw import save_session
from paretrim.bench.sampling import ENOUGH, Images
from paretrim.bench.statistics import summarize
from paretrim.bench.types import Deployment, Latency
from paretrim.cli.comparing import compare_files
from paretrim.cli.exits import DONE
from paretrim.cli.images import images_for
from paretrim.cli.layers import show_layers
from paretrim.cli.output import emit, say, show_rows
from paretrim.cli.reading import CANDIDATE, GRAPHS, ONNX, TRIM, described, graph_of_candidate, input_of, kind_of, weights_of
from paretrim.cli.unused import refuse_unused
from paretrim.deploy.runnable import RUNTIMES, read_graph
from paretrim.errors import ExportMismatch, InvalidRecipe
from paretrim.files import write_atomically
from paretrim.graph.types import Graph, InputSpec
from paretrim.history import StageOutcome
from paretrim.intervals import Estimate
from paretrim.report import wording
from paretrim.report.zeros import prunable_sparsity
from paretrim.results.run_folder import graph_file_in, index_of, onnx_problem_in
from paretrim.trimfile.provenance import MEAN, OF_TASK, RESIZE, STD, image_facts

if TYPE_CHECKING:
    from paretrim.trimfile import Provenance

RANDOM_IMAGES = 4 * ENOUGH
"""Number of distinct random images if no data are named; latency does not depend on their content."""


def bench(parsed: argparse.Namespace) -> int:
    """Time files against each other, in one session per runtime and number of threads; or one file layer by layer."""
    if parsed.layers:
        return show_layers(parsed)
    files: list[Path] = [*dict.fromkeys(parsed.files)]
    baseline: Path = parsed.baseline or files[0]
    if baseline not in files:
        files.insert(0, baseline)
    images = _timed_images(files, parsed)
    names = _names(files)
    settings = [(known_runtime(runtime), threads) for runtime in parsed.runtime for threads in parsed.threads]
    found: list[Latency] = []
    for runtime, threads in settings:
        deployments = [Deployment(names[file], str(file), runtime_of(file, runtime), threads) for file in files]
        session = measure(
            deployments, images, baseline=names[baseline], effort=EFFORTS[parsed.effort], batch=parsed.batch, seed=parsed.seed
        )
        if parsed.raw:
            several = f"-{runtime}-{threads}" if len(settings) > 1 else ""
            save_session(session, parsed.raw.with_name(f"{parsed.raw.stem}{several}{parsed.raw.suffix}"))
        found.extend(summarize(session))
    if parsed.json:
        emit(
            {
                "baseline": names[baseline],
                "files": {name: str(file) for file, name in names.items()},
                "latencies": [dataclasses.asdict(latency) for latency in found],
            }
        )
    else:
        _show_latencies(found, parsed.batch)
    return DONE


def export(parsed: argparse.Namespace) -> int:
    """Write a candidate's graph under another name, in the format of its extension."""
    source: Path = parsed.source
    graph = _graph_of_folder(source, parsed) if source.is_dir() else _graph_of_file(source, parsed)
    path = _written(graph, source, parsed)
    size = path.stat().st_size
    if parsed.json:
        emit({"file": str(path), "file_bytes": size, "takes_pixels": graph.input.takes_pixels, "shape": list(graph.input.shape)})
    else:
        takes = "uint8 pixels" if graph.input.takes_pixels else "normalised float32 images"
        say(f"wrote {path}: {size:,} bytes, takes {takes} {list(graph.input.shape)}")
    return DONE


def inspect(parsed: argparse.Namespace) -> int:
    """The weights of a file, layer by layer; or two files compared."""
    if parsed.compare:
        return compare_files(parsed)
    if parsed.file is None:
        raise InvalidRecipe("inspect needs a file; name one, or two with --compare A B")
    refuse_unused(parsed, ("file", "limit"), "it is only for --compare A B; leave it out")
    if kind_of(parsed.file) == TRIM:
        from paretrim.cli import trim

        return trim.show(parsed)
    weights = weights_of(parsed.file)
    total = sum(one.bytes for one in weights)
    if parsed.json:
        layers = [dataclasses.asdict(one) for one in weights]
        emit({"file": str(parsed.file), "file_bytes": parsed.file.stat().st_size, "weight_bytes": total, "layers": layers})
        return DONE
    rows = [
        (
            one.name,
            "×".join(map(str, one.shape)),
            one.dtype,
            wording.percent(one.zeros / max(one.weights, 1), 1),
            f"{one.bytes:,}",
            f"{one.entropy_bytes:,.0f}",
            wording.percent(one.bytes / max(total, 1), 1),
        )
        for one in weights
    ]
    zeros, count = sum(one.zeros for one in weights), sum(one.weights for one in weights)
    entropy = sum(one.entropy_bytes for one in weights)
    rows.append(("all weights", "", "", wording.percent(zeros / max(count, 1), 1), f"{total:,}", f"{entropy:,.0f}", ""))
    show_rows(("layer", "shape", "format", "zeros", "bytes", "entropy bytes", "share"), rows)
    say(f"{parsed.file}: {parsed.file.stat().st_size:,} bytes")
    say(f"zeros: {wording.zeros(prunable_sparsity(weights, _history(parsed.file)), zeros / max(count, 1))}")
    return DONE


def _history(file: Path) -> tuple[StageOutcome, ...]:
    """What the stages did, if the file says."""
    if kind_of(file) != CANDIDATE:
        return ()
    from paretrim.run.candidate import load_candidate

    return load_candidate(file).history


def known_runtime(name: str) -> str:
    """The name of a runtime.

    Raises:
        InvalidRecipe: there is none of this name.
    """
    if name not in RUNTIMES:
        raise InvalidRecipe(f"--runtime is '{name}'; choose from {', '.join(RUNTIMES)}")
    return name


def runtime_of(file: Path, wanted: str) -> str:
    """The runtime for a file if ``wanted`` is one for ONNX files: graph files run in the native one, or in the reference."""
    return wanted if kind_of(file) not in GRAPHS or wanted == "reference" else "paretrim"


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Each file's path relative to their common folder, as a short distinct name."""
    folders = [file.absolute().parent for file in files]
    shared = Path(os.path.commonpath(folders))
    return {file: str(folder.relative_to(shared) / file.name) for file, folder in zip(files, folders, strict=True)}


def _timed_images(files: Sequence[Path], parsed: argparse.Namespace) -> Images:
    """Test images if data are named, else random ones, in the form that all the files take."""
    kinds = {input_of(file): file for file in files}
    if len(kinds) > 1:
        (first, one), (second, other) = list(kinds.items())[:2]
        raise InvalidRecipe(
            f"'{one}' takes {_input(*first)} and '{other}' takes {_input(*second)}; compare files with the same input"
        )
    ((shape, pixels),) = kinds
    if parsed.data:
        return images_for(parsed, files[0], described(files[0]), labelled=False).images[:RANDOM_IMAGES]
    stream = np.random.default_rng(parsed.seed)
    if pixels:
        return stream.integers(0, 256, (RANDOM_IMAGES, *shape), np.uint8)
    return stream.standard_normal((RANDOM_IMAGES, *shape), np.float32)


def _input(shape: tuple[int, ...], pixels: bool) -> str:
    return f"{'uint8 pixels' if pixels else 'float32 images'} {list(shape)}"


def _written(graph: Graph, source: Path, parsed: argparse.Namespace) -> Path:
    """Write the file of ``export``; returns its path."""
    path: Path = parsed.to
    for option, given in (("--native", parsed.native), ("--int4", parsed.int4)):
        if given is not None and path.suffix != ONNX:
            raise InvalidRecipe(
                f"{option} writes an ONNX file, and '{path}' ends in '{path.suffix}'; name one that ends in .onnx"
            )
    if parsed.native is not None and parsed.int4 is not None:
        raise InvalidRecipe("--native holds the .trim file as it is, so --int4 would have no effect; leave one of them out")
    if parsed.native is not None:
        from paretrim.deploy.onnx_operator import export_operator

        export_operator(_trim_bytes(graph, source, parsed), path, threads=parsed.native)
        return path
    if path.suffix == TRIM:
        write_atomically(path, _trim_bytes(graph, source, parsed))
        return path
    if path.suffix == ONNX and source.is_dir():
        place = _place_in(source, parsed)
        if problem := onnx_problem_in(place):
            raise ExportMismatch(f"'{place}' has no ONNX file: {problem}; its .trim file was checked and runs in paretrim")
    if path.suffix == ONNX:
        from paretrim.deploy.onnx_file import export_onnx
        from paretrim.deploy.onnx_writer import FourBits

        known = _known(source, parsed)
        kept = (*OF_TASK, RESIZE) if graph.input.takes_pixels else (*OF_TASK, MEAN, STD, RESIZE)
        four_bits = None if parsed.int4 is None else FourBits(parsed.int4)
        export_onnx(graph, path, facts={key: str(known[key]) for key in kept if key in known}, four_bits=four_bits)
        return path
    from paretrim.deploy.write import write_graph

    return write_graph(graph, path)


def _trim_bytes(graph: Graph, source: Path, parsed: argparse.Namespace) -> bytes:
    """The ``.trim`` file of ``export``: an existing one is copied, so that its bytes are those that were measured."""
    shipped = graph_file_in(_place_in(source, parsed)) if source.is_dir() else source
    if kind_of(shipped) == TRIM:
        return shipped.read_bytes()
    from paretrim import trimfile

    return trimfile.to_bytes(graph, _provenance(source, parsed))


def _known(source: Path, parsed: argparse.Namespace) -> Mapping[str, object]:
    """What is measured of the network of ``export``: for a run folder, as stored in the file that was measured."""
    shipped = graph_file_in(_place_in(source, parsed)) if source.is_dir() else source
    if source.is_dir() and kind_of(shipped) != TRIM:
        return {}
    return _provenance(shipped, parsed).measured


def _provenance(source: Path, parsed: argparse.Namespace) -> Provenance:
    """The provenance of the network of ``export``."""
    if source.is_dir():
        from paretrim.cli.trim import provenance_of

        return provenance_of(source, parsed.label or str(index_of(source)[-1]["label"]))
    if kind_of(source) == TRIM:
        from paretrim import trimfile

        return trimfile.open_file(source).provenance
    from paretrim.trimfile import Provenance

    if kind_of(source) == CANDIDATE:
        from paretrim.run.candidate import load_candidate

        candidate = load_candidate(source)
        kept = image_facts(candidate.mean, candidate.std, candidate.resize, pixels=bool(parsed.std))
        return Provenance(history=candidate.history, measured=kept)
    return Provenance()


def _graph_of_folder(folder: Path, parsed: argparse.Namespace) -> Graph:
    """The graph of a run folder's candidate with the given label, or of its last candidate."""
    if parsed.mean or parsed.std:
        raise InvalidRecipe(
            "--mean and --std are for a single candidate; the files of a run folder take pixels already, so leave them out"
        )
    return read_graph(graph_file_in(_place_in(folder, parsed)))


def _place_in(folder: Path, parsed: argparse.Namespace) -> Path:
    """The folder of that candidate's files."""
    entries = index_of(folder)
    labels = [str(entry["label"]) for entry in entries]
    label = parsed.label or labels[-1]
    if label not in labels:
        raise InvalidRecipe(f"'{folder}' has no candidate '{label}'; it has {', '.join(labels)}")
    return folder / str(entries[labels.index(label)]["folder"])


def _graph_of_file(file: Path, parsed: argparse.Namespace) -> Graph:
    if (parsed.mean or parsed.std) and kind_of(file) in GRAPHS:
        raise InvalidRecipe(
            f"--mean and --std are for a single candidate; the input of '{file}' cannot be changed, so leave them out"
        )
    if parsed.label:
        raise InvalidRecipe(f"--label '{parsed.label}' chooses among the candidates of a run folder, and '{file}' is a file")
    if (parsed.mean is None) != (parsed.std is None):
        raise InvalidRecipe("--mean and --std belong together; give both or neither")
    if kind_of(file) in GRAPHS:
        return read_graph(file)
    if kind_of(file) != CANDIDATE:
        raise InvalidRecipe(f"'{file}' is already deployed; give a candidate.safetensors, a .trim or .graph file or a run folder")
    graph = graph_of_candidate(file, None)
    if parsed.mean is None:
        return graph
    channels = graph.input.shape[0]
    if len(parsed.mean) != channels or len(parsed.std) != channels:
        raise InvalidRecipe(
            f"--mean has {len(parsed.mean)} and --std {len(parsed.std)} numbers; the network takes {channels} channels"
        )
    return graph_of_candidate(file, InputSpec(graph.input.shape, parsed.mean, parsed.std))


def _show_latencies(latencies: Sequence[Latency], batch: int) -> None:
    """One table per runtime and number of threads, because times of different sessions are not comparable."""
    sessions: dict[tuple[str, int], list[Latency]] = {}
    for latency in latencies:
        sessions.setdefault((latency.runtime, latency.threads), []).append(latency)
    for (runtime, threads), found in sessions.items():
        rows = [
            (
                one.name,
                _ms(one.p50_ms),
                _ms(one.p90_ms),
                _ms(one.p99_ms),
                f"{wording.times(one.speedup.value)} [{wording.span(one.speedup)}]",
                "baseline" if one.name == one.baseline else one.verdict,
            )
            for one in found
        ]
        show_rows(("file", "p50 ms", "p90 ms", "p99 ms", "speed-up", "verdict"), rows)
        first = found[0]
        processes = f"{first.processes} process{'es' * (first.processes > 1)}"
        calls = f"{first.samples:,} calls of {batch} image{'s' * (batch > 1)} each in {processes}"
        said = f"{runtime} {first.runtime_version}, {threads} thread{'s' * (threads > 1)}: {calls}"
        say(f"{said}; speed-up relative to {first.baseline}, whose own copy measures {wording.span(first.floor)}")
    for remark in shortened(dict.fromkeys(remark for latency in latencies for remark in latency.noise)):
        say(f"not quiet: {remark}")


def _ms(estimate: Estimate | None) -> str:
    return "too few calls" if estimate is None else f"{wording.milliseconds(estimate.value)} [{wording.span(estimate)}]"
