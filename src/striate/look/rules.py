"""What each kind of step does to a signal on its way back, under the deconvnet and guided rules.

``ReluMode`` replaces ReLU, and bypasses local response normalisation, while a network runs; ``label_of`` then
says of each step of autograd's graph whether the rule covers it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from striate.core.choices import Rule
from striate.core.errors import UsageError
from striate.nets.modules import LocalResponseNorm

_RELUS = {"relu", "relu_"}
_CLAMPS = {"clamp", "clamp_", "clip", "clip_", "clamp_min", "clamp_min_"}
_PRODUCTS = {"mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__", "__imul__"} | {
    *("div", "div_", "divide", "divide_", "true_divide", "true_divide_"),
    *("__truediv__", "__itruediv__", "__div__", "__idiv__"),
}

_READING = {"item", "tolist", "numpy", "__float__", "__int__", "__array__"}

# Steps of autograd's graph by name, without "Backward" and number. Linear in the signal, nothing to choose:
_PLAIN = frozenset(
    (
        *("AccumulateGrad", "Alias", "AsStrided", "Clone", "ToCopy", "View", "UnsafeView", "ReshapeAlias"),
        *("Permute", "Transpose", "T", "Squeeze", "Unsqueeze", "Expand", "Repeat", "Flip", "Roll", "Unfold"),
        *("Slice", "Select", "Split", "SplitWithSizes", "UnsafeSplit", "Unbind", "Index", "IndexSelect"),
        *("ConstantPadNd", "ReflectionPad2D", "ReplicationPad2D", "PixelShuffle", "PixelUnshuffle", "Im2Col"),
        *("Convolution", "CudnnConvolution", "MkldnnConvolution", "SlowConv2D", "MaxPool2DWithIndices"),
    )
)
_ADDITION = "addition (copied to every summand)"
_PRODUCT = "product with a constant (the same factor)"
_FULL = "fully connected layer (transposed matrix)"
_OVERLAP = "overlapping max pooling (values that meet at one switch are summed)"
_LRN = "local response normalisation (bypassed)"
_AVERAGE = "average pooling (spread evenly)"
_BATCH_NORM = "batch normalisation (scaled by gamma/sigma)"
_MAXIMUM = "maximum over a map (to its place)"
_EXTENSIONS: Mapping[str, str] = {
    **dict.fromkeys(("NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm", "BatchNormImpl"), _BATCH_NORM),
    **dict.fromkeys(("Add", "Sub", "Rsub", "Sum"), _ADDITION),
    **dict.fromkeys(("Cat", "Stack"), "concatenation (split)"),
    **dict.fromkeys(("AvgPool2D", "AdaptiveAvgPool2D", "MkldnnAdaptiveAvgPool2D", "Mean"), _AVERAGE),
    **dict.fromkeys(("AdaptiveMaxPool2D", "Max", "Amax"), _MAXIMUM),
    **dict.fromkeys(("Addmm", "Mm", "Bmm", "Linear", "MkldnnLinear"), _FULL),
    **dict.fromkeys(("UpsampleNearest2D", "UpsampleBilinear2D"), "upsampling (transposed)"),
    "Neg": _PRODUCT,
    "Tanh": "tanh (its derivative)",
    "Sigmoid": "sigmoid (its derivative)",
    "Elu": "ELU (its derivative)",
    "LeakyRelu": "leaky ReLU (its derivative)",
    "PreluKernel": "PReLU (its derivative)",
}
_ONE_INPUT = frozenset({"Addmm", "Mm", "Bmm", "Linear", "MkldnnLinear", "Convolution"})


class _Relu(torch.autograd.Function):
    """ReLU forward; deconvnet or guided backward."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor, guided: bool, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(sums)
            out = sums.clamp_(min=0)
        else:
            out = sums.clamp(min=0)
        if guided:
            ctx.save_for_backward(out > 0)
        return out

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        signal = signals[0].clamp(min=0)
        for mask in ctx.saved_tensors:
            signal = signal * mask
        return signal, None, None


