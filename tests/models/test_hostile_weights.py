"""Weights files that are damaged, declare wrong sizes or would run code: rejected with a clear error before any harm."""

import io
import os
import pickle
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from weights_made import resnet_zoo_file, rewritten, safetensors_file, saved, tiny

from paretrim.errors import CorruptFile, ParetrimError
from paretrim.models.weights import read_weights


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(1000, 1000), r"'a' has shape \(1000, 1000\) \(4,000,000 bytes\) over 4 stored bytes"),
        (torch.zeros(1).expand(10**6, 10**6), r"over 4 stored bytes"),
        (torch.zeros(3).as_strided((2, 2), (1, 1)), r"'a' has shape \(2, 2\) \(16 bytes\) over 12 stored bytes"),
        (torch.zeros(8).as_strided((2, 2), (0, 1)), r"'a' has shape \(2, 2\)"),
        (torch.eye(3).to_sparse(), "'a' is Tensor with layout torch.sparse_coo"),
        (torch.empty(3, device="meta"), "'a' is Tensor with layout torch.strided on meta"),
        (torch.tensor([1.0, float("nan")]), "'a' holds NaN or infinity"),
        (torch.tensor([1.0, float("inf")]), "'a' holds NaN or infinity"),
    ],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path, tensor, message):
    with pytest.raises(CorruptFile, match=message):
        read_weights(saved(tmp_path / "w.pt", {"a": tensor}))


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors_are_refused(tmp_path):
    path = saved(tmp_path / "w.pt", {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)})
    with pytest.raises(CorruptFile, match="'a' is quantized; only dense tensors are read"):
        read_weights(path)


def test_sparse_rows_beyond_bounds_are_refused(tmp_path):
    with torch.sparse.check_sparse_tensor_invariants(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is announced as beta
        wrong = torch.sparse_csr_tensor(torch.tensor([0, 2, 9]), torch.tensor([0, 1]), torch.ones(2), (2, 2))
    with pytest.raises(CorruptFile, match=r"w\.pt"):
        read_weights(saved(tmp_path / "w.pt", {"a": wrong}))


def test_compressed_archive_is_refused(tmp_path):
    bomb = rewritten(saved(tmp_path / "a.pt", {"a": torch.zeros(10**6)}), tmp_path / "b.pt", compression=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 10_000
    with pytest.raises(CorruptFile, match=r"b\.pt': member '.*' is compressed or a folder"):
        read_weights(bomb)


def test_repeated_member_is_refused(tmp_path):
    double = rewritten(saved(tmp_path / "a.pt", {"a": torch.zeros(2)}), tmp_path / "b.pt", repeat=True)
    with pytest.raises(CorruptFile, match=r"member '.*' occurs more than once"):
        read_weights(double)


def test_overlapping_members_are_refused(tmp_path):
    content = bytearray(rewritten(saved(tmp_path / "a.pt", {"a": torch.zeros(2)}), tmp_path / "b.pt").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = (10**6).to_bytes(4, "little") * 2
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"its members claim 1,\d+,\d+ bytes, the whole file has"):
        read_weights(tmp_path / "c.pt")


def test_flipped_weight_bit_is_found(tmp_path):
    path = saved(tmp_path / "w.pt", {"a": torch.full((64,), 1.25)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 1.25).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"its zip archive cannot be read \(Bad CRC-32 for file 'w/data/0'\)"):
        read_weights(path)


def test_member_marked_as_folder_is_read_as_it_is(tmp_path):
    path = saved(tmp_path / "w.pt", {"a": torch.ones(4)})
    content = bytearray(path.read_bytes())
    name = content.rindex(b"w/data/0")
    content[name - 8] ^= 0x10  # DOS's folder attribute, for which torch's reader returns memory that was never written
    path.write_bytes(content)
    assert torch.equal(read_weights(path)["a"], torch.ones(4))


def test_folder_in_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/data/", b"")
    with pytest.raises(CorruptFile, match="member 'w/data/' is compressed or a folder"):
        read_weights(tmp_path / "w.pt")


def test_truncated_archive_is_refused(tmp_path):
    path = saved(tmp_path / "w.pt", tiny().state_dict())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorruptFile, match="its zip archive cannot be read"):
        read_weights(path)


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


def test_code_is_not_run(tmp_path, capsys):
    text = r"cannot read it as plain tensors \(UnpicklingError: it also holds print\); save network"
    with pytest.raises(CorruptFile, match=text):
        read_weights(saved(tmp_path / "w.pt", {"a": Payload()}))
    assert capsys.readouterr().out == ""


def test_whole_network_is_refused(tmp_path):
    with pytest.raises(CorruptFile, match=r"cannot read it as plain tensors .*save network\.state_dict\(\) alone"):
        read_weights(saved(tmp_path / "w.pt", tiny()))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is empty; download or save it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "it is a pointer of Git LFS, .*: git lfs pull"),
        (b"\n<!DOCTYPE html><html>404", "it is a web page, perhaps the message of a failed download"),
        (b"\x1f\x8b" + bytes(100), "it is compressed with gzip; unpack it with gunzip"),
        (b"BZh9" + bytes(100), "it is compressed with bzip2"),
        (b"\xfd7zXZ" + bytes(100), "it is compressed with xz"),
        (b"GGUF" + bytes(100), "it is a GGUF file, which holds language models"),
        (b"hello, world", "neither a safetensors file nor a zip archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "it is an HDF5 file, as Keras writes"),
        (pickle.dumps({"a": 1}), "it is a plain pickle, which is not read because loading it may run code from it"),
    ],
)
def test_other_files_are_refused(tmp_path, content, text):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CorruptFile, match=text):
        read_weights(tmp_path / "w.pt")


