"""Size of the ``.trim`` file, everything included, and how long it takes to read and write.

    python benchmarks/filesize.py [--networks resnet20,resnet18] [--zeros 0,50,80,90,95] [--patterns unstructured,1x4]
                                  [--weights FOLDER] [--data-folder DIR] [--threads 2] [--json]

Networks are pruned by magnitude and quantized with zero epochs, on CIFAR-10 images if available, otherwise on
random ones. ``--weights`` names a folder with ``cifar10_<network>.safetensors``; a network without such a file has random
Gaussian weights without structure, so a coder can use little more than their frequencies: such sizes say little about trained
networks.

Also printed: the sum over layers of the order-0 entropy of the weights (weights alone: no scale, bias or name, and the
cost of the frequencies not counted); zstd -19 of all tensors concatenated, if ``zstandard`` is installed; the weights coded
by NNCodec, if ``nncodec`` is installed, to compare with the weights' bytes in the file; and Deep Compression's own
form (k-means codes of 8 bits in convolutions and 5 in linear layers, gaps of as many bits, Huffman, codebooks, biases) of the
same weights before quantization to integers. Times are the smallest of several, with data in memory; run it on a quiet machine.

Goals: file at or below order-0; at least 15 % below zstd; ResNet-18 at 90 % zeros read within 60 ms on 2 cores and written
within 1 s, in 1.3 MB.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import time
from collections.abc import Callable, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from paretrim import trimfile
from paretrim.capture import capture
from paretrim.data.batches import EvalBatches
from paretrim.data.load import load
from paretrim.data.spec import DataSpec
from paretrim.data.types import ImageSet
from paretrim.graph.entropy import summarize_weights
from paretrim.graph.operations.table import WEIGHTED
from paretrim.graph.types import Graph, InputSpec
from paretrim.models.spec import ModelSpec, build
from paretrim.network.freeze import freeze
from paretrim.network.network import Network
from paretrim.network.settle import settle_
from paretrim.runtime.compiled import native
from paretrim.stages.prune.stage import Prune
from paretrim.stages.quantize.stage import Quantize
from paretrim.train.budget import Budget
from paretrim.train.execution import Execution
from paretrim.train.resources import Resources

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPE = (3, 32, 32)
CALIBRATION_IMAGES = 64
REPEATS = 5
NONE = Budget(epochs=0)
UNARY_LENGTH = 11
"""Of NNCodec's magnitudes: its default."""


def resources(folder: str | None) -> Resources:
    """Calibration images: CIFAR-10 if available, otherwise random pixels."""
    images = ImageSet(
        torch.randint(0, 256, (CALIBRATION_IMAGES, *SHAPE), dtype=torch.uint8), torch.zeros(CALIBRATION_IMAGES).long()
    )
    if folder:
        images = load(DataSpec("cifar10", folder=folder, mean=MEAN, std=STD)).train.select(torch.arange(CALIBRATION_IMAGES))
    batches = EvalBatches(images=images, batch_size=CALIBRATION_IMAGES, mean=MEAN, std=STD)
    return Resources(lambda _: batches, batches, next(batches.epoch(0)).inputs, Execution(device="cpu"), 0)


def captured(name: str, weights: Path | None) -> Network:
    """The network with its weights file, or with the random weights of seed 0."""
    torch.manual_seed(0)
    spec = ModelSpec(name, weights=str(weights) if weights else None)
    return Network(capture(build(spec, classes=10, channels=3), SHAPE)).eval()


def pruned(network: Network, pattern: str, zeros: float, given: Resources) -> Network:
    """A copy pruned to this sparsity, except for the first and the last layer."""
    if zeros == 0:
        return network
    return Prune(budget=NONE, sparsity=zeros, pattern=pattern).begin(network, given).network.eval()


