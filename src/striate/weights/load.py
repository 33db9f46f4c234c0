"""From a file of weights to a network: names mapped, everything checked, then copied, with a full report."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from striate import nets
from striate.core.errors import BundleError, UsageError
from striate.core.version import __version__
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle
from striate.weights.imagenet import imagenet_classes
from striate.weights.layouts import (
    Format,
    Layout,
    Translation,
    guess,
    head_of,
    layouts_for,
    optional_keys,
    translate,
)
from striate.weights.published import recognise
from striate.weights.weight_file import WeightFile

_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What loading a file did.

    Attributes:
        format: whose names the file has.
        used: number of the file's tensors that went into the network.
        left_over: the file's names of tensors that the network has no place for.
        replaced: layers that kept their fresh weights, each with the reason.
        notes: what else a user of these weights should know, those of the reader first.
        preprocessing: what pictures the weights expect; None if nobody says.
        classes: class names in the order of the scores; None if unknown, or if the last layer is new.
    """

    format: Format
    used: int
    left_over: tuple[str, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None


def load_weights(net: nn.Module, net_name: str, file: WeightFile) -> LoadReport:
    """Copy a file's weights into a network: all of them, or, after any doubt, none.

    A last layer for another number of classes keeps its fresh weights, and so do auxiliary classifiers that
    the file does not have.

    Args:
        net: a network that ``nets.build(net_name)`` made, with any arguments.
        net_name: its name; a network that is in no list takes files with its own names.
        file: as ``read_weights`` gives it.

    Returns:
        What was used, left over and replaced, and the preprocessing that belongs to the weights.

    Raises:
        BundleError: the file is of another network, or tensors are missing, unknown, of other shapes or not
            finite: all of them in one line, with both shapes.
    """
    net_name = _listed_name(net_name)
    layout = _layout_of(net, net_name, file)
    translation = translate(layout, file.tensors)
    targets = net.state_dict()
    comparison = _compare(net, net_name, layout, translation, targets)
    if comparison.problems:
        raise BundleError(_refusal(file, net_name, layout, comparison.problems))
    with torch.no_grad():
        for key in comparison.copied:
            targets[key].copy_(translation.state[key])
    left_over = tuple(translation.origin[key] for key in comparison.left_over)
    preprocessing, assumed = _preprocessing(net, net_name, layout, file)
    kept_head = any(key.startswith(f"{comparison.head}.") for key in comparison.copied)
    return LoadReport(
        format=layout.format,
        used=len(file.tensors) - len(left_over) - comparison.num_unused,
        left_over=left_over,
        replaced=comparison.replaced,
        notes=(*file.notes, *layout.notes, *comparison.notes, *assumed),
        preprocessing=preprocessing,
        classes=_classes(file, layout, comparison.num_classes) if kept_head else None,
    )


def convert(
    file: WeightFile,
    net_name: str,
    *,
    net_arguments: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
) -> Bundle:
    """Turn a foreign file into a striate bundle.

    Args:
        file: as ``read_weights`` gives it.
        net_name: the network that it holds; ``guess`` proposes one.
        net_arguments: keywords for ``nets.build``. A GoogLeNet file without auxiliary classifiers sets
            ``auxiliaries`` to False by itself.
        preprocessing: what pictures the weights expect; None for what is known of such files.

    Returns:
        A bundle ready for ``save_bundle``. Classes are the file's, ImageNet's where there are 1,000, or else
        "0", "1", ...; nothing was measured, and the metrics say so; ``data`` holds the loading's notes.

    Raises:
        BundleError: as ``load_weights``, or nobody says what pictures the weights expect.
        UsageError: the file is a bundle already, or unknown arguments.
    """
    if file.kind == "striate bundle":
        raise UsageError(f"{file.path}: expected a foreign file, got a striate bundle: use it as it is")
    entry = nets.find(net_name)
    arguments = dict(net_arguments or {})
    with torch.device("meta"):
        plan = nets.build(entry.name, **arguments)
    layout = _layout_of(plan, entry.name, file)
    state = translate(layout, file.tensors).state
    head = state.get(f"{head_of(plan)}.weight")
    num_classes = entry.num_classes if head is None or head.ndim == 0 else len(head)
    if "auxiliaries" not in arguments and _lacks_training_only(plan, state):
        arguments["auxiliaries"] = False
    with torch.random.fork_rng(devices=[]):
        net = nets.build(entry.name, num_classes=num_classes, **arguments)
    report = load_weights(net, entry.name, file)
    expected = preprocessing or report.preprocessing
    if expected is None:
        raise BundleError(
            f"{file.path}: expected to know what pictures the weights were trained on, got no word of it:"
            " pass preprocessing"
        )
    classes = report.classes
    if classes is None:
        known = imagenet_classes() if num_classes == len(imagenet_classes()) else None
        classes = known or tuple(str(number) for number in range(num_classes))
    return Bundle(
        net=entry.name,
        net_arguments=arguments,
        classes=classes,
        preprocessing=expected,
        metrics={"note": "converted from published weights; accuracy was not measured here"},
        data={"name": f"{file.path.name} ({layout.format} weights)", "notes": list(report.notes)},
        versions={
            "striate": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        state=net.state_dict(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Which tensors go into a network, and what stands in the way."""

    head: str
    num_classes: int
    copied: tuple[str, ...]
    left_over: tuple[str, ...]
    num_unused: int
    replaced: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def _layout_of(net: nn.Module, net_name: str, file: WeightFile) -> Layout:
    """Choose the names that most of the file's tensors have."""
    own = Layout(format="striate", net=net_name, keys={key: key for key in _keys_of(net, net_name)})
    if file.kind == "striate bundle":
        stored = _listed_name(file.metadata.get("net", ""))
        if stored != net_name and (stored in nets.NETS or net_name in nets.NETS):
            raise BundleError(
                f"{file.path}: expected weights of {net_name}, got those of {stored}: choose {stored}"
            )
        return own
    if file.kind in ("onnx", "openvino"):
        raise BundleError(
            f"{file.path}: expected weights under a network's own names, got a graph ({file.kind}), whose"
            " names say little: load the file that it was exported from"
        )
    candidates = [*layouts_for(file, net_name), own]
    best = max(candidates, key=lambda one: len(one.keys.keys() & file.tensors.keys()))
    if best.keys.keys() & file.tensors.keys():
        return best
    shown = ", ".join(list(file.tensors)[:3]) or "no tensors"
    raise BundleError(
        f"{file.path}: expected the tensors of {net_name}, got {shown}: {_hint(file, net_name)}"
    )


def _listed_name(name: str) -> str:
    """Turn another name of a listed network into its own; leave the rest alone."""
    return next((entry.name for entry in nets.NETS.values() if name in entry.aliases), name)


def _keys_of(net: nn.Module, net_name: str) -> list[str]:
    """Name the tensors of this network, and the auxiliary classifiers that it may have been built without."""
    keys = list(net.state_dict())
    if net_name not in nets.NETS:
        return keys
    with torch.device("meta"):
        published = nets.build(net_name)
    return keys + sorted(optional_keys(published) - set(keys))


def _compare(
    net: nn.Module, net_name: str, layout: Layout, translation: Translation, targets: Mapping[str, Tensor]
) -> _Comparison:
    state = translation.state
    head = head_of(net)
    foreign = {ours: theirs for theirs, ours in layout.keys.items()}
    training_only = tuple(getattr(net, "training_only", ()))
    absent = tuple(part for part in training_only if not any(key.startswith(f"{part}.") for key in state))
    problems: list[str] = []
    replaced: dict[str, str] = {f"{part}": f"{part}: not in the file: drawn anew" for part in absent}
    copied: list[str] = []
    num_unused = 0
    here = len(targets[f"{head}.weight"])
    there = len(state[f"{head}.weight"]) if _has_rows(state.get(f"{head}.weight")) else here
    for key, target in targets.items():
        tensor = state.get(key)
        name = translation.origin.get(key, foreign.get(key, key))
        label = name if name == key else f"{name} ({key} here)"
        if tensor is None:
            if not key.endswith(".num_batches_tracked") and key.split(".")[0] not in absent:
                problems.append(f"{label} is missing, {_by(target)} expected")
        elif tensor.numel() == target.numel() == 1 or tensor.shape == target.shape:
            if tensor.is_floating_point() != target.is_floating_point() and target.numel() > 1:
                problems.append(f"{label} holds {_kind(tensor)}, {_kind(target)} expected")
            elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                problems.append(f"{label} holds values that are not finite")
            else:
                copied.append(key)
        elif (
            here != there
            and (key.startswith(f"{head}.") or key.split(".")[0] in training_only)
            and tensor.shape == (there, *target.shape[1:])
            and target.shape[0] == here
        ):
            layer = key.rpartition(".")[0]
            replaced[layer] = f"{layer}: {there} classes in the file, {here} here: drawn anew"
            num_unused += 1
        else:
            problems.append(f"{label}: {_by(tensor)} in the file, {_by(target)} here")
    left_over = tuple(key for key in state if key not in targets)
    problems += [f"{key}, {_by(tensor)}, is unknown" for key, tensor in translation.unknown.items()]
    kinds = sorted({_kind(state[key]) for key in copied if state[key].is_floating_point()} - {"float32"})
    return _Comparison(
        head=head,
        num_classes=there,
        copied=tuple(copied),
        left_over=left_over,
        num_unused=num_unused,
        replaced=tuple(replaced.values()),
        notes=(f"stored as {' and '.join(kinds)}, used as float32",) if kinds else (),
        problems=tuple(problems),
    )


def _refusal(file: WeightFile, net_name: str, layout: Layout, problems: tuple[str, ...]) -> str:
    shown = "; ".join(problems[:_MOST_SHOWN])
    more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
    count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
    return (
        f"{file.path}: expected {net_name} in {layout.format}'s names, got {count}: {shown}{more}:"
        f" {_hint(file, net_name)}"
    )


def _hint(file: WeightFile, net_name: str) -> str:
    others = [name for name in guess(file) if name != net_name]
    if others:
        return f"the file fits {' or '.join(others[:3])}, load it into that"
    return "check the network's name and arguments (num_classes, input_px), or take another file"


def _preprocessing(
    net: nn.Module, net_name: str, layout: Layout, file: WeightFile
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return what pictures the weights expect, and a note where that is only likely."""
    if file.kind == "striate bundle":
        try:
            return Preprocessing.from_json(json.loads(file.metadata["preprocessing"])), ()
        except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
            raise BundleError(
                f"{file.path}: damaged metadata ({error}); train again or take an older copy"
            ) from None
    assert isinstance(net.input_shape, tuple)
    input_px = net.input_shape[1]
    published = recognise(file.path.name, net_name)
    if published is not None:
        return published.preprocessing(input_px), ()
    expected = layout.preprocessing(input_px, file.mean_rgb)
    if layout.format in ("torchvision", "timm"):
        return expected, (
            "the file does not say what pictures it expects: torchvision's preprocessing is assumed",
        )
    return expected, ()


def _classes(file: WeightFile, layout: Layout, num_classes: int) -> tuple[str, ...] | None:
    if file.classes is not None and len(file.classes) == num_classes:
        return file.classes
    if layout.format != "striate" and num_classes == len(imagenet_classes()):
        return imagenet_classes()
    return None


def _lacks_training_only(net: nn.Module, state: Mapping[str, Tensor]) -> bool:
    parts = tuple(getattr(net, "training_only", ()))
    return bool(parts) and not any(key.split(".")[0] in parts for key in state)


def _has_rows(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim > 0


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
