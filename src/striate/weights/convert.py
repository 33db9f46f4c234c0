"""Files of other programs: opened by path or name, turned into bundles, and written back."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from striate import nets
from striate.core.atomic import atomic_path
from striate.core.environment import versions
from striate.core.errors import BundleError, UsageError
from striate.core.progress import Progress, silent
from striate.core.text import short
from striate.core.writable import check_writable
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.imagenet import imagenet_classes
from striate.weights.layouts import guess, nearest, network_in, translate
from striate.weights.layouts.layout import scaled_resize_px
from striate.weights.layouts.torchvision import to_torchvision
from striate.weights.load import ASSUMED, class_keys_of, input_shape, layout_of, load_weights, target_of
from striate.weights.published import fetch_published
from striate.weights.read import read_weights
from striate.weights.run_folder import bundle_path
from striate.weights.weight_file import WeightFile


def open_weights(source: str | Path, net: str | None = None, *, progress: Progress = silent) -> WeightFile:
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
    path = bundle_path(Path(source))
    named = str(source).partition(":")[0] in ("torchvision", "timm")
    if named and not path.exists():
        if net is None:
            raise UsageError(f"{source}: expected to know for which network: `net=NAME` (see `striate nets`)")
        entry = nets.find(net)
        if entry.notation is not None:
            raise UsageError(
                f"{source}: expected one of striate's own networks, got {entry.name}, which its user wrote,"
                " so there are no published weights of it: pass the path of a file"
            )
        path = fetch_published(str(source), entry.name, progress=progress)
    return read_weights(path)


def convert_weights(
    source: str | Path,
    path: str | Path,
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
        path: the bundle to write, ``.safetensors``.
        net: the network, also a ``.net`` file or a text in the notation; None takes the only one that fits.
        net_arguments: for the network's builder.
        mean: of the images that the weights expect: one number per channel, red first, 0..1 scale. None: what
            is known of such files.
        std: goes with ``mean``.
        resize_px: shorter side before the centre is cut out; goes with ``mean``.
        force: whether to replace an existing file.
        progress: listener of a download.

    Returns:
        The bundle as it was written.

    Raises:
        UsageError: no network named, and not exactly one fits; or the path exists or is of another kind.
        BundleError: the weights do not fit the network, with every difference; or it is unknown what images
            they expect.
        WriteError: the bundle can't be written.
    """
    path = Path(path)
    check_writable(path, (".safetensors",), force, sources=[bundle_path(Path(source))])
    if (mean is None) != (std is None) or (resize_px is not None and mean is None):
        raise UsageError("expected `mean` and `std` together, and `resize_px` only with them: give all")
    file = open_weights(source, net, progress=progress)
    check_writable(path, (".safetensors",), force, sources=[file.path])
    check_foreign(file)
    if net is None:
        net = only_network(file, progress)
    preprocessing = None
    if mean is not None and std is not None:
        preprocessing = given_preprocessing(net, net_arguments, mean, std, resize_px)
    bundle = convert(file, net, net_arguments=net_arguments, preprocessing=preprocessing)
    for note in bundle.data["notes"]:
        progress("note", 0, None, f"{source}: {note}")
    save_bundle(bundle, path)
    return bundle


def export_torchvision(source: str | Path, path: str | Path, *, force: bool = False) -> int:
    """Write a bundle's weights under torchvision's names.

    Args:
        source: a bundle or run folder of a network that torchvision has.
        path: of the state dict to write, ``.pth``, ``.pt`` or ``.safetensors``.
        force: whether to replace an existing file.

    Returns:
        The number of tensors.

    Raises:
        UsageError: torchvision has no such network, or the path exists or is of another kind.
        BundleError: the bundle is damaged.
        WriteError: the state dict can't be written.
    """
    path, origin = Path(path), bundle_path(Path(source))
    check_writable(path, (".pth", ".pt", ".safetensors"), force, sources=[origin])
    file = read_weights(origin)
    if file.header is None:
        check_foreign(file)
        raise UsageError(
            f"{origin}: expected a bundle, got a file of another kind ({file.kind}): make a bundle of it"
            f" first, striate weights convert {origin} BUNDLE.safetensors"
        )
    entry = network_in(file)
    if entry is None or entry.notation is not None:
        name = short(file.header.net) if entry is None else entry.name
        raise UsageError(
            f"{origin}: expected a network that torchvision has, got {name}, which its user wrote: use the"
            " bundle as it is"
        )
    state = {key: tensor.contiguous() for key, tensor in to_torchvision(entry.name, file.tensors).items()}
    with atomic_path(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)
    return len(state)


