"""The native runtime on pruned networks, against dense INT8 in other runtimes.

    python benchmarks/runtime.py [--networks resnet18,...] [--zeros 0,80,90,95] [--threads 1,2] [--batch 1] [--weights FOLDER]
                                 [--startup] [--layers] [--effort standard] [--json] [--quick] [--markdown]

Every network is pruned by magnitude in the 1x4 pattern, to the same sparsity in every layer except the first convolution,
depthwise convolutions and the classifier, and quantized, both without training: weights are random unless ``--weights`` names a
folder that holds ``cifar10_<network>.safetensors``. The native runtime opens the integer graph; OpenVINO and ONNX Runtime open
the ONNX file of the same network with 0 % zeros, because they compute every product and gain nothing from zeros.

All deployments of a network (every runtime on every number of threads) run interleaved in one session of docs/measurement.md.
Ratios are those of paired rounds with 95 % intervals: the time of the faster dense INT8 runtime on as many threads, divided by
ours. Which runtime is the faster is decided by its median in the session. For small networks the runtimes are also compared at
their own best numbers of threads, and the native runtime on several threads with itself on one.

``--startup`` adds the time from a file to its first logits in fresh processes; ``--layers`` the rate in every layer as a share of
the CPU's peak. ``--json`` prints one object per line; ``--quick`` is resnet18 alone with three shares of zeros and wide
intervals, in about 40 seconds of CPU time, and so in less than 50 seconds on two quiet cores. ``--markdown`` measures nothing and
writes the tables of docs/speed.md from results/runtime.jsonl, which holds such lines. Run it on a quiet machine. The goals are in
``runtime_lines.py`` and are printed with a verdict.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from layer_rates import layer_lines
from networks import prepare, random_pixels, trained_weights
from runtime_lines import LARGE, SMALL, LatencyLine, LayerLine, Line, Origin, to_json
from speed_page import PAGE, RESULTS, page_of
from startup import startup_lines

from paretrim import trimfile
from paretrim.bench.effort import EFFORTS, QUICK, Effort
from paretrim.bench.machine import describe, source_commit, versions
from paretrim.bench.protocol import measure
from paretrim.bench.statistics import kept_rounds, ratio
from paretrim.bench.types import Deployment, TimingSession
from paretrim.deploy.onnx_file import export_onnx
from paretrim.deploy.runnable import NATIVE, integer_share
from paretrim.graph.storage import save
from paretrim.models.spec import ModelSpec
from paretrim.runtime import instruction_sets, load

OPENVINO = "openvino"
PEERS = (OPENVINO, "onnxruntime")
QUICK_NETWORK = "resnet18"
ZEROS, QUICK_ZEROS = "0,80,90,95", "0,80,95"
QUICK_EFFORT = replace(QUICK, rounds=25, primers=5, warmup_limit_seconds=0.1, checked=8)
"""Many deployments: on an unquiet machine each would use up its warm-up. As few rounds as one window of the drift check has,
half of the untimed calls before each timed one, and few images to compare outputs on: 64 took as long as the timing."""


@dataclass(frozen=True)
class Files:
    """Deployed files of one network; ``graphs``, ``trims`` and ``zeros_found`` by the share of zeros asked for."""

    dense_onnx: Path
    graphs: dict[float, Path]
    trims: dict[float, Path]
    zeros_found: dict[float, float]


def write_files(model: ModelSpec, zeros: Sequence[float], *, size: int, classes: int, folder: Path, with_trims: bool) -> Files:
    """Write the network with every sparsity; ``.trim`` files only on request, because coding takes seconds."""
    prepared = prepare(model, size=size, classes=classes)
    files = Files(folder / "dense.onnx", {}, {}, {})
    dense = prepared.graph(quantized=True)
    export_onnx(dense, files.dense_onnx)
    for share in zeros:
        graph = prepared.graph(quantized=True, zeros=share) if share else dense
        files.graphs[share] = folder / f"zeros-{share:g}.graph"
        save(graph, files.graphs[share])
        if with_trims:
            files.trims[share] = folder / f"zeros-{share:g}.trim"
            trimfile.write(graph, files.trims[share])
        weights = [node.tensors["weight"] for node in graph.nodes if "weight" in node.tensors]
        files.zeros_found[share] = 1 - float(sum(map(np.count_nonzero, weights)) / sum(weight.size for weight in weights))
    return files


def deployment_name(what: str | float, threads: int) -> str:
    """Name of a peer's deployment, by its runtime, or of ours, by its share of zeros."""
    return f"{what if isinstance(what, str) else f'{NATIVE} {what:g}'} on {threads}"


