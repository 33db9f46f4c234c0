"""Reading a network: run it once on shapes alone and write down what happens.

The network runs in eval mode on torch's meta device, where tensors have sizes and no values. A dispatch mode
sees every operation, also functional ones, whatever the Python code around them; hooks on the modules say
whose operation it is. Weights stay where they are and are never copied.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from striate.anatomy.field import PIXELS, Field
from striate.anatomy.layer import Layer
from striate.anatomy.operations import Effect, effect_of, role_of_module
from striate.anatomy.record import Anatomy
from striate.core.errors import InputSizeError, StriateError, UsageError
from striate.core.shapes import on_meta


def trace(net: nn.Module, input_shape: tuple[int, int, int] | None = None, *, name: str = "") -> Anatomy:
    """Read a network layer by layer, without running it on numbers.

    Works for any module whose Python code does not depend on the values of its activations: functional calls,
    reused modules, branches, several outputs. Modules without children are one row each; operations outside
    of them are rows of their own. The network is left as it was: mode, hooks, weights.

    Args:
        net: the network; on any device, also ``meta``.
        input_shape: channels, height and width in pixels; None takes ``net.input_shape``.
        name: for headings; default ``net.name`` or the class.

    Returns:
        The rows, in the order of computation, for one image.

    Raises:
        UsageError: no input shape known, or the network needs the values of its activations.
        InputSizeError: the network does not take images of that size.
    """
    if input_shape is None:
        input_shape = getattr(net, "input_shape", None)
    if input_shape is None:
        raise UsageError("expected the size of the input, got none: give it, such as (3, 224, 224)")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(f"expected an input of channels, height and width, got {tuple(input_shape)}")
    recorder = _Recorder(net)
    with _eval_mode(net), recorder.hooks(), torch.no_grad(), torch.device("meta"):
        images = torch.empty(1, *input_shape)
        recorder.begin(images)
        try:
            with recorder:
                outputs = net(images)
        except (StriateError, NotImplementedError) as error:
            if isinstance(error, InputSizeError | UsageError):
                raise
            raise UsageError(
                f"{_title(net, name)} can't be read on shapes alone: {_first_line(error)}"
            ) from None
        except (
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
            LookupError,
            ArithmeticError,
            AssertionError,
        ) as error:
            size = "x".join(map(str, input_shape))
            raise UsageError(
                f"{_title(net, name)} can't be read at {size}: {_first_line(error)};"
                " give another `input_shape`, or a network whose code does not depend on values"
            ) from None
    channels, height, width = input_shape
    return recorder.finish(_title(net, name), (channels, height, width), outputs)


def follow(net: nn.Module, images: Tensor, watch: Callable[[str, Tensor], None]) -> None:
    """Run a network on numbers and hand out what each row of ``trace`` gives, as soon as it is there.

    The network runs in eval mode, without gradients, and is left as it was.

    Args:
        net: the network, on the CPU.
        images: ``N x C x H x W``, of a size that ``trace`` takes.
        watch: is called with a row's name and its output, ``N x ...``, once for each row, first with
            ``"input"``. What it computes is not recorded. It may raise an exception to stop the network;
            ``follow`` passes it on.
    """
    follower = _Follower(net, watch)
    with _eval_mode(net), follower.hooks(), torch.no_grad(), follower:
        follower.begin(images)
        net(images)


def _title(net: nn.Module, name: str) -> str:
    own = getattr(net, "name", "")
    return name or (own if isinstance(own, str) else "") or type(net).__name__


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).splitlines() or [type(error).__name__])[0].split())


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in a value, in order; torch's own way is slow for the plain kinds."""
    if isinstance(value, Tensor):
        return [value]
    kind = type(value)
    if kind is tuple or kind is list:
        return [tensor for one in value for tensor in _tensors(one)]
    if value is None or kind in (int, bool, float, str):
        return []
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


