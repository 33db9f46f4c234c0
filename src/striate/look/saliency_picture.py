"""The picture of saliency: an image, and a map for each method."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from striate.core.choices import Baseline, SaliencyMethod
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing
from striate.look import inputs
from striate.look.inputs import ImageChoice
from striate.look.layers import on_device, untouched
from striate.look.map_panels import SHARE, map_panel
from striate.look.picture import Panel, Picture, file_name
from striate.look.saliency import (
    completeness,
    gradient,
    guided,
    integrated_gradients,
    magnitude,
    scores_of,
    smooth,
    targets,
)
from striate.look.stream import black_and_white
from striate.weights.open import OpenNetwork

METHODS: tuple[SaliencyMethod, ...] = get_args(SaliencyMethod)

_TITLES = {
    "gradient": "gradient\nscore per unit of the pixel",
    "guided": "guided\nno derivative, no unit",
    "smoothgrad": "SmoothGrad\nscore per unit of the pixel",
    "integrated": "integrated gradients\nin units of the score",
}


def show_saliency(
    opened: OpenNetwork,
    image: ImageChoice,
    *,
    cls: str | int | None = None,
    method: str | Sequence[str] = METHODS,
    samples: int = 50,
    noise: float = 0.15,
    steps: int = 64,
    baseline: Baseline = "black",
    seed: int = 0,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Show which pixels a class score depends on.

    Args:
        opened: the network.
        image: one image, see ``inputs.read_images``.
        cls: name or number of a class; None takes the network's first choice.
        method: one or several of ``METHODS``.
        samples: of smoothgrad: noisy copies, at least 1.
        noise: of smoothgrad: standard deviation, as a share of the image's range.
        steps: of integrated: points between baseline and image, at least 1.
        baseline: of integrated.
        seed: of smoothgrad's noise.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with an array for each method, ``C x H x W``, signed; with integrated gradients its notes
        say whether they add up.

    Raises:
        UsageError: no such class or method, or a step that the guided rule does not cover.
    """
    methods = [method] if isinstance(method, str) else list(dict.fromkeys(method))
    if unknown := [name for name in methods if name not in METHODS]:
        raise UsageError(f"expected `method` of {', '.join(METHODS)}, got {unknown[0]!r}")
    base = _plain(baseline, opened.preprocessing)
    found = inputs.read_image(image, opened.preprocessing)
    device, batch = compute.torch_device, compute.batch(16)
    asked = None if cls is None else inputs.find_class(cls, opened.classes)
    maps: dict[str, Tensor] = {}
    remarks, notes = [], []
    with on_device(opened.net, device) as net:
        normed = found.normed.to(device)
        number = int(targets(net, normed, asked)[0])
        for name in methods:
            if name == "gradient":
                maps[name] = gradient(net, normed, number, batch_images=batch)
            elif name == "guided":
                maps[name] = guided(net, normed, number, batch_images=batch)
                remarks.append("guided: a ReLU passes R on where x > 0 and R > 0")
            elif name == "smoothgrad":
                smoothed = smooth(gradient, samples=samples, noise=noise, seed=seed)
                maps[name] = smoothed(net, normed, number, batch_images=batch, progress=progress)
                remarks.append(
                    f"smoothgrad: {samples} copies, noise of {noise:.0%} of the image's range, seed {seed}"
                )
            else:
                maps[name] = integrated_gradients(
                    net, normed, number, baseline=base, steps=steps, batch_images=batch, progress=progress
                )
                check = completeness(net, normed, number, maps[name], baseline=base)
                notes.append(
                    f"integrated gradients: {steps} steps from {baseline}; they add up to"
                    f" {float(check.total[0]):.4g}, the score changes by {float(check.difference[0]):.4g}"
                )
        with untouched(net), torch.no_grad():
            score = float(scores_of(net, normed)[0, number])
    word = inputs.class_name(number, opened.classes)
    panels = [Panel(pixels=found.shown[0], title=f"{found.names[0]}\nscore {score:.3g}")]
    for name, one in maps.items():
        panels.append(map_panel(magnitude(one)[0].cpu().numpy(), title=_TITLES[name], scale=" "))
    chosen = "the network's first choice" if asked is None else "as asked for"
    caption = (
        f"{inputs.title_of(opened)}; {found.names[0]}; score of {word!r} ({chosen}), {score:.4g} before the"
        f" {inputs.squashing(opened)}. Each pixel: the largest magnitude over the colours; a unit is one of"
        f" the normed pixels. {SHARE:.1%} of the values lie inside each scale."
    )
    if remarks or notes:
        caption += "\n" + "; ".join([*remarks, *notes]) + "."
    return Picture(
        name=file_name("saliency", opened.name, found.stem),
        rows=[panels],
        title=f"What {word!r} depends on: {inputs.network_name(opened)}",
        caption=caption,
        numbers={name: one[0].cpu().numpy() for name, one in maps.items()},
        notes=notes,
    )


def _plain(baseline: Baseline, preprocessing: Preprocessing) -> Tensor:
    """Return a plain image, normed: ``C x 1 x 1``."""
    if baseline not in get_args(Baseline):
        raise UsageError(f"expected `baseline` out of {', '.join(get_args(Baseline))}, got {baseline!r}")
    if baseline == "mean":
        return torch.zeros(preprocessing.channels, 1, 1)
    black, white = black_and_white(preprocessing)
    return (black if baseline == "black" else white)[:, None, None]
