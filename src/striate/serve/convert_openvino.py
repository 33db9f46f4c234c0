"""From a network to an OpenVINO model, in half a second and with the operations that OpenVINO runs fast.

Two things are expressed better than by OpenVINO's own converter:

- *local response normalisation* becomes a convolution of the squares and roots instead of a pad, five slices
  and a power. OpenVINO's operation of that name is slower too: it needs the maps in another order than
  convolutions do, and has no towers.
- *max pooling* gives its values only. Where sizes are rounded up, the converter also keeps the indices of the
  maxima, which OpenVINO then computes and reorders although nothing reads them.
"""

import copy
import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.nets.modules import LocalResponseNorm
from striate.serve.import_openvino import import_openvino


def convert(graph: nn.Module, preprocessing: Preprocessing) -> Any:
    """Turn a network that takes pixels (``serve.graph.FromPixels``, in eval mode) into an OpenVINO model.

    The number of images stays open; height, width and channels are those of the preprocessing. Weights are
    shared with the network, not copied.

    Args:
        graph: maps ``N x H x W x C`` uint8 pixels to ``N x K`` logits, on the CPU.
        preprocessing: gives height, width and channels.

    Returns:
        An ``openvino.Model`` with the input ``pixels`` and the output ``logits``.
    """
    ov = import_openvino()
    size = (preprocessing.height_px, preprocessing.width_px, preprocessing.channels)
    example = torch.zeros((2, *size), dtype=torch.uint8)  # two: a single image could hide its dimension
    with torch.no_grad(), warnings.catch_warnings():
        # Traced here and not by OpenVINO, which runs the network again to check the trace and imports torch's
        # compiler: that takes four times as long. Torch calls tracing deprecated; OpenVINO's converter is
        # built on it. Sizes that are checked in tracing become constants: height and width are fixed.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        traced = torch.jit.trace(_with_fast_norms(graph), example, check_trace=False)
        model = ov.convert_model(traced, input=[ov.PartialShape([-1, *size])])
    _pool_values_only(model)
    model.inputs[0].set_names({"pixels"})
    model.outputs[0].set_names({"logits"})
    return model


def read_graph(xml: bytes, weights: bytes) -> Any:
    """Read an OpenVINO model from memory.

    Args:
        xml: content of the ``.xml`` file.
        weights: content of the ``.bin`` file.

    Returns:
        An ``openvino.Model``.

    Raises:
        BundleError: it is damaged.
    """
    ov = import_openvino()
    try:
        return ov.Core().read_model(model=xml, weights=weights)
    except Exception as error:  # OpenVINO has no narrower one
        reason = " ".join(str(error).split())[:120]
        raise BundleError(f"the bundle's int8 graph can't be read ({reason}): quantize it again") from None


class _NormByConvolution(nn.Module):
    """Local response normalisation in operations that OpenVINO runs fast in any memory order.

    The sum over neighbours is a 1 x 1 convolution of the squares: alpha where two maps of a tower are
    neighbours, 0 elsewhere; and ``s^-0.75`` is the fourth root to the power of -3.
    """

    def __init__(self, norm: LocalResponseNorm) -> None:
        super().__init__()
        self._norm = norm

    def forward(self, maps: Tensor) -> Tensor:
        norm, channels = self._norm, int(maps.shape[1])
        index = np.arange(channels)
        near = np.abs(index[:, None] - index) <= norm.size // 2
        tower = index // (channels // norm.towers)
        weight = norm.alpha * (near & (tower[:, None] == tower)).astype(np.float32)[:, :, None, None]
        k = np.full(channels, norm.k, np.float32)
        sums = functional.conv2d(maps.square(), torch.from_numpy(weight), torch.from_numpy(k))
        return maps * (sums.sqrt().sqrt().pow(-3) if norm.beta == 0.75 else sums.pow(-norm.beta))


def _with_fast_norms(graph: nn.Module) -> nn.Module:
    """Return a copy of the network, around the same tensors, with its response normalisations replaced."""
    if not any(isinstance(module, LocalResponseNorm) for module in graph.modules()):
        return graph
    shared = {id(tensor): tensor for tensor in (*graph.parameters(), *graph.buffers())}
    own = copy.deepcopy(graph, shared)  # new modules around the same tensors
    for module in tuple(own.modules()):
        for name, child in module.named_children():
            if isinstance(child, LocalResponseNorm):
                setattr(module, name, _NormByConvolution(child))
    return own


def response_norms(model: Any) -> list[str]:
    """Name the operations that local response normalisations became, in a model of ``convert``.

    Each is a chain: a square, a convolution, roots and powers, and the product with what was squared.
    """
    names: list[str] = []
    for operation in model.get_ordered_ops():
        if operation.get_type_name() != "Convolution":
            continue
        chain = [operation.input_value(0).get_node(), operation]
        while chain[-1].get_type_name() in ("Convolution", "Add", "Sqrt", "Power"):
            readers = chain[-1].output(0).get_target_inputs()
            if len(readers) != 1:
                break
            chain.append(next(iter(readers)).get_node())
        if chain[0].get_type_name() != "Power" or chain[-1].get_type_name() != "Multiply":
            continue  # another convolution of squares
        maps = chain[0].input_value(0).get_node().get_friendly_name()
        if maps in [one.get_source_output().get_node().get_friendly_name() for one in chain[-1].inputs()]:
            names += [one.get_friendly_name() for one in chain]
    return names


def _pool_values_only(model: Any) -> None:
    """Replace max pooling by one without indices, rounded down, padded to the same size."""
    opset1 = import_module("openvino.opset1")
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MaxPool" or node.get_output_size() != 2:
            continue
        if node.output(1).get_target_inputs():
            continue
        values = node.get_attributes()
        before, after = node.input(0).get_partial_shape(), node.output(0).get_partial_shape()
        spatial = range(2, len(before))
        if any(before[i].is_dynamic or after[i].is_dynamic for i in spatial) or max(values["dilations"]) > 1:
            continue
        ends = [
            max(0, (after[i].get_length() - 1) * stride + kernel - before[i].get_length() - begin)
            for i, stride, kernel, begin in zip(
                spatial, values["strides"], values["kernel"], values["pads_begin"], strict=True
            )
        ]
        alone = opset1.max_pool(
            node.input_value(0),
            values["strides"],
            values["pads_begin"],
            ends,
            values["kernel"],
            "floor",
            "explicit",
        )
        alone.set_friendly_name(node.get_friendly_name())
        node.output(0).replace(alone.output(0))
    model.validate_nodes_and_infer_types()
