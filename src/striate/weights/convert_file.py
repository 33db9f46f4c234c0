"""Weights from elsewhere: found by path or name, turned into bundles, and written back."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from striate.core.atomic import atomic_path
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.core.writable import check_target
from striate.nets import find
from striate.weights.bundle import Bundle, load_bundle, save_bundle
from striate.weights.convert import check_foreign, convert, given_pictures
from striate.weights.layouts import guess, nearest
from striate.weights.layouts.torchvision import to_torchvision
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
    path = _path_of(source)
    named = str(source).partition(":")[0] in ("torchvision", "timm")
    if named and not path.exists():
        if net is None:
            raise UsageError(f"{source}: expected to know for which network: --net NAME (see `striate nets`)")
        entry = find(net)
        if entry.notation is not None:
            raise UsageError(
                f"{source}: expected one of striate's own networks, got {entry.name}, which its user wrote"
                " and nobody published weights for: pass the path of a file"
            )
        path = fetch_published(str(source), entry.name, progress=progress)
    return read_weights(path)


def convert_weights(
    source: str | Path,
    target: str | Path,
    *,
    net: str | None = None,
    net_arguments: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    resize_px: int | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> Bundle:
    """Turn weights of another program into a bundle, which every command takes.

    Args:
        source: as ``open_weights``.
        target: the bundle to write, ``.safetensors``.
        net: the network, also a ``.net`` file or a text in the notation; None takes the only one that fits.
        net_arguments: for the network's builder.
        mean: what pictures the weights expect: one number per channel, red first, 0..1 scale. None: what is
            known of such files.
        std: goes with ``mean``.
        resize_px: shorter side before the centre is cut out; goes with ``mean``.
        force: whether to replace a file that is there already.
        progress: listener of a download.

    Returns:
        The bundle as it was written.

    Raises:
        UsageError: no network named, and not exactly one fits; or the target is there or of another kind.
        BundleError: the weights do not fit the network, with every difference; or nobody says what pictures
            they expect.
        WriteError: the target can't be written.
    """
    path = Path(target)
    check_target(path, (".safetensors",), force, sources=[_path_of(source)])
    if (mean is None) != (std is None) or (resize_px is not None and mean is None):
        raise UsageError("expected --mean and --std together, and --resize only with them: give all")
    file = open_weights(source, net, progress=progress)
    check_target(path, (".safetensors",), force, sources=[file.path])
    check_foreign(file)
    if net is None:
        net = _only_one(file, progress)
    pictures = None
    if mean is not None and std is not None:
        pictures = given_pictures(net, net_arguments, mean, std, resize_px)
    bundle = convert(file, net, net_arguments=net_arguments, preprocessing=pictures)
    for note in bundle.data["notes"]:
        progress("note", 0, None, f"{source}: {note}")
    save_bundle(bundle, path)
    return bundle


def export_torchvision(source: str | Path, target: str | Path, *, force: bool = False) -> int:
    """Write a bundle's weights under torchvision's names.

    Args:
        source: a bundle or run folder of a network that torchvision has.
        target: a state dict, ``.pth``, or ``.safetensors``.
        force: whether to replace a file that is there already.

    Returns:
        The number of tensors.

    Raises:
        UsageError: torchvision has no such network, or the target is there or of another kind.
        BundleError: the bundle is damaged.
        WriteError: the target can't be written.
    """
    path, origin = Path(target), _path_of(source)
    check_target(path, (".pth", ".pt", ".safetensors"), force, sources=[origin])
    try:
        bundle = load_bundle(origin)
    except BundleError:
        file = read_weights(origin)  # says what is wrong with a file of no known kind
        if file.kind == "striate bundle":
            raise
        check_foreign(file)
        raise UsageError(
            f"{origin}: expected a bundle, got a file of another kind ({file.kind}): make a bundle of it"
            f" first, striate weights convert {origin} BUNDLE.safetensors"
        ) from None
    entry = find(bundle.net)
    if entry.notation is not None:
        raise UsageError(
            f"{origin}: expected a network that torchvision has, got {entry.name}, which its user wrote: use"
            " the bundle as it is"
        )
    state = {key: tensor.contiguous() for key, tensor in to_torchvision(entry.name, bundle.state).items()}
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)
    return len(state)


def _path_of(source: str | Path) -> Path:
    path = Path(source)
    inside = path / "model.safetensors"
    with suppress(OSError):  # what is wrong with it, its reader says
        return inside if inside.is_file() else path
    return path


def _only_one(file: WeightFile, progress: Progress) -> str:
    fitting = guess(file)
    if not fitting:
        close = nearest(file)
        if close is not None:
            raise UsageError(
                f"{file.path}: expected weights that fit one of striate's networks, got ones that fit none;"
                f" {close.net} is nearest, {close.num_alike} of {close.num_expected} tensors agree:"
                f" --net {close.net} lists every difference"
            )
        raise UsageError(f"{file.path}: expected the name of its network: --net NAME (see `striate nets`)")
    if len(fitting) > 1:
        others = " or ".join(fitting[1:])
        progress("note", 0, None, f"taken for {fitting[0]}; {others} would fit too: --net NAME")
    return fitting[0]
