"""From a file of weights to a network: names mapped, everything checked, then copied, with a full report."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from striate import nets
from striate.core.errors import BundleError, UsageError
from striate.core.text import short
from striate.data.preprocess import Preprocessing
from striate.nets.entry import NetEntry
from striate.weights.imagenet import imagenet_classes
from striate.weights.layouts import (
    Format,
    Layout,
    Translation,
    class_keys,
    guess,
    layouts_for,
    nearest,
    network_in,
    optional_keys,
    translate,
)
from striate.weights.published import recognise
from striate.weights.weight_file import WeightFile

ASSUMED = "the file does not say what images it expects: torchvision's preprocessing is assumed"
"""The note of a report whose preprocessing is only likely."""

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
        preprocessing: what images the weights expect; None if unknown.
        classes: class names in the order of the scores; None if unknown, or if the last layer is new.
    """

    format: Format
    used: int
    left_over: tuple[str, ...]
    replaced: tuple[str, ...]
    notes: tuple[str, ...]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None


def load_weights(net: nn.Module, reference: str, file: WeightFile) -> LoadReport:
    """Copy a file's weights into a network: all of them, or, after any doubt, none.

    A last layer for another number of classes keeps its fresh weights, and so do auxiliary classifiers that
    the file does not have.

    Args:
        net: a network that ``nets.build(reference)`` made, with any arguments.
        reference: its ``NetEntry.reference``: the name of a listed network, or the text of a written one,
            which takes files with its own names, whatever it is called. So does a network that is unknown.
        file: as ``read_weights`` gives it.

    Returns:
        What was used, left over and replaced, and the preprocessing that belongs to the weights.

    Raises:
        BundleError: the file is of another network, or tensors are missing, unknown, of other shapes or not
            finite: all of them in one line, with both shapes.
    """
    target = target_of(reference)
    layout = layout_of(net, target, file)
    translation = translate(layout, file.tensors)
    targets = net.state_dict()
    comparison = _compare(net, target, layout, translation, targets)
    if comparison.problems:
        raise BundleError(_refusal(file, target, layout, comparison))
    with torch.no_grad():
        for key in comparison.copied:
            targets[key].copy_(translation.state[key])
    left_over = tuple(translation.origin[key] for key in comparison.left_over)
    preprocessing, assumed = _preprocessing(net, target, layout, file)
    return LoadReport(
        format=layout.format,
        used=len(file.tensors) - len(left_over) - comparison.num_unused,
        left_over=left_over,
        replaced=comparison.replaced,
        notes=(*file.notes, *layout.notes, *_other_text(target, file), *comparison.notes, *assumed),
        preprocessing=preprocessing,
        classes=None if comparison.new_classes else _classes(file, layout, comparison.num_classes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The network that weights are for.

    Attributes:
        name: what messages call it.
        entry: its entry; None for an unknown network.
    """

    name: str
    entry: NetEntry | None

    @property
    def listed(self) -> str | None:
        """Its key in ``NETS``; None for a network that its user wrote, also one of the same name."""
        return self.entry.name if self.entry is not None and self.entry.notation is None else None


def target_of(reference: str) -> Target:
    """Look a network up for ``load_weights``."""
    try:
        entry = nets.find(reference)
    except UsageError:
        return Target(name=short(reference), entry=None)
    return Target(name=entry.name, entry=entry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Which tensors go into a network, and what prevents the others."""

    num_classes: int | None  # the file's
    new_classes: bool
    copied: tuple[str, ...]
    left_over: tuple[str, ...]
    num_unused: int
    replaced: tuple[str, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    diverged: bool  # values that are not finite, and no other problem


def layout_of(net: nn.Module, target: Target, file: WeightFile) -> Layout:
    """Choose the names that most of the file's tensors have.

    Raises:
        BundleError: the file is of another network or a mere graph, or has none of the network's names.
    """
    own = Layout(format="striate", net=target.name, keys={key: key for key in _keys_of(net, target)})
    if file.header is not None:
        stored = network_in(file)
        # A written network is compared by what it builds: the text may differ in words alone.
        if target.listed and (stored is None or (stored.notation is None and stored.name != target.listed)):
            name = short(file.header.net.split("\n")[0]) if stored is None else stored.name
            remedy = "update striate, or take another file" if stored is None else f"choose {name}"
            raise BundleError(
                f"{file.path}: expected weights of {target.name}, got those of {name}: {remedy}"
            )
        return own
    if file.kind == "onnx":
        raise BundleError(
            f"{file.path}: expected weights under a network's own names, got an ONNX graph, whose"
            " names say little: `striate weights show` shows it; load the file that it was exported from"
        )
    candidates = [*(layouts_for(file, target.listed) if target.listed else ()), own]
    best = max(candidates, key=lambda one: len(one.keys.keys() & file.tensors.keys()))
    if best.keys.keys() & file.tensors.keys():
        return best
    shown = ", ".join(map(short, list(file.tensors)[:3])) or "no tensors"
    raise BundleError(
        f"{file.path}: expected the tensors of {target.name}, got {shown}: {_hint(file, target)}"
    )


def input_shape(net: nn.Module) -> tuple[int, int, int]:
    """Return channels, height and width in pixels of the images that a network of striate takes."""
    shape = net.input_shape
    assert isinstance(shape, tuple)
    return shape


def class_keys_of(net: nn.Module, target: Target) -> tuple[str, ...]:
    """Name the network's tensors that have a row for each class, those that give the scores first."""
    if target.entry is None:  # nothing but its last layer can tell
        weights = [
            key for key, tensor in net.named_parameters() if key.endswith(".weight") and tensor.ndim > 1
        ]
        return (
            tuple(f"{weights[-1].removesuffix('.weight')}.{part}" for part in ("weight", "bias"))
            if weights
            else ()
        )
    training_only = getattr(net, "training_only", ())
    keys = set(net.state_dict())
    found = [key for key in class_keys(target.entry.reference) if key in keys]
    return tuple(sorted(found, key=lambda key: key.split(".")[0] in training_only))


def _keys_of(net: nn.Module, target: Target) -> list[str]:
    """Name the tensors of this network, and the auxiliary classifiers that it may have been built without."""
    keys = list(net.state_dict())
    if not target.listed:
        return keys
    with torch.device("meta"):
        published = nets.build(target.listed)
    return keys + sorted(optional_keys(published) - set(keys))


def _compare(
    net: nn.Module, target: Target, layout: Layout, translation: Translation, targets: Mapping[str, Tensor]
) -> _Comparison:
    state = translation.state
    of_classes = class_keys_of(net, target)
    foreign = {ours: theirs for theirs, ours in layout.keys.items()}
    training_only = tuple(getattr(net, "training_only", ()))
    absent = tuple(part for part in training_only if not any(key.startswith(f"{part}.") for key in state))
    problems: list[str] = []
    replaced: dict[str, str] = {f"{part}": f"{part}: not in the file: drawn anew" for part in absent}
    copied: list[str] = []
    num_unused = num_not_finite = 0
    here = there = None if target.entry is None else target.entry.num_classes
    if of_classes:
        here = there = len(targets[of_classes[0]])
        given = state.get(of_classes[0])
        if given is not None and given.ndim:
            there = len(given)
    for key, wanted in targets.items():
        tensor = state.get(key)
        name = short(translation.origin.get(key, foreign.get(key, key)))
        label = name if name == key else f"{name} ({key} here)"
        if tensor is None:
            if not key.endswith(".num_batches_tracked") and key.split(".")[0] not in absent:
                problems.append(f"{label} is missing, {_by(wanted)} expected")
        elif here != there and key in of_classes:
            if tensor.shape == (there, *wanted.shape[1:]):
                layer = key.rpartition(".")[0]
                replaced[layer] = f"{layer}: {there} classes in the file, {here} here: drawn anew"
                num_unused += 1
            else:
                problems.append(f"{label}: {_by(tensor)} in the file, which has {there} classes elsewhere")
        elif tensor.numel() == wanted.numel() == 1 or tensor.shape == wanted.shape:
            if tensor.is_floating_point() != wanted.is_floating_point() and wanted.numel() > 1:
                problems.append(f"{label} holds {_kind(tensor)}, {_kind(wanted)} expected")
            elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                problems.append(f"{label} holds values that are not finite")
                num_not_finite += 1
            else:
                copied.append(key)
        else:
            problems.append(f"{label}: {_by(tensor)} in the file, {_by(wanted)} here")
    left_over = tuple(key for key in state if key not in targets)
    problems += [f"{short(key)}, {_by(tensor)}, is unknown" for key, tensor in translation.unknown.items()]
    kinds = sorted({_kind(state[key]) for key in copied if state[key].is_floating_point()} - {"float32"})
    return _Comparison(
        num_classes=there,
        new_classes=here != there,
        copied=tuple(copied),
        left_over=left_over,
        num_unused=num_unused,
        replaced=tuple(replaced.values()),
        notes=(f"stored as {' and '.join(kinds)}, used as float32",) if kinds else (),
        problems=tuple(problems),
        diverged=0 < num_not_finite == len(problems),
    )


def _refusal(file: WeightFile, target: Target, layout: Layout, comparison: _Comparison) -> str:
    problems = comparison.problems
    shown = "; ".join(problems[:_MOST_SHOWN])
    more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
    count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
    hint = _DIVERGED if comparison.diverged else _hint(file, target)
    return (
        f"{file.path}: expected {target.name} in {layout.format}'s names, got {count}: {hint}."
        f" Differences: {shown}{more}"
    )


_DIVERGED = "the file is damaged or its training diverged, take another copy or an earlier state"


def _hint(file: WeightFile, target: Target) -> str:
    """Say what to do about a file that does not fit."""
    if file.header is not None:
        stored = network_in(file)
        if stored is not None and stored.notation is not None:
            return f"the bundle holds the written network {stored.name}, see `striate weights show`"
        given = ", ".join(f"{key}={value!r}" for key, value in file.header.net_arguments.items())
        made = f"was built with {short(given)}" if given else "was built without arguments"
        return f"the bundle's network {made}, compare it with yours"
    fitting = guess(file)
    if target.listed in fitting:
        return f"the file fits {target.name} as published, give it no arguments (input_px and the like)"
    if fitting:
        return f"the file fits {' or '.join(fitting[:3])}, load it into that"
    close = nearest(file)
    if close is not None and close.net != target.listed:
        return (
            f"{close.net} is nearer ({close.num_alike} of {close.num_expected} tensors), or take another file"
        )
    return "check the network's name and arguments (num_classes, input_px), or take another file"


def _other_text(target: Target, file: WeightFile) -> tuple[str, ...]:
    """Say that a bundle's network is written in other words than the one that takes its weights."""
    stored = network_in(file)
    if stored is None or target.entry is None or (target.listed and stored.notation is None):
        return ()
    texts = [(one.notation or one.name).partition("\n")[2] for one in (stored, target.entry)]
    if texts[0] == texts[1]:
        return ()
    return (
        f"the bundle's network, {stored.name}, is not written as {target.name} is here: the tensors have the"
        " same names and shapes; strides, pads and activations were not compared",
    )


def _preprocessing(
    net: nn.Module, target: Target, layout: Layout, file: WeightFile
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return what images the weights expect, and a note where that is only likely."""
    if file.header is not None:
        return file.header.preprocessing, ()
    input_px = input_shape(net)[1]
    published = recognise(file.path.name, target.listed) if target.listed else None
    if published is not None:
        return published.preprocessing(input_px), ()
    expected = layout.preprocessing(input_px, file.mean_rgb)
    if layout.format in ("torchvision", "timm"):
        return expected, (ASSUMED,)
    return expected, ()


def _classes(file: WeightFile, layout: Layout, num_classes: int | None) -> tuple[str, ...] | None:
    if file.classes is not None and len(file.classes) == num_classes:
        return file.classes
    if layout.format != "striate" and num_classes == len(imagenet_classes()):
        return imagenet_classes()
    return None


def _by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
