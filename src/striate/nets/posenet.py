"""PosENet: how much does a network know about *where* things are? A read-out of frozen features.

It isn't a classifier and so isn't in ``NETS``.
"""

import difflib
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.core.arithmetic import output_size
from striate.core.errors import InputSizeError, UsageError

HIDDEN_CHANNELS = 64
"""Maps between the layers of a read-out of more than one layer."""

STRIPE_PERIODS = 2.5
"""Periods of the sine across a striped target."""

TargetKind = Literal["H", "V", "G", "HS", "VS"]


class PosENet(nn.Module):
    """A frozen network, its features at several depths, and one small convolution that must say where it is.

    Features are resized to the same size and concatenated. Whatever the image shows, the read-out learns to
    draw the same map (``position_targets``); it can do so only as far as the features tell positions apart.

    The backbone's parameters are set to ``requires_grad = False``, and it stays in evaluation mode when the
    rest trains. No gradient reaches it, or the images. It runs only as far as the last tap.

    Attributes:
        input_shape: channels, height and width in pixels of the images; height and width are ``None`` without
            a backbone, for then any size will do.
        output_px: side of the maps that it returns.

    Paper: Islam, Jia, Bruce 2020, section 3 and Fig. 2.
    Departures: batch normalisation and the sigmoid are in the authors' code and not in the paper's formulas.
        Chosen where neither was at hand: the convolution has no bias of its own, since batch normalisation
        has one; with more than one layer, the earlier ones have 64 maps, batch normalisation and ReLU;
        Xavier's distribution is the uniform one; bilinear resizing does not align corners and does not blur
        before it shrinks. Upsampling to the target's size is the caller's.
    """

    def __init__(
        self,
        backbone: nn.Module | None,
        taps: Sequence[str] = (),
        *,
        kernel_px: int = 3,
        num_layers: int = 1,
        out_px: int = 28,
        padding: int = 0,
        image_channels: int = 3,
    ) -> None:
        """Freeze the backbone, look at the sizes of its taps, and draw the read-out's weights.

        Args:
            backbone: the network to read, with the attribute ``input_shape`` as those of ``striate.nets``
                have it; ``None`` reads the image itself ("PosENet alone", the paper's control).
            taps: names of the backbone's modules whose outputs are read, each used once in a forward pass:
                relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 of ``vgg16``, or the last block of each stage of a
                ResNet. Empty without a backbone.
            kernel_px: side of the read-out's kernels; the paper tries 1, 3 and 7.
            num_layers: convolutions in the read-out, at least 1; the paper tries 1, 2 and 3.
            out_px: side to which features are resized.
            padding: zeros around the features, in every convolution of the read-out; the paper's is 0, and it
                tries 1 and 2 to show that padding gives positions away.
            image_channels: channels of the images; read only without a backbone.

        Raises:
            UsageError: no such module, one that is not used once or does not give maps, or a number out of
                range.
            InputSizeError: the kernel is larger than the maps.
        """
        super().__init__()
        for name, value, least in (
            ("kernel_px", kernel_px, 1),
            ("num_layers", num_layers, 1),
            ("out_px", out_px, 1),
            ("padding", padding, 0),
            ("image_channels", image_channels, 1),
        ):
            if value < least:
                raise UsageError(f"PosENet expects {name} of at least {least}, got {value}: see its page")
        if (backbone is None) != (not taps):
            raise UsageError(
                f"PosENet expects a backbone with taps, or None without, got {len(taps)} taps"
                f" {'without' if backbone is None else 'with'} a backbone: name the modules to read"
            )
        self.taps = tuple(taps)
        self.out_px = out_px
        self.output_px = out_px
        for _ in range(num_layers):
            self.output_px = output_size(self.output_px, kernel_px, padding=padding).size
        self.backbone = backbone
        self.input_shape: tuple[int, int | None, int | None] = (image_channels, None, None)
        channels = image_channels
        if backbone is not None:
            backbone.requires_grad_(False).eval()
            self.input_shape = shape = _input_shape(backbone)
            channels = sum(_tap_channels(backbone, self.taps, shape, out_px))
        self.readout = _readout(channels, kernel_px=kernel_px, num_layers=num_layers, padding=padding)

    def train(self, mode: bool = True) -> Self:
        """Switch the read-out; the backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """Resize the features of every tap and concatenate them, in the order of ``taps``.

        Args:
            images: ``N x C x H x W``, as the backbone takes them.

        Returns:
            ``N x (sum of the taps' channels) x out_px x out_px``, without gradient.
        """
        if self.backbone is None:
            channels = self.input_shape[0]
            if images.dim() != 4 or images.shape[1] != channels:
                raise InputSizeError(
                    f"PosENet expects a batch of images of {channels} channels, got"
                    f" {'x'.join(map(str, images.shape))}: convert them, or set image_channels"
                )
            return _resize(images.detach(), self.out_px)
        read = _run(self.backbone, self.taps, images, self.out_px, stop_early=True)
        return torch.cat([read[tap][0] for tap in self.taps], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Draw the position map that the features suggest.

        Args:
            images: ``N x C x H x W``, as the backbone takes them.

        Returns:
            ``N x 1 x output_px x output_px``, in (0, 1). Resize it to the target's size to compare them.

        Raises:
            InputSizeError: the images have another size than the backbone takes.
        """
        maps: Tensor = self.readout(self.features(images))
        return maps


def position_targets(kind: TargetKind, height_px: int, width_px: int) -> Tensor:
    """Draw the map that the read-out has to learn.

    Args:
        kind: ``H`` rises from 0 at the left edge to 1 at the right, ``V`` from 0 at the top to 1 at the
            bottom, both linearly; ``G`` falls from 1 in the centre to 0 in the corners, a Gaussian with a
            standard deviation of half of each side, stretched to [0, 1]; ``HS`` and ``VS`` are sines of 2.5
            periods in [-1, 1], which vary from left to right and from top to bottom.
        height_px: rows, at least 2.
        width_px: columns, at least 2.

    Returns:
        ``height_px x width_px``, float32.

    Raises:
        UsageError: no such kind, or a side below 2.

    Paper: Islam, Jia, Bruce 2020, section 3.2 and Fig. 3.
    Departures: the paper prints pictures, no formulas. The Gaussian's width and the number of stripes were
        read off the authors' maps; directions, and the phase of the stripes, which starts at zero, are
        choices. That stripes reach from -1 to 1 follows from the errors in the paper's Table 1, up to 0.72.
    """
    if height_px < 2 or width_px < 2:
        raise UsageError(f"expected a target of at least 2x2 px, got {height_px}x{width_px}: enlarge it")
    rows = torch.linspace(0, 1, height_px)[:, None].expand(height_px, width_px)
    columns = torch.linspace(0, 1, width_px)[None, :].expand(height_px, width_px)
    if kind == "H":
        target = columns
    elif kind == "V":
        target = rows
    elif kind == "G":
        target = _gaussian(height_px, width_px)
    elif kind == "HS":
        target = torch.sin(2 * math.pi * STRIPE_PERIODS * columns)
    elif kind == "VS":
        target = torch.sin(2 * math.pi * STRIPE_PERIODS * rows)
    else:
        raise UsageError(f"expected H, V, G, HS or VS, got {kind!r}: choose the map that is to be learnt")
    return target.contiguous()


def _gaussian(height_px: int, width_px: int) -> Tensor:
    down = (torch.arange(height_px) - (height_px - 1) / 2) / (height_px / 2)
    across = (torch.arange(width_px) - (width_px - 1) / 2) / (width_px / 2)
    bell = torch.exp(-(down[:, None] ** 2 + across[None, :] ** 2) / 2)
    spread = bell.max() - bell.min()
    return (bell - bell.min()) / spread if spread > 0 else torch.ones_like(bell)


def _readout(channels: int, *, kernel_px: int, num_layers: int, padding: int) -> nn.Sequential:
    layers: dict[str, nn.Module] = {}
    for number in range(1, num_layers + 1):
        last = number == num_layers
        out_channels = 1 if last else HIDDEN_CHANNELS
        conv = nn.Conv2d(channels, out_channels, kernel_px, padding=padding, bias=False)
        nn.init.xavier_uniform_(conv.weight)
        layers[f"conv{number}"] = conv
        layers[f"bn{number}"] = nn.BatchNorm2d(out_channels)
        layers["sigmoid" if last else f"relu{number}"] = nn.Sigmoid() if last else nn.ReLU()
        channels = out_channels
    return nn.Sequential(OrderedDict(layers))


class _AllTapsRead(Exception):
    """Ends a forward pass that has given all that was asked for."""


def _run(
    backbone: nn.Module, taps: Sequence[str], images: Tensor, out_px: int, *, stop_early: bool
) -> dict[str, list[Tensor]]:
    """Run the backbone without gradient; return the resized outputs of its taps, one for each use."""
    read: dict[str, list[Tensor]] = {tap: [] for tap in taps}

    def keep(tap: str, _: nn.Module, __: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise UsageError(
                f"PosENet expects taps that give maps, got {tap!r}, which does not: tap it earlier"
            )
        read[tap].append(_resize(output, out_px))
        if stop_early and all(read.values()):
            raise _AllTapsRead

    handles = []
    try:
        for tap in taps:
            handles.append(backbone.get_submodule(tap).register_forward_hook(partial(keep, tap)))
        with torch.no_grad():
            backbone(images)
    except _AllTapsRead:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return read


def _resize(maps: Tensor, side_px: int) -> Tensor:
    return functional.interpolate(maps, size=(side_px, side_px), mode="bilinear", align_corners=False)


def _input_shape(backbone: nn.Module) -> tuple[int, int, int]:
    shape = getattr(backbone, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 3:
        raise UsageError(
            f"PosENet expects a backbone with input_shape (channels, height, width), got {shape!r}:"
            " set that attribute"
        )
    return shape


def _tap_channels(
    backbone: nn.Module, taps: Sequence[str], input_shape: tuple[int, int, int], out_px: int
) -> list[int]:
    known = [name for name, _ in backbone.named_modules() if name]
    for number, tap in enumerate(taps):
        if tap not in known or tap in taps[:number]:
            close = difflib.get_close_matches(tap, known, n=3) or known[:3]
            raise UsageError(
                f"PosENet expects different names of modules of the backbone, got {tap!r}"
                f"{' twice' if tap in known else ''}: did you mean {' or '.join(close)}?"
            )
    like = next(backbone.parameters(), torch.empty(0))
    black = torch.zeros(1, *input_shape, dtype=like.dtype, device=like.device)
    read = _run(backbone, taps, black, out_px, stop_early=False)
    for tap, outputs in read.items():
        if len(outputs) != 1:
            raise UsageError(
                f"PosENet expects modules that a forward pass uses once, got {tap!r}, which is used"
                f" {len(outputs)} times: tap another"
            )
    return [read[tap][0].shape[1] for tap in taps]
