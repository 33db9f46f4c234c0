"""The picture of occlusion: the image, the occluder to scale, and the three maps of the paper."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from striate.core.choices import Fill
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.data.preprocess import Preprocessing
from striate.data.source import counted
from striate.look.inputs import ImageChoice, class_name, find_class, network_name, read_images, title_of
from striate.look.layers import on_device
from striate.look.occlusion import OcclusionMaps, fill_of, grid_of, occlude
from striate.look.picture import Panel, Picture, file_name
from striate.weights.open import OpenNetwork

_MOST = 16
_FILL_WORDS = {"grey": "mid grey", "mean": "the training mean's colour", "blur": "the blurred image"}


def show_occlusion(
    opened: OpenNetwork,
    images: ImageChoice | Sequence[ImageChoice],
    *,
    cls: str | int | None = None,
    layer: str | None = None,
    size_px: int | tuple[int, int] | None = None,
    stride_px: int | tuple[int, int] | None = None,
    fill: Fill = "grey",
    blur_px: float | None = None,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Slide an occluder over images: which parts does the network need?

    Args:
        opened: the network.
        images: at most 16, see ``inputs.read_images``.
        cls: name or number of a class; None takes what the network says of each whole image.
        layer: whose strongest feature map is summed; None takes the top convolution layer.
        size_px: side of the occluder, or its height and width; None: 50 of 224 px, in proportion.
        stride_px: step, or the steps down and to the right; None: 10 of 224 px, in proportion.
        fill: what the occluder shows, see ``occlusion.fill_of``.
        blur_px: standard deviation of the Gaussian of ``blur``; None: a fifth of the size, at least 1.
        compute: where and how: bf16 has 3 digits, fp32 is exact.
        progress: listener.

    Returns:
        A picture with the numbers ``probability``, ``score``, ``label`` and ``activation`` (N x R x C), each
        with its value without the occluder (``whole_probability`` and so on), ``target``, ``unit``,
        ``layer``, and the grid: ``rows``, ``columns`` (of the centres), ``tops``, ``lefts``, ``size_px``,
        ``stride_px``.

    Raises:
        UsageError: as ``occlusion.occlude``, or more than 16 images.
    """
    chosen = None if cls is None else find_class(cls, opened.classes)
    found = read_images(images, opened.preprocessing)
    shown, names = found.shown, found.names
    if len(names) > _MOST:
        raise UsageError(f"expected at most {_MOST} images in one picture, got {len(names)}: name fewer")
    grid = grid_of(shown.shape[1], shown.shape[2], size_px, stride_px)
    blur = max(1.0, min(grid.size_px) / 5) if blur_px is None else blur_px
    device, precision = compute.torch_device, compute.forward_precision
    normed = found.normed.to(device)
    with on_device(opened.net, device) as net:
        maps = occlude(
            net,
            normed,
            chosen,
            size_px=grid.size_px,
            stride_px=grid.stride_px,
            fill=fill_of(fill, normed, opened.preprocessing, blur_px=blur),
            layer=layer,
            multi_label=opened.bundle.multi_label,
            temperature=opened.bundle.temperature,
            batch_images=compute.batch_images,
            precision=precision,
            progress=progress,
        )
    covers = _covers(fill, shown, opened.preprocessing, blur)
    rows = [
        panels(maps, n, shown=shown[n], cover=covers[n], name=names[n], classes=opened.classes)
        for n in range(len(shown))
    ]
    what = f"p({class_name(int(maps.target[0]), opened.classes)})"
    if len(shown) > 1:
        what = f"{len(shown)} images"
    note = " Computed in bfloat16." if precision == "bf16" else ""
    return Picture(
        name=file_name("occlusion", network_name(opened), found.stem),
        rows=rows,
        title=f"Occlusion: {network_name(opened)}, {what}",
        caption=_caption(maps, shown.shape[1:3], title_of(opened), _FILL_WORDS[fill], blur) + note,
        numbers={
            **arrays(maps),
            "classes": np.array(opened.classes),
            "images": np.array(names),
            "fill": np.array(fill),
        },
        panel_mm=46.0,
    )


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

    ``number`` is the image in ``maps``; ``shown`` and ``cover`` are colours in 0..1, ``H x W x 3``.
    """
    height, width = shown.shape[:2]
    grid = maps.grid
    probability = maps.probability.map[number].numpy()
    lowest = np.unravel_index(int(probability.argmin()), probability.shape)
    window = grid.window(int(lowest[0]), int(lowest[1]))
    covered = shown.copy()
    covered[window] = cover[window]
    target, label = int(maps.target[number]), int(maps.label.whole[number])
    labels = maps.label.map[number].numpy()
    down, right = window
    found = [
        Panel(pixels=shown, title=f"{name}\nmost probable: {class_name(label, classes)}"),
        Panel(
            pixels=covered,
            title=f"occluder {_by(grid.size_px)} px, stride {_short(grid.stride_px)}\n"
            f"where p is smallest: {probability[lowest]:.3g}",
            boxes=[(down.start, right.start, down.stop - 1, right.stop - 1)],
        ),
    ]
    if (sums := maps.activation) is not None:
        found.append(
            Panel(
                pixels=grid.on_pixels(sums.map[number].numpy(), height, width),
                title=f"(b) sum of map {int(sums.unit[number])} of {sums.layer}\n"
                f"whole image: {float(sums.whole[number]):.4g}",
                scale="sum of the map",
            )
        )
    found += [
        Panel(
            pixels=grid.on_pixels(probability, height, width),
            title=f"(d) p({class_name(target, classes)})\n"
            f"whole image: {float(maps.probability.whole[number]):.3g}",
            colours="viridis",
            scale="probability",
        ),
        Panel(
            pixels=grid.on_pixels(labels, height, width),
            title=f"(e) most probable label\n{counted(len(np.unique(labels)), 'label')}",
            names={int(each): class_name(int(each), classes) for each in np.unique(labels)},
        ),
    ]
    return found


def arrays(maps: OcclusionMaps) -> dict[str, NDArray[np.generic]]:
    """Return the maps as arrays by name, for a file."""
    grid, sums = maps.grid, maps.activation
    found: dict[str, NDArray[np.generic]] = {
        "target": maps.target.numpy(),
        "layer": np.array("" if sums is None else sums.layer),
        **{name: np.array(getattr(grid, name)) for name in ("rows", "columns", "tops", "lefts")},
        **{name: np.array(getattr(grid, name)) for name in ("size_px", "stride_px")},
    }
    measures = {"probability": maps.probability, "score": maps.score, "label": maps.label}
    if sums is not None:
        found["unit"] = sums.unit.numpy()
        measures["activation"] = sums
    for name, measure in measures.items():
        found[name], found[f"whole_{name}"] = measure.map.numpy(), measure.whole.numpy()
    return found


def _caption(maps: OcclusionMaps, sides: Sequence[int], network: str, fill: str, blur_px: float) -> str:
    grid, stride = maps.grid, maps.grid.stride_px
    step = f"{stride[0]} px" if stride[0] == stride[1] else f"{stride[0]} px down, {stride[1]} px right"
    filled = f"{fill} (Gaussian of {blur_px:g} px)" if "blurred" in fill else fill
    parts = [
        f"{network}. Occluder of {_by(grid.size_px)} px, {filled}, stride {step}: {len(grid.tops)} x"
        f" {len(grid.lefts)} places inside the input of {sides[0]} x {sides[1]} px."
        " A pixel of a map shows what the network says with the occluder's centre there (the nearest place)."
    ]
    if maps.activation is not None:
        how = ", after max(0, x)," if maps.activation.rectified else ""
        parts.append(
            f"(b) the feature map of {maps.activation.layer}{how} with the largest sum on the whole image,"
            " summed;"
        )
    parts.append("(d) probability of the class; (e) most probable label. Zeiler and Fergus 2013, Fig. 7.")
    return " ".join(parts)


def _covers(
    fill: Fill, shown: NDArray[np.float32], preprocessing: Preprocessing, blur_px: float
) -> NDArray[np.float32]:
    if fill == "blur":
        blurred = fill_of("blur", torch.from_numpy(shown).permute(0, 3, 1, 2), preprocessing, blur_px=blur_px)
        return blurred.permute(0, 2, 3, 1).numpy()
    level = np.asarray(preprocessing.mean if fill == "mean" else 0.5, dtype=np.float32)
    return np.broadcast_to(level, shown.shape)


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]} x {pair[1]}"


def _short(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