def deployments_of(files: Files, threads: Sequence[int]) -> tuple[Deployment, ...]:
    """Every runtime on every number of threads."""
    peers = [Deployment(deployment_name(peer, count), str(files.dense_onnx), peer, count) for count in threads for peer in PEERS]
    ours = [
        Deployment(deployment_name(share, count), str(path), NATIVE, count)
        for count in threads
        for share, path in files.graphs.items()
    ]
    return (*peers, *ours)


def medians_ms(session: TimingSession) -> dict[str, float]:
    """Median of the kept samples of every deployment."""
    kept = kept_rounds(session)
    return {timing.deployment.name: float(np.median(np.array(timing.samples_ns)[kept])) / 1e6 for timing in session.timings}


def latency_lines(
    session: TimingSession,
    network: str,
    zeros_found: dict[float, float],
    threads: Sequence[int],
    in_int8: dict[str, str],
    origin: Origin,
) -> Iterator[LatencyLine]:
    """The lines of a session: one for every sparsity and number of threads."""
    p50 = medians_ms(session)
    floor = ratio(session, session.copy.deployment.name)
    best_openvino = min((deployment_name(OPENVINO, count) for count in threads), key=p50.__getitem__)
    for count in threads:
        dense = {peer: p50[deployment_name(peer, count)] for peer in PEERS}
        best = min(dense, key=dense.__getitem__)
        for share, found in zeros_found.items():
            ours = deployment_name(share, count)
            against_best = ratio(session, ours, over=deployment_name(best, count))
            against_openvino = ratio(session, ours, over=best_openvino)
            alone = ratio(session, ours, over=deployment_name(share, 1)) if count > 1 and 1 in threads else None
            yield LatencyLine(
                network=network,
                zeros=share,
                threads=count,
                ours_p50_ms=p50[ours],
                best_dense_int8=best,
                best_dense_int8_p50_ms=dense[best],
                ratio=against_best.value,
                ratio_low=against_best.low,
                ratio_high=against_best.high,
                over_openvino=against_openvino.value,
                over_openvino_low=against_openvino.low,
                over_openvino_high=against_openvino.high,
                over_one_thread=alone.value if alone else None,
                over_one_thread_low=alone.low if alone else None,
                over_one_thread_high=alone.high if alone else None,
                fastest_threads=p50[ours] == min(p50[deployment_name(share, other)] for other in threads),
                dense_int8_p50_ms=dense,
                convolutions_in_int8=in_int8,
                zeros_found=found,
                batch=session.batch,
                floor_low=floor.low,
                floor_high=floor.high,
                origin=origin,
            )


def settled(files: Sequence[Path], threads: Sequence[int]) -> None:
    """Choose kernels for every file beforehand, so that no process of the session has to."""
    for path in files:
        for count in threads:
            load(path, threads=count)


def in_int8(onnx: Path) -> dict[str, str]:
    """How many of all convolutions each peer reports to compute in int8."""
    reports = {peer: integer_share(onnx, peer) for peer in PEERS}
    return {peer: f"{report.in_int8}/{report.convolutions}" for peer, report in reports.items()}


def lines_of(network: str, given: argparse.Namespace, effort: Effort) -> Iterator[Line]:
    """All lines of one network."""
    zeros = [float(text) / 100 for text in given.zeros.split(",")]
    threads = [int(text) for text in given.threads.split(",")]
    weights = trained_weights(network, given.weights)
    origin = Origin(
        cpu=describe().cpu,
        weights="trained" if weights else "random",
        versions=versions(),
        commit=source_commit(),
        effort="quick" if given.quick else given.effort,
        size=given.size,
        instruction_set=instruction_sets()[0],
    )
    with tempfile.TemporaryDirectory() as place:
        model, folder = ModelSpec(network, weights), Path(place)
        files = write_files(model, zeros, size=given.size, classes=given.classes, folder=folder, with_trims=given.startup)
        settled(list(files.graphs.values()), threads)
        session = measure(
            deployments_of(files, threads),
            random_pixels(given.size),
            baseline=deployment_name(OPENVINO, threads[0]),
            effort=effort,
            batch=given.batch,
        )
        noted = replace(origin, noise=session.noise)
        yield from latency_lines(session, network, files.zeros_found, threads, in_int8(files.dense_onnx), noted)
        if given.startup:
            yield from startup_lines(network, {"trim": files.trims, "graph": files.graphs}, threads, given.size, origin)
        if given.layers:
            yield from layer_lines(network, files.graphs, origin)


