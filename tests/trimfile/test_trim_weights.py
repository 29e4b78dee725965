"""Weights of every coding are read alike by the native reader and by the one written from ``SPEC.md`` alone."""

import numpy as np
import pytest
import safetensors.numpy
import spec_reader
from second_reading import FREQUENCIES, PLAIN, RICH, TABLES, assert_read_alike, codings
from spec_reader import integer_weights
from trim_networks import chain, integers, linear, noise, one_of, smooth, without_blocks
from trim_records import KNOWN

from paretrim import trimfile

TERNARY, INT4 = (-31, 0, 31), range(-8, 8)
CODEBOOK = (-120, -90, -61, -40, -26, -15, -7, -3, 0, 4, 9, 17, 30, 47, 70, 127)


def eights(shape):
    """Zeros in aligned blocks of eight, which only masks know of."""
    return without_blocks(one_of((-2, -1, 1, 2), shape), kept=0.2, block=8)


CASES = {
    "zeros": (PLAIN, [np.zeros((9, 30), np.int8)]),
    "single": (PLAIN, [np.array([[1, 0, 0, 0, -2, 0, 0]], np.int8)]),
    "noise": (PLAIN, [without_blocks(noise((80, 200), width=30))]),
    "large codebook": (PLAIN, [without_blocks(one_of(CODEBOOK, (530, 1000)), kept=0.02, block=4)]),
    "large, three layers": (
        PLAIN,
        [
            without_blocks(smooth((256, 240, 3, 3)), kept=0.02, block=4),
            without_blocks(smooth((256, 256, 1, 1)), kept=0.05, block=4),
            without_blocks(one_of(CODEBOOK, (100, 256)), kept=0.05, block=4),
        ],
    ),
    "unstructured": (RICH, [without_blocks(noise((24, 42)), kept=0.2)]),
    "1x4": (RICH, [without_blocks(noise((24, 42)), kept=0.2, block=4)]),
    "1x4, three layers": (
        RICH,
        [
            without_blocks(noise((16, 22, 3, 3)), kept=0.2, block=4),
            without_blocks(noise((24, 16, 3, 3)), kept=0.3, block=4),
            without_blocks(noise((10, 24))),
        ],
    ),
    "smooth": (RICH, [without_blocks(smooth((16, 14, 3, 3)))]),
    "smooth 5x5": (RICH, [without_blocks(smooth((16, 14, 5, 5)), kept=0.4, block=4), without_blocks(noise((17, 16, 1, 1)))]),
    "ternary": (RICH, [without_blocks(one_of(TERNARY, (30, 50)))]),
    "int4": (RICH, [without_blocks(one_of(INT4, (30, 50)))]),
    "int4 1x4": (RICH, [without_blocks(one_of(INT4, (60, 300)), kept=0.3, block=4)]),
    "codebook": (TABLES, [without_blocks(one_of(CODEBOOK, (16, 12, 3, 3)))]),
    "codebook 1x4": (TABLES, [without_blocks(one_of(CODEBOOK, (30, 50)), kept=0.3, block=4)]),
    "wide": (RICH, [without_blocks(one_of((-5, 3), (4, 66001)) * (np.arange(66001) % 16384 < 100))]),
    "eights": (FREQUENCIES, [eights((16, 475))]),
    "eights, three layers": (FREQUENCIES, [eights((20, 61, 3, 3)), eights((40, 20, 1, 1)), eights((9, 40))]),
    "many kinds": (FREQUENCIES, [without_blocks(noise((600, 1003)), kept=0.1, block=8)]),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_of_every_coding(name):
    coding, weights = CASES[name]
    content = trimfile.to_bytes(chain(*weights))
    assert codings(content) == [coding]
    assert_read_alike(content)


def test_the_cases_drive_every_flag(monkeypatch):
    """Of both models; the cases would show nothing of what no file of theirs says."""
    plans, plan = [], integer_weights.Plan
    monkeypatch.setattr(integer_weights, "Plan", lambda *fields: plans.append(plan(*fields)) or plans[-1])
    for wanted in (PLAIN, RICH):
        plans.clear()
        for coding, weights in CASES.values():
            if coding == wanted and sum(weight.size for weight in weights) < 30000:
                spec_reader.read(trimfile.to_bytes(chain(*weights)))
        flags = {(name, bool(getattr(found, name))) for found in plans for name in ("blocks", "sided", "low", "raw_signs")}
        assert len(flags) == (8 if wanted == RICH else 7)  # low bits without a model are always worth it where plain was shorter


def test_rows_whose_scales_tell_their_smallest_values():
    """Pruning by magnitude, in two records, so that the second begins within the layer."""
    random = np.random.default_rng(8)
    scales = random.uniform(0.002, 0.02, 1100).astype(np.float32)
    real = one_of((-0.35, -0.2, 0.15, 0.3), (1100, 1000))
    weight = without_blocks(real / scales[:, None], kept=0.01, block=4)
    content = trimfile.to_bytes(chain(weight, scales=[scales]))
    assert len(codings(content)) == 2
    assert FREQUENCIES not in codings(content)
    assert_read_alike(content)


@pytest.mark.parametrize("kept", [32, 16, 13])
def test_float_weights(kept):
    weight = np.random.default_rng(1).normal(0, 0.05, (20, 60)).astype(np.float32)
    weight[:, 5:9] = 0
    short = (weight.view(np.uint32) & np.uint32(0xFFFFFFFF << 32 - kept & 0xFFFFFFFF)).view(np.float32)
    assert_read_alike(trimfile.to_bytes(linear(short)))


def test_extreme_floats():
    bits = np.array([0, 1 << 31, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x3F800000, 0x3F8CCCCD], np.uint32)
    assert_read_alike(trimfile.to_bytes(linear(np.resize(bits.view(np.float32), (7, 33)))))


def trained_layers(shared_data):
    """The kernels of the pretrained ResNet-20, one behind the other."""
    tensors = safetensors.numpy.load_file(shared_data / "models" / "cifar10_resnet20.safetensors")
    blocks = [f"layer{layer}.{block}.conv{conv}" for layer in (1, 2, 3) for block in (0, 1, 2) for conv in (1, 2)]
    return [tensors[f"{name}.weight"] for name in ("conv1", *blocks)]


def without_weak_blocks(weight, kept):
    """The strongest blocks of four channels alone."""
    blocks = weight.reshape(len(weight), -1, 4, 3, 3)
    strength = np.abs(blocks).sum(2, keepdims=True)
    return (blocks * (strength > np.quantile(strength, 1 - kept))).reshape(weight.shape)


@pytest.mark.parametrize(("layers", "kept"), [(4, 1.0), (19, 0.1)])
def test_trained_layers_as_they_are_deployed(shared_data, layers, kept):
    """Quantized with plain scales, biases in multiples, and, pruned, zeros in blocks by magnitude."""
    weights, scales, biases = [], [], []
    for layer, weight in enumerate(trained_layers(shared_data)[:layers]):
        if layer and kept < 1:
            weight = without_weak_blocks(weight, kept)
        fraction, exponent = np.frexp(np.abs(weight).reshape(len(weight), -1).max(1).clip(1e-3) / 127)
        scale = np.ldexp(np.ceil(fraction * 64) / 64, exponent).astype(np.float32)
        shift = np.clip(-3 - np.frexp(scale)[1], 0, 31)
        weights.append(np.rint(weight / scale.reshape(-1, 1, 1, 1)).astype(np.int8))
        scales.append(scale)
        biases.append((integers((len(weight),), salt=f"bias {layer}", low=-99, high=99) << shift).astype(np.int32))
    assert_read_alike(trimfile.to_bytes(chain(*weights, scales=scales, biases=biases), KNOWN))


@pytest.mark.parametrize("value", [1, -1, 127, -127])
@pytest.mark.parametrize("shape", [(1024, 1000), (1024, 1024), (512, 4, 31, 31)])
def test_large_layers_of_one_value(value, shape):
    """Models leave fewer bytes of them than readers ask for, or a stream that ends in more zeros than readers take."""
    weight = np.full(shape, value, np.int8)
    content = trimfile.to_bytes(linear(weight) if len(shape) == 2 else chain(weight))
    assert len(content) < 6000
    (found,) = (node.tensors["weight"] for node in trimfile.from_bytes(content).graph.nodes if "weight" in node.tensors)
    np.testing.assert_array_equal(found, weight)


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1.0, np.finfo(np.float32).max, -np.finfo(np.float32).max, np.finfo(np.float32).tiny]
)
def test_large_float_layers_of_one_value(value):
    weight = np.full((1024, 512), value, np.float32)
    found = trimfile.from_bytes(trimfile.to_bytes(linear(weight))).graph.nodes[-1].tensors["weight"]
    assert found.tobytes() == weight.tobytes()