@contextmanager
def _eval_mode(net: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class _Row:
    """A row while it is being recorded."""

    def __init__(self, name: str, kind: str, role: str) -> None:
        self.name, self.kind, self.role = name, kind, role
        self.inputs: dict[str, None] = {}
        self.parameters: list[Tensor] = []
        self.output: tuple[int, ...] = ()
        self.field: Field | None = None
        self.effects: list[Effect] = []
        self.macs_per_position: int | None = None


def _macs(row: _Row, products: list[Effect]) -> int:
    """Add up a row; a module that says so counts fewer multiplications than its dense kernel makes."""
    if row.macs_per_position is not None and len(products) == 1:
        assert products[0].im2col is not None
        return row.macs_per_position * products[0].im2col.columns[1]
    return sum(effect.macs for effect in row.effects)


class _Recorder(TorchDispatchMode):
    """Follows every tensor from the input: which row made it, and what its units see."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler, most of a second: nothing is compiled under this mode."""
        return False

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.rows: list[_Row] = []
        self.names: dict[str, int] = {}
        self.stack: list[tuple[nn.Module, str]] = []
        self.leaf: _Row | None = None
        self.leaf_module: nn.Module | None = None
        # By identity; the tensors are kept so that no identity is used twice.
        self.made_by: dict[int, _Row] = {}
        self.fields: dict[int, Field | None] = {}
        self.kept: list[Any] = []
        self.copies: dict[int, Tensor] = {}
        self.bias_ids = {
            id(parameter)
            for key, parameter in net.named_parameters(remove_duplicate=False)
            if key.rpartition(".")[2] == "bias"
        }
        # A weight, and whatever is made of weights alone (a transposed one, a dense kernel), by identity.
        self.stands_for: dict[int, list[Tensor]] = {
            id(parameter): [parameter] for parameter in net.parameters()
        }

    def begin(self, images: Tensor) -> None:
        row = self._new_row("input", "Input", "input")
        row.output = tuple(images.shape[1:])
        row.field = PIXELS
        self._remember(images, row, PIXELS)

    @contextmanager
    def hooks(self) -> Iterator[None]:
        handles = []
        try:
            for path, module in self.net.named_modules():
                handles.append(module.register_forward_pre_hook(self._enter(path), prepend=True))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self.stack.append((module, path))
            if self.leaf is None and path and not any(True for _ in module.children()):
                self.leaf = self._new_row(path, type(module).__name__, role_of_module(module))
                self.leaf_module = module
                own = getattr(module, "macs_per_position", None)
                self.leaf.macs_per_position = own if isinstance(own, int) else None
                for tensor in _tensors(inputs):
                    if id(tensor) in self.made_by:
                        self.leaf.inputs[self.made_by[id(tensor)].name] = None

        return enter

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        self.stack.pop()
        if module is not self.leaf_module or self.leaf is None:
            return
        row, self.leaf, self.leaf_module = self.leaf, None, None
        tensors = _tensors(outputs)
        if tensors:
            row.output = tuple(tensors[0].shape[1:])
            row.field = self.fields.get(id(tensors[0]))
        if not row.effects and row.role == "other":
            row.role = "view"
        for tensor in tensors:
            self.made_by[id(tensor)] = row

    def _new_row(self, name: str, kind: str, role: str) -> _Row:
        self.names[name] = number = self.names.get(name, 0) + 1
        row = _Row(name if number == 1 else f"{name}#{number}", kind, role)
        self.rows.append(row)
        return row

    def _remember(self, tensor: Tensor, row: _Row, field: Field | None) -> None:
        self.kept.append(tensor)
        self.made_by[id(tensor)] = row
        self.fields[id(tensor)] = field

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Carry an operation out, on sizes."""
        return on_meta(func, args, kwargs)

    def _on_meta(self, value: Any) -> Any:
        """Stand in for a tensor that has values by one that has sizes only."""
        if not isinstance(value, Tensor) or value.device.type == "meta":
            return value
        if id(value) not in self.copies:
            self.kept.append(value)
            self.copies[id(value)] = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
        return self.copies[id(value)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on shapes and write it down."""
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("meta")
        inputs = _tensors((tuple(args), kwargs))
        if all(tensor.device.type == "meta" for tensor in inputs):
            outputs = self._run(func, tuple(args), kwargs)
        else:
            outputs = self._run(func, tree_map(self._on_meta, tuple(args)), tree_map(self._on_meta, kwargs))
        results = _tensors(outputs)
        parameters = [owned for tensor in inputs for owned in self.stands_for.get(id(tensor), ())]
        followed = [tensor for tensor in inputs if id(tensor) in self.made_by]
        if self.leaf is not None:
            self.leaf.parameters += parameters
        if not followed:  # weights are being prepared: what comes out stands for them
            for result in results:
                self.kept.append(result)
                self.stands_for[id(result)] = parameters
            return outputs
        effect = effect_of(func, args, kwargs, results, self.fields)
        row = self.leaf
        if row is None:
            if effect.role == "view":
                for result in results:
                    self._remember(result, self.made_by[id(followed[0])], effect.field)
                return outputs
            path = self.stack[-1][1] if self.stack else ""
            row = self._new_row(f"{path}.{effect.kind}" if path else effect.kind, effect.kind, effect.role)
            row.output = tuple(results[0].shape[1:]) if results else ()
            row.field = effect.field
            row.parameters += parameters
        for tensor in followed:
            source = self.made_by[id(tensor)]
            if source is not row:
                row.inputs[source.name] = None
        row.effects.append(effect)
        for result in results:
            self._remember(result, row, effect.field)
        return outputs

    def _kernel_notes(self, row: _Row, product: Effect) -> list[str]:
        """Say where a kernel has more values than weights, as in LeNet-5's C3 with its missing links."""
        im2col = product.im2col
        assert im2col is not None
        values = im2col.weights[0] * im2col.weights[1] * im2col.groups
        own = {id(parameter): parameter for parameter in row.parameters}
        weights = sum(parameter.numel() for key, parameter in own.items() if key not in self.bias_ids)
        if not 0 < weights < values:
            return []
        counted = "the weights" if row.macs_per_position is not None else "all values"
        return [f"the kernel has {values:,} values made of {weights:,} weights; MACs are for {counted}"]

    def finish(self, name: str, input_shape: tuple[int, int, int], outputs: Any) -> Anatomy:
        """Make the record."""
        counted: set[int] = set()
        layers = []
        for row in self.rows:
            weights = biases = 0
            for parameter in row.parameters:
                if id(parameter) in counted or not parameter.requires_grad:
                    continue
                counted.add(id(parameter))
                if id(parameter) in self.bias_ids:
                    biases += parameter.numel()
                else:
                    weights += parameter.numel()
            windows = [effect for effect in row.effects if effect.window is not None]
            products = [effect for effect in row.effects if effect.im2col is not None]
            notes = dict.fromkeys(effect.note for effect in row.effects if effect.note)
            if len(products) == 1:
                notes |= dict.fromkeys(self._kernel_notes(row, products[0]))
            layers.append(
                Layer(
                    name=row.name,
                    kind=row.kind,
                    role=row.role,
                    inputs=tuple(row.inputs),
                    output=row.output,
                    weights=weights,
                    biases=biases,
                    macs=_macs(row, products),
                    field=row.field,
                    window=windows[0].window if len(windows) == 1 else None,
                    im2col=products[0].im2col if len(products) == 1 else None,
                    note="; ".join(notes),
                )
            )
        made = [self.made_by.get(id(tensor)) for tensor in _tensors(outputs)]
        return Anatomy(
            name=name,
            input_shape=input_shape,
            layers=tuple(layers),
            outputs=tuple(dict.fromkeys(row.name for row in made if row is not None)),
            idle_parameters=sum(
                parameter.numel()
                for parameter in self.net.parameters()
                if parameter.requires_grad and id(parameter) not in counted
            ),
        )


class _Follower(_Recorder):
    """The recorder on numbers: hands out what each row gives, when it is made."""

    def __init__(self, net: nn.Module, watch: Callable[[str, Tensor], None]) -> None:
        super().__init__(net)
        self.watch = watch
        self.watched: set[str] = set()

    def _on_meta(self, value: Any) -> Any:
        return value

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation on values, wherever its code wants it to run, and write it down."""
        here = {key: value for key, value in (kwargs or {}).items() if key != "device"}
        return super().__torch_dispatch__(func, types, args, here)

    def _remember(self, tensor: Tensor, row: _Row, field: Field | None) -> None:
        super()._remember(tensor, row, field)
        if self.leaf is None:
            self._hand_out(row.name, tensor)

    def _leave(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
        row = self.leaf if module is self.leaf_module else None
        super()._leave(module, inputs, outputs)
        tensors = _tensors(outputs)
        if row is not None and tensors:
            self._hand_out(row.name, tensors[0])

    def _hand_out(self, name: str, tensor: Tensor) -> None:
        if name not in self.watched:
            self.watched.add(name)
            with _disable_current_modes():
                self.watch(name, tensor)
