"""Settle what drafts leave open, names and activations, and check what the text claims."""

import re
from collections.abc import Sequence
from dataclasses import replace

from striate.nets.notation.forms import at
from striate.nets.notation.phrases import Draft, Item, Rule, name_item
from striate.nets.notation.record import (
    PREFIXES,
    Activation,
    BatchNorm,
    Conv,
    Dropout,
    FullyConnected,
    GlobalAvgPool,
    Layer,
    Norm,
    Pool,
    Volume,
    after,
    arithmetic,
    check_label,
    check_total,
    misfit,
    num_biases,
    num_weights,
    show,
)

_NUMBERED = re.compile(r"(?:conv|fc)([0-9]+(?:_[0-9]+)*)")
_MAX_STEM = 40


def settle_windows(drafts: Sequence[Draft]) -> list[Draft]:
    """Decide what the number of a bare POOL2 is: the window in a table of VGG's, else the label.

    In VGG's tables (CONV3-64) it is the window where every bare number is 2.
    """
    numbers = {draft.window for draft in drafts if draft.window is not None}
    if numbers != {2} or not any(draft.drawn for draft in drafts):
        return list(drafts)
    return [draft if draft.window is None else replace(draft, label=None) for draft in drafts]


def add_activations(drafts: Sequence[Draft], rule: Rule | None) -> list[Draft]:
    """Put an activation behind every convolution and every fully connected layer but the last.

    Nothing is put where the text names an activation itself. Batch normalisation stays before it.

    Args:
        drafts: the layers of the text.
        rule: its line ACTIVATION, if any; ReLU without one.
    """
    written = next(
        ((draft.spot, draft.layer) for draft in drafts if isinstance(draft.layer, Activation)), None
    )
    implied = Activation(label="unnamed") if rule is None else rule.activation
    if written is not None:
        if rule is not None and rule.activation is not None:
            raise written[0].refuse(
                f"expected no activation beside ACTIVATION of line {rule.spot.line},"
                f" got {written[1].kind.upper()}: leave one of the two out"
            )
        return list(drafts)
    if implied is None:
        return list(drafts)
    last = max((i for i, draft in enumerate(drafts) if isinstance(draft.layer, FullyConnected)), default=-1)
    result = []
    due = False
    for number, draft in enumerate(drafts):
        if due and not isinstance(draft.layer, BatchNorm):
            result.append(Draft(layer=implied, spot=drafts[number - 1].spot))
            due = False
        result.append(draft)
        due = due or isinstance(draft.layer, Conv)
        due = due or (isinstance(draft.layer, FullyConnected) and number != last)
    if due:
        result.append(Draft(layer=implied, spot=drafts[-1].spot))
    return result


def name_layers(drafts: Sequence[Draft]) -> list[Draft]:
    """Give every layer its label."""
    places: dict[str, Draft] = {}
    for draft in drafts:
        if draft.label is None:
            continue
        if draft.label in places:
            raise draft.spot.refuse(
                f"expected each label once, got {draft.label}, which is on line"
                f" {places[draft.label].spot.line} already: write another one"
            )
        with at(draft.spot):
            check_label(draft.label)
        places[draft.label] = draft
    taken = set(places)
    names = _Names(taken, drafts)
    return [replace(draft, layer=replace(draft.layer, label=names.next(draft))) for draft in drafts]


