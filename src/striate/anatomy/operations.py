"""What each of torch's operations costs and does to receptive fields.

Rows and columns of the image are the last two axes of a tensor of four axes or more. A tensor of fewer axes
has lost its place in the image: its field is the union over all places.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from striate.anatomy.field import Axis, Field, join
from striate.anatomy.layer import Im2col, Window

Fields = Mapping[int, Field | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one operation does.

    Attributes:
        kind: short name, such as ``conv2d`` or ``add``.
        role: as in ``Layer``.
        field: of the result.
        macs: multiply-accumulates.
        window: of a convolution or pool.
        im2col: of a convolution.
        note: what is not known, or "".
    """

    kind: str
    role: str
    field: Field | None
    macs: int = 0
    window: Window | None = None
    im2col: Im2col | None = None
    note: str = ""


_ROLES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d), "conv"),
    ((nn.Linear, nn.Bilinear), "fc"),
    ((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d), "pool"),
    ((nn.BatchNorm2d, nn.BatchNorm1d, nn.LocalResponseNorm, nn.GroupNorm, nn.LayerNorm), "norm"),
    ((nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Softmax), "activation"),
    ((nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.Unflatten), "view"),
)

_ROLE_WORDS = (
    ("norm", "norm"),
    ("pool", "pool"),
    ("subsampl", "pool"),
    ("conv", "conv"),
    ("tanh", "activation"),
)


def role_of_module(module: nn.Module) -> str:
    """Say what a module is in a ledger, by its class; a user's own class by its name."""
    for classes, role in _ROLES:
        if isinstance(module, classes):
            return role
    name = type(module).__name__.lower()
    return next((role for word, role in _ROLE_WORDS if word in name), "other")


