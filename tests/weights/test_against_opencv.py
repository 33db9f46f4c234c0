"""OpenCV's Caffe importer as a second opinion (``pip install "opencv-python-headless<5"``)."""

import numpy as np
import pytest
import torch
from foreign_files import caffe

from striate import nets
from striate.data.preprocess import normalise
from striate.weights.bundle import fill_network
from striate.weights.convert import convert_weights

pytestmark = pytest.mark.peer

PX = 67  # the smallest image of bvlc_alexnet: every window still fits, and fc6 is small

DEPLOY = f"""
name: "AlexNet"
input: "data" input_dim: 1 input_dim: 3 input_dim: {PX} input_dim: {PX}
layer {{ name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param {{ num_output: 96 kernel_size: 11 stride: 4 }} }}
layer {{ name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }}
layer {{ name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
  lrn_param {{ local_size: 5 alpha: 0.0001 beta: 0.75 }} }}
layer {{ name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param {{ pool: MAX kernel_size: 3 stride: 2 }} }}
layer {{ name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param {{ num_output: 256 pad: 2 kernel_size: 5 group: 2 }} }}
layer {{ name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }}
layer {{ name: "norm2" type: "LRN" bottom: "conv2" top: "norm2"
  lrn_param {{ local_size: 5 alpha: 0.0001 beta: 0.75 }} }}
layer {{ name: "pool2" type: "Pooling" bottom: "norm2" top: "pool2"
  pooling_param {{ pool: MAX kernel_size: 3 stride: 2 }} }}
layer {{ name: "conv3" type: "Convolution" bottom: "pool2" top: "conv3"
  convolution_param {{ num_output: 384 pad: 1 kernel_size: 3 }} }}
layer {{ name: "relu3" type: "ReLU" bottom: "conv3" top: "conv3" }}
layer {{ name: "conv4" type: "Convolution" bottom: "conv3" top: "conv4"
  convolution_param {{ num_output: 384 pad: 1 kernel_size: 3 group: 2 }} }}
layer {{ name: "relu4" type: "ReLU" bottom: "conv4" top: "conv4" }}
layer {{ name: "conv5" type: "Convolution" bottom: "conv4" top: "conv5"
  convolution_param {{ num_output: 256 pad: 1 kernel_size: 3 group: 2 }} }}
layer {{ name: "relu5" type: "ReLU" bottom: "conv5" top: "conv5" }}
layer {{ name: "pool5" type: "Pooling" bottom: "conv5" top: "pool5"
  pooling_param {{ pool: MAX kernel_size: 3 stride: 2 }} }}
layer {{ name: "fc6" type: "InnerProduct" bottom: "pool5" top: "fc6"
  inner_product_param {{ num_output: 4096 }} }}
layer {{ name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }}
layer {{ name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7"
  inner_product_param {{ num_output: 4096 }} }}
layer {{ name: "relu7" type: "ReLU" bottom: "fc7" top: "fc7" }}
layer {{ name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8"
  inner_product_param {{ num_output: 7 }} }}
"""

SHAPES = {
    "conv1": (96, 3, 11, 11),
    "conv2": (256, 48, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 192, 3, 3),
    "conv5": (256, 192, 3, 3),
    "fc6": (4096, 256),
    "fc7": (4096, 4096),
    "fc8": (7, 4096),
}


def test_opencv_reads_the_same_caffe_pair_alike(tmp_path):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV has no Caffe importer: it takes opencv-python-headless<5")
    rng = np.random.default_rng(2012)
    model = caffe().NetParameter(name="AlexNet")
    for name, shape in SHAPES.items():
        kind = "Convolution" if name.startswith("conv") else "InnerProduct"
        layer = model.layer.add(name=name, type=kind, bottom=["below"], top=[name])
        spread = (2 / np.prod(shape[1:])) ** 0.5
        weight = (rng.standard_normal(shape) * spread).astype(np.float32)
        bias = (rng.standard_normal(shape[0]) * 0.1).astype(np.float32)
        for values in (weight, bias):
            layer.blobs.add(data=values.ravel()).shape.dim.extend(values.shape)
    (tmp_path / "net.caffemodel").write_bytes(model.SerializeToString())
    (tmp_path / "net.prototxt").write_text(DEPLOY)

    picture = rng.integers(0, 256, (PX, PX, 3), dtype=np.uint8)  # RGB
    theirs = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    theirs.setInput(cv2.dnn.blobFromImage(picture[:, :, ::-1], 1.0, (PX, PX), (104, 117, 123)))
    expected = theirs.forward("fc8")

    bundle = convert_weights(
        tmp_path / "net.caffemodel",
        tmp_path / "net.safetensors",
        net="alexnet_caffe",
        net_arguments={"input_px": PX},
    )
    ours = nets.build("alexnet_caffe", num_classes=7, input_px=PX).eval()
    fill_network(ours, bundle.state, "test")
    with torch.inference_mode():
        got = ours(normalise(torch.from_numpy(picture)[None], bundle.preprocessing)).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 1
