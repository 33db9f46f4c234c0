"""Dense evaluation: a network made fully convolutional, so that it slides over whole images."""

import copy
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from striate.core.errors import InputSizeError, UsageError
from striate.nets.modules import (
    LocalResponseNorm,
    PartialConv2d,
    ScaledTanh,
    ShortcutA,
    Subsampling,
)

_OWN_PARTS = (LocalResponseNorm, PartialConv2d, ScaledTanh, ShortcutA, Subsampling)
_ELEMENTWISE = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Identity,
    nn.Dropout,
    ScaledTanh,
)
_SLIDING = (
    nn.Conv2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.BatchNorm2d,
    nn.Dropout2d,
    nn.ZeroPad2d,
    nn.LocalResponseNorm,
    *_OWN_PARTS,
)
_ELEMENTWISE_FUNCTIONS = (
    operator.add,
    operator.mul,
    operator.neg,
    torch.add,
    torch.mul,
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    functional.relu,
    functional.tanh,
    functional.sigmoid,
)

_Origin = tuple[int, int, int]


@contextmanager
def in_eval_mode(net: nn.Module) -> Iterator[None]:
    """Put every layer into eval mode; each gets its own mode back afterwards, also after an error."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class FullyConvolutional(nn.Module):
    """A network that gives a map of class scores for an image of any size, at least its own.

    Attributes:
        input_shape: channels, height and width in pixels of the images that give one place.
        maps: the layers; their tensors are those of the network that they were made from.
    """

    def __init__(self, maps: nn.Module, input_shape: tuple[int, int, int], name: str) -> None:
        super().__init__()
        self.maps = maps
        self.input_shape = input_shape
        self.name = name

    def forward(self, images: Tensor) -> Tensor:
        """Map ``N x C x H x W`` images to ``N x K x h x w`` class scores.

        Raises:
            InputSizeError: other channels, or an image smaller than the network's own size.
        """
        channels, height, width = self.input_shape
        got = tuple(images.shape)
        if len(got) != 4 or got[1] != channels or got[2] < height or got[3] < width:
            raise InputSizeError(
                f"{self.name}, dense, expects images of {channels} channels and at least {height}x{width} px,"
                f" got {'x'.join(map(str, got[1:]))}: resize them"
            )
        scores: Tensor = self.maps(images)
        return scores


def fully_convolutional(
    net: nn.Module, input_shape: tuple[int, int, int] | None = None
) -> FullyConvolutional:
    """Turn a classifier into a network that classifies every position of a larger image.

    The first fully connected layer becomes a convolution whose kernel is as large as the maps that it read,
    later ones become 1x1 convolutions, and an average over whole maps keeps its window and moves by one
    place. Each place of the result is the network's output for the crop there, save where layers pad: a crop
    has zeros at its edge, the whole image has the pixels beside it. At the network's own size there is one
    place and it is the network's output. Places are as many pixels apart as the strides multiply to (32 for
    VGG).

    Weights are shared, not copied, and the given network is left as it was. Convert it on the device where it
    is to run. The result is in eval mode: dropout does nothing.

    Args:
        net: maps ``N x C x H x W`` images to ``N x K`` scores.
        input_shape: channels, height and width of the images that it takes; None asks ``net.input_shape``.

    Raises:
        UsageError: an operation of the network has no such form; it is named.

    Paper: Sermanet et al. 2014 (OverFeat), section 3.5; Simonyan and Zisserman 2015, section 3.2.
    Departures: networks that end in an average over whole maps are treated likewise; these papers have none.
    """
    title = _title(net)
    shape = input_shape or getattr(net, "input_shape", None)
    if shape is None:
        raise UsageError(f"{title}: expected the size of its images, got none: give input_shape")
    with in_eval_mode(net):
        try:
            traced = _Tracer().trace(net)
            modules = dict(net.named_modules())
            sizes = _sizes(net, traced, shape)
        except UsageError:
            raise
        except Exception as error:  # whatever the Python code of a user's own network does
            first = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
            raise UsageError(
                f"{title} can't be read as a chain of layers ({first}): dense evaluation needs one whose code"
                " does not depend on the images; take ten crops"
            ) from None
        return FullyConvolutional(_Rewriter(title, modules, sizes).rewrite(traced), shape, title).eval()


class _Tracer(fx.Tracer):
    """Follows the network's code; striate's own layers stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = m.__class__.__module__ == "striate.nets.modules" and not list(m.children())
        return own or super().is_leaf_module(m, module_qualified_name)


