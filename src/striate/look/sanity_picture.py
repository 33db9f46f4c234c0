"""The picture of a sanity check: the maps stage by stage, and how alike they stay."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.look.amount_panels import heat_panel
from striate.look.picture import Panel
from striate.look.saliency import magnitude
from striate.look.sanity import Stage

_COLUMNS = 5
_DPI = 150  # of the picture: a pixel of the curve is a pixel there
_WIDTH, _LINE = 42 / 25.4, 0.115  # inches


def sanity_panels(
    stages: Sequence[Stage], number: int, *, shown: NDArray[np.float32], name: str
) -> list[list[Panel]]:
    """Return rows of panels: the image, the curve, and a map for each stage.

    Args:
        stages: of ``sanity``.
        number: which of the images.
        shown: that image in 0..1, ``H x W x 3``.
        name: of the image.
    """
    maps = []
    for stage in stages:
        amounts = magnitude(stage.maps)[number].numpy()
        title = "the network as it came"
        if stage.layer:
            likeness = in_words(float(stage.rank_correlation[number]))
            title = f"{stage.layer} and above random\nrank correlation {likeness}"
        maps.append(heat_panel(amounts, title=title, scale=""))
    first, *others = maps
    likeness_panel = Panel(pixels=curve(stages, number), title="how alike it stays")
    rows = [others[place : place + _COLUMNS] for place in range(0, len(others), _COLUMNS)]
    return [[Panel(pixels=shown, title=name), first, likeness_panel], *rows]


def in_words(value: float) -> str:
    """Write a correlation; NaN is a map without contrast."""
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def curve(stages: Sequence[Stage], number: int) -> NDArray[np.float32]:
    """Draw rank correlation and SSIM against the layers, from the top down, as pixels: ``H x W x 3``."""
    names = ["as it came", *(stage.layer for stage in stages[1:])]
    height = 0.62 + _LINE * len(names)
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    left = min(0.52, 0.07 + 0.028 * max(map(len, names)))
    axes = figure.add_axes((left, 0.36 / height, 0.96 - left, 1 - 0.54 / height))
    places = range(len(names))
    for label, marker, colour, values in (
        ("rank correlation", "o", "#1f4e8c", [float(stage.rank_correlation[number]) for stage in stages]),
        ("SSIM", "s", "#d98b2b", [float(stage.similarity[number]) for stage in stages]),
    ):
        axes.plot(values, places, marker=marker, color=colour, markersize=2.4, linewidth=0.8, label=label)
    axes.axvline(0, color="#999999", linewidth=0.5)
    axes.set_yticks(list(places), names, fontsize=5)
    axes.invert_yaxis()
    low = min((float(stage.rank_correlation[number]) for stage in stages), default=0.0)
    axes.set_xlim(min(-0.25, low - 0.05) if not math.isnan(low) else -0.25, 1.05)
    axes.tick_params(labelsize=5, length=1.5, width=0.4, pad=1)
    axes.set_xlabel("likeness, 1: the same", fontsize=5, labelpad=1)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
    figure.legend(
        loc="upper right", fontsize=5, frameon=False, ncols=2, handlelength=1.5, columnspacing=1, borderpad=0
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(np.float32) / np.float32(255)