def test_safetensors_with_a_long_header_is_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes((2**40).to_bytes(8, "little") + b'{"a": 1}')
    with pytest.raises(CorruptFile, match="not a valid safetensors file"):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_every_truncation_and_flipped_byte_is_an_error_of_ours_or_harmless(tmp_path, kind):
    state = {"a": torch.arange(4.0), "b": torch.ones(2, 2)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue() if kind == "torch" else safetensors.torch.save(state)
    path = tmp_path / "w"
    for position in range(len(content)):
        path.write_bytes(content[:position])
        with pytest.raises(ParetrimError, match="weights"):
            read_weights(path)
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            found = read_weights(path)
        except ParetrimError:
            continue
        # safetensors has no checksum: its values may change unseen. In an archive of torch.save everything is covered.
        assert kind == "safetensors" or all(torch.equal(found[key], state[key]) for key in state)


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "beside",
    [
        Runs(exec, ("raise SystemExit('run')",)),
        Runs(os.system, ("exit 1",)),
        Runs(np.load, ("x",)),
        Runs(os.mkdir, ("made",)),
    ],
    ids=range(4),
)
def test_older_files_run_nothing_either(tmp_path, beside, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "x": beside}, tmp_path / "w.th", _use_new_zipfile_serialization=False)
    with pytest.raises(
        CorruptFile, match=r"torch cannot read it as plain tensors \(UnpicklingError: it also holds [\w.]+\); save"
    ):
        read_weights(tmp_path / "w.th")
    assert not (tmp_path / "made").exists()


def test_older_files_that_are_cut_off_or_lie_are_refused(tmp_path):
    whole = resnet_zoo_file(tmp_path / "w.th").read_bytes()
    for end in range(15, len(whole), 7):
        (tmp_path / "cut.th").write_bytes(whole[:end])
        with pytest.raises(ParetrimError, match=r"weights '.*cut\.th'"):
            read_weights(tmp_path / "cut.th")
    torch.save({"a": torch.ones(4)}, tmp_path / "a.th", _use_new_zipfile_serialization=False)
    honest = (tmp_path / "a.th").read_bytes()
    assert honest.count(b"K\x04\x85") == 1  # the shape
    (tmp_path / "big.th").write_bytes(honest.replace(b"K\x04\x85", b"J\x00\x00\x00\x10\x85"))
    with pytest.raises(CorruptFile, match="torch cannot read it as plain tensors"):
        read_weights(tmp_path / "big.th")


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        *(("F8_E4M3", 4), ("F8_E5M2", 4), ("F8_E8M0", 4), ("F8_E4M3FNUZ", 4), ("F4", 2), ("F6_E2M3", 3)),
        *(("U16", 8), ("U32", 16), ("U64", 32), ("C64", 32), ("F5", 4), ("", 4)),
    ],
)
def test_types_that_no_network_here_has_are_named(tmp_path, dtype, size):
    file = safetensors_file(
        tmp_path / "a.safetensors", {"a": {"dtype": dtype, "shape": [4], "data_offsets": [0, size]}}, bytes(size)
    )
    said = (
        r"tensor 'a' has the type torch\.\w+; read are float64|tensors of type \w+, which torch does not know|not a valid safet"
    )
    with pytest.raises(CorruptFile, match=said):
        read_weights(file)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"{" * 3000,
        b'{"a":' * 3000,
        b"{}" + b"\xff" * 9,
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]}},
        {"__metadata__": {"a": 1}},
    ],
    ids=range(10),
)
def test_headers_that_nobody_wrote(tmp_path, header):
    with pytest.raises(ParetrimError, match=r"weights '.*a\.safetensors': (not a valid safetensors file|it holds no tensor)"):
        read_weights(safetensors_file(tmp_path / "a.safetensors", header, bytes(4)))


def test_a_negative_running_variance_is_refused(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    network[1].running_var[0] = -1
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CorruptFile, match=r"tensor '1\.running_var' holds a variance of -1; the file is damaged"):
        read_weights(tmp_path / "weights.pt")
