"""MatConvNet's ``.mat`` models of the SimpleNN kind: ``conv1_1.0`` (filters) and ``conv1_1.1`` (biases).

They were made from Caffe's, with images in RGB already and fully connected layers as convolutions over the
whole map.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from torch import Tensor

from striate.data.preprocess import Preprocessing
from striate.weights.layouts import caffe
from striate.weights.layouts.layout import Layout, MeanRgb, flat_rows, no_such_net

_ALEXNETS: Final = ("alexnet_caffe", "caffenet")
NETS: Final = (*_ALEXNETS, "vgg11", "vgg13", "vgg16", "vgg19")
"""Networks of the SimpleNN kind; ResNet and GoogLeNet come as DagNN, which striate has no layout for."""


def layout(net: str) -> Layout:
    """Return how MatConvNet stores ``net``.

    Raises:
        BundleError: no such network in SimpleNN form.
    """
    return Layout(
        format="matconvnet",
        net=net,
        keys=keys(net),
        prepare=prepare,
        preprocessing=partial(preprocessing, net),
        notes=caffe.mean_notes(net),
    )


def keys(net: str) -> dict[str, str]:
    """Return MatConvNet's layer and number of the array -> striate's key, in the file's order.

    Raises:
        BundleError: no such network in SimpleNN form.
    """
    if net not in NETS:
        raise no_such_net("MatConvNet", net, NETS)
    return caffe.keys(net)


def prepare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring fully connected layers to ``out x in`` and biases to one axis; the colours are RGB already."""
    prepared = {}
    for key, tensor in tensors.items():
        layer, _, number = key.rpartition(".")
        if number != "0":
            prepared[key] = tensor.reshape(-1)
        else:
            prepared[key] = flat_rows(tensor) if layer in caffe.FULLY_CONNECTED else tensor
    return prepared


def preprocessing(net: str, input_px: int, mean_rgb: MeanRgb | None) -> Preprocessing:
    """Return what MatConvNet's weights expect: values from 0 to 255 less ``averageImage``.

    Args:
        net: striate's name.
        input_px: side of the network's input.
        mean_rgb: the file's ``averageImage`` (of a whole image, its mean); None for the published one.
    """
    caffes = caffe.preprocessing(net, input_px, mean_rgb)
    return replace(caffes, interpolation="bicubic") if net in _ALEXNETS else caffes
