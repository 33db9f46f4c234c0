"""Which pixels a class score depends on: gradient, guided, SmoothGrad, integrated gradients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from striate.core.choices import Rule
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.look.layers import untouched
from striate.look.signals import recorded

Target = int | Sequence[int] | Tensor | None


class Method(Protocol):
    """An attribution method: maps ``N x ... x H x W`` that say what a class score depends on."""

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        target: Target = None,
        *,
        batch_images: int = 16,
        progress: Progress = silent,
    ) -> Tensor:
        """Return the maps of normed images ``N x C x H x W``; ``target`` as in ``gradient``."""


def gradient(
    net: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    rule: Rule = "gradient",
    batch_images: int = 16,
    progress: Progress = silent,
) -> Tensor:
    """Return the derivative of a class score with respect to each pixel value.

    Args:
        net: the network; its output is taken as scores before the softmax.
        images: ``N x C x H x W``, normed.
        target: class number, one for all images or one for each; None: each image's best class.
        rule: at ReLUs; ``guided`` and ``deconvnet`` give guided backpropagation or the deconvnet of the
            score (from 1), which are no derivatives.
        batch_images: images that run at a time; it changes memory, not results.
        progress: listener: images done.

    Returns:
        ``N x C x H x W``.

    Raises:
        UsageError: the network gives no scores, no such class, or see ``signals.project``.

    Paper: Simonyan, Vedaldi, Zisserman 2013, section 3. They show the largest magnitude over the colours:
        ``magnitude``.
    Departures: none.
    """
    classes = targets(net, images, target, batch_images=batch_images)
    return _gradients(net, images, classes, rule, batch_images, progress)


guided = partial(gradient, rule="guided")
"""Guided backpropagation of a class score, ``N x C x H x W``; arguments as ``gradient``.

Paper: Springenberg, Dosovitskiy, Brox, Riedmiller 2014, section 3.4.
Departures: steps that the paper does not define are as in ``signals.project``.
"""


def smooth(method: Method, *, samples: int = 50, noise: float = 0.15, seed: int = 0) -> Method:
    """Make a method that averages another one over noisy copies of each image: SmoothGrad of ``gradient``.

    Args:
        method: any attribution method, such as ``gradient``, ``guided`` or ``gradcam.grad_cam``.
        samples: noisy copies of each image, at least 1.
        noise: standard deviation of the noise, as a share of the image's own range (its largest less its
            smallest normed value), at least 0.
        seed: of the noise. Every image gets the same draws, scaled by its range, so that results do not
            depend on what else is in the batch.

    Returns:
        A method with the arguments of ``method``. Without a class it takes the best one of the clean image.

    Raises:
        UsageError: no sample, or a negative noise.

    Paper: Smilkov, Thorat, Kim, Viegas, Wattenberg 2017, section 2.2; section 3.2 advises noise of 10 to 20 %
        and about 50 samples.
    Departures: none.
    """
    if samples < 1 or noise < 0:
        raise UsageError(
            f"expected at least 1 sample and a noise of at least 0, got {samples} and {noise}:"
            " try 50 and 0.15"
        )

    def smoothed(
        net: nn.Module,
        images: Tensor,
        target: Target = None,
        *,
        batch_images: int = 16,
        progress: Progress = silent,
    ) -> Tensor:
        classes = targets(net, images, target, batch_images=batch_images)
        maps = []
        for number, image in enumerate(images):
            generator = torch.Generator().manual_seed(seed)
            scale = noise * (image.max() - image.min())
            total: Tensor | float = 0.0
            for first in range(0, samples, batch_images):
                count = min(batch_images, samples - first)
                # one draw a copy: the stream does not depend on batch_images
                draws = torch.stack([torch.randn(image.shape, generator=generator) for _ in range(count)])
                noisy = image + scale * draws.to(image)
                total = total + method(
                    net, noisy, classes[number].expand(count), batch_images=batch_images
                ).sum(0)
                progress("noisy copies", number * samples + first + count, len(images) * samples)
            maps.append(torch.as_tensor(total / samples))
        return torch.stack(maps)

    return smoothed


def integrated_gradients(
    net: nn.Module,
    images: Tensor,
    target: Target = None,
    *,
    baseline: Tensor | None = None,
    steps: int = 64,
    batch_images: int = 16,
    progress: Progress = silent,
) -> Tensor:
    """Return each pixel value's share in the difference of a class score from a baseline image's.

    The maps of an image add up to the difference, up to the error of the sum over steps: ``completeness``
    measures it.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed.
        target: as ``gradient``.
        baseline: ``C x H x W`` or what broadcasts to it, normed; None: zeros, which is the mean colour that
            the preprocessing subtracts. The paper's choice, black, is another image then.
        steps: points on the straight line from the baseline to the image, at least 1.
        batch_images: points that run at a time.
        progress: listener: points done.

    Returns:
        ``N x C x H x W``.

    Raises:
        UsageError: as ``gradient``, or no step, or a baseline of another size.

    Paper: Sundararajan, Taly, Yan 2017, sections 3 and 5 (20 to 300 steps).
    Departures: points in the middle of the steps, not at their ends: the error of the sum is smaller.
    """
    if steps < 1:
        raise UsageError(f"expected at least 1 step, got {steps}: try 64")
    classes = targets(net, images, target, batch_images=batch_images)
    begin = _baseline(images, baseline)
    points = (torch.arange(steps, dtype=images.dtype, device=images.device) + 0.5) / steps
    maps = []
    for number, image in enumerate(images):
        total = torch.zeros_like(image)
        for first in range(0, steps, batch_images):
            shares = points[first : first + batch_images, None, None, None]
            between = begin + shares * (image - begin)
            total += _gradients(
                net, between, classes[number].expand(len(shares)), "gradient", batch_images, silent
            ).sum(0)
            progress("integrated gradients", number * steps + first + len(shares), len(images) * steps)
        maps.append((image - begin) * total / steps)
    return torch.stack(maps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Whether attributions add up.

    Attributes:
        difference: score of the image less that of the baseline, ``N``.
        total: sum of the attributions, ``N``.
    """

    difference: Tensor
    total: Tensor

    @property
    def gap(self) -> Tensor:
        """Their distance, as a share of the difference: ``N``, at least 0."""
        return (self.total - self.difference).abs() / self.difference.abs()


