"""ONNX files."""

import numpy as np
import pytest
import torch
from foreign_files import BIAS, FILTERS, SHARED, onnx, onnx_model

from striate.core.errors import BundleError
from striate.weights.read import read_weights

SHAPES = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 256),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}


def refused(path):
    with pytest.raises(BundleError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_onnx(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(onnx_model())
    found = read_weights(path)
    assert found.kind == "onnx"
    assert np.array_equal(found.tensors["w"].numpy(), FILTERS)
    assert np.array_equal(found.tensors["b"].numpy(), BIAS)
    assert found.metadata == {"ir_version": "8", "producer": "test", "opset": "17"}


def tensor(tmp_path, **fields):
    model = onnx().ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    model.graph.initializer.add(name="t", **fields)
    path = tmp_path / "t.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"data_type": 7, "int64_data": [-1, 300]}, torch.tensor([-1, 300])),
        ({"data_type": 6, "int32_data": [-5, 5]}, torch.tensor([-5, 5], dtype=torch.int32)),
        ({"data_type": 11, "double_data": [0.5, 2]}, torch.tensor([0.5, 2], dtype=torch.float64)),
        ({"data_type": 10, "int32_data": [0x3C00, 0xC000]}, torch.tensor([1, -2], dtype=torch.float16)),
        ({"data_type": 16, "int32_data": [0x3F80, 0xC000]}, torch.tensor([1, -2], dtype=torch.bfloat16)),
        ({"data_type": 16, "raw_data": b"\x80\x3f\x00\xc0"}, torch.tensor([1, -2], dtype=torch.bfloat16)),
        ({"data_type": 9, "raw_data": b"\x02\x00"}, torch.tensor([True, False])),
    ],
)
def test_number_formats_of_onnx(tmp_path, fields, expected):
    found = read_weights(tensor(tmp_path, dims=[2], **fields)).tensors["t"]
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_onnx_counts_are_bounded_before_work(tmp_path):
    model = onnx().ModelProto(ir_version=8)
    model.opset_import.add(version=17)
    head = model.SerializeToString()
    path = tmp_path / "t.onnx"

    def graph(part: bytes, count: int) -> None:
        length, size = b"", len(part) * count
        while size >= 0x80:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        path.write_bytes(head + b"\x3a" + length + bytes([size]) + part * count)

    graph(b"\x0a\x00", 1_000_001)  # empty nodes
    assert "more than 1,000,000 fields" in refused(path)
    graph(b"\x2a\x07\x10\x01\x42\x01a\x08\x00", 20_001)
    assert "two tensors named a" in refused(path)
    graph(b"\x2a\x05\x10\x08\x42\x01a", 20_001)  # of strings, which are passed over
    assert "more than 20,000 tensors" in refused(path)


def test_onnx_tensors_that_are_not_as_declared(tmp_path):
    assert "where 1 are there" in refused(tensor(tmp_path, dims=[2**40], data_type=1, raw_data=bytes(4)))
    assert "where 0 are there" in refused(tensor(tmp_path, dims=[5], data_type=1))
    assert "ends inside a number" in refused(tensor(tmp_path, dims=[1], data_type=1, raw_data=bytes(5)))
    assert "another type" in refused(tensor(tmp_path, dims=[1], data_type=7, float_data=[1e30]))
    path = tensor(tmp_path, dims=[1], data_type=1, data_location=1)
    assert "t kept in another file" in refused(path)
    found = read_weights(tensor(tmp_path, dims=[1], data_type=8))
    assert found.notes == ("t of string was passed over",)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/weights is not there")
def test_shared_onnx_files_against_the_same_networks_state_dict():
    found = read_weights(SHARED / "lenet-mnist.onnx")
    plain = torch.load(SHARED / "lenet-mnist.pth", weights_only=True)
    assert {name: tuple(one.shape) for name, one in found.tensors.items()} == SHAPES
    assert all(torch.equal(found.tensors[name], plain[name]) for name in SHAPES)
    assert read_weights(SHARED / "cntk-mnist-opt.onnx").tensors["Parameter87"].shape == (16, 8, 5, 5)
