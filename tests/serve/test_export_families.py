"""Every family of networks in every format; the export itself compares the file with the network."""

import numpy as np
import pytest
import torch

from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.export_network import SUFFIXES, export_network
from striate.weights.bundle import Bundle

QUICK = {"lenet5": {}}  # sums, tanh and partial links
SLOW = {
    "resnet20": {},  # shortcut A
    "mlp2": {},
    "lenet5_rbf": {},
    "lenet5_modern": {},
    "lenet_caffe": {},
    "alexnet": {"input_px": 64},  # two towers, across-channel LRN
    "caffenet": {"input_px": 67},
    "zfnet": {"input_px": 64},
    "cuda_convnet_relu": {},
    "convnetjs_cifar": {},
    "nin_cifar10": {},
    "vgg11": {"input_px": 32},
    "vgg_a_lrn": {"input_px": 32},
    "vgg11_bn": {"input_px": 32},
    "googlenet": {"input_px": 96},  # auxiliary heads, which only training has; ceil mode
    "inception_naive": {},
    "resnet18": {"input_px": 32},
    "resnet18_a": {"input_px": 32},
    "resnet18_c": {"input_px": 32},
    "resnet50_v1_5": {"input_px": 32},
    "plain20": {},
    "INPUT 12x12x3 > CONV 4 3x3 pad 1 > RELU > AVG POOL 2x2 stride 2 > NORM > SOFTMAX 5": {},
}


@pytest.mark.parametrize("to", SUFFIXES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [*QUICK.items(), *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW.items())],
)
def test_family(name, arguments, to, tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        net = build(name, **arguments).eval()
    channels, height, width = net.input_shape
    pre = Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=height,
        mean=(0.4,) * channels,
        std=(0.3,) * channels,
    )
    pixels = np.random.default_rng(1).integers(0, 256, (4, height, width, channels), dtype=np.uint8)
    with torch.no_grad():
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        expected = net((images / 255 - 0.4) / 0.3).numpy()
    bundle = Bundle(
        net=name,
        classes=tuple(f"class {k}" for k in range(expected.shape[1])),
        preprocessing=pre,
        state=net.state_dict(),
    )
    path = tmp_path / f"x{SUFFIXES[to]}"
    made = export_network(net, bundle, path, to=to, pixels=pixels, images="noise")
    assert made.largest_logit == pytest.approx(float(np.abs(expected).max()), rel=1e-3)
    assert made.difference <= 2e-5 * made.largest_logit
    assert made.agreement == 1.0
    assert path.stat().st_size > 0
