"""The picture of Grad-CAM: a row for each class."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from striate.core.compute import Compute
from striate.core.progress import Progress, silent
from striate.look import inputs
from striate.look.gradcam import grad_cam, last_maps
from striate.look.inputs import ImageChoice
from striate.look.layers import on_device, untouched
from striate.look.map_panels import SHARE, map_panel, shaded_panel
from striate.look.picture import Panel, Picture, file_name
from striate.look.saliency import scores_of
from striate.weights.open import OpenNetwork


def show_gradcam(
    opened: OpenNetwork,
    image: ImageChoice,
    *,
    cls: str | int | Sequence[str | int] | None = None,
    layer: str | None = None,
    top: int = 2,
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Picture:
    """Show where in an image a layer's maps support a class.

    Args:
        opened: the network.
        image: one image, see ``inputs.read_images``.
        cls: names or numbers of classes; None takes the network's first choices.
        layer: path of a layer that gives maps; None takes ``gradcam.last_maps``.
        top: how many of the first choices, at least 1.
        compute: where; the numbers are fp32.
        progress: listener.

    Returns:
        A picture with the numbers ``classes``, ``maps`` (classes x h x w) and ``enlarged`` (classes x H x W).

    Raises:
        UsageError: no such class or layer, or a layer without maps.
    """
    found = inputs.read_image(image, opened.preprocessing)
    name = layer or last_maps(opened.net, opened.input_shape)
    asked = [] if cls is None else [cls] if isinstance(cls, str | int) else list(cls)
    device = compute.torch_device
    with on_device(opened.net, device) as net:
        normed = found.normed.to(device)
        with untouched(net), torch.no_grad():
            scores = scores_of(net, normed)[0].cpu()
        numbers = [inputs.find_class(word, opened.classes) for word in asked]
        numbers = numbers or scores.topk(min(top, len(scores))).indices.tolist()
        coarse = []
        for done, number in enumerate(numbers, 1):
            coarse.append(grad_cam(net, normed, number, layer=name, upsample=False).cpu())
            progress("Grad-CAM", done, len(numbers))
    shown = found.shown[0]
    fine = [
        functional.interpolate(one, shown.shape[:2], mode="bilinear", align_corners=False)[0, 0].numpy()
        for one in coarse
    ]
    rows = []
    for number, amounts in zip(numbers, fine, strict=True):
        word = inputs.class_name(number, opened.classes)
        unit = "in units of the score" if amounts.max() > 0 else "nothing supports it"
        rows.append(
            [
                Panel(pixels=shown, title=f"{found.names[0]}\n{word}: score {float(scores[number]):.3g}"),
                map_panel(amounts, title=f"Grad-CAM of {word!r}\n{unit}", scale=" "),
                shaded_panel(shown, amounts, title="the image where it is high"),
            ]
        )
    height, width = coarse[0].shape[2:]
    chosen = "as asked for" if asked else "the network's first choices"
    caption = (
        f"{inputs.title_of(opened)}; {found.names[0]}. Layer {name}: the sum of its maps of {height} x"
        f" {width}, each weighted by the mean over its places of the gradient of the class score before the"
        f" {inputs.squashing(opened)}; what is above 0, enlarged bilinearly. {SHARE:.1%} of the values lie"
        f" inside each scale. Classes: {chosen}."
    )
    return Picture(
        name=file_name("gradcam", opened.name, layer or "", found.stem),
        rows=rows,
        title=f"Grad-CAM: {inputs.network_name(opened)}, {name}",
        caption=caption,
        numbers={
            "classes": np.array(numbers),
            "maps": torch.cat(coarse)[:, 0].numpy(),
            "enlarged": np.stack(fine),
        },
    )
