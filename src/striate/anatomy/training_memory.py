"""How much memory a training step takes, predicted on shapes alone.

One step of ``fit.loop`` runs on tensors that have sizes and no values: forward, loss, backward. A ledger
follows every piece of memory; the largest sum is the peak.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from striate.anatomy.storages import Phase, StorageLedger, row_names
from striate.core.choices import OptimizerName, Precision
from striate.core.compute import autocast_dtype
from striate.core.errors import InputSizeError, StriateError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """What is in memory at the fullest moment of a training step, in bytes.

    The parts (``parameters`` to ``temporary``) add up to ``peak``.

    Attributes:
        batch_images: images in the step.
        precision: of the forward and backward pass; weights, gradients and optimizer state are float32.
        optimizer: name of the update rule.
        parameters: weights and biases, frozen ones too.
        buffers: what the network keeps besides, such as the statistics of batch normalisation.
        batch: images and labels.
        gradients: of the parameters, as far as they are there at the peak: none in the forward pass.
        optimizer_state: velocities (SGD) or first and second moments (AdamW).
        activations: what the forward pass keeps for the backward pass, as far as it is there at the peak.
        temporary: everything else at the peak: gradients of activations, what an operation makes and the
            backward pass does not need, its copies in another layout (``scratch``).
        kept_activations: all that the forward pass keeps for the backward pass; not a part of the sum.
        peak_row: the row of ``trace`` whose computation made the peak; ``loss`` behind the network.
        peak_phase: ``forward`` (with the loss) or ``backward``. The update never is: it works in place, on
            what the end of the backward pass holds.
    """

    batch_images: int
    precision: Precision
    optimizer: OptimizerName
    parameters: int
    buffers: int
    batch: int
    gradients: int
    optimizer_state: int
    activations: int
    temporary: int
    kept_activations: int
    peak_row: str
    peak_phase: Phase

    @property
    def parts(self) -> dict[str, int]:
        """Bytes at the fullest moment by what they hold, in words for a table."""
        return {
            "parameters": self.parameters,
            "buffers": self.buffers,
            "images and labels": self.batch,
            "gradients": self.gradients,
            "optimizer state": self.optimizer_state,
            "activations kept for the backward pass": self.activations,
            "temporary": self.temporary,
        }

    @property
    def peak(self) -> int:
        """Bytes at the fullest moment."""
        return sum(self.parts.values())


def training_memory(
    net: nn.Module,
    input_shape: tuple[int, int, int] | None = None,
    *,
    batch_images: int,
    precision: Precision = "fp32",
    optimizer: OptimizerName = "sgd",
) -> TrainingMemory:
    """Predict the peak memory of training a network on a CPU, without running it on numbers.

    The step is that of ``striate train`` without ``torch.compile``: ``channels_last`` weights and images,
    autocast for bf16, cross-entropy of each output, fused update, gradients freed behind it. It is the second
    step of a training, where the optimizer's state exists.
    Outside of the count: the Python process with torch's code, and images that are decoded for later steps.

    Args:
        net: the network; on any device, also ``meta``. Its weights are not copied, and it is left as it was.
        input_shape: channels, height and width in pixels; None takes ``net.input_shape``.
        batch_images: images in a step, at least 1.
        precision: ``fp32`` or ``bf16``.
        optimizer: ``sgd``, ``nesterov`` or ``krizhevsky`` (with momentum: one velocity a parameter), or
            ``adamw`` (two moments a parameter).

    Returns:
        The bytes at the peak, by what they hold, and where the peak is.

    Raises:
        UsageError: no input shape known, a value out of range, no scores to train on, or the network needs
            the values of its activations.
        InputSizeError: the network does not take images of that size.
    """
    input_shape = _checked(net, input_shape, batch_images, precision, optimizer)
    ledger = StorageLedger()
    shapes_alone = FakeTensorMode(allow_fallback_kernels=False, allow_non_fake_inputs=True)
    with _in_training(net), shapes_alone:
        try:
            state = _State(net, optimizer)
            kept_at = _take_step(net, state, input_shape, batch_images, precision, ledger)
        except (InputSizeError, UsageError):
            raise
        except (
            StriateError,
            NotImplementedError,
            RuntimeError,
            TypeError,
            ValueError,
            AttributeError,
            IndexError,
        ) as error:
            size = "x".join(map(str, input_shape))
            raise UsageError(
                f"{type(net).__name__} can't be trained on shapes alone with batches of {batch_images} at"
                f" {size}: {_first_line(error)}; give another size of input or batch, or a network whose code"
                " does not depend on values"
            ) from None
    return _summary(ledger, kept_at, batch_images, precision, optimizer)


def largest_batch(
    net: nn.Module,
    input_shape: tuple[int, int, int] | None = None,
    *,
    budget_bytes: int,
    precision: Precision = "fp32",
    optimizer: OptimizerName = "sgd",
) -> int:
    """Find the largest batch whose predicted peak fits.

    The peak is nearly an affine function of the batch, so that a few predictions enclose the answer.

    Args:
        net: as ``training_memory``.
        input_shape: as ``training_memory``.
        budget_bytes: memory for the training step, above 0.
        precision: as ``training_memory``.
        optimizer: as ``training_memory``.

    Returns:
        The number of images; 0 where not even one fits.

    Raises:
        UsageError: as ``training_memory``; or the budget is not above 0.
        InputSizeError: as ``training_memory``.
    """
    if budget_bytes <= 0:
        raise UsageError(f"expected a memory budget above 0 bytes, got {budget_bytes}: such as 8GB")

    def spare(batch_images: int) -> int:
        memory = training_memory(
            net, input_shape, batch_images=batch_images, precision=precision, optimizer=optimizer
        )
        return budget_bytes - memory.peak

    low, high = 2, 16  # not 1: batch normalisation refuses to train on a single value
    low_spare = spare(low)
    if low_spare < 0:
        try:
            return int(spare(1) >= 0)
        except UsageError:
            return 0
    high_spare = spare(high)
    while high_spare >= 0:
        beyond = max(high, _where_spent(low, low_spare, high, high_spare)) + 1
        low, low_spare, high, high_spare = high, high_spare, beyond, spare(beyond)
    probes = 0
    while high - low > 1:
        # The line through both ends is nearly always right; halving now and then is certain to end.
        probes += 1
        guess = _where_spent(low, low_spare, high, high_spare) if probes % 3 else (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        guess_spare = spare(guess)
        if guess_spare >= 0:
            low, low_spare = guess, guess_spare
        else:
            high, high_spare = guess, guess_spare
    return low


def _where_spent(low: int, low_spare: int, high: int, high_spare: int) -> int:
    """Return the last batch with something to spare, on the line through two points."""
    return low + low_spare * (high - low) // max(1, low_spare - high_spare)


_PREFIXES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_PREFIXES |= {"KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def parse_bytes(text: str) -> int:
    """Read an amount of memory, such as ``8GB`` (8,000,000,000 bytes) or ``8GiB`` (8,589,934,592).

    Raises:
        UsageError: not an amount.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *((?:[KMGT]I?)?)B", text.strip().upper(), re.ASCII)
    amount = int(float(found[1]) * _PREFIXES[found[2]]) if found else 0
    if amount == 0:
        raise UsageError(f"expected an amount of memory such as 8GB, 500MB or 7.5GiB, got {text!r}")
    return amount