class _Sizes(fx.Interpreter):
    """Runs the graph once and notes the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _sizes(net: nn.Module, graph: fx.Graph, shape: tuple[int, int, int]) -> dict[fx.Node, tuple[int, ...]]:
    parameter = next(net.parameters(), torch.empty(0))
    interpreter = _Sizes(fx.GraphModule(net, graph))
    with torch.no_grad():
        interpreter.run(torch.zeros(1, *shape, device=parameter.device, dtype=parameter.dtype))
    return interpreter.shapes


class _Rewriter:
    """Copies a graph, layer by layer, into its fully convolutional form."""

    def __init__(
        self, title: str, modules: dict[str, nn.Module], shapes: dict[fx.Node, tuple[int, ...]]
    ) -> None:
        self.title = title
        self.modules = modules
        self.shapes = shapes
        self.graph = fx.Graph()
        self.layers: dict[str, nn.Module] = {}
        self.made: dict[fx.Node, fx.Node] = {}
        # Of a flat tensor: the maps that it was flattened from, at the network's own size.
        self.origin: dict[fx.Node, _Origin] = {}

    def rewrite(self, graph: fx.Graph) -> fx.GraphModule:
        for node in graph.nodes:
            step: Callable[[fx.Node], fx.Node] = getattr(self, f"_{node.op}")
            self.made[node] = step(node)
        return fx.GraphModule(self.layers, self.graph, class_name="Maps")

    def _placeholder(self, node: fx.Node) -> fx.Node:
        return self.graph.node_copy(node)

    def _get_attr(self, node: fx.Node) -> fx.Node:
        raise self._refusal(f"reads its tensor {node.target} outside of a layer")

    def _call_method(self, node: fx.Node) -> fx.Node:
        if node.target == "flatten" and node.args[1:] in ((1,), (1, -1)) and not node.kwargs:
            return self._flattened(node)
        raise self._refusal(f"calls .{node.target}()")

    def _call_function(self, node: fx.Node) -> fx.Node:
        name = getattr(node.target, "__name__", str(node.target))
        if node.target is torch.flatten:
            start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
            if start == 1 and len(node.args) <= 2 and set(node.kwargs) <= {"start_dim"}:
                return self._flattened(node)
        if node.target is torch.cat and len(self.shapes[node]) == 4:
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            if dim in (1, -3):
                self._check_sizes(node, name)
                return self._copied(node)
        if node.target in _ELEMENTWISE_FUNCTIONS:
            self._check_sizes(node, name)
            return self._copied(node)
        raise self._refusal(f"calls {name}()")

    def _call_module(self, node: fx.Node) -> fx.Node:
        layer = self.modules[str(node.target)]
        source = node.all_input_nodes[0]
        if len(node.all_input_nodes) != 1 or len(node.args) != 1:
            raise self._refusal(f"calls {node.target} with several inputs")
        if isinstance(layer, nn.Flatten):
            if (layer.start_dim, layer.end_dim) not in ((1, -1), (1, 3)):
                raise self._refusal(f"flattens other axes in {node.target}")
            return self._flattened(node)
        if isinstance(layer, _ELEMENTWISE):
            if source in self.origin:
                self.origin[node] = self.origin[source]
            return self._layer(node, _in_eval(layer))
        if source in self.origin:
            return self._on_features(node, layer, self.origin[source])
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            return self._layer(node, self._fixed_pool(node, source))
        if not isinstance(layer, _SLIDING) or len(self.shapes[source]) != 4:
            raise self._refusal(f"has {node.target}, a {type(layer).__name__}")
        layer = _in_eval(layer)
        if isinstance(layer, nn.AvgPool2d) and _pair(layer.kernel_size) == self.shapes[source][2:]:
            layer.stride = 1
        return self._layer(node, layer)

    def _output(self, node: fx.Node) -> fx.Node:
        result = node.args[0]
        if not isinstance(result, fx.Node) or self.origin.get(result, (0, 0, 0))[1:] != (1, 1):
            raise self._refusal("does not end in one row of scores for an image")
        return self.graph.output(self.made[result])

    def _on_features(self, node: fx.Node, layer: nn.Module, origin: _Origin) -> fx.Node:
        """Treat what stands behind the flattening: every place of the maps is an image of its own."""
        if isinstance(layer, nn.Linear) and origin[1:] != (1, 1):
            self.origin[node] = (layer.out_features, 1, 1)
            return self._layer(node, _Convolved(_in_eval(layer), origin))
        if origin[1:] != (1, 1) or len(self.shapes[node]) != 2:
            raise self._refusal(f"has {node.target}, a {type(layer).__name__}, between its maps and a Linear")
        self.origin[node] = (self.shapes[node][1], 1, 1)
        return self._layer(node, _AtEachPlace(_in_eval(layer)))

    def _flattened(self, node: fx.Node) -> fx.Node:
        source = node.all_input_nodes[0]
        if source in self.origin:
            self.origin[node] = self.origin[source]
        elif len(self.shapes[source]) == 4:
            channels, height, width = self.shapes[source][1:]
            self.origin[node] = (channels, height, width)
        else:
            raise self._refusal(f"flattens a tensor of {len(self.shapes[source])} axes")
        return self.made[source]

    def _fixed_pool(self, node: fx.Node, source: fx.Node) -> nn.Module:
        height, width = self.shapes[source][2:]
        if self.shapes[node][2:] == (1, 1):
            return nn.AvgPool2d((height, width), stride=1)
        if self.shapes[node][2:] == (height, width):
            return nn.Identity()
        raise self._refusal(f"has {node.target}, an AdaptiveAvgPool2d that changes the size of its maps")

    def _copied(self, node: fx.Node) -> fx.Node:
        origins = {self.origin.get(source) for source in node.all_input_nodes}
        if len(origins) > 1:
            raise self._refusal(f"joins maps and features in {node.name}")
        if origins != {None}:
            found = origins.pop()
            assert found is not None
            self.origin[node] = found
        return self.graph.node_copy(node, self.made.__getitem__)

    def _layer(self, node: fx.Node, layer: nn.Module) -> fx.Node:
        # A module that is used twice may read maps once and features once: each use is a layer of its own.
        name = str(node.target)
        while name in self.layers:
            name += "_again"
        self.layers[name] = layer
        return self.graph.call_module(name, (self.made[node.all_input_nodes[0]],))

    def _check_sizes(self, node: fx.Node, name: str) -> None:
        sizes = {self.shapes[source][2:] for source in node.all_input_nodes}
        axes = {len(self.shapes[source]) for source in node.all_input_nodes}
        if len(sizes) > 1 or len(axes) > 1:
            raise self._refusal(f"joins maps of different sizes by {name}()")

    def _refusal(self, what: str) -> UsageError:
        return UsageError(
            f"{self.title} {what}, which has no fully convolutional form: take `protocol=ten-crop` or"
            " 144-crop"
        )


class _AtEachPlace(nn.Module):
    """Applies a layer of features at every place of maps; a fully connected one is then a 1x1 convolution."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x C x h x w`` to ``N x K x h x w``."""
        places = maps.permute(0, 2, 3, 1)
        rows = self.layer(places.reshape(-1, maps.shape[1]))
        scores: Tensor = rows.reshape(*places.shape[:3], -1).permute(0, 3, 1, 2)
        return scores


class _Convolved(nn.Module):
    """Slides a fully connected layer over maps, with a window as large as the maps that it was made for.

    A convolution of stride 1, computed as one matrix product of all windows: several times as fast here as
    torch's convolutions with so large a kernel, and the layer's weights stay as they are.
    """

    def __init__(self, layer: nn.Linear, origin: _Origin) -> None:
        super().__init__()
        self.layer = layer
        _, self.height, self.width = origin

    def forward(self, maps: Tensor) -> Tensor:
        """Map ``N x C x H x W`` to ``N x K x (H - height + 1) x (W - width + 1)``."""
        windows = maps.unfold(2, self.height, 1).unfold(3, self.width, 1).permute(0, 2, 3, 1, 4, 5)
        rows = self.layer(windows.reshape(-1, self.layer.in_features))
        scores: Tensor = rows.reshape(*windows.shape[:3], -1).permute(0, 3, 1, 2)
        return scores


def _in_eval(layer: nn.Module) -> Any:
    """Return a layer with the same tensors and a mode of its own."""
    own = copy.copy(layer)
    own.training = False
    return own


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _title(net: nn.Module) -> str:
    own = getattr(net, "name", "")
    return own if isinstance(own, str) and own else type(net).__name__
