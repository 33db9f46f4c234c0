"""Published weights by name: ``torchvision``, ``torchvision:V2``, ``timm:resnet50.a1_in1k``.

Files are kept in the user's cache, ``$XDG_CACHE_HOME/striate/weights`` or ``~/.cache/striate/weights``; a
``weights`` folder under ``$STRIATE_DATA`` is looked at too.
"""

import urllib.error
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final

from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.data.download import RemoteFile, announced_sha256, download
from striate.data.named import data_folders
from striate.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing
from striate.weights.layouts.layout import scaled_resize_px
from striate.weights.layouts.torchvision import PAPER_STRIDE, TORCHVISION_NAMES

TORCHVISION_URL: Final = "https://download.pytorch.org/models/"
TIMM_URL: Final = "https://huggingface.co/timm/"

TORCHVISION_FILES: Final = {
    ("alexnet", "V1"): "alexnet-owt-7be5be79.pth",
    ("vgg11", "V1"): "vgg11-8a719046.pth",
    ("vgg11_bn", "V1"): "vgg11_bn-6002323d.pth",
    ("vgg13", "V1"): "vgg13-19584684.pth",
    ("vgg13_bn", "V1"): "vgg13_bn-abd245e5.pth",
    ("vgg16", "V1"): "vgg16-397923af.pth",
    ("vgg16_bn", "V1"): "vgg16_bn-6c64b313.pth",
    ("vgg19", "V1"): "vgg19-dcbb9e9d.pth",
    ("vgg19_bn", "V1"): "vgg19_bn-c79401a0.pth",
    ("googlenet", "V1"): "googlenet-1378be20.pth",
    ("resnet18", "V1"): "resnet18-f37072fd.pth",
    ("resnet34", "V1"): "resnet34-b627a593.pth",
    ("resnet50", "V1"): "resnet50-0676ba61.pth",
    ("resnet50", "V2"): "resnet50-11ad3fa6.pth",
    ("resnet101", "V1"): "resnet101-63fe2227.pth",
    ("resnet101", "V2"): "resnet101-cd907fc2.pth",
    ("resnet152", "V1"): "resnet152-394f9c45.pth",
    ("resnet152", "V2"): "resnet152-f82ba261.pth",
}
"""torchvision's name and version of the weights -> file; it ends in the first digits of its SHA-256."""

_RESNETS: Final = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
_DEEP: Final = ("resnet50", "resnet101", "resnet152")
_VGGS: Final = tuple(name for name, _ in TORCHVISION_FILES if name.startswith("vgg"))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What pictures published weights expect.

    Attributes:
        resize_px: input side in pixels -> shorter side before the crop, both as published. Other input sides
            see the same part of the image as the first.
        interpolation: resampling filter.
        mean: RGB, on the 0..1 scale.
        std: RGB, on the 0..1 scale.
    """

    resize_px: dict[int, int]
    interpolation: Interpolation
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


_HALF = (0.5, 0.5, 0.5)
_BICUBIC_95 = View(resize_px={224: 235, 288: 288}, interpolation="bicubic")
_BICUBIC_875 = View(resize_px={224: 256, 288: 303}, interpolation="bicubic")
_TORCHVISION = View(resize_px={224: 256}, interpolation="bilinear")
_TORCHVISION_V2 = View(resize_px={224: 232}, interpolation="bilinear")
_INCEPTION = View(resize_px={224: 256}, interpolation="bilinear", mean=_HALF, std=_HALF)

TIMM_TAGS: Final[dict[str, tuple[tuple[str, ...], View]]] = {
    "tv_in1k": ((*_RESNETS, *_VGGS), _TORCHVISION),
    "tv2_in1k": (_DEEP, _TORCHVISION_V2),
    "a1_in1k": (_RESNETS, _BICUBIC_95),
    "a2_in1k": (_RESNETS, _BICUBIC_95),
    "a3_in1k": (_RESNETS, View(resize_px={224: 235, 160: 168}, interpolation="bicubic")),
    "gluon_in1k": (_RESNETS, View(resize_px={224: 256}, interpolation="bicubic")),
    "bt_in1k": (("resnet34", "resnet50"), _BICUBIC_875),
    "ra_in1k": (("resnet50",), _BICUBIC_875),
    "ram_in1k": (("resnet50",), _BICUBIC_875),
    "b1k_in1k": (("resnet50",), _BICUBIC_95),
    "b2k_in1k": (("resnet50",), _BICUBIC_95),
    "c1_in1k": (("resnet50",), _BICUBIC_95),
    "c2_in1k": (("resnet50",), _BICUBIC_95),
    "d_in1k": (("resnet50",), _BICUBIC_95),
}
"""timm's tag -> the networks that have it and what images they expect, after timm's own records.

