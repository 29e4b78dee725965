import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

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
