import argparse
import io
import pickle
import re
import struct
import tarfile
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from weights_made import WRAPPED, resnet_zoo_file, same, saved, tiny, zeroed

from paretrim.errors import CorruptFile, InvalidRecipe, WeightsMismatch
from paretrim.models.weights import load_weights, read_weights


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


def test_what_is_no_readable_file_is_not_said_to_be_missing(tmp_path):
    with pytest.raises(InvalidRecipe, match=r"weights '.*' is a folder, a pipe or a device; name a \.safetensors or \.pt file"):
        load_weights(tiny(), tmp_path)
    with pytest.raises(InvalidRecipe, match=r"weights '.*a' cannot be read: File name too long; name"):
        load_weights(tiny(), tmp_path / ("a" * 5000))


def test_everything_that_differs_is_listed_and_nothing_is_changed(tmp_path):
    state = tiny().state_dict()
    del state["conv.bias"]
    state["head.weight"] = torch.zeros(3, 4)
    state["conv.weight"] = torch.zeros(2, 3, 1, 1)
    state["bn.weight"] = state["bn.weight"].int()
    network = tiny()
    with pytest.raises(WeightsMismatch) as caught:
        load_weights(network, saved(tmp_path / "w.pt", state))
    for line in (
        "w.pt': they do not fit the network (7 tensors given, 7 expected)",
        "1 missing from the file:\n    conv.bias [2]",
        "1 not in the network:\n    head.weight [3, 4]",
        "1 of another shape:\n    conv.weight file [2, 3, 1, 1], network [2, 1, 1, 1]",
        "1 of another dtype:\n    bn.weight file torch.int32, network torch.float32",
    ):
        assert line in str(caught.value)
    assert same(network, tiny())


def test_another_dtype_alone_says_what_to_do(tmp_path):
    text = r"1 of another dtype(?s:.*)\nconvert them to the network's dtype and save them again"
    with pytest.raises(WeightsMismatch, match=text):
        load_weights(tiny(), saved(tmp_path / "w.pt", {**tiny().state_dict(), "bn.weight": torch.ones(2).int()}))


def test_long_names_are_cut(tmp_path):
    with pytest.raises(WeightsMismatch) as caught:
        load_weights(tiny(), saved(tmp_path / "w.pt", tiny().state_dict() | {"x" * 100_000: torch.zeros(1)}))
    assert len(str(caught.value)) < 1000


def test_long_lists_are_cut(tmp_path):
    state = tiny().state_dict() | {f"extra{i}": torch.zeros(1) for i in range(20)}
    with pytest.raises(WeightsMismatch, match=r"20 not in the network:(?s:.*)and 8 more"):
        load_weights(tiny(), saved(tmp_path / "w.pt", state))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "it holds an object of type list, not tensors by name"),
        ({"epoch": 3}, "entry 'epoch' is of type int, not a tensor"),
        ({3: torch.zeros(1)}, r"entry 3 has a name that is no text; save network\.state_dict\(\) alone"),
        ({}, "it holds no tensor at all"),
    ],
)
def test_other_objects_are_refused(tmp_path, content, message):
    with pytest.raises(WeightsMismatch, match=message):
        read_weights(saved(tmp_path / "w.pt", content))


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
    with pytest.raises(WeightsMismatch, match=r"entry 'conv\.weight' is a NumPy array or number, not a tensor"):
        read_weights(tmp_path / "w.pt")


def _tar_of_torch(path, weights):
    """The file that torch before 0.1.10 wrote: a tar archive of three pickles and the raw storages."""
    ids = {id(tensor): str(number) for number, tensor in enumerate(weights.values())}
    types = {torch.float32: (torch.FloatStorage, torch.FloatTensor), torch.int64: (torch.LongStorage, torch.LongTensor)}

    class ByName(pickle.Pickler):
        def persistent_id(self, value):
            return ids[id(value)] if isinstance(value, torch.Tensor) else None

    names, storages, tensors = io.BytesIO(), io.BytesIO(), io.BytesIO()
    ByName(names, protocol=2).dump(weights)
    for stream in (storages, tensors):
        pickle.dump(len(weights), stream, protocol=2)
    for tensor in weights.values():
        name, (storage, kind) = ids[id(tensor)], types[tensor.dtype]
        pickle.dump((name, "cpu", storage), storages, protocol=2)
        storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
        pickle.dump((int(name), name, kind), tensors, protocol=2)
        rank = tensor.dim()
        tensors.write(struct.pack(f"<i4x{2 * rank + 1}q", rank, *tensor.shape, *tensor.stride(), 0))
    pickle.dump([], storages, protocol=2)
    with tarfile.open(path, "w") as archive:
        for name, content in (("pickle", names), ("storages", storages), ("tensors", tensors)):
            member = tarfile.TarInfo(name)
            member.size = len(content.getvalue())
            archive.addfile(member, io.BytesIO(content.getvalue()))