def effect_of(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], results: Sequence[Tensor], fields: Fields
) -> Effect:
    """Say what an operation does.

    Args:
        func: torch's operator.
        args: its positional arguments, the original tensors.
        kwargs: its keyword arguments.
        results: the tensors that it gave.
        fields: by identity, of the tensors that come from the input.
    """
    name = func._schema.name.removeprefix("aten::")
    base = name.removesuffix("_") if not name.startswith("_") else name.strip("_")
    if not results:
        return Effect(kind=base, role="view", field=None)
    call = _Call(base, func, args, kwargs, results[0], fields)
    rule = _RULES.get(base)
    if rule is not None:
        return rule(call)
    if torch.Tag.pointwise in func.tags:
        return _pointwise(call)
    return Effect(
        kind=base, role="other", field=None, note=f"receptive field unknown: striate has no rule for {base}"
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of an operator."""

    kind: str
    func: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Tensor
    fields: Fields

    def get(self, name: str) -> Any:
        """Return an argument by the name in the operator's schema, or its default."""
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if name in self.kwargs:
                    return self.kwargs[name]
                return self.args[position] if position < len(self.args) else argument.default_value
        raise KeyError(name)

    @property
    def inputs(self) -> list[Tensor]:
        """Tensors among the arguments, lists included, that come from the input."""
        found = []
        for value in (*self.args, *self.kwargs.values()):
            for one in value if isinstance(value, list | tuple) else (value,):
                if isinstance(one, Tensor) and id(one) in self.fields:
                    found.append(one)
        return found

    def field(self, tensor: Tensor) -> Field | None:
        return self.fields.get(id(tensor))


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (int(values[0]), int(values[-1]))


def _places(tensor: Tensor) -> tuple[int, int]:
    """Rows and columns of a tensor; 1 x 1 where it has no place in the image."""
    return (tensor.shape[-2], tensor.shape[-1]) if tensor.dim() >= 4 else (1, 1)


def _everything(tensor: Tensor, field: Field | None) -> Field | None:
    """Return the field of something that reads a whole tensor."""
    if field is None:
        return None
    rows, columns = _places(tensor)
    return Field(field.rows.everything(rows), field.columns.everything(columns))


def _slide(source: Tensor, field: Field | None, window: Window) -> Field | None:
    """Return the field of units that each read a window of a tensor."""
    if field is None:
        return None
    rows, columns = (
        axis.reached(units).window(
            window.kernel[i], stride=window.stride[i], padding=window.padding[i], dilation=window.dilation[i]
        )
        for i, (axis, units) in enumerate(zip((field.rows, field.columns), _places(source), strict=True))
    )
    return Field(rows, columns)


def _joined(call: _Call) -> tuple[Field | None, str]:
    """Return the field of units that see the same place of several inputs."""
    inputs = call.inputs
    found = [call.field(tensor) for tensor in inputs]
    if any(field is None for field in found):
        return None, ""
    known = [field for field in found if field is not None]
    places = [_places(tensor) for tensor in inputs]
    rows = join([field.rows for field in known], [place[0] for place in places])
    columns = join([field.columns for field in known], [place[1] for place in places])
    if rows is None or columns is None:
        return None, "receptive field unknown: its inputs lie on different grids"
    return Field(rows, columns), ""


def _pointwise(call: _Call) -> Effect:
    field, note = _joined(call)
    if len(call.inputs) > 1:
        return Effect(kind=call.kind, role="join", field=field, note=note)
    return Effect(kind=call.kind, role="activation", field=field, note=note)


def _convolution(call: _Call) -> Effect:
    source, weight = call.get("input"), call.get("weight")
    if weight.dim() != 4:
        macs = weight.numel() * (call.result.numel() // max(1, call.result.shape[1]))
        note = "receptive field unknown: only 2-d convolutions have a rule"
        return Effect(kind="conv", role="conv", field=None, macs=macs, note=note)
    if call.get("transposed"):
        macs = weight.numel() * (source.numel() // source.shape[1])
        note = "receptive field unknown: a transposed convolution has no single grid"
        return Effect(kind="conv_transpose2d", role="conv", field=None, macs=macs, note=note)
    groups = int(call.get("groups"))
    window = Window(
        kernel=_pair(weight.shape[2:]),
        stride=_pair(call.get("stride")),
        padding=_pair(call.get("padding")),
        dilation=_pair(call.get("dilation")),
        groups=groups,
    )
    taps = weight[0].numel()
    places = call.result.shape[-2] * call.result.shape[-1]
    return Effect(
        kind="conv2d",
        role="conv",
        field=_slide(source, call.field(source), window),
        macs=weight.numel() * places,
        window=window,
        im2col=Im2col(columns=(taps, places), weights=(weight.shape[0] // groups, taps), groups=groups),
    )


def _pool(call: _Call) -> Effect:
    source = call.args[0]
    kernel = _pair(call.get("kernel_size"))
    dilation = _pair(call.get("dilation")) if call.kind.startswith("max") else (1, 1)
    window = Window(
        kernel=kernel,
        stride=_pair(call.get("stride") or kernel),
        padding=_pair(call.get("padding")),
        dilation=dilation,
        ceil_mode=bool(call.get("ceil_mode")),
    )
    kind = "max_pool2d" if call.kind.startswith("max") else "avg_pool2d"
    return Effect(kind=kind, role="pool", field=_slide(source, call.field(source), window), window=window)


def _pool3d(call: _Call) -> Effect:
    """Pooling over channels, as in torch's own local response normalisation."""
    kernel = list(call.get("kernel_size"))
    if kernel[-2:] == [1, 1]:
        return Effect(kind=call.kind, role="norm", field=call.field(call.args[0]))
    return Effect(kind=call.kind, role="pool", field=None, note="receptive field unknown: 3-d pooling")


def _adaptive_pool(call: _Call) -> Effect:
    source, field = call.args[0], call.field(call.args[0])
    sizes, targets = _places(source), _places(call.result)
    kind = "adaptive_pool2d"
    if targets == (1, 1):
        return Effect(kind=kind, role="pool", field=_everything(source, field))
    if sizes[0] % targets[0] or sizes[1] % targets[1]:
        note = f"receptive field unknown: adaptive windows from {sizes} to {targets} differ in size"
        return Effect(kind=kind, role="pool", field=None, note=note)
    step = (sizes[0] // targets[0], sizes[1] // targets[1])
    window = Window(kernel=step, stride=step)
    return Effect(kind=kind, role="pool", field=_slide(source, field, window), window=window)


def _reduction(call: _Call) -> Effect:
    source = call.args[0]
    field = call.field(source)
    dims = call.args[1] if len(call.args) > 1 else None
    listed = range(source.dim()) if dims is None else ([dims] if isinstance(dims, int) else dims)
    reduced = {dim % source.dim() for dim in listed}
    over_rows, over_columns = (source.dim() - 2 in reduced), (source.dim() - 1 in reduced)
    if source.dim() < 4 or not (over_rows or over_columns):
        return Effect(kind=call.kind, role="other", field=field)
    whole = _everything(source, field)
    if field is not None and whole is not None and call.result.dim() == source.dim():
        whole = Field(
            whole.rows if over_rows else field.rows, whole.columns if over_columns else field.columns
        )
    return Effect(kind=call.kind, role="pool", field=whole)


def _normalisation(call: _Call) -> Effect:
    """Batch normalisation: with its running statistics, or with the maps' own (instance normalisation)."""
    source = call.args[0]
    names = {argument.name for argument in call.func._schema.arguments}
    if "training" in names and call.get("training"):
        return _whole_normalisation(call)
    return Effect(kind=call.kind, role="norm", field=call.field(source))


def _whole_normalisation(call: _Call) -> Effect:
    """Normalisation whose statistics are taken over places at test time too (group, layer, instance)."""
    source = call.args[0]
    return Effect(kind=call.kind, role="norm", field=_everything(source, call.field(source)))


def _product(call: _Call) -> Effect:
    found = [(tensor, call.field(tensor)) for tensor in call.inputs]
    wholes = [_everything(tensor, field) for tensor, field in found]
    field = None
    known = [whole for whole in wholes if whole is not None]
    if known and len(known) == len(wholes):
        rows = join([one.rows for one in known], [1] * len(known))
        columns = join([one.columns for one in known], [1] * len(known))
        field = None if rows is None or columns is None else Field(rows, columns)
    factors = [value for value in call.args if isinstance(value, Tensor)][-2:]
    macs = call.result.numel() * factors[0].shape[-1]
    return Effect(kind="linear", role="fc", field=field, macs=macs)


def _pad(call: _Call) -> Effect:
    source, pad = call.args[0], list(call.args[1])
    field = call.field(source)
    if field is not None and source.dim() >= 4:
        rows, columns = _places(source)
        left, top = (pad[0] if pad else 0), (pad[2] if len(pad) > 2 else 0)
        field = Field(
            _shifted(field.rows.reached(rows), -top), _shifted(field.columns.reached(columns), -left)
        )
    return Effect(kind="pad", role="other", field=field)


def _shifted(axis: Axis, units: int) -> Axis:
    return replace(axis, start_px=axis.start_px + units * (axis.jump_px or 0))


def _slice(call: _Call) -> Effect:
    source = call.args[0]
    field = call.field(source)
    dim = int(call.get("dim")) % source.dim()
    if field is None or source.dim() < 4 or dim < source.dim() - 2:
        return Effect(kind="slice", role="view", field=field)
    size = source.shape[dim]
    start = call.get("start") or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    step = int(call.get("step"))

    def cut(axis: Axis) -> Axis:
        moved = _shifted(axis, start)
        return replace(moved, jump_px=None if moved.jump_px is None else moved.jump_px * step)

    if dim == source.dim() - 2:
        field = Field(cut(field.rows), field.columns)
    else:
        field = Field(field.rows, cut(field.columns))
    return Effect(kind="slice", role="view", field=field)


def _concatenation(call: _Call) -> Effect:
    tensors = call.inputs
    dim = int(call.get("dim")) % call.result.dim()
    field, note = _joined(call)
    if call.result.dim() >= 4 and dim >= call.result.dim() - 2:
        field, note = None, "receptive field unknown: maps side by side"
    elif len(tensors) < 1:
        field = None
    return Effect(kind="cat", role="join", field=field, note=note)


def _view(call: _Call) -> Effect:
    source, result = call.args[0], call.result
    field = call.field(source)
    if _places(source) == _places(result) and (source.dim() >= 4) == (result.dim() >= 4):
        kept = field
    elif source.dim() >= 4 and result.dim() < 4:
        kept = _everything(source, field) if _places(source) != (1, 1) else field
    elif source.dim() < 4 and _places(result) == (1, 1):
        kept = field
    else:
        note = "receptive field unknown: values change places"
        return Effect(kind=call.kind, role="view", field=None, note=note)
    return Effect(kind=call.kind, role="view", field=kept)


def _expansion(call: _Call) -> Effect:
    """One unit shown at many places, as where squeeze-and-excite weighs maps."""
    source, field = call.args[0], call.field(call.args[0])
    if field is None or source.dim() < 4 or _places(source) == _places(call.result):
        return _view(call)
    (rows, columns), (height, width) = _places(source), _places(call.result)
    field = Field(
        field.rows.everything(rows) if rows != height else field.rows,
        field.columns.everything(columns) if columns != width else field.columns,
    )
    return Effect(kind=call.kind, role="view", field=field)


def _permutation(call: _Call) -> Effect:
    source = call.args[0]
    field, count = call.field(source), source.dim()
    order = list(range(count))
    if call.kind == "permute":
        order = [dim % count for dim in call.args[1]]
    elif call.kind == "transpose":
        a, b = int(call.args[1]) % count, int(call.args[2]) % count
        order[a], order[b] = order[b], order[a]
    if field is None or count < 4 or order[-2:] == [count - 2, count - 1]:
        return Effect(kind=call.kind, role="view", field=field)
    if sorted(order[-2:]) == [count - 2, count - 1]:
        return Effect(kind=call.kind, role="view", field=Field(field.columns, field.rows))
    note = "receptive field unknown: the image's axes are moved"
    return Effect(kind=call.kind, role="view", field=None, note=note)


def _softmax(call: _Call) -> Effect:
    source = call.args[0]
    field = call.field(source)
    dim = int(call.args[1]) % source.dim()
    if source.dim() >= 4 and dim >= source.dim() - 2:
        field = _everything(source, field)
    return Effect(kind="softmax", role="activation", field=field)


def _channel_reader(call: _Call) -> Effect:
    """An operation along the channels of one tensor."""
    return Effect(kind=call.kind, role="other", field=call.field(call.args[0]))


_RULES: dict[str, Callable[[_Call], Effect]] = {
    "convolution": _convolution,
    "conv2d": _convolution,
    "max_pool2d_with_indices": _pool,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "avg_pool3d": _pool3d,
    "adaptive_avg_pool2d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool,
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "var_mean", "linalg_vector_norm"), _reduction),
    **dict.fromkeys(
        (
            "native_batch_norm",
            "native_batch_norm_legit_no_training",
            "native_batch_norm_legit",
            "batch_norm_with_update",
            "cudnn_batch_norm",
        ),
        _normalisation,
    ),
    **dict.fromkeys(("native_group_norm", "native_layer_norm"), _whole_normalisation),
    **dict.fromkeys(("addmm", "mm", "bmm", "baddbmm", "matmul", "linear", "addmv", "mv", "dot"), _product),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "pad"), _pad),
    "slice": _slice,
    "narrow": _slice,
    "cat": _concatenation,
    **dict.fromkeys(
        (
            "view",
            "_unsafe_view",
            "unsafe_view",
            "reshape",
            "reshape_alias",
            "flatten",
            "unsqueeze",
            "squeeze",
            "select",
            "split",
            "split_with_sizes",
            "chunk",
            "clone",
            "contiguous",
            "to_copy",
            "detach",
            "alias",
            "copy",
        ),
        _view,
    ),
    "expand": _expansion,
    **dict.fromkeys(("permute", "transpose", "t", "numpy_T"), _permutation),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "cumsum": _channel_reader,
}
