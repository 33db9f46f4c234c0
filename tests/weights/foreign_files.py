"""Weights files as other programs write them, for the tests of striate's readers.

Caffe and ONNX files are written by Google's protobuf runtime from the field numbers of the published schemas,
MATLAB files by SciPy, PyTorch files by torch.
"""

import io
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
from safetensors.torch import save_file

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "weights"

RNG = np.random.default_rng(20)
FILTERS = RNG.standard_normal((4, 3, 5, 5)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)
FC = RNG.standard_normal((2, 6)).astype(np.float32)

# name -> (number, type, label); a type in capitals is a message
_CAFFE = {
    "BlobShape": {"dim": (1, "int64", "packed")},
    "BlobProto": {
        "num": (1, "int64", ""),
        "channels": (2, "int64", ""),
        "height": (3, "int64", ""),
        "width": (4, "int64", ""),
        "data": (5, "float", "packed"),
        "shape": (7, "BlobShape", ""),
        "double_data": (8, "double", "packed"),
    },
    "UnpackedBlobProto": {
        "num": (1, "int64", ""),
        "channels": (2, "int64", ""),
        "height": (3, "int64", ""),
        "width": (4, "int64", ""),
        "data": (5, "float", "repeated"),
    },
    "ConvolutionParameter": {
        "num_output": (1, "uint64", ""),
        "pad": (3, "uint64", "repeated"),
        "kernel_size": (4, "uint64", "repeated"),
        "group": (5, "uint64", ""),
        "stride": (6, "uint64", "repeated"),
    },
    "TransformationParameter": {"crop_size": (3, "uint64", ""), "mean_value": (5, "float", "repeated")},
    "LayerParameter": {
        "name": (1, "string", ""),
        "type": (2, "string", ""),
        "bottom": (3, "string", "repeated"),
        "top": (4, "string", "repeated"),
        "blobs": (7, "BlobProto", "repeated"),
        "transform_param": (100, "TransformationParameter", ""),
        "convolution_param": (106, "ConvolutionParameter", ""),
    },
    "V0LayerParameter": {
        "name": (1, "string", ""),
        "type": (2, "string", ""),
        "num_output": (3, "uint64", ""),
        "pad": (7, "uint64", ""),
        "kernelsize": (8, "uint64", ""),
        "group": (9, "uint64", ""),
        "blobs": (50, "UnpackedBlobProto", "repeated"),
    },
    "V1LayerParameter": {
        "layer": (1, "V0LayerParameter", ""),
        "bottom": (2, "string", "repeated"),
        "top": (3, "string", "repeated"),
        "name": (4, "string", ""),
        "type": (5, "int32", ""),
        "blobs": (6, "UnpackedBlobProto", "repeated"),
        "convolution_param": (10, "ConvolutionParameter", ""),
    },
    "NetParameter": {
        "name": (1, "string", ""),
        "layers": (2, "V1LayerParameter", "repeated"),
        "layer": (100, "LayerParameter", "repeated"),
    },
    "SolverState": {
        "iter": (1, "int64", ""),
        "learned_net": (2, "string", ""),
        "history": (3, "BlobProto", "repeated"),
    },
}

_ONNX = {
    "Entry": {"key": (1, "string", ""), "value": (2, "string", "")},
    "TensorProto": {
        "dims": (1, "int64", "repeated"),
        "data_type": (2, "int32", ""),
        "float_data": (4, "float", "packed"),
        "int32_data": (5, "int32", "packed"),
        "int64_data": (7, "int64", "packed"),
        "name": (8, "string", ""),
        "raw_data": (9, "bytes", ""),
        "double_data": (10, "double", "packed"),
        "external_data": (13, "Entry", "repeated"),
        "data_location": (14, "int32", ""),
    },
    "AttributeProto": {"name": (1, "string", ""), "i": (3, "int64", ""), "type": (20, "int32", "")},
    "NodeProto": {
        "input": (1, "string", "repeated"),
        "output": (2, "string", "repeated"),
        "name": (3, "string", ""),
        "op_type": (4, "string", ""),
        "attribute": (5, "AttributeProto", "repeated"),
    },
    "GraphProto": {
        "node": (1, "NodeProto", "repeated"),
        "name": (2, "string", ""),
        "initializer": (5, "TensorProto", "repeated"),
    },
    "OperatorSetIdProto": {"domain": (1, "string", ""), "version": (2, "int64", "")},
    "ModelProto": {
        "ir_version": (1, "int64", ""),
        "producer_name": (2, "string", ""),
        "graph": (7, "GraphProto", ""),
        "opset_import": (8, "OperatorSetIdProto", "repeated"),
    },
}


@cache
def caffe():
    """Message classes of Caffe's schema, by name."""
    return _messages("caffe", _CAFFE)


@cache
def onnx():
    """Message classes of the ONNX schema, by name."""
    return _messages("onnx", _ONNX)