def _archive_of_arrays(path, weights):
    with path.open("wb") as file:
        np.savez(file, **{name: tensor.numpy() for name, tensor in weights.items()})


FOREIGN = {
    "a tar archive of torch before 0.1.10": _tar_of_torch,
    "a plain pickle": lambda path, weights: path.write_bytes(pickle.dumps({"state_dict": weights})),
    "an archive of NumPy arrays": _archive_of_arrays,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_another_format_is_named_with_a_command_that_converts_it(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    FOREIGN[kind](tmp_path / "OLD", tiny().state_dict())
    with pytest.raises(CorruptFile, match=re.escape(f"it is {kind}, which is not read")) as refused:
        read_weights(tmp_path / "OLD")
    exec(re.search(r'python -c "(.*)"$', str(refused.value))[1], {})
    network = zeroed()
    load_weights(network, tmp_path / "NEW.pt")
    assert same(network, tiny())


@pytest.mark.parametrize("prefix", ["model.", "net.", "backbone.", "a.b.c.", "module.encoder.", "model.module."])
def test_a_prefix_without_which_everything_fits_is_taken_away(tmp_path, prefix):
    """As Lightning and others put it before the names of the network that they train."""
    network = zeroed()
    state = {prefix + key: tensor for key, tensor in tiny().state_dict().items()}
    load_weights(network, saved(tmp_path / "w.pt", {"state_dict": state}))
    assert same(network, tiny())


def test_a_prefix_stays_if_not_everything_fits_without_it(tmp_path):
    state = {f"model.{key}": tensor for key, tensor in tiny().state_dict().items()}
    for change in ({"model.more": torch.ones(1)}, {"other": torch.ones(1)}):
        with pytest.raises(WeightsMismatch, match=r"not in the network:(?s:.*)model\.conv\.weight"):
            load_weights(tiny(), saved(tmp_path / "w.pt", state | change))


def test_averages_of_torch_are_loaded(tmp_path):
    network = zeroed()
    load_weights(network, saved(tmp_path / "w.pt", torch.optim.swa_utils.AveragedModel(tiny()).state_dict()))
    assert same(network, tiny())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_sixteen_bits_are_widened(tmp_path, dtype):
    narrow = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tiny().state_dict().items()}
    network = zeroed()
    load_weights(network, saved(tmp_path / "w.pt", narrow))
    found = network.state_dict()
    assert all(
        found[key].dtype != dtype and torch.equal(found[key], tensor.to(found[key].dtype)) for key, tensor in narrow.items()
    )


def test_weights_of_64_bits_are_rounded(tmp_path):
    wide = {
        key: tensor.double() * (1 + 1e-12) if tensor.is_floating_point() else tensor
        for key, tensor in tiny().state_dict().items()
    }
    network = zeroed()
    load_weights(network, saved(tmp_path / "w.pt", wide))
    assert same(network, tiny())
    wide["conv.bias"] = torch.tensor([1.0, -1e39], dtype=torch.float64)
    with pytest.raises(
        WeightsMismatch, match=r"w\.pt': tensor 'conv\.bias' holds 1e\+39, which float32 does not reach; scale the"
    ):
        load_weights(network, saved(tmp_path / "w.pt", wide))


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema"])
def test_averages_that_are_not_used_are_named(tmp_path, key):
    network = zeroed()
    path = saved(tmp_path / "w.pt", {"model": tiny().state_dict(), key: zeroed().state_dict()})
    with pytest.warns(UserWarning, match=f"holds averaged weights under '{key}' beside those under 'model', which are used"):
        load_weights(network, path)
    assert same(network, tiny())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_told_how_to_save_its_weights(tmp_path):
    torch.jit.save(torch.jit.script(tiny().eval()), tmp_path / "w.pt")
    with pytest.raises(CorruptFile, match=r"it is a TorchScript archive, which is a program; save its weights where you trust"):
        load_weights(tiny(), tmp_path / "w.pt")
