"""Run a deployed file with ONNX Runtime and NumPy alone: ``python examples/classify_image.py model.onnx image.npy``.

A file deployed from a recipe takes pixels: uint8 [N, C, H, W]. It normalises them itself, with the mean and standard deviation of
training. ``image.npy`` is one such image [C, H, W]. With Pillow, ``numpy.asarray(Image.open(name))`` gives [H, W, C]; transpose
it with ``.transpose(2, 0, 1)``.
"""

import sys

import numpy as np
import onnxruntime


def main() -> None:
    model, image = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # exact sums on CPUs without VNNI too
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    pixels = np.load(image, allow_pickle=False)[np.newaxis]
    (logits,) = session.run(None, {session.get_inputs()[0].name: pixels})

    classes = session.get_modelmeta().custom_metadata_map["classes"].split("\n")
    shares = np.exp(logits[0] - logits[0].max())
    shares /= shares.sum()
    for index in np.argsort(-shares)[:3]:
        print(f"{shares[index]:7.2%}  {classes[index]}")


if __name__ == "__main__":
    main()
