"""From a bundle on disk to a network in memory."""

from pathlib import Path

import torch
from torch import nn

from striate.core.errors import BundleError
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
