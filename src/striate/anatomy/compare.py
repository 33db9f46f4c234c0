"""Networks side by side, and what the lectures claim about some of them."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from striate.anatomy.field import Axis, Field
from striate.anatomy.profile import Profile
from striate.core.errors import UsageError

Quantity = Literal["parameters", "macs", "values", "depth"]

RATIOS: tuple[Quantity, ...] = ("parameters", "macs", "values", "depth")
"""What is compared as ratios."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Networks side by side.

    Attributes:
        profiles: the networks; ratios are to the first.
        remarks: sentences: equal receptive fields, and claims of the lectures beside the exact numbers.
    """

    profiles: tuple[Profile, ...]
    remarks: tuple[str, ...]

    def ratio(self, profile: Profile, quantity: Quantity) -> float | None:
        """Return a network's quantity as a multiple of the first one's; None where that is 0."""
        first: int = getattr(self.profiles[0], quantity)
        own: int = getattr(profile, quantity)
        return own / first if first else None

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a plain dict for each network, ratios included."""
        rows = []
        for profile in self.profiles:
            field = profile.field
            row: dict[str, Any] = {
                "name": profile.name,
                "input": "x".join(map(str, profile.input_shape)),
                "parameters": profile.parameters,
                "training_only_parameters": profile.training_only,
                "weights": profile.weights,
                "macs": profile.macs,
                "flops": profile.flops,
                "activation_values": profile.values,
                "depth": profile.depth,
                "field_layer": profile.field_layer,
                "field_rows_px": None if field is None else field.rows.size_px,
                "field_columns_px": None if field is None else field.columns.size_px,
                "field_jump_px": None if field is None else field.rows.jump_px,
                "published_error": profile.published_error,
            }
            for quantity in RATIOS:
                row[f"{quantity}_ratio"] = self.ratio(profile, quantity)
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "ratios_to": self.profiles[0].name,
            "networks": self.to_rows(),
            "remarks": list(self.remarks),
        }

    def to_csv(self) -> str:
        """Write one line a network, with a heading."""
        rows = self.to_rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_cells(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Write the table: for each line its label, and for each network its value and its ratio, or ""."""
        lines: list[tuple[str, list[tuple[str, str]]]] = []

        def add(label: str, texts: Sequence[str], quantity: Quantity | None = None) -> None:
            ratios = [""] * len(texts)
            if quantity is not None:
                found = [self.ratio(profile, quantity) for profile in self.profiles]
                ratios = ["" if ratio is None else times(ratio) for ratio in found]
                ratios[0] = ""
            lines.append((label, list(zip(texts, ratios, strict=True))))

        profiles = self.profiles
        add("input", [f"{one.input_shape[1]}x{one.input_shape[2]}x{one.input_shape[0]}" for one in profiles])
        add("parameters", [f"{one.parameters:,}" for one in profiles], "parameters")
        if any(one.training_only for one in profiles):
            add("for training only", [f"{one.training_only:,}" for one in profiles])
        add("MACs", [f"{one.macs:,}" for one in profiles], "macs")
        add("FLOP", [f"{one.flops:,}" for one in profiles])
        add("activations", [f"{one.values:,}" for one in profiles], "values")
        add("  memory", [f"{4 * one.values / 1e6:,.2f} MB" for one in profiles])
        add("depth", [f"{one.depth}" for one in profiles], "depth")
        add("receptive field", [_field_words(one.field) for one in profiles])
        add("  jump", [_jump_words(one.field) for one in profiles])
        add("  in layer", [one.field_layer or "-" for one in profiles])
        return lines

    def to_markdown(self) -> str:
        """Write a table of Markdown, and the remarks under it."""
        names = [_cell(profile.name) for profile in self.profiles]
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for label, cells in self.to_cells():
            written = [f"{value} ({ratio})" if ratio else value for value, ratio in cells]
            lines.append(f"| {label.strip()} | " + " | ".join(map(_cell, written)) + " |")
        errors = [_cell(profile.published_error) or "-" for profile in self.profiles]
        lines.append("| published error | " + " | ".join(errors) + " |")
        remarks = [f"- {remark}" for remark in self.remarks]
        return "\n".join([*lines, *(["", *remarks] if remarks else [])]) + "\n"


def compare(profiles: Sequence[Profile]) -> Comparison:
    """Put networks side by side.

    Args:
        profiles: at least two; ratios are to the first.

    Raises:
        UsageError: fewer than two, or two of one name.
    """
    if len(profiles) < 2:
        raise UsageError(f"expected at least two networks to compare, got {len(profiles)}: name another")
    names = [one.name for one in profiles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"expected each network once, got {twice} twice: name another")
    remarks = [*_equal_fields(profiles), *_claims(profiles)]
    return Comparison(profiles=tuple(profiles), remarks=tuple(remarks))


def times(ratio: float) -> str:
    """Write a ratio: ``2.2x``, or ``1/8.7`` where it is below 1."""
    if ratio == 1:
        return "equal"
    if abs(ratio - 1) < 0.0005:
        return "about 1x"
    if ratio == 0:
        return "0"
    return f"1/{_short(1 / ratio)}" if ratio < 1 else f"{_short(ratio)}x"


def _short(ratio: float) -> str:
    """Write a number above 1 with as many digits as distinguish it from 1, at least two."""
    if float(round(ratio, 9)).is_integer():
        return f"{ratio:,.0f}"
    if ratio >= 100:
        return f"{ratio:,.0f}"
    digits = next((d for d in (1, 2, 3) if round(ratio, d) > 1), 4)
    return f"{ratio:.{digits}f}"


def _cell(text: str) -> str:
    """Write a text so that it stays in one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def _field_words(field: Field | None) -> str:
    if field is None:
        return "unknown"
    return f"{field.rows.size_px}x{field.columns.size_px} px"


def _jump_words(field: Field | None) -> str:
    if field is None or field.rows.jump_px is None:
        return "-"
    return f"{field.rows.jump_px} px"


def _same_field(a: Field | None, b: Field | None) -> bool:
    def key(axis: Axis) -> tuple[int, int | None]:
        return (axis.size_px, axis.jump_px)

    return a is not None and b is not None and key(a.rows) == key(b.rows) and key(a.columns) == key(b.columns)


def _equal_fields(profiles: Sequence[Profile]) -> list[str]:
    """Say which networks see the same pixels, and at what price where both are plain stacks."""
    remarks = []
    for i, a in enumerate(profiles):
        for b in profiles[i + 1 :]:
            if not _same_field(a.field, b.field):
                continue
            assert a.field is not None
            sees = f"{a.field.rows.size_px}x{a.field.columns.size_px} px"
            sentence = (
                f"The receptive fields are equal: a unit of {a.name} and one of {b.name} see {sees} each."
            )
            if a.width is not None and a.width == b.width:
                sentence += _weights_in_squares(a, b, a.width)
            remarks.append(sentence)
    return remarks


def _weights_in_squares(a: Profile, b: Profile, channels: int) -> str:
    few, many = sorted((a, b), key=lambda one: one.weights)
    factors = [one.weights // channels**2 for one in (few, many)]
    more = many.weights / few.weights - 1
    return (
        f" With C = {channels} channels throughout, {few.name} has {factors[0]} C^2 = {few.weights:,} weights"
        f" and {many.name} {factors[1]} C^2 = {many.weights:,}"
        + (f", {more:.0%} more (biases apart)." if more else " (biases apart).")
    )


_STACK = re.compile(
    r"\s*conv\s+(\d{1,3})\s*[xX]\s*(\d{1,3})(?:\s*[xX\u00d7*]\s*(\d{1,2}))?\s*", re.IGNORECASE
)


def stack_text(word: str, *, channels: int = 64, input_px: int = 56) -> str | None:
    """Write out the short form of a stack, ``conv 3x3 x3``, in the lectures' notation.

    Args:
        word: the window and how many times it follows itself (once if not said).
        channels: C of each layer, at least 1.
        input_px: side of the maps that it reads, in pixels.

    Returns:
        The text, where each layer keeps C channels and the size of its maps; None where ``word`` is no stack.

    Raises:
        UsageError: a window of even side, which can't keep the size; or no layer.
    """
    found = _STACK.fullmatch(word)
    if found is None:
        return None
    rows, columns, number = int(found.group(1)), int(found.group(2)), int(found.group(3) or 1)
    if rows % 2 == 0 or columns % 2 == 0:
        raise UsageError(f"expected a window of odd sides, got {rows}x{columns}: write conv 3x3 x3")
    if number < 1:
        raise UsageError(f"expected at least one convolution, got {number}: write conv 3x3 x3")
    layers = " > ".join([f"CONV {channels} {rows}x{columns} pad same"] * number)
    return f"INPUT {input_px}x{input_px}x{channels} > {layers}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that lectures or papers say, and what there is to add to it.

    Attributes:
        networks: it is about these, all needed.
        quantity: what is divided, the first network's by the second's; None where ``said`` is all.
        said: the claim, and how it holds.
        source: who says so.
    """

    networks: tuple[str, ...]
    quantity: Quantity | None
    said: str
    source: str


_WORDS: dict[Quantity, str] = {
    "parameters": "parameters",
    "macs": "MACs",
    "values": "values",
    "depth": "layers with weights",
}

_AKHAVAN = "Akhavan, Lecture 11"
_CPSC = "CPSC 532S, Lecture 6"
_OH = "Oh, Computer Vision"
_SEMINAR = "Advanced Vision Seminar"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        networks=("alexnet", "googlenet"),
        quantity="parameters",
        said=(
            "lectures, and the paper's introduction, say 12 times fewer; the lectures' 5 million for"
            " GoogLeNet would give that, and are not what its layers hold"
        ),
        source=f"{_AKHAVAN}; {_CPSC}; Szegedy et al. 2014",
    ),
    Claim(
        networks=("googlenet", "alexnet"),
        quantity="macs",
        said='the usual "twice the compute" is right; against an AlexNet without groups it is 1.4 times',
        source="Szegedy et al. 2014, Table 1, gives 1.5 billion operations for GoogLeNet",
    ),
    Claim(
        networks=("vgg16", "resnet152"),
        quantity="macs",
        said=(
            "right: the deeper network computes less, 11.3 against 15.5 billion, which papers call FLOPs and"
            " are MACs"
        ),
        source=f"{_AKHAVAN}; He et al. 2015, Table 1",
    ),
    Claim(
        networks=("vgg19", "resnet152"),
        quantity="macs",
        said="right: the paper prints 19.6 and 11.3 billion FLOPs, which are MACs",
        source="He et al. 2015",
    ),
    Claim(
        networks=("resnet152", "vgg19"),
        quantity="depth",
        said="right: 8 times the layers of VGG, which is VGG-19 here",
        source=_AKHAVAN,
    ),
    Claim(
        networks=("alexnet_lecture", "alexnet"),
        quantity="macs",
        said=(
            "lectures draw conv2, conv4 and conv5 without their two groups, which doubles the work of these"
            " three"
        ),
        source=f"{_AKHAVAN}; {_CPSC}; {_OH}; Krizhevsky et al. 2012, sec. 3.5",
    ),
    Claim(
        networks=("resnet50_v1_5", "resnet50"),
        quantity="macs",
        said="the paper strides the first 1x1 of a block, fb.resnet.torch and torchvision the 3x3",
        source="He et al. 2015; the two programs",
    ),
    Claim(
        networks=("inception_naive", "inception_bottleneck"),
        quantity="macs",
        said=(
            "stem and classifier are in these; the modules alone have 854,196,224 and 271,351,808, a saving"
            ' of 68.2 %, where a lecture says "approximately 60 %": its total of 358 million counts the 3x3'
            " convolution twice"
        ),
        source=_CPSC,
    ),
    Claim(
        networks=("vgg16",),
        quantity=None,
        said=(
            'vgg16: the lectures\' 138 million parameters, "not counting biases", are 138,344,128; with'
            " biases they are 138,357,544, which rounds to 138 million too"
        ),
        source=f"{_AKHAVAN}; {_CPSC}; {_OH}",
    ),
    Claim(
        networks=("vgg16",),
        quantity=None,
        said=(
            "vgg16: its activations are 15,237,608 values or 60.95 MB; the 24 million and 93 or 96 MB that"
            " two lectures print do not follow from the rows of their own tables"
        ),
        source=f"{_OH} (right); {_AKHAVAN}; {_CPSC}",
    ),
    Claim(
        networks=("alexnet",),
        quantity=None,
        said="alexnet: the ~60,000 parameters of one lecture are 60,965,224, about 60 million",
        source=_SEMINAR,
    ),
)
"""Claims about networks, from the lectures and the papers; docs/compare.md lists them."""


def _claims(profiles: Sequence[Profile]) -> list[str]:
    found = {one.name: one for one in profiles}
    remarks = []
    for claim in CLAIMS:
        if not all(name in found for name in claim.networks):
            continue
        if claim.quantity is None:
            remarks.append(f"{claim.said} ({claim.source}).")
            continue
        a, b = (found[name] for name in claim.networks)
        over, under = getattr(a, claim.quantity), getattr(b, claim.quantity)
        ratio = over / under
        remarks.append(
            f"{_WORDS[claim.quantity]}: {a.name} {over:,} / {b.name} {under:,} = {ratio:.2f}: {claim.said}"
            f" ({claim.source})."
        )
    return remarks