class _Names:
    """Counts the layers that have passed, and knows the names that are taken."""

    def __init__(self, taken: set[str], drafts: Sequence[Draft]) -> None:
        self.taken = taken
        self.in_blocks = any(draft.drawn or draft.patterned for draft in drafts)
        self.fc_follows_blocks = any(draft.drawn for draft in drafts)
        self.counts: dict[str, int] = {}
        self.block = 1
        self.in_block = 0
        self.anchor = "input"

    def next(self, draft: Draft) -> str:
        """Return the name of the next layer."""
        layer = draft.layer
        candidates = self._candidates(layer)
        label = draft.label
        if label is None:
            label = next((name for name in candidates if name not in self.taken), None)
            label = label or self._numbered(candidates[-1])
            self.taken.add(label)
        if isinstance(layer, Conv | FullyConnected):
            self.anchor = label
        return label

    def _candidates(self, layer: Layer) -> list[str]:
        match layer:
            case Conv():
                self.in_block += 1
                return (
                    [f"conv{self.block}_{self.in_block}"]
                    if self.in_blocks
                    else [f"conv{self._count('conv')}"]
                )
            case Pool():
                if self.in_block:
                    self.block += 1
                    self.in_block = 0
                return [f"pool{self._count('pool')}"]
            case FullyConnected():
                blocks = self.block - (not self.in_block) if self.fc_follows_blocks else 0
                return [f"fc{blocks + self._count('fc')}"]
            case Norm():
                return [f"norm{self._count('norm')}"]
            case GlobalAvgPool():
                return ["avgpool"]
            case BatchNorm():
                prefix = "bn"
            case Activation():
                prefix = PREFIXES[layer.kind]
            case Dropout():
                prefix = "drop"
        numbered = _NUMBERED.fullmatch(self.anchor)
        full = f"{self.anchor[:_MAX_STEM]}_{prefix}"
        return [f"{prefix}{numbered.group(1)}", full] if numbered else [full]

    def _count(self, kind: str) -> int:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.counts[kind]

    def _numbered(self, name: str) -> str:
        """Count up the number at the end of a name until it is free."""
        stem = name.rstrip("0123456789")
        number = int(name[len(stem) :] or 1) + 1
        while f"{stem}{number}" in self.taken:
            number += 1
        return f"{stem}{number}"


def check_volumes(input_shape: tuple[int, int, int], drafts: Sequence[Draft]) -> None:
    """Check that every layer fits what is before it, and every volume and number of weights that is claimed.

    Args:
        input_shape: channels, height and width in pixels.
        drafts: the layers in order.
    """
    volume: Volume = input_shape
    total = 0
    for draft in drafts:
        layer = draft.layer
        with at(draft.spot):
            behind = after(layer, volume)
        if not draft.rounding and (reason := misfit(layer, volume)):
            raise draft.spot.refuse(reason)
        total += num_weights(layer, volume) + num_biases(layer)
        with at(draft.spot):
            check_total(total)
        _check_depth(draft, volume)
        _check_volume(draft, volume, behind)
        _check_weights(draft, volume)
        volume = behind


def check_weightless(items: Sequence[Item]) -> None:
    """Check that the input and the settings claim no weights.

    Args:
        items: everything that the text says; its layers are ignored.
    """
    for item in items:
        for claim in () if isinstance(item, Draft) else item.weights:
            if not claim.allows(0):
                raise claim.spot.refuse(
                    f"expected params: 0 for {name_item(item)}, which has no weights, got {claim.text}:"
                    " correct the number or leave it out"
                )


def _check_depth(draft: Draft, volume: Volume) -> None:
    if draft.depth is None or not isinstance(draft.layer, Conv):
        return
    channels = volume[0] // draft.layer.groups
    if draft.depth != channels:
        groups = f" in each of {draft.layer.groups} groups" if draft.layer.groups > 1 else ""
        raise draft.spot.refuse(
            f"expected filters of depth {channels}, the channels of the input{groups}, got {draft.depth}:"
            " correct the depth or leave it out"
        )


def _check_volume(draft: Draft, before: Volume, behind: Volume) -> None:
    computed = (behind[1], behind[2], behind[0]) if len(behind) == 3 else (1, 1, behind[0])
    for claim in draft.volumes:
        said = claim.sizes
        if said == computed or (len(said) == 1 and computed == (1, 1, said[0])):
            continue
        shown = show(said if len(said) == 1 else (said[2], said[0], said[1]))
        steps = arithmetic(draft.layer, before)
        because = f" from {steps}" if steps else ""
        raise claim.spot.refuse(
            f"expected the volume {show(behind)}{because}, got {shown}:"
            " correct the volume, or the layers up to here"
        )


def _check_weights(draft: Draft, volume: Volume) -> None:
    weights = num_weights(draft.layer, volume)
    biases = num_biases(draft.layer)
    for claim in draft.weights:
        if claim.allows(weights):
            continue
        counted = ", which counts the biases" if biases and claim.allows(weights + biases) else ""
        raise claim.spot.refuse(
            f"expected params: {_product(draft.layer, volume)}{weights:,} without biases,"
            f" got {claim.text}{counted}:"
            " correct the number or leave it out"
        )


def _product(layer: Layer, volume: Volume) -> str:
    match layer:
        case Conv():
            height, width = layer.kernel
            return f"({height}*{width}*{volume[0] // layer.groups})*{layer.filters} = "
        case FullyConnected():
            inputs = "*".join(map(str, (*volume[1:], volume[0])))
            return f"{inputs}*{layer.units} = "
    return ""