def only_network(file: WeightFile, progress: Progress = silent) -> str:
    """Return the network that a file of weights fits, if there is only one such family.

    Raises:
        UsageError: none fits.
    """
    fitting = guess(file)
    if not fitting:
        close = nearest(file)
        if close is not None:
            raise UsageError(
                f"{file.path}: expected weights that fit one of striate's networks, got ones that fit none;"
                f" {close.net} is nearest, {close.num_alike} of {close.num_expected} tensors agree:"
                f" `net={close.net}` lists every difference"
            )
        raise UsageError(f"{file.path}: expected the name of its network: `net=NAME` (see `striate nets`)")
    if len(fitting) > 1:
        others = " or ".join(fitting[1:])
        progress("note", 0, None, f"taken for {fitting[0]}; {others} would fit too: `net=NAME`")
    return fitting[0]


def convert(
    file: WeightFile,
    net: str,
    *,
    net_arguments: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Bundle:
    """Turn a foreign file into a striate bundle; as ``network_of``, whose tensors become the bundle's.

    Returns:
        A bundle ready for ``save_bundle``.
    """
    return network_of(file, net, net_arguments=net_arguments, preprocessing=preprocessing)[1]


def network_of(
    file: WeightFile,
    net: str,
    *,
    net_arguments: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    otherwise: Callable[[tuple[int, int, int]], Preprocessing] | None = None,
) -> tuple[nn.Module, Bundle]:
    """Build the network of a foreign file, with the file's weights.

    Args:
        file: as ``read_weights`` gives it.
        net: the network that it holds, as ``nets.find`` takes it; ``guess`` proposes one.
        net_arguments: keywords for ``nets.build``. A GoogLeNet file without auxiliary classifiers sets
            ``auxiliaries`` to False by itself.
        preprocessing: of the images that the weights expect; None for what is known of such files.
        otherwise: gives it, from the input's channels, height and width, where nothing is known.

    Returns:
        The network in training mode, and its bundle, which shares the network's tensors. Classes are the
        file's, ImageNet's where there are 1,000, or else "0", "1", ...; nothing was measured, and the metrics
        say so; ``data`` holds the loading's notes.

    Raises:
        BundleError: as ``load_weights``, or it is unknown what images the weights expect.
        UsageError: the file is a bundle already or a mere graph, or unknown arguments.
    """
    check_foreign(file)
    entry = nets.find(net)
    arguments = _checked(net_arguments)
    with torch.device("meta"):
        plan = nets.build(entry.reference, **arguments)
    target = target_of(entry.reference)
    state = translate(layout_of(plan, target, file), file.tensors).state
    num_classes = _num_classes(plan, class_keys_of(plan, target), state) or entry.num_classes
    if "auxiliaries" not in arguments and _lacks_training_only(plan, state):
        arguments["auxiliaries"] = False
    with torch.random.fork_rng(devices=[]):
        built = nets.build(entry.reference, num_classes=num_classes, **arguments)
    report = load_weights(built, entry.reference, file)
    notes = [note for note in report.notes if preprocessing is None or note != ASSUMED]
    expected = preprocessing or report.preprocessing
    if expected is None:
        if otherwise is None:
            raise BundleError(_unknown_preprocessing(file, input_shape(built)))
        expected = otherwise(input_shape(built))
        notes.append(
            "the file does not say what images it expects: those of an untrained network are assumed"
        )
    classes = report.classes
    if classes is None:
        known = imagenet_classes() if num_classes == len(imagenet_classes()) else None
        classes = known or tuple(str(number) for number in range(num_classes))
    return built, Bundle(
        net=entry.reference,
        net_arguments=arguments,
        classes=classes,
        preprocessing=expected,
        metrics={"note": "converted, not trained here; accuracy was not measured"},
        data={"name": f"{file.path.name} ({report.format} weights)", "notes": notes},
        versions=versions(),
        state=built.state_dict(),
    )


def check_foreign(file: WeightFile) -> None:
    """Refuse what can't become a bundle, whatever its network.

    Raises:
        UsageError: the file is a bundle already, or a graph.
    """
    if file.header is not None:
        raise UsageError(f"{file.path}: expected a foreign file, got a striate bundle: use it as it is")
    if file.kind == "onnx":
        raise UsageError(
            f"{file.path}: expected weights under a network's own names, got an ONNX graph: graphs are only"
            " shown (`striate weights show`), convert the file that it was exported from"
        )


def given_preprocessing(
    net: str,
    net_arguments: Mapping[str, Any] | None,
    mean: Sequence[float],
    std: Sequence[float],
    resize_px: int | None,
) -> Preprocessing:
    """Make the preprocessing of weights from what their user knows of their images.

    Args:
        net: the network, as ``nets.find`` takes it; its input gives channels and sizes.
        net_arguments: for its builder.
        mean: one number per channel, red first, on the 0..1 scale.
        std: likewise, above 0.
        resize_px: length of the shorter side before the centre is cut out, at least 1; None: images that fit
            into the input keep their size, and larger ones become as large as the input.

    Raises:
        UsageError: the numbers don't go with the network, or are on the scale of 0 to 255.
    """
    with torch.device("meta"):
        channels, height_px, width_px = input_shape(nets.build(net, **_checked(net_arguments)))
    for name, values in (("mean", mean), ("std", std)):
        shown = ",".join(f"{value:g}" for value in values)
        if len(values) != channels:
            wanted = f"{channels} number{'s' if channels > 1 else ''}, one a channel,"
            raise UsageError(f"`{name}`: expected {wanted} got {shown}: give one a channel, red first")
        if not all(map(math.isfinite, values)) or max(values) > 2:
            remedy = "divide what is meant for 0..255 by 255"
            raise UsageError(f"`{name}`: expected numbers on the 0..1 scale, got {shown}: {remedy}")
    if min(std) <= 0:
        raise UsageError(f"`std`: expected numbers above 0, got {min(std):g}: take 1 for no division")
    return Preprocessing(
        channels=channels,
        height_px=height_px,
        width_px=width_px,
        resize_px=resize_px,
        mean=tuple(mean),
        std=tuple(std),
    )


def _checked(net_arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy the arguments; the network and its number of classes are given otherwise."""
    arguments = dict(net_arguments or {})
    for key in ("name", "num_classes"):
        if key in arguments:
            raise UsageError(
                f"expected arguments of the network, got {key}, which the file gives: leave it out"
            )
    return arguments


def _num_classes(net: nn.Module, of_classes: Sequence[str], state: Mapping[str, Tensor]) -> int | None:
    """Count the rows of the class layer in the file, if it is the network's but for their number."""
    if not of_classes or of_classes[0] not in state:
        return None
    tensor, wanted = state[of_classes[0]], net.state_dict()[of_classes[0]]
    return len(tensor) if tensor.ndim and tensor.shape[1:] == wanted.shape[1:] else None


def _lacks_training_only(net: nn.Module, state: Mapping[str, Tensor]) -> bool:
    parts = tuple(getattr(net, "training_only", ()))
    return bool(parts) and not any(key.split(".")[0] in parts for key in state)


def _unknown_preprocessing(file: WeightFile, shape: tuple[int, int, int]) -> str:
    channels, side_px, _ = shape
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.5,) * channels, (0.5,) * channels)
    words = [f"`{name}={','.join(map(str, values))}`" for name, values in (("mean", mean), ("std", std))]
    if channels == 3:
        words.append(f"[`resize_px={scaled_resize_px(256, 224, side_px)}`]")
    return (
        f"{file.path}: expected to know what images the weights were trained on, got nothing about them: give"
        f" {' '.join(words)}, with the numbers of that training (0..1 scale)"
    )
