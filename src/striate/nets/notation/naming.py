"""Names for the layers that have none, and the activations that a text leaves out."""

import re
from collections.abc import Sequence
from dataclasses import replace

from striate.nets.notation.drafts import at
from striate.nets.notation.items import Draft, Rule
from striate.nets.notation.layers import (
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
    check_label,
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

    Raises:
        UsageError: the text has both an activation and a line ACTIVATION that asks for one.
    """
    written = next((draft for draft in drafts if isinstance(draft.layer, Activation)), None)
    implied = Activation(label="unnamed") if rule is None else rule.activation
    if written is not None:
        if rule is not None and rule.activation is not None:
            raise written.spot.refuse(
                f"expected no activation beside ACTIVATION of line {rule.spot.line},"
                f" got {_kind(written.layer)}: leave one of the two out"
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
    """Give every layer its label.

    Raises:
        UsageError: a written label stands twice, or can't be one.
    """
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


def _kind(layer: Layer) -> str:
    assert isinstance(layer, Activation)
    return layer.kind.upper()