A published crop fraction f means a resize to the whole part of side / f: 0.95 gives 235 px at 224 px.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedWeights:
    """Weights that somebody published for one network.

    Attributes:
        name: as it is asked for, such as ``torchvision:V2``.
        architecture: the publisher's name of the network.
        file: name of the file on this machine.
        url: where it is.
        checksum: as in ``RemoteFile``; None where the server has to be asked.
        view: what images it expects.
    """

    name: str
    architecture: str
    file: str
    url: str
    checksum: str | None
    view: View

    def preprocessing(self, input_px: int) -> Preprocessing:
        """Return the preprocessing for a network with square inputs of ``input_px`` pixels."""
        resize_px = self.view.resize_px.get(input_px)
        if resize_px is None:
            crop_px, published_px = next(iter(self.view.resize_px.items()))
            resize_px = scaled_resize_px(published_px, crop_px, input_px)
        return Preprocessing(
            channels=3,
            height_px=input_px,
            width_px=input_px,
            resize_px=resize_px,
            interpolation=self.view.interpolation,
            mean=self.view.mean,
            std=self.view.std,
        )


def names_for(net_name: str) -> tuple[str, ...]:
    """List the names of the published weights of one of striate's networks, the default first."""
    return tuple(one.name for one in _all_for(_architecture(net_name)))


def find_published(name: str, net_name: str) -> PublishedWeights:
    """Look published weights up.

    Args:
        name: ``torchvision`` (the first version), ``torchvision:V2`` or ``timm:NETWORK.TAG``.
        net_name: striate's name of the network that takes them.

    Raises:
        UsageError: there are no published weights for that network, or none under that name; with the names
            that exist.
    """
    known = {one.name: one for one in _all_for(_architecture(net_name))}
    wanted = "torchvision" if name == "torchvision:V1" else name
    if wanted in known:
        return known[wanted]
    if not known:
        has = ", ".join((*TORCHVISION_NAMES, *PAPER_STRIDE))
        raise UsageError(
            f"expected a network with published weights ({has}), got {net_name}: choose one of these, or pass"
            " the path of a file"
        )
    raise UsageError(
        f"expected published weights of {net_name} ({', '.join(known)}), got {name!r}: choose one of"
        " these, or pass the path of a file"
    )


def recognise(file_name: str, net_name: str) -> PublishedWeights | None:
    """Recognise published weights by their file name; None if it is none of ``net_name``'s."""
    for one in _all_for(_architecture(net_name)):
        if one.file == file_name:
            return one
    return None


def fetch_published(
    name: str, net_name: str, *, folder: Path | None = None, progress: Progress = silent
) -> Path:
    """Download published weights, unless they are on this machine already.

    Args:
        name: as for ``find_published``.
        net_name: striate's name of the network that takes them.
        folder: where to keep them; None for the user's cache.
        progress: listener; it gets bytes received and bytes expected.

    Returns:
        The path of the file, checked against its published SHA-256 when it was downloaded.

    Raises:
        UsageError: as ``find_published``.
        DataError: the network or the disk failed, or the checksum is wrong; the one line says where to get
            the file and where to put it.
    """
    weights = find_published(name, net_name)
    folders = [folder] if folder is not None else [root / "weights" for root in data_folders()]
    for one in folders:
        if (one / weights.file).is_file():
            return one / weights.file
    target = folders[-1]
    try:
        checksum = weights.checksum or f"sha256:{announced_sha256(weights.url)}"
    except (OSError, HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{weights.name}: can't be downloaded ({' '.join(str(reason).split())}): get {weights.url} by"
            f" other means and put it at {target / weights.file}, or pass the path of a file"
        ) from error
    try:
        return download(RemoteFile(weights.file, weights.url, checksum), target, progress=progress)
    except DataError as error:
        raise DataError(f"{error}, or pass the path of a file") from error


def _architecture(net_name: str) -> str:
    """Return the publishers' name of one of striate's networks; empty if they have none."""
    return TORCHVISION_NAMES.get(net_name) or PAPER_STRIDE.get(net_name) or ""


def _all_for(architecture: str) -> list[PublishedWeights]:
    found = []
    for (name, version), file in TORCHVISION_FILES.items():
        if name == architecture:
            found.append(
                PublishedWeights(
                    name="torchvision" if version == "V1" else f"torchvision:{version}",
                    architecture=architecture,
                    file=file,
                    url=f"{TORCHVISION_URL}{file}",
                    checksum=f"sha256:{file.removesuffix('.pth').rpartition('-')[2]}",
                    view=_view(name, version),
                )
            )
    for tag, (architectures, view) in TIMM_TAGS.items():
        if architecture in architectures:
            found.append(
                PublishedWeights(
                    name=f"timm:{architecture}.{tag}",
                    architecture=architecture,
                    file=f"{architecture}.{tag}.safetensors",
                    url=f"{TIMM_URL}{architecture}.{tag}/resolve/main/model.safetensors",
                    checksum=None,
                    view=view,
                )
            )
    return found


def _view(name: str, version: str) -> View:
    if name == "googlenet":
        return _INCEPTION
    return _TORCHVISION if version == "V1" else _TORCHVISION_V2
