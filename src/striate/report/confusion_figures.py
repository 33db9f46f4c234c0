"""Confusion matrices as figures: with their counts for few classes, as a picture for many."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.report.axes import nice_ticks
from striate.report.svg import escape, fit, png_uri, svg, text_width, words

_MAX_MAP_CELLS = 200


def confusion_table(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw a confusion matrix with its counts: right answers in one colour, mistakes in another.

    A right answer is as deep as its share of its row; a mistake as deep as its share of its row relative to
    the commonest mistake, so that rare mistakes are seen.

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
    turned = max(widths) > cell - 6
    left = 26 + max(widths) + 8
    head = 24 + (max(widths) * 0.72 + 12 if turned else 18)
    width = (
        left
        + cell * num
        + (max(max(0.0, widths[k] * 0.72 - (num - k - 1) * cell) for k in range(num)) if turned else 4)
    )
    height = head + cell * num + 4
    shares = _row_shares(counts)
    worst = float((shares * ~np.eye(num, dtype=bool)).max()) or 1.0
    middle = left + cell * num / 2
    parts = [
        words(middle, 12, "predicted class", anchor="middle", css="axis-name"),
        f'<g transform="translate(12 {head + cell * num / 2:.1f}) rotate(-90)">'
        f"{words(0, 0, 'true class', anchor='middle', css='axis-name')}</g>",
    ]
    for k, name in enumerate(names):
        x, y = left + cell * (k + 0.5), head + cell * (k + 0.5)
        parts.append(words(left - 8, y + 4, name, anchor="end", css="row", title=classes[k]))
        if turned:
            slanted = words(0, 0, name, css="row", title=classes[k])
            parts.append(f'<g transform="translate({x - 2:.1f} {head - 7:.1f}) rotate(-45)">{slanted}</g>')
        else:
            parts.append(words(x, head - 8, name, anchor="middle", css="row", title=classes[k]))
    for i in range(num):
        for j in range(num):
            count = int(counts[i, j])
            depth = float(shares[i, j]) if i == j else 0.12 + 0.78 * float(shares[i, j]) / worst
            hue = "var(--good)" if i == j else "var(--bad)"
            opacity = 0.9 * depth if count else 0.0
            x, y = left + cell * j, head + cell * i
            style = (
                f'fill="{hue}" fill-opacity="{opacity:.3f}"'
                if count
                else 'fill="var(--rule)" fill-opacity="0.35"'
            )
            said = f"{classes[i]} called {classes[j]}: {count} ({100 * shares[i, j]:.1f}% of the class)"
            parts.append(
                f'<g><title>{escape(said)}</title><rect x="{x + 1:.1f}" y="{y + 1:.1f}"'
                f' width="{cell - 2:.1f}" height="{cell - 2:.1f}" rx="3" {style}/>'
            )
            if count:
                size = min(12.5, (cell - 6) / (0.58 * len(str(count))))
                colour = "var(--paper)" if opacity > 0.5 else "var(--ink)"
                parts.append(
                    f'<text x="{x + cell / 2:.1f}" y="{y + cell / 2 + size * 0.35:.1f}" text-anchor="middle"'
                    f' style="font-size:{size:.1f}px;fill:{colour}">{count}</text>'
                )
            parts.append("</g>")
    return svg(width, height, f"confusion matrix of {num} classes", *parts)


def confusion_map(counts: NDArray[np.int64]) -> tuple[str, int]:
    """Draw a confusion matrix of many classes as a picture without numbers.

    Args:
        counts: ``K x K``, row = true class.

    Returns:
        The SVG, and how many classes one dot stands for along each side: above 200 classes a dot shows the
        largest share in its block.
    """
    num = len(counts)
    shares = _row_shares(counts)
    right = shares * np.eye(num)
    wrong = shares - right
    block = math.ceil(num / _MAX_MAP_CELLS)
    right, wrong = _block_max(right, block), _block_max(wrong, block)
    is_wrong = wrong > right
    # Opacity follows the square root of the share: most mistakes are rare, and a rare one must still be seen.
    alpha = np.where(is_wrong, 0.2 + 0.8 * np.sqrt(wrong / (wrong.max() or 1.0)), np.sqrt(right)) * (
        (right + wrong) > 0
    )
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = np.where(is_wrong[..., None], (214, 84, 26), (42, 120, 190))
    pixels[..., 3] = np.round(alpha * 255)
    side, left, top = 330, 44, 26
    ticks = sorted({0, num - 1, *(int(t) for t in nice_ticks(0, num - 1, 4) if 0 < t < 0.94 * (num - 1))})
    parts = [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="var(--rule)" fill-opacity="0.35"/>',
        f'<image x="{left}" y="{top}" width="{side}" height="{side}" style="image-rendering:pixelated"'
        f' preserveAspectRatio="none" href="{png_uri(pixels)}"/>',
        words(left + side / 2, 11, "predicted class (number)", anchor="middle", css="axis-name"),
        f'<g transform="translate(11 {top + side / 2}) rotate(-90)">'
        f"{words(0, 0, 'true class (number)', anchor='middle', css='axis-name')}</g>",
    ]
    for tick in ticks:
        place = side * (tick + 0.5) / num
        parts.append(words(left - 5, top + place + 4, str(tick), anchor="end", css="tick"))
        parts.append(words(left + place, top + side + 15, str(tick), anchor="middle", css="tick"))
    return svg(left + side + 16, top + side + 20, f"confusion matrix of {num} classes", *parts), block


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.maximum(totals, 1), np.float64)


def _block_max(matrix: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    pad = -len(matrix) % block
    side = (len(matrix) + pad) // block
    return np.pad(matrix, (0, pad)).reshape(side, block, side, block).max(axis=(1, 3))