def fastest_ms(call: Callable[[], object]) -> float:
    """The shortest of a few calls, since disturbances only lengthen a call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * min(times)


def zstd19_bytes(graph: Graph) -> int | None:
    """All tensors of the graph, concatenated, after zstd -19; None without the package."""
    try:
        import zstandard
    except ImportError:
        return None
    content = b"".join(tensor.tobytes() for node in graph.nodes for tensor in node.tensors.values())
    return len(zstandard.ZstdCompressor(level=19).compress(content))


def nncodec_bytes(graph: Graph) -> int | None:
    """All weights, layer by layer, through the entropy coder of NNCodec (DeepCABAC, ISO/IEC 15938-17); None without the package.

    Only its compiled coder is loaded: the package itself imports far more than this needs. Its own headers are left out.
    """
    package = find_spec("nncodec")
    places = list(package.submodule_search_locations or ()) if package else []
    found = [path for place in places for path in Path(place).glob("extensions/deepCABAC*" + EXTENSION_SUFFIXES[0])]
    if not found:
        return None
    name = "nncodec.extensions.deepCABAC"
    loader = ExtensionFileLoader(name, str(found[0]))
    spec = spec_from_file_location(name, found[0], loader=loader)
    assert spec is not None
    coder = module_from_spec(spec)
    loader.exec_module(coder)
    size = 0
    for node in graph.nodes:
        if node.op in WEIGHTED:
            encoder = coder.Encoder()
            encoder.initCtxModels(UNARY_LENGTH, 1)
            weight = np.ascontiguousarray(node.tensors["weight"], np.int32)
            off = coder.HdspMode.AlwaysOff, np.zeros(2, np.int8)
            encoder.encodeLayer(weight, 0, 0, 0, 0, 0, np.zeros(len(weight), np.int32), *off, 0, 0)
            size += len(encoder.finish())
    return size


def huffman_bits(symbols: npt.NDArray[np.int64]) -> int:
    """Length of a Huffman code of these symbols, and of the table of its code lengths (a byte a symbol)."""
    counts = np.unique(symbols, return_counts=True)[1].tolist()
    heap = list(counts)
    heapq.heapify(heap)
    total = heap[0] if len(heap) == 1 else 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total + 8 * len(counts)


def deep_compression_bytes(graph: Graph) -> int:
    """Han et al. 2016, sections 3 and 4, of a float graph: k-means from linear starts, relative indices, Huffman; biases."""
    bits = 0.0
    for node in graph.nodes:
        if node.op in WEIGHTED:
            convolution = node.op == "conv2d"
            flat = node.tensors["weight"].astype(np.float64).ravel()
            at = np.flatnonzero(flat)
            count = 256 if convolution else 32
            if len(at):
                gaps = np.diff(at, prepend=-1) - 1
                codes = clustered(flat[at], count)
                fillers = int((gaps // count).sum())
                symbols = np.concatenate([codes + 1, np.zeros(fillers, np.int64)])
                jumps = np.concatenate([gaps % count, np.full(fillers, count - 1)])
                bits += huffman_bits(symbols) + huffman_bits(jumps) + 32 * count
        bits += sum(8 * tensor.nbytes for name, tensor in node.tensors.items() if name != "weight")
    return int(np.ceil(bits / 8))


def clustered(values: npt.NDArray[np.float64], count: int, *, rounds: int = 20) -> npt.NDArray[np.int64]:
    """Codes of one-dimensional k-means with centres initialised evenly between the extremes."""
    centres = np.linspace(values.min(), values.max(), count)
    for _ in range(rounds):
        codes = np.searchsorted((centres[1:] + centres[:-1]) / 2, values)
        sums, counts = np.bincount(codes, values, count), np.bincount(codes, minlength=count)
        centres = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), centres))
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values).astype(np.int64)


def row(name: str, pattern: str, zeros: float, trained: bool, graph: Graph, plain: Graph, threads: int) -> dict[str, object]:
    """The numbers of one network."""
    content = trimfile.to_bytes(graph, threads=threads)
    found = trimfile.from_bytes(content, threads=threads)
    weights = summarize_weights(graph)
    return {
        "network": name,
        "weights": "trained" if trained else "random",
        "pattern": pattern,
        "zeros": zeros,
        "zeros_found": sum(one.zeros for one in weights) / sum(one.weights for one in weights),
        "file_bytes": len(content),
        "parameter_bytes": sum(size for part, size in found.record_bytes.items() if "parameters" in part),
        "order0_bytes": round(sum(one.entropy_bytes for one in weights)),
        "zstd19_bytes": zstd19_bytes(graph),
        "nncodec_weight_bytes": nncodec_bytes(graph),
        "weight_bytes": round(sum(found.layer_bytes.values())),
        "deep_compression_bytes": deep_compression_bytes(plain),
        "read_ms": round(fastest_ms(lambda: native.read_trim(content, threads=threads)), 2),
        "load_ms": round(fastest_ms(lambda: planned(content, threads)), 2),
        "write_ms": round(fastest_ms(lambda: native.write_trim(graph, provenance="", threads=threads)), 2),
        "threads": threads,
        "busy": round(os.getloadavg()[0], 2),
    }


def planned(content: bytes, threads: int) -> object:
    """Read, check and plan the file for this CPU, with kernels chosen by heuristics."""
    return native.plan_trim(content, threads=threads, instruction_set="", measure=False, choices="")


def show(line: dict[str, object]) -> None:
    """One network in a line."""
    size, order0, zstd = (line[key] for key in ("file_bytes", "order0_bytes", "zstd19_bytes"))
    assert isinstance(size, int)
    assert isinstance(order0, int)
    beside = f"{size / zstd:.3f} x zstd -19" if isinstance(zstd, int) else "zstd not installed"
    print(
        f"{line['network']:10} {line['weights']:8} {line['pattern']:13} {100 * float(str(line['zeros'])):3.0f} % zeros "
        f"{size:12,} bytes   "
        f"{size / order0:.3f} x order-0   {beside}   "
        f"weights {line['weight_bytes']:,} (NNCodec {line['nncodec_weight_bytes'] or 'not installed'})   "
        f"Deep Compression {line['deep_compression_bytes']:,}   "
        f"read {line['read_ms']} ms, load {line['load_ms']} ms, write {line['write_ms']} ms",
        flush=True,
    )


def measured(given: argparse.Namespace) -> None:
    """Every network, pattern and share of zeros, printed as it is found."""
    data = resources(given.data_folder)
    for name in given.networks.split(","):
        weights = Path(given.weights, f"cifar10_{name}.safetensors") if given.weights else None
        trained = weights is not None and weights.is_file()
        network = captured(name, weights if trained else None)
        for pattern in given.patterns.split(","):
            for percent in map(float, given.zeros.split(",")):
                if percent == 0 and pattern != given.patterns.split(",")[0]:
                    continue  # without zeros there is no pattern
                sparse = pruned(network, pattern, percent / 100, data)
                quantized = Quantize(budget=NONE).begin(sparse, data).network.eval()
                settle_(quantized)
                spec = InputSpec(SHAPE, MEAN, STD)
                line = row(name, pattern, percent / 100, trained, freeze(quantized, spec), freeze(sparse, spec), given.threads)
                if given.json:
                    print(json.dumps(line), flush=True)
                else:
                    show(line)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="resnet20,resnet56,resnet18,vgg16_bn", help="catalog names")
    parser.add_argument("--zeros", default="0,50,80,90,95", help="percentages")
    parser.add_argument("--patterns", default="unstructured,1x4")
    parser.add_argument("--weights", help="folder with cifar10_<network>.safetensors")
    parser.add_argument("--data-folder", help="folder of CIFAR-10; random pixels without it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    measured(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
