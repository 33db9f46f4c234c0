"""Grad-CAM by hand and against Captum; and the layer that it takes."""

import pytest
import torch
from torch import nn

from striate.core.errors import UsageError
from striate.look.gradcam import grad_cam, last_maps
from striate.nets import build


def pooled(channels=3, classes=2):
    """Maps that are the input itself, their means, and a fully connected layer."""
    return nn.Sequential(
        nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes, bias=False)
    )


def test_with_global_pooling_it_is_the_class_activation_map():
    net, images = pooled(), torch.randn(2, 3, 4, 6)
    weights = net[3].weight.detach()
    # a class score is sum_k w_k mean(A_k): each place has the slope w_k / (4 * 6)
    expected = torch.einsum("k,nkhw->nhw", weights[1], images).clamp(min=0) / 24
    found = grad_cam(net, images, 1, layer="0")
    torch.testing.assert_close(found[:, 0], expected)


def test_enlarged_bilinearly():
    net = nn.Sequential(nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 1, bias=False))
    nn.init.constant_(net[3].weight, 4.0)
    image = torch.tensor([[0.0, 8.0]]).repeat_interleave(2, 1).repeat(2, 1)[None, None]
    coarse = grad_cam(net, image, 0, layer="0", upsample=False)
    assert coarse.shape == (1, 1, 1, 2)
    slope = 4.0 / 2
    torch.testing.assert_close(coarse[0, 0], torch.tensor([[0.0, 8.0]]) * slope)
    fine = grad_cam(net, image, 0, layer="0")
    torch.testing.assert_close(fine[0, 0, 0], torch.tensor([0.0, 2.0, 6.0, 8.0]) * slope)


def test_a_relu_in_place_behind_the_layer_does_not_change_it():
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
    nets = [
        nn.Sequential(first, nn.ReLU(inplace=inplace), second, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for inplace in (False, True)
    ]
    images = torch.randn(2, 3, 9, 9)
    plain, inplace = (grad_cam(net, images, 2, layer="0") for net in nets)
    torch.testing.assert_close(plain, inplace)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        *(("lenet5_modern", "C3_relu"), ("alexnet", "relu5"), ("vgg16", "relu5_3")),
        *(("googlenet", "inception_5b"), ("resnet20", "conv4_3"), ("resnet50", "conv5_3")),
    ],
)
def test_the_last_maps(name, layer):
    with torch.device("meta"):
        net = build(name)
    found = last_maps(net, net.input_shape)
    assert found == layer or found.startswith(f"{layer}.relu")


def test_results_do_not_depend_on_the_batch_size():
    net, images = build("resnet20").eval(), torch.randn(5, 3, 32, 32)
    whole = grad_cam(net, images, None)
    torch.testing.assert_close(grad_cam(net, images, None, batch_images=2), whole, rtol=1e-4, atol=1e-6)
    assert whole.shape == (5, 1, 32, 32)
    assert whole.min() >= 0


@pytest.mark.parametrize(
    ("layer", "message"), [("1", "depend on"), ("2", "maps"), ("9", "did you mean"), (None, "name the layer")]
)
def test_wrong_wishes(layer, message):
    class Aside(nn.Sequential):
        def forward(self, x):
            self[1](x)
            return self[3](self[2](self[0](x)))

    net = Aside(nn.AdaptiveAvgPool2d(1), nn.Identity(), nn.Flatten(), nn.Linear(3, 2))
    if layer == "1":
        net[1] = nn.ReLU()
    with pytest.raises(UsageError, match=message):
        grad_cam(net if layer else pooled()[1:], torch.randn(2, 3, 4, 6), 1, layer=layer)


@pytest.mark.peer
def test_captum_agrees():
    attr = pytest.importorskip("captum.attr")
    net = build("resnet20").eval()
    images = torch.randn(3, 3, 32, 32)
    layer = last_maps(net, (3, 32, 32))
    module = net.get_submodule(layer)
    expected = attr.LayerGradCam(net, module).attribute(images, target=4, relu_attributions=True)
    found = grad_cam(net, images, 4, upsample=False)
    assert expected.max() > 0
    torch.testing.assert_close(found, expected)
