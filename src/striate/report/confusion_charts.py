"""Confusion matrices as charts: with their counts for few classes, as an image for many."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.report.axes import nice_ticks
from striate.report.images import inline
from striate.report.palette import BAD, BAD_PIXEL, GOOD, GOOD_PIXEL, INK, PAPER, RULE
from striate.report.svg import fit, hovered, rect, svg, text, text_width, turned

_MAX_MAP_CELLS = 200


def confusion_table(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw a confusion matrix with its counts: correct predictions in one colour, mistakes in another.

    A correct prediction is as deep as its share of its row; a mistake as deep as its share of its row
    relative to the commonest mistake, so that rare mistakes are seen.

    Args:
        counts: ``K x K``, row = true class; meant for up to about 20 classes.
        classes: ``K`` names.

    Returns:
        SVG; its width grows with the classes.
    """
    num = len(classes)
    cell = 60.0 if num <= 3 else 46.0 if num <= 6 else 36.0 if num <= 12 else 31.0
    names = [fit(name, 118, 12) for name in classes]
    widths = [text_width(name, 12) for name in names]
    slanted = max(widths) > cell - 6
    left = 26 + max(widths) + 8
    head = 24 + (max(widths) * 0.72 + 12 if slanted else 18)
    overhang = max(max(0.0, widths[k] * 0.72 - (num - k - 1) * cell) for k in range(num)) if slanted else 4
    shares = _row_shares(counts)
    worst = float((shares * ~np.eye(num, dtype=bool)).max()) or 1.0
    parts = _axis_names("class", left + cell * num / 2, head + cell * num / 2)
    for k, name in enumerate(names):
        x, y = left + cell * (k + 0.5), head + cell * (k + 0.5)
        parts.append(text(left - 8, y + 4, name, "row", anchor="end", hover=classes[k]))
        if slanted:
            parts.append(turned(x - 2, head - 7, -45, text(0, 0, name, "row", hover=classes[k])))
        else:
            parts.append(text(x, head - 8, name, "row", anchor="middle", hover=classes[k]))
    for i in range(num):
        for j in range(num):
            count, share = int(counts[i, j]), float(shares[i, j])
            opacity = 0.9 * (share if i == j else 0.12 + 0.78 * share / worst) if count else 0.35
            fill = (GOOD if i == j else BAD) if count else RULE
            x, y = left + cell * j, head + cell * i
            cells = [rect(x + 1, y + 1, cell - 2, cell - 2, fill, radius=3, opacity=opacity)]
            if count:
                size = min(12.5, (cell - 6) / (0.58 * len(str(count))))
                style = f"font-size:{size:.1f}px;fill:{PAPER if opacity > 0.5 else INK}"
                middle = x + cell / 2, y + cell / 2 + size * 0.35
                cells.append(text(*middle, str(count), anchor="middle", style=style))
            said = f"{classes[i]} predicted as {classes[j]}: {count} ({100 * share:.1f}% of the class)"
            parts.append(hovered(said, *cells))
    width, height = left + cell * num + overhang, head + cell * num + 4
    return svg(width, height, f"confusion matrix of {num} classes", *parts)


def confusion_map(counts: NDArray[np.int64]) -> tuple[str, int]:
    """Draw a confusion matrix of many classes as an image without numbers.

    Args:
        counts: ``K x K``, row = true class.

    Returns:
        The SVG, and how many classes one dot covers along each side: above 200 classes a dot shows the
        largest share in its block.
    """
    num = len(counts)
    shares = _row_shares(counts)
    correct = shares * np.eye(num)
    wrong = shares - correct
    block = math.ceil(num / _MAX_MAP_CELLS)
    correct, wrong = _block_max(correct, block), _block_max(wrong, block)
    is_wrong = wrong > correct
    # Opacity follows the square root of the share: most mistakes are rare, and a rare one must still be seen.
    alpha = np.where(is_wrong, 0.2 + 0.8 * np.sqrt(wrong / (wrong.max() or 1.0)), np.sqrt(correct)) * (
        (correct + wrong) > 0
    )
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = np.where(is_wrong[..., None], BAD_PIXEL, GOOD_PIXEL)
    pixels[..., 3] = np.round(alpha * 255)
    side, left, top = 330, 44, 26
    ticks = sorted({0, num - 1, *(int(t) for t in nice_ticks(0, num - 1, 4) if 0 < t < 0.94 * (num - 1))})
    parts = [
        rect(left, top, side, side, RULE, opacity=0.35),
        f'<image x="{left}" y="{top}" width="{side}" height="{side}" style="image-rendering:pixelated"'
        f' preserveAspectRatio="none" href="{inline(pixels, sharp=True).uri}"/>',
        *_axis_names("class (number)", left + side / 2, top + side / 2),
    ]
    for tick in ticks:
        at = side * (tick + 0.5) / num
        parts.append(text(left - 5, top + at + 4, str(tick), "tick", anchor="end"))
        parts.append(text(left + at, top + side + 15, str(tick), "tick", anchor="middle"))
    return svg(left + side + 16, top + side + 20, f"confusion matrix of {num} classes", *parts), block


def _axis_names(what: str, middle_x: float, middle_y: float) -> list[str]:
    return [
        text(middle_x, 12, f"predicted {what}", "axis-name", anchor="middle"),
        turned(12, middle_y, -90, text(0, 0, f"true {what}", "axis-name", anchor="middle")),
    ]


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(totals, 1), np.float64)


def _block_max(matrix: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    pad = -len(matrix) % block
    side = (len(matrix) + pad) // block
    return np.pad(matrix, (0, pad)).reshape(side, block, side, block).max(axis=(1, 3))
