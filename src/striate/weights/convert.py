"""From a file of another program to a bundle: the network, its classes, and the pictures that it expects."""

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from striate import nets
from striate.core.errors import BundleError, UsageError
from striate.core.version import __version__
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle
from striate.weights.imagenet import imagenet_classes
from striate.weights.layouts import translate
from striate.weights.layouts.layout import scaled_resize_px
from striate.weights.load import ASSUMED, class_keys_of, layout_of, load_weights, target_of
from striate.weights.weight_file import WeightFile


def convert(
    file: WeightFile,
    reference: str,
    *,
    net_arguments: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Bundle:
    """Turn a foreign file into a striate bundle.

    Args:
        file: as ``read_weights`` gives it.
        reference: the network that it holds, as ``nets.find`` takes it; ``guess`` proposes one.
        net_arguments: keywords for ``nets.build``. A GoogLeNet file without auxiliary classifiers sets
            ``auxiliaries`` to False by itself.
        preprocessing: what pictures the weights expect; None for what is known of such files.

    Returns:
        A bundle ready for ``save_bundle``. Classes are the file's, ImageNet's where there are 1,000, or else
        "0", "1", ...; nothing was measured, and the metrics say so; ``data`` holds the loading's notes.

    Raises:
        BundleError: as ``load_weights``, or nobody says what pictures the weights expect.
        UsageError: the file is a bundle already or a mere graph, or unknown arguments.
    """
    check_foreign(file)
    entry = nets.find(reference)
    arguments = _checked(net_arguments)
    with torch.device("meta"):
        plan = nets.build(entry.reference, **arguments)
    target = target_of(entry.reference)
    state = translate(layout_of(plan, target, file), file.tensors).state
    num_classes = _num_classes(plan, class_keys_of(plan, target), state) or entry.num_classes
    if "auxiliaries" not in arguments and _lacks_training_only(plan, state):
        arguments["auxiliaries"] = False
    with torch.random.fork_rng(devices=[]):
        net = nets.build(entry.reference, num_classes=num_classes, **arguments)
    report = load_weights(net, entry.reference, file)
    expected = preprocessing or report.preprocessing
    if expected is None:
        raise BundleError(_unknown_pictures(file, net))
    notes = [note for note in report.notes if preprocessing is None or note != ASSUMED]
    classes = report.classes
    if classes is None:
        known = imagenet_classes() if num_classes == len(imagenet_classes()) else None
        classes = known or tuple(str(number) for number in range(num_classes))
    return Bundle(
        net=entry.reference,
        net_arguments=arguments,
        classes=classes,
        preprocessing=expected,
        metrics={"note": "converted, not trained here; accuracy was not measured"},
        data={"name": f"{file.path.name} ({report.format} weights)", "notes": notes},
        versions={
            "striate": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        state=net.state_dict(),
    )


def check_foreign(file: WeightFile) -> None:
    """Refuse what can't become a bundle, whatever its network.

    Raises:
        UsageError: the file is a bundle already, or a graph.
    """
    if file.kind == "striate bundle":
        raise UsageError(f"{file.path}: expected a foreign file, got a striate bundle: use it as it is")
    if file.kind in ("onnx", "openvino"):
        raise UsageError(
            f"{file.path}: expected weights under a network's own names, got a graph ({file.kind}): graphs"
            " are only shown (`striate weights show`), convert the file that it was exported from"
        )


def given_pictures(
    reference: str,
    net_arguments: Mapping[str, Any] | None,
    mean: Sequence[float],
    std: Sequence[float],
    resize_px: int | None,
) -> Preprocessing:
    """Write down what pictures weights expect, as their user says it.

    Args:
        reference: the network, as ``nets.find`` takes it; its input gives channels and sizes.
        net_arguments: for its builder.
        mean: one number per channel, red first, on the 0..1 scale.
        std: likewise, above 0.
        resize_px: length of the shorter side before the centre is cut out, at least 1; None: pictures that
            fit into the input keep their size, and larger ones become as large as the input.

    Raises:
        UsageError: the numbers don't go with the network, or are on the scale of 0 to 255.
    """
    with torch.device("meta"):
        net = nets.build(nets.find(reference).reference, **_checked(net_arguments))
    channels, height_px, width_px = _input_shape(net)
    for option, values in (("mean", mean), ("std", std)):
        shown = ",".join(f"{value:g}" for value in values)
        if len(values) != channels:
            wanted = f"{channels} number{'s' if channels > 1 else ''}, one a channel,"
            raise UsageError(f"--{option}: expected {wanted} got {shown}: give one a channel, red first")
        if not all(map(math.isfinite, values)) or max(values) > 2:
            remedy = "divide what is meant for 0..255 by 255"
            raise UsageError(f"--{option}: expected numbers on the 0..1 scale, got {shown}: {remedy}")
    if min(std) <= 0:
        raise UsageError(f"--std: expected numbers above 0, got {min(std):g}: take 1 for no division")
    return Preprocessing(
        channels=channels,
        height_px=height_px,
        width_px=width_px,
        resize_px=resize_px,
        mean=tuple(mean),
        std=tuple(std),
    )


def _checked(net_arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Copy the arguments; the network and its number of classes are said otherwise."""
    arguments = dict(net_arguments or {})
    for key in ("name", "num_classes"):
        if key in arguments:
            raise UsageError(
                f"expected arguments of the network, got {key}, which the file tells: leave it out"
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


def _unknown_pictures(file: WeightFile, net: nn.Module) -> str:
    channels, side_px, _ = _input_shape(net)
    if channels == 3:
        resize_px = scaled_resize_px(256, 224, side_px)
        remedy = f"--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 [--resize {resize_px}]"
    else:
        remedy = f"--mean {','.join(['0.5'] * channels)} --std {','.join(['0.5'] * channels)}"
    return (
        f"{file.path}: expected to know what pictures the weights were trained on, got no word of it: say"
        f" {remedy}, with the numbers of that training (0..1 scale)"
    )


def _input_shape(net: nn.Module) -> tuple[int, int, int]:
    assert isinstance(net.input_shape, tuple)
    channels, height_px, width_px = net.input_shape
    return channels, height_px, width_px
