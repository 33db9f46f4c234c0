"""The CIFAR-10 network that ConvNetJS trains in a browser, as shown in lectures.

Layer names: conv1, relu1, pool1 to conv3, relu3, pool3, then fc10.
"""

from torch import nn

from striate.nets.entry import NetEntry
from striate.nets.modules import Chain

INPUT_SHAPE = (3, 32, 32)


def convnetjs_cifar(num_classes: int = 10) -> Chain:
    """Build the network of the CIFAR-10 demo of ConvNetJS, 22,466 parameters for ten classes.

    Args:
        num_classes: number of output units.

    Returns:
        A network from ``N x 3 x 32 x 32`` images to ``N x num_classes`` logits.

    Paper: none; Karpathy's demo page "ConvNetJS CIFAR-10".
    Departures: the random start is ConvNetJS's, see ``ENTRIES``.
    """
    net = Chain(
        "convnetjs_cifar",
        INPUT_SHAPE,
        {
            "conv1": nn.Conv2d(3, 16, kernel_size=5, padding=2),
            "relu1": nn.ReLU(),
            "pool1": nn.MaxPool2d(2, stride=2),
            "conv2": nn.Conv2d(16, 20, kernel_size=5, padding=2),
            "relu2": nn.ReLU(),
            "pool2": nn.MaxPool2d(2, stride=2),
            "conv3": nn.Conv2d(20, 20, kernel_size=5, padding=2),
            "relu3": nn.ReLU(),
            "pool3": nn.MaxPool2d(2, stride=2),
            "flatten": nn.Flatten(),
            "fc10": nn.Linear(20 * 4 * 4, num_classes),
        },
    )
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert layer.bias is not None
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=fan_in**-0.5)
            nn.init.constant_(layer.bias, 0.1 if isinstance(layer, nn.Conv2d) else 0.0)
    return net


ENTRIES = (
    NetEntry(
        name="convnetjs_cifar",
        title="ConvNetJS CIFAR-10 demo",
        year=2014,
        paper="Karpathy: ConvNetJS, CIFAR-10 demo (a page for the browser, no paper)",
        input_shape=INPUT_SHAPE,
        num_classes=10,
        build=convnetjs_cifar,
        recipe="photos",
        published_error="not published: a demonstration that trains in the browser for as long as one looks",
        departures=(
            "Weights start as in ConvNetJS, normal with a variance of 1 / fan-in, biases at 0.1 before a ReLU"
            " and at zero in fc10; the lectures do not say.",
        ),
        page="docs/nets/convnetjs.md",
    ),
)
