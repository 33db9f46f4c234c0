"""From a bundle on disk to a network in memory."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from striate.core.errors import BundleError
from striate.core.finite import first_non_finite
from striate.nets import build
from striate.weights.bundle import Bundle, fill_network, load_bundle


def open_bundle(path: str | Path) -> tuple[nn.Module, Bundle]:
    """Load a trained network from a bundle (or a run folder), in eval mode on the CPU.

    Raises:
        BundleError: the file is damaged or names a network that is not there.
    """
    bundle = load_bundle(Path(path))
    if bundle.net.endswith(".net"):  # a path: a bundle holds a name, or the network's text
        raise BundleError(f"{path}: expected the name or text of its network, got a path: a damaged bundle")
    with torch.random.fork_rng(devices=[]):
        net = build(bundle.net, num_classes=len(bundle.classes), **bundle.net_arguments)
    fill_network(net, bundle.state, str(path))
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval(), bundle


def refuse_not_finite(bundles: Iterable[tuple[str | Path, Bundle]]) -> None:
    """Refuse networks that have diverged, by name: where several are read, an answer of NaN names none.

    Args:
        bundles: each with its path.

    Raises:
        BundleError: a weight is NaN or infinite.
    """
    for path, bundle in bundles:
        if name := first_non_finite(bundle.state):
            raise BundleError(
                f"{path}: expected finite weights, got NaN or infinity in {name}: the network has diverged,"
                " so leave it out or train it again with a lower learning rate"
            )


def about_int8(bundle: Bundle) -> str:
    """Say of a quantized bundle how it was tested by all that is not an engine; empty for any other."""
    if "int8.xml" not in bundle.graphs:
        return ""
    return "tested with its fp32 weights, not with the int8 network that striate predict takes"
