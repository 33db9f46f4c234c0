"""The gallery's images under an occluder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from torch import Tensor, nn

from striate.core.errors import UsageError
from striate.core.progress import Progress
from striate.look.layers import device_of
from striate.look.occlusion import OcclusionMaps, occlude
from striate.look.stream import ImageStream, fetch
from striate.look.strongest import Strongest
from striate.report.images import InlineImage, inline

_NUM_LABEL_COLOURS = 9
_OTHER_LABELS = (0.75, 0.75, 0.75)


@dataclass(frozen=True, slots=True, kw_only=True)
class OcclusionExample:
    """What the page shows of one image under the occluder."""

    name: str
    target: str
    probability: float
    image: InlineImage
    activation: InlineImage | None
    activation_range: tuple[float, float]
    probability_map: InlineImage
    probability_range: tuple[float, float]
    labels: InlineImage
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
    """Run the occluder over the images that excite a layer most: the strongest of each unit first.

    Args:
        net: the network.
        images: the data set.
        top: the strongest images of a layer.
        classes: names in the order of the scores; without any there are no examples.
        fill: what the occluder shows, as ``occlude``.
        multi_label: whether the scores are independent.
        temperature: what scores are divided by before they become probabilities.
        examples: how many, if there are as many images.
        progress: listener.

    Returns:
        The examples, the occluder's size and stride in words, and the layer whose strongest map is summed.
    """
    # Rank by rank: units often share their strongest image.
    numbers = list(dict.fromkeys(top.numbers.T.flatten().tolist()))[:examples]
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
    found = tuple(_example(top.names[n], shown[i], maps, i, classes) for i, n in enumerate(numbers))
    (height, width), (step, _) = maps.grid.size_px, maps.grid.stride_px
    summed = "" if maps.activation is None else maps.activation.layer
    return found, f"{height} x {width} px, a step every {step} px", summed


def _example(
    name: str, pixels: NDArray[np.float32], maps: OcclusionMaps, index: int, classes: Sequence[str]
) -> OcclusionExample:
    def named(number: int) -> str:
        return classes[number] if number < len(classes) else f"class {number}"

    labels = maps.label.map[index].numpy()
    frequent = [int(one) for one in np.unique(labels)]
    frequent.sort(key=lambda one: -int((labels == one).sum()))
    palette = colormaps["tab10"](np.arange(_NUM_LABEL_COLOURS))[:, :3]
    colours = dict(zip(frequent, palette, strict=False))
    painted = np.array([[colours.get(int(one), _OTHER_LABELS) for one in row] for row in labels])
    legend = [(to_hex(colour), named(one)) for one, colour in colours.items()]
    if len(frequent) > len(colours):
        legend.append((to_hex(_OTHER_LABELS), f"{len(frequent) - len(colours)} more"))
    activation = None if maps.activation is None else maps.activation.map[index].numpy()
    probability = maps.probability.map[index].numpy()
    return OcclusionExample(
        name=name.rpartition("/")[2],
        target=named(int(maps.target[index])),
        probability=float(maps.probability.whole[index]),
        image=inline(pixels, sharp=max(pixels.shape[:2]) < 100),
        activation=None if activation is None else _amounts(activation),
        activation_range=(0.0, 0.0) if activation is None else _range(activation),
        probability_map=_amounts(probability),
        probability_range=_range(probability),
        labels=inline(painted, sharp=True),
        legend=tuple(legend),
    )


def _range(values: NDArray[np.float32]) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _amounts(values: NDArray[np.float32]) -> InlineImage:
    """Colour ``H x W`` numbers from their smallest (dark) to their largest (bright)."""
    low, high = _range(values)
    scaled = (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
    return inline(np.asarray(colormaps["magma"](scaled))[..., :3], sharp=True)
