"""The picture of a sanity check: the maps stage by stage, and how similar they stay."""

import math
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.choices import SanityMethod
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.gradcam import grad_cam
from striate.look.inputs import ImageChoice, class_name, find_class, network_name, read_image, title_of
from striate.look.layers import on_device
from striate.look.map_panels import SHARE, map_panel
from striate.look.picture import Panel, Picture, file_name
from striate.look.saliency import gradient, guided, integrated_gradients, magnitude, smooth, targets
from striate.look.sanity import Stage, sanity
from striate.weights.open import OpenNetwork

_COLUMNS = 5
_DPI = 150  # of the picture: a pixel of the curve is a pixel there
_WIDTH, _LINE = 42 / 25.4, 0.115  # inches


def show_sanity(
    opened: OpenNetwork,
    image: ImageChoice,
    *,
    cls: str | int | None = None,
    method: SanityMethod = "gradient",
    layer: Sequence[str] | None = None,
    seed: int = 0,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Make the weights random layer by layer from the top: does a method's picture change?

    Args:
        opened: the network.
        image: one image, see ``inputs.read_images``.
        cls: name or number of a class; None takes the network's first choice.
        method: that makes the maps.
        layer: layers to make random, bottom first; None takes all with weights.
        seed: of the random weights, and of smoothgrad's noise.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers ``layers`` (the first is "", the network unchanged), ``maps`` (stages x C x
        H x W), ``rank_correlation`` and ``similarity``; its notes say the correlations.

    Raises:
        UsageError: no such class, layer or method.
    """
    methods: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
        "gradient": gradient,
        "guided": guided,
        "deconvnet": lambda net, images, classes: gradient(net, images, classes, rule="deconvnet"),
        "smoothgrad": smooth(gradient, seed=seed),
        "integrated": integrated_gradients,
        "gradcam": grad_cam,
    }
    if method not in methods:
        raise UsageError(f"expected `method` out of {', '.join(get_args(SanityMethod))}, got {method!r}")
    found = read_image(image, opened.preprocessing)
    asked = None if cls is None else find_class(cls, opened.classes)
    device = compute.torch_device
    with on_device(opened.net, device) as net:
        normed = found.normed.to(device)
        number = int(targets(net, normed, asked)[0])
        stages = sanity(
            net, normed, number, method=methods[method], layers=layer, seed=seed, progress=progress
        )
    correlations = [float(stage.rank_correlation[0]) for stage in stages]
    caption = (
        f"{title_of(opened)}; {found.names[0]}; {method} of the score of"
        f" {class_name(number, opened.classes)!r}. From the top down, layer by layer, weights are drawn anew"
        f" from a normal distribution of the same spread, biases are shuffled (seed {seed}). Maps: largest"
        f" magnitude over the colours, each on its own scale, {SHARE:.1%} of the values inside. Rank"
        " correlation (Spearman) and SSIM of the magnitudes. A method whose picture stays the same does not"
        " show what was learned."
    )
    return Picture(
        name=file_name("sanity", opened.name, method, found.stem),
        rows=sanity_panels(stages, 0, shown=found.shown[0], name=found.names[0]),
        title=f"Sanity check of {method}: {network_name(opened)}",
        caption=caption,
        numbers={
            "layers": np.array([stage.layer for stage in stages]),
            "maps": np.stack([stage.maps[0].cpu().numpy() for stage in stages]),
            "rank_correlation": np.array(correlations),
            "similarity": np.array([float(stage.similarity[0]) for stage in stages]),
        },
        notes=[
            f"{stage.layer} and above random: rank correlation {in_words(value)}"
            for stage, value in zip(stages[1:], correlations[1:], strict=True)
        ],
    )


def sanity_panels(
    stages: Sequence[Stage], number: int, *, shown: NDArray[np.float32], name: str
) -> list[list[Panel]]:
    """Return rows of panels: the image, the curve, and a map for each stage.

    ``number`` is one of the images, ``shown`` that image in 0..1, ``H x W x 3``.
    """
    maps = []
    for stage in stages:
        amounts = magnitude(stage.maps)[number].cpu().numpy()
        title = "the network unchanged"
        if stage.layer:
            correlation = in_words(float(stage.rank_correlation[number]))
            title = f"{stage.layer} and above random\nrank correlation {correlation}"
        maps.append(map_panel(amounts, title=title, scale=""))
    first, *others = maps
    similarity_panel = Panel(pixels=curve(stages, number), title="similarity to the first map")
    rows = [others[place : place + _COLUMNS] for place in range(0, len(others), _COLUMNS)]
    return [[Panel(pixels=shown, title=name), first, similarity_panel], *rows]


def in_words(value: float) -> str:
    """Write a correlation; NaN is a map without contrast."""
    return "undefined" if math.isnan(value) else f"{value:.2f}"


def curve(stages: Sequence[Stage], number: int) -> NDArray[np.float32]:
    """Draw rank correlation and SSIM against the layers, from the top down, as pixels: ``H x W x 3``."""
    names = ["unchanged", *(stage.layer for stage in stages[1:])]
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
    axes.set_xlabel("similarity, 1: the same", fontsize=5, labelpad=1)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)
    figure.legend(
        loc="upper right", fontsize=5, frameon=False, ncols=2, handlelength=1.5, columnspacing=1, borderpad=0
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(np.float32) / np.float32(255)
