"""Grad-CAM: where in the image the last maps support a class."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.anatomy import trace
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.saliency import Target, targets
from striate.look.signals import recorded


def grad_cam(
    net: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    layer: str | None = None,
    upsample: bool = True,
    batch_images: int = 16,
    progress: Progress = silent,
) -> Tensor:
    """Weigh a layer's maps by the mean gradient of a class score, add them up, and keep what is positive.

    Args:
        net: the network; its output is taken as scores before the softmax.
        images: ``N x C x H x W``, normed.
        target: class number, one for all images or one for each; None: each image's best class.
        layer: path of a module that gives maps; None: ``last_maps``.
        upsample: enlarge the maps to the size of the images (bilinear); else they keep the layer's size.
        batch_images: images that run at a time; it changes memory, not results.
        progress: listener: images done.

    Returns:
        ``N x 1 x H x W``, at least 0, in units of the score: not scaled to 0..1.

    Raises:
        UsageError: no such layer or class, a layer without maps, or one that the score does not depend on.

    Paper: Selvaraju et al. 2016, section 3, equations 1 and 2.
    Departures: none.
    """
    if layer is None:
        _, *shape = images.shape
        layer = last_maps(net, (shape[0], shape[1], shape[2]))
    classes = targets(net, images, target, batch_images=batch_images)
    maps = []
    for first in range(0, len(images), batch_images):
        batch = images[first : first + batch_images]
        with recorded(net, batch, [layer, None]) as record:
            kept, scores = record.outputs[layer], record.outputs[None]
            record.extensions(None)  # refuses networks that mix the images of a batch
            if kept.ndim != 4:
                raise UsageError(
                    f"expected a layer that gives maps, got {layer} with {tuple(kept.shape)}: take a"
                    " convolution or a block"
                )
            chosen = scores.gather(1, classes[first : first + batch_images, None]).sum()
            (slopes,) = torch.autograd.grad(chosen, kept, allow_unused=True, materialize_grads=False)
            if slopes is None:
                raise UsageError(f"expected a layer that the scores depend on, got {layer}")
            weights = slopes.mean((2, 3), keepdim=True)
            cam = (weights * kept.detach()).sum(1, keepdim=True).clamp(min=0)
        if upsample:
            cam = functional.interpolate(cam, batch.shape[2:], mode="bilinear", align_corners=False)
        maps.append(cam)
        progress("Grad-CAM", first + len(batch), len(images))
    return torch.cat(maps)


def last_maps(net: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """Return the last layer whose maps are larger than one pixel, pools apart: Grad-CAM's usual choice.

    In VGG-16 relu5_3, in ResNet-50 the last ReLU of its last block, in GoogLeNet inception_5b.

    Raises:
        UsageError: the network has no such layer, or can't be read.
    """
    modules = dict(net.named_modules())
    for row in reversed(trace(net, input_shape).layers):
        if len(row.output) != 3 or min(row.output[1:]) < 2 or row.role in ("input", "pool", "view"):
            continue
        path = row.name.partition("#")[0]
        if path not in modules:  # an operation: its module gives the same maps, if it is the module's last
            path = path.rpartition(".")[0]
        module = modules.get(path)
        if path and module is not None and not isinstance(module, nn.Dropout | nn.Dropout2d):
            return path
    raise UsageError(
        f"expected a network with maps larger than one pixel, got {type(net).__name__}: name the layer"
    )