def show(line: Line) -> None:
    """One line for people."""
    where = f"{line.network:18} {100 * line.zeros:3.0f} % zeros "
    if isinstance(line, LatencyLine):
        dense = f"{line.best_dense_int8:11} {line.best_dense_int8_p50_ms:7.3f} ms"
        found = f"{line.ratio:5.2f} [{line.ratio_low:.2f}, {line.ratio_high:.2f}] x"
        text = f"{where} {on(line.threads)} {line.ours_p50_ms:7.3f} ms   {dense}   {found}  {line.verdict}"
        if scaling := line.scaling:
            beside = f"{scaling.value:5.2f} [{scaling.low:.2f}, {scaling.high:.2f}] x one thread  {line.threads_verdict}"
            text = f"{text.rstrip()}\n{'':75}{beside}"
    elif isinstance(line, LayerLine):
        share = line.share
        found = f"{100 * share.value:3.0f} [{100 * share.low:.0f}, {100 * share.high:.0f}] % of the peak"
        layer = f"{line.layer:28} {line.positions:5} positions {line.time_us:8.1f} µs"
        text = f"{where} {layer}   {found}  {line.kernel}  {line.verdict}"
    else:
        found = f"{line.first_result_ms:.1f} [{line.first_result_ms_low:.1f}, {line.first_result_ms_high:.1f}] ms"
        choosing = "" if line.first_start_ms is None else f", {line.first_start_ms:.0f} ms with kernels to choose"
        imports = f"imports {line.import_ms:.0f} ms"
        text = f"{where} {on(line.threads)} .{line.file:5} first result after {found}{choosing}; {imports}  {line.verdict}"
    print(text.rstrip(), flush=True)


def on(threads: int) -> str:
    """A number of threads as text of fixed width."""
    return f"{threads} thread{' ' if threads == 1 else 's'}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", help="catalog names, separated by commas")
    parser.add_argument("--zeros", help=f"percentages (default: {ZEROS}; with --quick {QUICK_ZEROS})")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batch", type=int, default=1, help="images per call; goals are for 1")
    parser.add_argument("--weights", help="folder with cifar10_<network>.safetensors")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--effort", choices=tuple(EFFORTS), default="standard")
    parser.add_argument("--startup", action="store_true", help="also time from file to first result")
    parser.add_argument("--layers", action="store_true", help="also measure every layer's share of the peak rate")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--quick", action="store_true", help="only resnet18, with fewer sparsities and wide intervals")
    parser.add_argument("--markdown", action="store_true", help=f"write the tables of {PAGE.name} from {RESULTS.name}")
    given = parser.parse_args(arguments)
    given.zeros = given.zeros or (QUICK_ZEROS if given.quick else ZEROS)
    given.networks = given.networks or (QUICK_NETWORK if given.quick else ",".join((*LARGE, *SMALL)))
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    given = parse(arguments)
    if given.markdown:
        PAGE.write_text(page_of(PAGE.read_text(encoding="utf-8"), RESULTS), encoding="utf-8")
        return
    torch.set_num_threads(1)  # this only prepares files, and waiting threads would spin on a busy machine
    for network in given.networks.split(","):
        remarks: tuple[str, ...] = ()
        for line in lines_of(network, given, QUICK_EFFORT if given.quick else EFFORTS[given.effort]):
            if given.json:
                print(to_json(line), flush=True)
            else:
                show(line)
                remarks = remarks or line.origin.noise
        for remark in remarks:
            print(f"    not quiet: {remark}")


if __name__ == "__main__":
    main()
