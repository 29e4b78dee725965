"""Opens a deployed file in a runtime and computes images float32 [1, 3, H, W] one at a time, as an application would.

    python serve.py RUNTIME FILE THREADS IMAGES.npy LOGITS.npy    logits of all images
    python serve.py RUNTIME FILE THREADS IMAGES.npy               nanoseconds of image k for every line "k" it is given

It runs in the environment of a peer, so it needs only NumPy and the runtime itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]


def onnxruntime(path: str, threads: int) -> Run:
    """ONNX Runtime; a call leaves no thread spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def openvino(path: str, threads: int) -> Run:
    """OpenVINO, set to low latency."""
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda images: next(iter(request.infer([images]).values()))


def inductor(path: str, threads: int) -> Run:
    """An exported program, compiled by Inductor with its constants frozen."""
    import torch
    import torch._inductor.config
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401 - declares the operators of quantized programs

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True
    compiled = torch.compile(torch.export.load(path).module())

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return compiled(torch.from_numpy(images)).numpy()

    return run


def paretrim(path: str, threads: int) -> Run:
    """The native runtime of Paretrim."""
    from paretrim.runtime import load

    return load(path, threads=threads)


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "inductor": inductor, "paretrim": paretrim}


def main(runtime: str, path: str, threads: str, images_path: str, logits_path: str = "") -> None:
    """Compute all images, or wait to be asked for single ones."""
    run = RUNTIMES[runtime](path, int(threads))
    images = np.load(images_path, mmap_mode="r")

    def image(k: int) -> np.ndarray:
        return np.array(images[k : k + 1])  # in memory before anything is timed

    if logits_path:
        np.save(logits_path, np.concatenate([np.array(run(image(k))) for k in range(len(images))]))
        return
    for line in sys.stdin:
        given = image(int(line))
        start = time.perf_counter_ns()
        run(given)
        print(time.perf_counter_ns() - start, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
