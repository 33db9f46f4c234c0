"""The learned soup: mixing coefficients and a temperature found by gradient on held-out images."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from striate.blend.average import State, average_states, mix_states, refuse_other_tensors, state_digest
from striate.core.errors import NonFiniteLossError, UsageError
from striate.core.progress import Progress, silent
from striate.data.batch import Batch


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSoup:
    """A learned soup.

    Attributes:
        state: the mixture, not finished: batch-norm statistics are those of the mixture.
        coefficients: one number for each ingredient; with ``by_layer`` the mean over the layers, weighted by
            their numbers of parameters.
        layers: one number for each ingredient, by layer; empty without ``by_layer``.
        temperature: what logits are to be divided by, above 0 (the paper's beta is its inverse).
        losses: mean loss in nats of each epoch, while it was learning.
    """

    state: dict[str, Tensor]
    coefficients: tuple[float, ...]
    layers: dict[str, tuple[float, ...]]
    temperature: float
    losses: tuple[float, ...]


def learned_soup(
    net: nn.Module,
    states: Sequence[State],
    batches: Callable[[int], Iterable[Batch]],
    *,
    by_layer: bool = False,
    free: bool = False,
    epochs: int = 3,
    lr: float = 0.1,
    device: str | torch.device = "cpu",
    progress: Progress = silent,
) -> LearnedSoup:
    """Learn how much of each network goes into the mixture.

    All networks are in memory at once, and each step mixes all their parameters: it costs about the
    networks' parameters on top of a forward and a backward pass. Dropout is off. Batch norm uses each
    batch's own statistics while learning, as the mixture's running ones are wrong. Everything starts from
    equal shares and a temperature of 1, so only the order of the batches, which the caller gives, is random.

    Args:
        net: a network of the ingredients' architecture, on ``device``; it is left unchanged.
        states: at least one; any order gives the same coefficients.
        batches: maps the epoch, from 0, to held-out batches (not the test images).
        by_layer: one set of coefficients for each layer instead of one for the network.
        free: coefficients may be any numbers; by default they are a softmax, above 0 with sum 1.
        epochs: passes over the held-out images, at least 1.
        lr: of AdamW, constant, above 0.
        device: where the network is.
        progress: listener; counts epochs, as stage ``"learning"``.

    Returns:
        The mixture with its coefficients.

    Raises:
        UsageError: no ingredients, or a setting out of range.
        BundleError: the ingredients' tensors differ in name or shape.
        NonFiniteLossError: the loss is NaN or infinite.

    Paper: Wortsman et al. 2022, "Model soups", appendix I (section, epochs and rate quoted from memory):
        cross-entropy of ``beta f(x, sum_i alpha_i theta_i)``, alpha through a softmax, three epochs of AdamW
        at a constant rate of 0.1; also by layer.
    Departures: no weight decay, which would pull towards equal shares; the temperature is learned as a
        logarithm, so that it stays above 0; batch norm as said above (the paper's networks have none).
    """
    if not states or epochs < 1 or not 0 < lr < math.inf:
        raise UsageError(
            f"expected at least one ingredient, one epoch and a learning rate above 0, got {len(states)},"
            f" {epochs} and {lr}"
        )
    refuse_other_tensors(states, [f"network {i + 1}" for i in range(len(states))])
    order = sorted(range(len(states)), key=lambda i: state_digest(states[i]))
    device = torch.device(device)
    trained = [name for name, _ in net.named_parameters()]
    stacked = {
        name: torch.stack([states[i][name].detach().to(device, torch.float32) for i in order])
        for name in trained
    }
    own = net.state_dict()
    fixed = {
        name: tensor.to(device, own[name].dtype)
        for name, tensor in average_states(states).items()
        if name not in stacked
    }
    layers = sorted({_layer(name) for name in trained}) if by_layer else [""]
    row_of = {name: layers.index(_layer(name)) if by_layer else 0 for name in trained}
    start = torch.full((len(layers), len(states)), 1 / len(states) if free else 0.0, device=device)
    weights = start.requires_grad_()
    log_beta = torch.zeros((), device=device, requires_grad=True)
    optimizer = torch.optim.AdamW([weights, log_beta], lr=lr, weight_decay=0.0)
    losses = []
    modes = [(module, module.training) for module in net.modules()]
    momenta = {m: m.momentum for m in net.modules() if isinstance(m, _BatchNorm)}
    try:
        net.eval()
        for norm in momenta:
            norm.train()
            norm.momentum = 0.0
        for epoch in range(epochs):
            total, num_images = 0.0, 0
            for batch in batches(epoch):
                shares = weights if free else weights.softmax(1)
                mixed = {
                    name: torch.tensordot(shares[row_of[name]], stack, 1) for name, stack in stacked.items()
                }
                buffers = {name: tensor.clone() for name, tensor in fixed.items()}
                logits = functional_call(net, {**mixed, **buffers}, (batch.images.to(device),))
                loss = _loss(logits.float() * log_beta.exp(), batch.labels.to(device))
                if not bool(torch.isfinite(loss)):
                    raise NonFiniteLossError(
                        "expected a finite loss of the mixed network, got NaN or infinity: lower the"
                        " learning rate of the soup, or mix networks that share a parent"
                    )
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(batch.images)
                num_images += len(batch.images)
            losses.append(total / max(1, num_images))
            progress("learning", epoch + 1, epochs)
    finally:
        for module, training in modes:
            module.training = training
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    with torch.no_grad():
        shares = (weights if free else weights.double().softmax(1)).cpu().double()
    back = [order.index(i) for i in range(len(states))]
    rows = [tuple(row) for row in shares[:, back].tolist()]
    sizes = [
        sum(stacked[name][0].numel() for name in trained if row_of[name] == k) for k in range(len(layers))
    ]
    overall = tuple(
        math.fsum(row[i] * size for row, size in zip(rows, sizes, strict=True)) / sum(sizes)
        for i in range(len(states))
    )
    index_of = {layer: k for k, layer in enumerate(layers)}

    def coefficients(name: str) -> Sequence[float]:
        if not by_layer:
            return rows[0]
        return rows[index_of[_layer(name)]] if _layer(name) in index_of else overall

    return LearnedSoup(
        state=mix_states(states, coefficients),
        coefficients=rows[0] if not by_layer else overall,
        layers=dict(zip(layers, rows, strict=True)) if by_layer else {},
        temperature=math.exp(-float(log_beta.detach())),
        losses=tuple(losses),
    )


def _layer(name: str) -> str:
    """Return the layer that a tensor belongs to: its name without the last part."""
    return name.rpartition(".")[0] or name


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        return functional.binary_cross_entropy_with_logits(logits, labels)
    return functional.cross_entropy(logits, labels)