def _messages(package, schema):
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    Field = descriptor.FieldDescriptorProto
    for message_name, members in schema.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind, label) in members.items():
            field = message.field.add(name=name, number=number)
            field.label = Field.LABEL_REPEATED if label else Field.LABEL_OPTIONAL
            if label == "packed":
                field.options.packed = True
            if kind in schema:
                field.type, field.type_name = Field.TYPE_MESSAGE, f".{package}.{kind}"
            else:
                field.type = getattr(Field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find = pool.FindMessageTypeByName
    classes = {name: message_factory.GetMessageClass(find(f"{package}.{name}")) for name in schema}
    return SimpleNamespace(**classes)


def caffe_current() -> bytes:
    """A current network: data with means, a grouped convolution, a fully connected layer."""
    net = caffe().NetParameter(name="tiny")
    data = net.layer.add(name="data", type="Data", top=["data", "label"])
    data.transform_param.mean_value.extend([104, 117, 123])
    net.layer.add(name="data", type="Data", top=["data", "label"])
    conv = net.layer.add(name="conv1/5x5", type="Convolution", bottom=["data"], top=["conv1"])
    conv.convolution_param.group = 2
    conv.convolution_param.pad.extend([1, 2])
    for values in (FILTERS, BIAS):
        blob = conv.blobs.add(data=values.ravel())
        blob.shape.dim.extend(values.shape)
    fc = net.layer.add(name="fc", type="InnerProduct", bottom=["conv1"], top=["fc"])
    blob = fc.blobs.add(double_data=FC.astype(np.float64).ravel())
    blob.shape.dim.extend(FC.shape)
    return net.SerializeToString()


def caffe_old(*, v0: bool = False) -> bytes:
    """A network of generation V1 or V0: unpacked floats and four legacy sizes for every blob."""
    net = caffe().NetParameter(name="old")
    for name, kind, number, blobs in (
        ("conv1", "conv", 4, (FILTERS, BIAS.reshape(1, 1, 1, -1))),
        ("fc", "innerproduct", 14, (FC.reshape(1, 1, 2, 6),)),
        ("relu", "relu", 18, ()),
    ):
        outer = net.layers.add(bottom=["below"], top=[name])
        layer = outer.layer if v0 else outer
        layer.name, layer.type = name, kind if v0 else number
        if kind == "conv":
            if v0:
                layer.group, layer.kernelsize = 2, 5
            else:
                layer.convolution_param.group = 2
        for values in blobs:
            sizes = dict(zip(("num", "channels", "height", "width"), values.shape, strict=True))
            layer.blobs.add(data=values.ravel(), **sizes)
    return net.SerializeToString()


def onnx_model() -> bytes:
    """A graph with one grouped convolution whose filters are raw bytes and whose bias is a list of floats."""
    model = onnx().ModelProto(ir_version=8, producer_name="test")
    model.opset_import.add(version=17)
    node = model.graph.node.add(op_type="Conv", input=["x", "w", "b"], output=["y"])
    node.attribute.add(name="group", i=2, type=2)
    model.graph.initializer.add(name="w", dims=FILTERS.shape, data_type=1, raw_data=FILTERS.tobytes())
    model.graph.initializer.add(name="b", dims=BIAS.shape, data_type=1, float_data=BIAS)
    return model.SerializeToString()


def simple_nn(*, compressed: bool = False) -> bytes:
    """A SimpleNN of a convolution and a rectifier, with a mean and two class names."""
    conv = {
        "name": "conv1_1",
        "type": "conv",
        "weights": cell(FILTERS.transpose(2, 3, 1, 0), BIAS.reshape(1, -1)),
        "stride": np.array([[2.0, 2.0]]),
        "pad": np.array([[0.0, 1.0, 2.0, 3.0]]),
    }
    meta = {
        "normalization": {
            "averageImage": np.array([123.68, 116.779, 103.939], np.float32).reshape(1, 1, 3),
            "imageSize": np.array([[224.0, 224.0, 3.0]]),
            "interpolation": "bicubic",
        },
        "classes": {
            "name": cell("n01440764", "n01443537"),
            "description": cell("tench, Tinca tinca", "goldfish"),
        },
    }
    content = io.BytesIO()
    layers = cell(conv, {"name": "relu1_1", "type": "relu"})
    scipy.io.savemat(content, {"layers": layers, "meta": meta}, do_compression=compressed)
    return content.getvalue()


def cell(*values):
    """A row of MATLAB cells."""
    result = np.empty((1, len(values)), dtype=object)
    for place, value in enumerate(values):
        result[0, place] = value
    return result


def state():
    """A small state dict."""
    return {"conv.weight": torch.from_numpy(FILTERS), "conv.bias": torch.from_numpy(BIAS)}


def torch_zip(content=None) -> bytes:
    """A file of today's ``torch.save``."""
    buffer = io.BytesIO()
    torch.save(state() if content is None else content, buffer)
    return buffer.getvalue()


def torch_legacy(content=None) -> bytes:
    """A file of ``torch.save`` as before version 1.6."""
    buffer = io.BytesIO()
    torch.save(state() if content is None else content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def safetensors_file(folder) -> bytes:
    """A plain safetensors file."""
    path = folder / "made.safetensors"
    save_file(state(), path, {"author": "x"})
    return path.read_bytes()