class _Bypass(torch.autograd.Function):
    """Return ``out``; pass the signal to ``maps`` unchanged."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, out: Tensor) -> Tensor:
        return out.clone()

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> Any:
        return signals[0], None


class ReluMode(TorchFunctionMode):
    """Replaces ReLU and LRN while a network runs, and notes which products are with constants."""

    def __init__(self, rule: Rule, known: dict[Any, str | None]) -> None:
        super().__init__()
        self.guided = rule == "guided"
        self.known = known
        self.derived: dict[int, Tensor] = {}  # made from the pixels, but without a gradient
        self.read = False  # their values were read: any constant may come from them

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        sums = args[0] if args else kwargs.get("input")
        if isinstance(sums, Tensor) and sums.requires_grad and torch.is_grad_enabled():
            if _is_relu(name, args, kwargs):
                inplace = name.endswith("_") or bool(_argument(args, kwargs, 1, "inplace") and name == "relu")
                out = _Relu.apply(sums, self.guided, inplace)
                self._know(out, "")
                return out
            if func is functional.local_response_norm:
                out = _Bypass.apply(sums, func(*args, **kwargs).detach())
                self._know(out, _LRN)
                return out
        out = func(*args, **kwargs)
        used = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        used = [value for value in used if value.requires_grad or id(value) in self.derived]
        if used:
            self.read |= name in _READING
            for made in tree_leaves(out):
                if isinstance(made, Tensor) and not made.requires_grad:
                    self.derived[id(made)] = made
        if name in _PRODUCTS and isinstance(out, Tensor) and out.requires_grad:
            constant = not self.read and len(used) == 1 and ("div" not in name or used[0] is sums)
            self._know(out, _PRODUCT if constant else None)
        return out

    def _know(self, out: Tensor, label: str | None) -> None:
        """Note what the step that made a tensor is; a change in place of a view is noted at its base."""
        self.known[out.grad_fn] = label
        if out._base is not None and out._base.grad_fn is not None:
            self.known[out._base.grad_fn] = label


def bypass_norms(net: nn.Module, known: dict[Any, str | None]) -> list[RemovableHandle]:
    """Hook every local response normalisation that is a module: the signal will pass it unchanged.

    Returns:
        The hooks, for the caller to remove.
    """

    def bypass(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        out: Tensor = _Bypass.apply(inputs[0], output.detach())
        known[out.grad_fn] = _LRN
        return out

    norms = [module for module in net.modules() if isinstance(module, LocalResponseNorm | nn.CrossMapLRN2d)]
    return [module.register_forward_hook(bypass) for module in norms]


def label_of(node: Any, rule: Rule, known: Mapping[Any, str | None]) -> str:
    """Say what a step of autograd's graph is.

    Args:
        node: the step.
        rule: at ReLUs; ``gradient`` covers everything.
        known: what ``ReluMode`` and ``bypass_norms`` noted.

    Returns:
        The name of an extension, or "" for a step that needs none.

    Raises:
        UsageError: the rule does not cover it, or it mixes the images of a batch.
    """
    name = _name_of(node)
    if "BatchNorm" in name and getattr(node, "_saved_training", False):
        if node._saved_input.shape[0] > 1:  # one row: instance normalisation
            raise UsageError(
                "expected normalisation by running statistics, got one that mixes the images of a batch: pass"
                " `batch_images=1`, or build it with track_running_stats=True"
            )
        if rule != "gradient":
            raise _refusal("normalisation by the image's own statistics", rule)
    if rule == "gradient":
        return ""
    if node in known:
        label = known[node]
        if label is None:
            raise _refusal("a product of activations", rule)
        return label
    inputs = [following for following, _ in node.next_functions if following is not None]
    if name in _ONE_INPUT and len(inputs) > 1:
        raise _refusal("a product of activations", rule)
    if name in _PLAIN:
        return _OVERLAP if _overlaps(node) else ""
    if name in ("Add", "Sub") and len(inputs) < 2:
        return ""  # a constant is added
    if name in _EXTENSIONS:
        return _EXTENSIONS[name]
    raise _refusal(name, rule)


def _is_relu(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    if name in _RELUS:
        return True
    if name not in _CLAMPS:
        return False
    low, high = _argument(args, kwargs, 1, "min"), _argument(args, kwargs, 2, "max")
    return isinstance(low, int | float) and low == 0 and high is None


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _name_of(node: Any) -> str:
    """Return the name of a step: ``Relu`` of ``ReluBackward0``."""
    name: str = node.name().rpartition("::")[2]
    return name.rstrip("0123456789").removesuffix("Backward")


def _overlaps(node: Any) -> bool:
    if not _name_of(node).startswith("MaxPool"):
        return False
    kernel, stride = node._saved_kernel_size, node._saved_stride or node._saved_kernel_size
    return any(step < size for step, size in zip(stride, kernel, strict=False))


def _refusal(what: str, rule: Rule) -> UsageError:
    return UsageError(
        f"expected steps that the {rule} rule covers, got {what}: take the gradient, a layer below it, or"
        " write ReLUs as nn.ReLU, relu or clamp(min=0)"
    )
