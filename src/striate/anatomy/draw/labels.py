"""Words in figures: what boxes say, shortened names, ranges of names."""

from collections.abc import Sequence

from striate.anatomy.draw.shapes import text_width
from striate.anatomy.draw.steps import Step, size, window_words

DASH = "\N{EN DASH}"
FONT = 6.5
_WIDEST_LABEL = 92.0


def label(step: Step, *, short: bool = False) -> str:
    """Write what a step's box says; ``short`` without the word for a convolution."""
    parts = []
    if step.role in ("conv", "pool"):
        window = window_words(step)
        kernel, _, stride = window.partition(" ")
        parts = [kernel if short and kernel and step.role == "conv" else f"{kernel} {step.operation}".strip()]
        if step.role == "conv":
            parts.append(str(step.channels))
        if stride and not (step.role == "pool" and not step.is_volume):
            parts.append(stride)
        if step.window and step.window.groups > 1:
            parts.append(f"{step.window.groups} groups")
        if step.window and step.window.dilation != (1, 1):
            parts.append(f"dilated {step.window.dilation[0]}")
    elif step.role == "input":
        parts = ["input", size(step.output)]
    elif step.role in ("fc", "block") or step.operation == "concat":
        parts = [step.operation, str(step.channels)]
    else:
        parts = [step.operation]
    text, kept = ", ".join([*step.before, *parts]), 40
    while text_width(text, FONT) > _WIDEST_LABEL:
        kept -= 1
        text = f"{text[:kept]}…"
    return text


def shortened(text: str, width: float, font: float, *, bold: bool = False) -> str:
    """Shorten a text in its middle until it is no wider than a number of points."""
    kept, short = len(text), text
    while kept > 2 and text_width(short, font, bold=bold) > width:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def range_of(names: Sequence[str]) -> str:
    """Write names that follow each other: conv3_1, conv3_2, conv3_3 as ``conv3_1-3`` with a dash."""
    if len(names) == 1:
        return names[0]
    parents = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    if "" not in parents and len(parents) > 1:
        return range_of(parents)
    first, last = names[0], names[-1]
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    while same and first[same - 1].isdigit():
        same -= 1
    return f"{first}{DASH}{last[same:]}" if same else f"{first} {DASH} {last}"
