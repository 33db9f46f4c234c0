"""Weights from elsewhere: found by path or name, turned into bundles, and written back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from striate.core.atomic import atomic_path
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.nets import find
from striate.weights.bundle import Bundle, load_bundle, save_bundle
from striate.weights.layouts import guess
from striate.weights.layouts.torchvision import to_torchvision
from striate.weights.load import convert
from striate.weights.published import fetch_published
from striate.weights.read import read_weights
from striate.weights.weight_file import WeightFile


def open_weights(source: str | Path, net: str | None, *, progress: Progress = silent) -> WeightFile:
    """Read a file of weights, of striate or of another program, or fetch published ones by name.

    Args:
        source: a file, a run folder, or a name: ``torchvision``, ``torchvision:V2``,
            ``timm:resnet50.a1_in1k``. What was fetched once is kept.
        net: the network that they are for; needed for a name only.
        progress: listener of a download.

    Returns:
        The file's content, under its own names.

    Raises:
        UsageError: neither a file nor a known name.
        BundleError: the file is damaged, hostile or of an unknown kind.
        DataError: the download failed.
    """
    path = Path(source)
    if path.is_dir() and (path / "model.safetensors").is_file():
        path /= "model.safetensors"
    named = str(source).partition(":")[0] in ("torchvision", "timm")
    if named and not path.exists():
        if net is None:
            raise UsageError(f"{source}: expected to know for which network: --net NAME (see `striate nets`)")
        path = fetch_published(str(source), find(net).name, progress=progress)
    return read_weights(path)


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    net: str | None = None,
    net_arguments: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Turn weights of another program into a bundle, which every command takes.

    Args:
        source: as ``open_weights``.
        target: the bundle to write, ``.safetensors``.
        net: the network; None takes the only one that fits.
        net_arguments: for the network's builder.
        progress: listener of a download.

    Returns:
        The bundle as it was written.

    Raises:
        UsageError: no network named, and not exactly one fits.
        BundleError: the weights do not fit the network; every difference is listed.
    """
    file = open_weights(source, net, progress=progress)
    if net is None:
        fitting = guess(file)
        if not fitting:
            raise UsageError(f"{source}: expected the name of its network: --net NAME (see `striate nets`)")
        net = fitting[0]
        if len(fitting) > 1:
            others = " or ".join(fitting[1:])
            progress("note", 0, None, f"taken for {net}; {others} would fit too: --net NAME")
    bundle = convert(file, find(net).name, net_arguments=net_arguments)
    for note in bundle.data["notes"]:
        progress("note", 0, None, f"{source}: {note}")
    save_bundle(bundle, Path(target))
    return bundle


def export_torchvision(source: str | Path, target: str | Path) -> int:
    """Write a bundle's weights under torchvision's names.

    Args:
        source: a bundle or run folder of a network that torchvision has.
        target: a state dict, ``.pth``, or ``.safetensors``.

    Returns:
        The number of tensors.

    Raises:
        UsageError: torchvision has no such network, or the target is of another kind.
        BundleError: the bundle is damaged.
    """
    path = Path(target)
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise UsageError(f"expected a target ending in .pth or .safetensors, got {path.name}")
    bundle = load_bundle(Path(source))
    state = {key: tensor.contiguous() for key, tensor in to_torchvision(bundle.net, bundle.state).items()}
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)
    return len(state)