def _checked(
    net: nn.Module,
    input_shape: tuple[int, int, int] | None,
    batch_images: int,
    precision: Precision,
    optimizer: OptimizerName,
) -> tuple[int, int, int]:
    if input_shape is None:
        input_shape = getattr(net, "input_shape", None)
    if input_shape is None:
        raise UsageError("expected the size of the input, got none: give it, such as (3, 224, 224)")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise UsageError(f"expected an input of channels, height and width, got {tuple(input_shape)}")
    if batch_images < 1:
        raise UsageError(f"expected a batch of at least 1 image, got {batch_images}")
    choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("a precision", precision, get_args(Precision)),
        ("an optimizer", optimizer, get_args(OptimizerName)),
    )
    for what, word, accepted in choices:
        if word not in accepted:
            raise UsageError(f"expected {what} out of {', '.join(accepted)}; got {word!r}")
    return input_shape


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).splitlines() or [type(error).__name__])[0].split())


@contextmanager
def _in_training(net: nn.Module) -> Iterator[None]:
    """Put a network in training mode for a while; afterwards its modules' attributes are what they were."""
    before = [(module, dict(vars(module))) for module in net.modules()]
    net.train()
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


class _State:
    """What is in memory between two steps; to be made on shapes alone."""

    def __init__(self, net: nn.Module, optimizer: OptimizerName) -> None:
        self.parameters = {
            name: _like(tensor).requires_grad_(tensor.requires_grad)
            for name, tensor in net.named_parameters()
        }
        self.buffers = {name: _like(tensor) for name, tensor in net.named_buffers()}
        self.trainable = [tensor for tensor in self.parameters.values() if tensor.requires_grad]
        if not self.trainable:
            raise UsageError(
                f"expected a network with trainable parameters, got {type(net).__name__} without any: set"
                " requires_grad of what is to learn"
            )
        copies = 2 if optimizer == "adamw" else 1
        self.optimizer_state = [torch.empty_like(tensor) for tensor in self.trainable for _ in range(copies)]
        if optimizer == "adamw":
            self.optimizer_state += [torch.empty(()) for _ in self.trainable]  # counts of steps

    def enter_in(self, ledger: StorageLedger) -> None:
        """Write it down, by what it is."""
        for kind, tensors in (
            ("parameters", self.parameters.values()),
            ("buffers", self.buffers.values()),
            ("optimizer_state", self.optimizer_state),
        ):
            for tensor in tensors:
                ledger.add(tensor, kind)


