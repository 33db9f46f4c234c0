"""The gallery's images under an occluder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.core.progress import Progress
from striate.look.layers import device_of
from striate.look.occlusion import OcclusionMaps, occlude
from striate.look.stream import ImageStream, fetch
from striate.look.strongest import Strongest
from striate.report.inline import Figure, heat, hex_of, inline

_LABEL_COLOURS = "tab10"


@dataclass(frozen=True, slots=True, kw_only=True)
class OcclusionExample:
    """What the page shows of one image under the occluder."""

    name: str
    target: str
    probability: float
    image: Figure
    activation: Figure | None
    activation_range: tuple[float, float]
    probability_map: Figure
    probability_range: tuple[float, float]
    labels: Figure
    legend: tuple[tuple[str, str], ...]


def occlusion_examples(
    net: nn.Module,
    images: ImageStream,
    top: Strongest,
    classes: Sequence[str],
    fill: Tensor | float,
    multi_label: bool,
    temperature: float,
    examples: int,
    progress: Progress,
) -> tuple[tuple[OcclusionExample, ...], str, str]:
    """Run the occluder over the strongest images of a layer's first units.

    Args:
        net: the network.
        images: the data set.
        top: the strongest images of a layer.
        classes: names in the order of the scores; without any there are no examples.
        fill: what the occluder shows, as ``occlude``.
        multi_label: whether the scores are independent.
        temperature: what scores are divided by before they become probabilities.
        examples: how many.
        progress: listener.

    Returns:
        The examples, the occluder's size and stride in words, and the layer whose strongest map is summed.
    """
    numbers = list(dict.fromkeys(top.numbers[:, 0].tolist()))[:examples]
    if not numbers or not classes:
        return (), "", ""
    read = fetch(images, numbers)
    batch = torch.stack([read[number] for number in numbers])
    try:
        maps = occlude(
            net,
            batch.to(device_of(net)),
            fill=fill,
            multi_label=multi_label,
            temperature=temperature,
            progress=progress,
        )
    except UsageError:  # a network without class scores
        return (), "", ""
    shown = images.shown(batch)
    found = tuple(
        _example(top.names[number], shown[place], maps, place, classes)
        for place, number in enumerate(numbers)
    )
    (height, width), (step, _) = maps.grid.size_px, maps.grid.stride_px
    summed = "" if maps.activation is None else maps.activation.layer
    return found, f"{height} x {width} px, a step every {step} px", summed


def _example(
    name: str, pixels: NDArray[np.float32], maps: OcclusionMaps, place: int, classes: Sequence[str]
) -> OcclusionExample:
    def named(number: int) -> str:
        return classes[number] if number < len(classes) else f"class {number}"

    labels = maps.label.map[place].numpy()
    frequent = [int(one) for one in np.unique(labels)]
    frequent.sort(key=lambda one: -int((labels == one).sum()))
    palette = colormaps[_LABEL_COLOURS].colors[:9]  # type: ignore[attr-defined]
    colours = {one: palette[number] for number, one in enumerate(frequent[:9])}
    others = (0.75, 0.75, 0.75)
    painted = np.array([[colours.get(int(one), others) for one in row] for row in labels])
    legend = [(hex_of(colour), named(one)) for one, colour in colours.items()]
    if len(frequent) > 9:
        legend.append((hex_of(others), f"{len(frequent) - 9} more"))
    activation = None if maps.activation is None else maps.activation.map[place].numpy()
    probability = maps.probability.map[place].numpy()
    return OcclusionExample(
        name=name.rpartition("/")[2],
        target=named(int(maps.target[place])),
        probability=float(maps.probability.whole[place]),
        image=inline(pixels, pixels=max(pixels.shape[:2]) < 100),
        activation=None if activation is None else inline(heat(activation), pixels=True),
        activation_range=(0.0, 0.0)
        if activation is None
        else (float(activation.min()), float(activation.max())),
        probability_map=inline(heat(probability), pixels=True),
        probability_range=(float(probability.min()), float(probability.max())),
        labels=inline(painted, pixels=True),
        legend=tuple(legend),
    )
