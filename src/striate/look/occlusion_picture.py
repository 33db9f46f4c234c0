"""The picture of occlusion: the image, the occluder to scale, and the three maps of the paper."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.preprocess import Preprocessing
from striate.look.occlusion import Fill, OcclusionMaps, fill_of, on_pixels
from striate.look.picture import Panel, save_maps, save_picture

_FILL_WORDS = {
    "grey": "mid grey",
    "mean": "the training mean's colour",
    "blur": "the blurred image",
}


def draw_occlusion(
    maps: OcclusionMaps,
    picture: Path,
    numbers: Path,
    *,
    shown: NDArray[np.float32],
    names: Sequence[str],
    classes: Sequence[str],
    network: str,
    preprocessing: Preprocessing,
    fill: Fill,
    blur_px: float,
    note: str = "",
) -> None:
    """Draw a row for each image, and write the numbers beside it.

    Args:
        maps: of ``occlude``.
        picture: file of the picture.
        numbers: file of the numbers, ``.npz``.
        shown: the images in 0..1, ``N x H x W x 3``.
        names: of the images.
        classes: names in the order of the scores.
        network: its name and how it got its weights, for the caption.
        preprocessing: what the images went through.
        fill: what the occluder showed.
        blur_px: of the fill ``blur``.
        note: more for the caption.
    """
    covers = _covers(fill, shown, preprocessing, blur_px)
    rows = [
        panels(maps, number, shown=shown[number], cover=covers[number], name=names[number], classes=classes)
        for number in range(len(shown))
    ]
    many = len({int(target) for target in maps.target}) > 1 or len(shown) > 1
    what = f"{len(shown)} images" if many else f"p({_name(classes, int(maps.target[0]))})"
    save_picture(
        rows,
        picture,
        title=f"Occlusion: {network.partition(',')[0]}, {what}",
        caption=_caption(maps, shown.shape[1:3], network, _FILL_WORDS[fill], blur_px, note),
        panel_mm=46.0,
    )
    save_maps(numbers, **arrays(maps), classes=np.array(classes), images=np.array(names), fill=np.array(fill))


def panels(
    maps: OcclusionMaps,
    number: int,
    *,
    shown: NDArray[np.float32],
    cover: NDArray[np.float32],
    name: str,
    classes: Sequence[str],
) -> list[Panel]:
    """Return the panels of one image: image, occluder, and the maps (b), (d) and (e).

    Args:
        maps: of ``occlude``.
        number: of the image in ``maps``.
        shown: the image in 0..1, ``H x W x 3``.
        cover: what the occluder shows, in 0..1, ``H x W x 3``.
        name: of the image.
        classes: names in the order of the scores.
    """
    height, width = shown.shape[:2]
    probability = maps.probability[number].numpy()
    lowest = np.unravel_index(int(probability.argmin()), probability.shape)
    top, left = maps.tops[int(lowest[0])], maps.lefts[int(lowest[1])]
    window = slice(top, top + maps.size_px[0]), slice(left, left + maps.size_px[1])
    covered = shown.copy()
    covered[window] = cover[window]
    target, label = int(maps.target[number]), int(maps.whole_label[number])
    labels = maps.label[number].numpy()
    box = (top, left, top + maps.size_px[0] - 1, left + maps.size_px[1] - 1)
    found = [
        Panel(pixels=shown, title=f"{name}\nmost probable: {_name(classes, label)}"),
        Panel(
            pixels=covered,
            title=f"occluder {maps.size_px[0]} x {maps.size_px[1]} px, stride {_by(maps.stride_px)}\n"
            f"where p is smallest: {probability[lowest]:.3g}",
            boxes=[box],
        ),
    ]
    if maps.activation is not None and maps.unit is not None and maps.whole_activation is not None:
        found.append(
            Panel(
                pixels=on_pixels(maps.activation[number].numpy(), maps, height, width),
                title=f"(b) sum of map {int(maps.unit[number])} of {maps.layer}\n"
                f"whole image: {float(maps.whole_activation[number]):.4g}",
                scale="sum of the map",
            )
        )
    found += [
        Panel(
            pixels=on_pixels(probability, maps, height, width),
            title=f"(d) p({_name(classes, target)})\n"
            f"whole image: {float(maps.whole_probability[number]):.3g}",
            colours="viridis",
            scale="probability",
        ),
        Panel(
            pixels=on_pixels(labels, maps, height, width),
            title=f"(e) most probable label\n{_plural(len(np.unique(labels)), 'label')}",
            names={int(each): _name(classes, int(each)) for each in np.unique(labels)},
        ),
    ]
    return found


def arrays(maps: OcclusionMaps) -> dict[str, NDArray[np.generic]]:
    """Return the maps as arrays by name, for a file."""
    found: dict[str, NDArray[np.generic]] = {
        "probability": maps.probability.numpy(),
        "score": maps.score.numpy(),
        "label": maps.label.numpy(),
        "whole_probability": maps.whole_probability.numpy(),
        "whole_score": maps.whole_score.numpy(),
        "whole_label": maps.whole_label.numpy(),
        "target": maps.target.numpy(),
        "rows": np.array(maps.rows),
        "columns": np.array(maps.columns),
        "tops": np.array(maps.tops),
        "lefts": np.array(maps.lefts),
        "size_px": np.array(maps.size_px),
        "stride_px": np.array(maps.stride_px),
        "layer": np.array(maps.layer),
    }
    for name in ("activation", "whole_activation", "unit"):
        tensor = getattr(maps, name)
        if tensor is not None:
            found[name] = tensor.numpy()
    return found


def _caption(
    maps: OcclusionMaps, sides: Sequence[int], network: str, fill: str, blur_px: float, note: str
) -> str:
    size, stride = " x ".join(map(str, maps.size_px)), maps.stride_px
    step = f"{stride[0]} px" if stride[0] == stride[1] else f"{stride[0]} px down, {stride[1]} px right"
    filled = f"{fill} (Gaussian of {blur_px:g} px)" if "blurred" in fill else fill
    parts = [
        f"{network}. Occluder of {size} px, {filled}, stride {step}: {len(maps.tops)} x {len(maps.lefts)}"
        f" places inside the input of {sides[0]} x {sides[1]} px."
        " A pixel of a map shows what the network says with the occluder's centre there (the nearest place)."
    ]
    if maps.activation is not None:
        how = ", after max(0, x)," if maps.rectified else ""
        parts.append(
            f"(b) the feature map of {maps.layer}{how} with the largest sum on the whole image, summed;"
        )
    parts.append("(d) probability of the class; (e) most probable label. Zeiler and Fergus 2013, Fig. 7.")
    return " ".join([*parts, note]).strip()


def _covers(
    fill: Fill, shown: NDArray[np.float32], preprocessing: Preprocessing, blur_px: float
) -> NDArray[np.float32]:
    if fill == "blur":
        blurred = fill_of("blur", torch.from_numpy(shown).permute(0, 3, 1, 2), preprocessing, blur_px=blur_px)
        return blurred.permute(0, 2, 3, 1).numpy()
    level = np.asarray(preprocessing.mean if fill == "mean" else 0.5, dtype=np.float32)
    return np.broadcast_to(level, shown.shape)


def _name(classes: Sequence[str], number: int) -> str:
    return classes[number] if number < len(classes) else f"class {number}"


def _by(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
