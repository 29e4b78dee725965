"""``inspect`` on ONNX files with damaged tensors, or with external data."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper


def written(path, change):
    """A file of one product with a weight [4, 2], a quarter zeros, changed by a function of the tensor."""
    weight = numpy_helper.from_array(np.array([[0, 1], [2, 3], [4, 5], [6, 0]], np.float32), "weight")
    change(weight)
    images, logits = (helper.make_tensor_value_info(name, 1, ["N", size]) for name, size in (("images", 4), ("logits", 2)))
    node = helper.make_node("MatMul", ["images", "weight"], ["logits"])
    path.write_bytes(helper.make_model(helper.make_graph([node], "g", [images], [logits], [weight])).SerializeToString())
    return path


def outside(**facts):
    def change(tensor):
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in facts.items():
            tensor.external_data.add(key=key, value=value)

    return change


def extents(*sizes):
    def change(tensor):
        del tensor.dims[:]
        tensor.dims.extend(sizes)

    return change


def field(name, value):
    return lambda tensor: setattr(tensor, name, value)


@pytest.mark.parametrize(
    "change",
    [
        field("raw_data", b"abc"),
        field("raw_data", b""),
        field("data_type", 99),
        field("data_type", onnx.TensorProto.UNDEFINED),
        field("data_type", onnx.TensorProto.STRING),
        field("data_type", onnx.TensorProto.COMPLEX128),
        extents(-1, 3),
        extents(2**40, 2**20),
        extents(2**62, 4),
        extents(*[1] * 100),
        outside(),
        outside(location="nothing.bin"),
        outside(location="/etc/passwd"),
        outside(location="../../etc/passwd"),
        outside(location="weight.bin", offset="x"),
        outside(location="weight.bin", offset="1000"),
    ],
)
def test_a_tensor_that_cannot_be_read_is_named(change, command, tmp_path):
    (tmp_path / "weight.bin").write_bytes(bytes(32))
    status, out, err = command("inspect", written(tmp_path / "net.onnx", change))
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "net.onnx': tensor 'weight' cannot be read (" in err
    assert "); export it again, and keep a file of external data beside it" in err


def test_tensors_beside_the_file_are_read(command_json, monkeypatch, tmp_path):
    def kept_outside(tensor):
        (tmp_path / "weight.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        outside(location="weight.bin")(tensor)

    file = written(tmp_path / "net.onnx", kept_outside)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, found = command_json("inspect", file)
    assert status == 0
    assert [(one["name"], one["weights"], one["zeros"]) for one in found["layers"]] == [("weight", 8, 2)]
