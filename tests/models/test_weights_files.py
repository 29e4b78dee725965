import argparse
import io
import json
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from paretrim.errors import CorruptFile, InvalidRecipe, ParetrimError, WeightsMismatch
from paretrim.models.weights import load_weights, read_weights


def tiny() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(1, 2, 1), bn=nn.BatchNorm2d(2)))


def zeroed() -> nn.Module:
    network = tiny()
    for tensor in network.state_dict().values():
        tensor.zero_()
    return network


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def rewritten(source: Path, target: Path, *, compression: int = zipfile.ZIP_STORED, repeat: bool = False) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
        if repeat:
            with pytest.warns(UserWarning, match="Duplicate name"):
                new.writestr(member.filename, b"another")
    return target


WRAPPED = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"epoch": 7, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": {}},
    "net": lambda state: {"net": state, "acc": 93.1},
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "compiled in parallel": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "wrapped module.": lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    "no counters": lambda state: {key: value for key, value in state.items() if "num_batches" not in key},
    "parameters": lambda state: {
        key: nn.Parameter(value, requires_grad=value.is_floating_point()) for key, value in state.items()
    },
}


@pytest.mark.parametrize("form", WRAPPED)
def test_torch_files_are_loaded(tmp_path, form):
    network = zeroed()
    load_weights(network, saved(tmp_path / "w.pt", WRAPPED[form](tiny().state_dict())))
    assert same(network, tiny())


@pytest.mark.parametrize("form", ["plain", "module."])
def test_a_network_whose_own_names_begin_so_keeps_them(tmp_path, form):
    network = nn.Sequential(OrderedDict(module=zeroed()))
    load_weights(network, saved(tmp_path / "w.pt", WRAPPED[form](nn.Sequential(OrderedDict(module=tiny())).state_dict())))
    assert same(network, tiny())


@pytest.mark.parametrize("form", ["plain", "module.", "no counters"])
def test_safetensors_files_are_loaded_whatever_their_name(tmp_path, form):
    network = zeroed()
    safetensors.torch.save_file(WRAPPED[form](tiny().state_dict()), tmp_path / "weights.bin")
    load_weights(network, tmp_path / "weights.bin")
    assert same(network, tiny())


def test_a_transposed_tensor_is_plain_enough(tmp_path):
    value = torch.arange(6.0).reshape(2, 3).t()
    assert torch.equal(read_weights(saved(tmp_path / "w.pt", {"a": value}))["a"], value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidRecipe, match=r"there is no weights file '.*none\.pt'"):
        load_weights(tiny(), tmp_path / "none.pt")


def test_everything_that_differs_is_listed_and_nothing_is_changed(tmp_path):
    state = tiny().state_dict()
    del state["conv.bias"]
    state["head.weight"] = torch.zeros(3, 4)
    state["conv.weight"] = torch.zeros(2, 3, 1, 1)
    state["bn.weight"] = state["bn.weight"].half()
    network = tiny()
    with pytest.raises(WeightsMismatch) as caught:
        load_weights(network, saved(tmp_path / "w.pt", state))
    for line in (
        "w.pt': they do not fit the network (7 tensors given, 7 expected)",
        "1 missing from the file:\n    conv.bias [2]",
        "1 not in the network:\n    head.weight [3, 4]",
        "1 of another shape:\n    conv.weight file [2, 3, 1, 1], network [2, 1, 1, 1]",
        "1 of another dtype:\n    bn.weight file torch.float16, network torch.float32",
    ):
        assert line in str(caught.value)
    assert same(network, tiny())


def test_another_dtype_alone_says_what_to_do(tmp_path):
    text = r"1 of another dtype(?s:.*)\nconvert them to the network's dtype and save them again"
    with pytest.raises(WeightsMismatch, match=text):
        load_weights(tiny(), saved(tmp_path / "w.pt", {**tiny().state_dict(), "bn.weight": torch.ones(2).half()}))


def test_long_lists_are_cut(tmp_path):
    state = tiny().state_dict() | {f"extra{i}": torch.zeros(1) for i in range(20)}
    with pytest.raises(WeightsMismatch, match=r"20 not in the network:(?s:.*)and 8 more"):
        load_weights(tiny(), saved(tmp_path / "w.pt", state))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds an object of type list, not tensors by name"),
        ({"epoch": 3}, "entry 'epoch' is of type int, not a tensor"),
        ({1: torch.zeros(1)}, "entry 1 is of type Tensor"),
        ({}, "it holds no tensor at all"),
    ],
)
def test_other_objects_are_refused(tmp_path, content, message):
    with pytest.raises(WeightsMismatch, match=message):
        read_weights(saved(tmp_path / "w.pt", content))


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


@pytest.mark.parametrize("content", [b"", b"hello, world", pickle.dumps({"a": 1}), b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CorruptFile, match="neither a safetensors file nor a zip archive"):
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


def resnet_zoo_file(path: Path) -> Path:
    """A file as training scripts of 2018 wrote them: not zipped, from several GPUs, with the accuracy beside the weights."""
    state = OrderedDict((f"module.{key}", value) for key, value in tiny().state_dict().items() if "num_batches" not in key)
    torch.save({"state_dict": state, "best_prec1": 91.73}, path, _use_new_zipfile_serialization=False)
    return path


def test_older_torch_files_are_loaded(tmp_path):
    network = zeroed()
    load_weights(network, resnet_zoo_file(tmp_path / "resnet20-12fca82f.th"))
    assert torch.equal(network.conv.weight, tiny().conv.weight)


@pytest.mark.parametrize("form", WRAPPED)
def test_every_form_may_be_older(tmp_path, form):
    network = zeroed()
    torch.save(WRAPPED[form](tiny().state_dict()), tmp_path / "w.th", _use_new_zipfile_serialization=False)
    load_weights(network, tmp_path / "w.th")
    assert same(network, tiny())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "beside",
    [
        np.float64(93.1),
        np.float32(1.5),
        np.int64(7),
        np.bool_(True),
        np.arange(3.0),
        np.array([["a"]]),
        argparse.Namespace(lr=0.1, arch="resnet20"),
        {"best": [np.float64(1.0)]},
    ],
    ids=str,
)
def test_numbers_and_arguments_beside_the_weights_are_passed_over(tmp_path, zipped, beside):
    network = zeroed()
    checkpoint = {"best_acc": beside, "state_dict": tiny().state_dict(), "again": beside}
    torch.save(checkpoint, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    load_weights(network, tmp_path / "w.pt")
    assert same(network, tiny())


@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_among_the_weights_is_named(tmp_path, zipped):
    torch.save({"conv.weight": np.ones(3)}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsMismatch, match=r"entry 'conv\.weight' is of type _reconstruct, not a tensor"):
        read_weights(tmp_path / "w.pt")


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


def safetensors_file(path: Path, header: object, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


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