def completeness(
    net: nn.Module, images: Tensor, target: Target, maps: Tensor, *, baseline: Tensor | None = None
) -> Completeness:
    """Compare the sum of attributions with the difference of scores that it should be.

    Arguments as ``integrated_gradients``, which gave the ``maps``.

    Raises:
        UsageError: as ``integrated_gradients``.

    Paper: Sundararajan, Taly, Yan 2017, proposition 1.
    Departures: none.
    """
    classes = targets(net, images, target)
    begin = _baseline(images, baseline)
    with untouched(net), torch.no_grad():
        of_images = scores_of(net, images).gather(1, classes[:, None])[:, 0]
        of_baseline = scores_of(net, begin[None])[0, classes]
    return Completeness(difference=of_images - of_baseline, total=maps.sum((1, 2, 3)))


def magnitude(maps: Tensor) -> Tensor:
    """Return the largest magnitude over the colours, ``N x H x W``, as saliency maps are shown.

    Paper: Simonyan, Vedaldi, Zisserman 2013, section 3.1.
    Departures: none.
    """
    return maps.abs().amax(1)


def scores_of(net: nn.Module, images: Tensor) -> Tensor:
    """Run a network and return its scores, ``N x classes``.

    Raises:
        UsageError: it gives something else.
    """
    scores = net(images)
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        got = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise UsageError(f"expected a network that gives N x classes scores, got {got}")
    return scores


def targets(net: nn.Module, images: Tensor, target: Target, *, batch_images: int = 16) -> Tensor:
    """Return one class number for each image.

    Args:
        net: the network.
        images: ``N x C x H x W``, normed.
        target: one number for all, one for each image, or None for each image's best class.
        batch_images: images that run at a time.

    Raises:
        UsageError: no such class, or another number of classes than of images.
    """
    if images.ndim != 4 or not len(images):
        raise UsageError(f"expected normed images, N x C x H x W, got {tuple(images.shape)}")
    with untouched(net), torch.no_grad():
        if target is None:
            return torch.cat([scores_of(net, batch).argmax(1) for batch in images.split(batch_images)])
        count = scores_of(net, images[:1]).shape[1]
    numbers = torch.as_tensor(target, device=images.device)
    if numbers.ndim == 0:
        numbers = numbers.expand(len(images))
    if numbers.shape != (len(images),) or numbers.is_floating_point():
        raise UsageError(
            f"expected one class number, or one for each of {len(images)} images, got {tuple(numbers.shape)}"
        )
    if int(numbers.min()) < 0 or int(numbers.max()) >= count:
        raise UsageError(f"expected classes from 0 to {count - 1}, got {numbers.tolist()}")
    return numbers


def _gradients(
    net: nn.Module, images: Tensor, classes: Tensor, rule: Rule, batch_images: int, progress: Progress
) -> Tensor:
    maps = []
    for first in range(0, len(images), batch_images):
        batch = images[first : first + batch_images]
        with recorded(net, batch, [None], rule=rule) as record:
            record.extensions(None)  # refuses what the rule does not cover
            start = torch.zeros_like(record.outputs[None])
            start.scatter_(1, classes[first : first + batch_images, None], 1)
            maps.append(record.back(None, start))
        progress(rule, first + len(batch), len(images))
    return torch.cat(maps)


def _baseline(images: Tensor, baseline: Tensor | None) -> Tensor:
    shape = images.shape[1:]
    if baseline is None:
        return torch.zeros(shape, dtype=images.dtype, device=images.device)
    try:
        return baseline.to(images).expand(shape)
    except RuntimeError:
        raise UsageError(
            f"expected a baseline that broadcasts to {tuple(shape)}, got {tuple(baseline.shape)}"
        ) from None