def _like(tensor: Tensor) -> Tensor:
    """Make a stand-in of the same shape and type, ``channels_last`` where the loop makes it so."""
    stand_in = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    return stand_in.to(memory_format=torch.channels_last) if tensor.dim() == 4 else stand_in


def _take_step(
    net: nn.Module,
    state: _State,
    input_shape: tuple[int, int, int],
    batch_images: int,
    precision: Precision,
    ledger: StorageLedger,
) -> int:
    """Take a step in the order of ``fit.loop``; return the ledger's time at the end of the forward pass.

    The update is left out: it is fused, works in place, and comes when the activations have gone.
    """
    state.enter_in(ledger)
    images = torch.empty(batch_images, *input_shape).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch_images, dtype=torch.int64)
    ledger.add(images, "batch")
    ledger.add(labels, "batch")
    with ledger:
        loss = _loss(net, state, images, labels, precision, ledger)
        kept_at = ledger.mark()
        ledger.phase = "backward"
        loss.backward()
        for tensor in state.trainable:
            if tensor.grad is not None:
                ledger.add(tensor.grad, "gradients")
    return kept_at


def _loss(
    net: nn.Module,
    state: _State,
    images: Tensor,
    labels: Tensor,
    precision: Precision,
    ledger: StorageLedger,
) -> Tensor:
    dtype = autocast_dtype(precision)
    with (
        torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None),
        row_names(net, ledger),
    ):
        outputs = torch.func.functional_call(net, {**state.parameters, **state.buffers}, (images,))
    ledger.row = "loss"
    scores = [
        tensor
        for tensor in tree_leaves(outputs)
        if isinstance(tensor, Tensor) and tensor.requires_grad and tensor.dim() >= 2
    ]
    if not scores:
        raise UsageError(
            f"expected a network that returns scores, N x K, to train on; got none from {type(net).__name__}"
        )
    total = torch.zeros(())
    for tensor in scores:
        places = tensor.shape[2:]
        labels_there = labels.reshape(-1, *(1 for _ in places)).expand(-1, *places)
        total = total + functional.cross_entropy(tensor.float(), labels_there)
    return total


def _summary(
    ledger: StorageLedger, kept_at: int, batch_images: int, precision: Precision, optimizer: OptimizerName
) -> TrainingMemory:
    sums: dict[str, int] = {}
    kept = 0
    for storage in ledger.storages:
        is_kept = not storage.kind and storage.lives_at(kept_at)
        kept += storage.size if is_kept else 0
        if storage.lives_at(ledger.peak.time):
            kind = storage.kind or ("activations" if is_kept else "temporary")
            sums[kind] = sums.get(kind, 0) + storage.size
    return TrainingMemory(
        batch_images=batch_images,
        precision=precision,
        optimizer=optimizer,
        parameters=sums.get("parameters", 0),
        buffers=sums.get("buffers", 0),
        batch=sums.get("batch", 0),
        gradients=sums.get("gradients", 0),
        optimizer_state=sums.get("optimizer_state", 0),
        activations=sums.get("activations", 0),
        temporary=sums.get("temporary", 0) + ledger.peak.scratch,
        kept_activations=kept,
        peak_row=ledger.peak.row,
        peak_phase=ledger.peak.phase,
    )
