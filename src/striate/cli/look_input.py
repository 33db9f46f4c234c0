"""What every ``striate look`` command reads: a network, images, a class, and where the picture goes."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from striate.cli.arguments import pairs, read_size, value_of
from striate.core.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor, nn

    from striate.data.preprocess import Preprocessing

NETWORK_HELP = (
    "A bundle or run folder; or, with random weights, the name of a network, a .net file, or MODULE:FACTORY"
    " for a network of your own."
)
IMAGE_HELP = (
    "Images, folders or archives; digits:12 is image 12 of scikit-learn's digits, sample:china.jpg and"
    " sample:flower.jpg are its photos."
)
OUTPUT_HELP = "The picture: .png, .svg or .pdf; the numbers go beside it as .npz."
SEED_HELP = "Of the random weights of a network that is not trained."
INPUT_HELP = "Size of the input of a network that is not trained, e.g. 3x224x224."
ARG_HELP = "An argument of a network that is not trained, e.g. --arg input_px=64. Repeatable."

_SAMPLES = ("china.jpg", "flower.jpg")


class OpenNetwork(NamedTuple):
    """A network and what is needed to feed it.

    Attributes:
        net: in eval mode, on the CPU.
        preprocessing: what its images go through.
        classes: names in the order of its scores, ``class 7`` for one that is not trained; empty where it
            gives no scores.
        title: for captions: the network's name, and whether its weights are trained.
        multi_label: whether its scores are independent of each other (sigmoid), not one distribution
            (softmax).
        temperature: what its scores are divided by before they become probabilities.
    """

    net: "nn.Module"
    preprocessing: "Preprocessing"
    classes: tuple[str, ...]
    title: str
    multi_label: bool = False
    temperature: float = 1.0

    @property
    def squashing(self) -> str:
        """What makes probabilities of its scores, in a word."""
        return "sigmoid" if self.multi_label else "softmax"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels."""
        chosen = self.preprocessing
        return chosen.channels, chosen.height_px, chosen.width_px


class LoadedImages(NamedTuple):
    """Images as the network takes them, and as people see them.

    Attributes:
        normed: ``N x C x H x W``.
        shown: the same pixels in 0..1, RGB, ``N x H x W x 3``.
        names: of the files, without folders.
    """

    normed: "Tensor"
    shown: "NDArray[np.float32]"
    names: tuple[str, ...]


def open_network(
    word: str, *, seed: int = 0, input: str | None = None, arguments: Sequence[str] = ()
) -> OpenNetwork:
    """Open the network that a word names.

    Args:
        word: path of a bundle or of a run folder; or the name of a network, a ``.net`` file or
            ``module:factory``: these get random weights.
        seed: of random weights.
        input: size of the input of a network with random weights, as ``3x224x224``; None: its own.
        arguments: of the builder of a network with random weights, as ``key=value``.

    Raises:
        UsageError: there is no such network, or ``input`` and ``arguments`` come with a trained one.
        BundleError: the file is damaged.
    """
    path = Path(word)
    if path.suffix != ".net" and (path.exists() or path.suffix == ".safetensors"):
        if input is not None or arguments:
            raise UsageError(f"{word} is trained and has its size and arguments: leave --input and --arg out")
        from striate.weights.open import open_bundle

        net, bundle = open_bundle(path)
        name = _short_name(bundle.net)
        where = path.name if path.suffix == ".safetensors" else path.resolve().name
        return OpenNetwork(
            net=net,
            preprocessing=bundle.preprocessing,
            classes=bundle.classes,
            title=f"{name}, trained ({where})",
            multi_label=bundle.multi_label,
            temperature=bundle.temperature,
        )
    return _random(word, seed, input, arguments)


def _random(word: str, seed: int, input: str | None, arguments: Sequence[str]) -> OpenNetwork:
    import torch

    from striate.weights.open import build_network

    given: dict[str, Any] = {key: value_of(value) for key, value in pairs("--arg", arguments).items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net, shape, name = build_network(word, size=read_size(input), arguments=given, device="cpu")
    net.eval()
    classes = tuple(f"class {k}" for k in range(_num_classes(net, shape)))
    title = f"{_short_name(name or word)}, random weights (seed {seed})"
    return OpenNetwork(net, plain_preprocessing(shape), classes, title)


def plain_preprocessing(input_shape: tuple[int, int, int]) -> "Preprocessing":
    """Return what images of an untrained network go through.

    The shorter side is resized to the network's input, the centre is cut out; colours are normed with the
    usual ImageNet constants, grey levels to [-1, 1].

    Raises:
        UsageError: other than 1 or 3 channels.
    """
    from striate.data.preprocess import Preprocessing

    channels, height, width = input_shape
    grey = channels == 1
    return Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=max(height, width),
        mean=(0.5,) if grey else (0.485, 0.456, 0.406)[:channels],
        std=(0.5,) if grey else (0.229, 0.224, 0.225)[:channels],
    )


def _num_classes(net: "nn.Module", shape: tuple[int, int, int]) -> int:
    import torch

    with torch.no_grad():
        scores = net(torch.zeros(1, *shape))
    return int(scores.shape[1]) if isinstance(scores, torch.Tensor) and scores.ndim == 2 else 0


def _short_name(name: str) -> str:
    """Return a word for a network; one that was written in the notation begins with ``# name``."""
    first = name.partition("\n")[0].removeprefix("# ").strip()
    return Path(first).stem if first.endswith(".net") else first


def load_images(words: Sequence[str | Path], preprocessing: "Preprocessing") -> LoadedImages:
    """Read all images of files, folders and archives, and those that scikit-learn brings.

    Args:
        words: paths; ``digits:12``; ``sample:china.jpg``, ``sample:flower.jpg``.
        preprocessing: what they go through, the same as for predictions.

    Raises:
        UsageError: a path that does not exist, or no such sample.
        DataError: no image there, or one that can't be decoded.
    """
    import numpy as np
    import torch

    from striate.data.decode import decode
    from striate.data.find import find_images
    from striate.data.preprocess import decode_side_px, normalise, to_pixels

    side = decode_side_px(preprocessing)
    pixels, names = [], []
    for word in words:
        sample = _sample(str(word))
        if sample is not None:
            pixels.append(to_pixels(sample, preprocessing))
            names.append(str(word).partition(":")[2] if str(word).startswith("sample:") else str(word))
            continue
        for item in find_images([word]):
            image = decode(item.read(), file=item.file, min_side_px=side)
            pixels.append(to_pixels(image, preprocessing))
            names.append(Path(item.file).name)
    if not pixels:
        raise DataError(f"no images in {', '.join(map(str, words))}: expected files such as .jpg or .png")
    stacked = np.stack(pixels)
    shown: NDArray[np.float32] = stacked.astype(np.float32) / np.float32(255)
    if shown.shape[3] == 1:
        shown = np.repeat(shown, 3, axis=3)
    normed = normalise(torch.from_numpy(stacked), preprocessing).contiguous()
    return LoadedImages(normed, shown, tuple(names))


def load_image(word: str | Path, preprocessing: "Preprocessing") -> LoadedImages:
    """Read one image, as ``load_images``.

    Raises:
        UsageError: the word names several images.
        DataError: it can't be decoded.
    """
    loaded = load_images([word], preprocessing)
    if len(loaded.names) != 1:
        raise UsageError(f"expected one image, got {len(loaded.names)} in {word}: name one file")
    return loaded


def _sample(word: str) -> "Image.Image | None":
    """Return one of scikit-learn's images, if the word names one."""
    kind, colon, name = word.partition(":")
    if not colon or kind not in ("digits", "sample") or Path(word).exists():
        return None
    from PIL import Image

    if kind == "digits":
        from striate.data.dataset import fetch_image
        from striate.data.sources import open_source

        source = open_source("digits")
        if not name.isdecimal() or int(name) >= len(source.files):
            raise UsageError(f"expected digits:0 to digits:{len(source.files) - 1}, got {word!r}")
        return fetch_image(source, int(name), min_side_px=None)
    if name not in _SAMPLES:
        raise UsageError(f"expected sample:{' or sample:'.join(_SAMPLES)}, got {word!r}")
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(name))


def find_class(word: str, classes: Sequence[str]) -> int:
    """Return the number of a class that a word names, by its name or its number.

    A name goes before a number: the class called ``7`` need not be the eighth.

    Raises:
        UsageError: there is none, with the names that come close.
    """
    if word in classes:
        return list(classes).index(word)
    if word.isdecimal() and (not classes or int(word) < len(classes)):
        return int(word)
    close = difflib.get_close_matches(word, classes, n=3, cutoff=0.4) or list(classes[:3])
    hint = f"did you mean {' or '.join(close)}?" if close else "give its number"
    raise UsageError(f"expected the name or number of a class, got {word!r}: {hint}")


def class_name(number: int, classes: Sequence[str]) -> str:
    """Return what to call a class on a picture."""
    return classes[number] if number < len(classes) else f"class {number}"


def picture_path(output: Path | None, method: str, *words: str) -> Path:
    """Return where a picture goes: the file that was asked for, or a speaking name in the current folder.

    Args:
        output: of ``-o``, or None.
        method: name of the command.
        words: what tells this picture from others: network, layer, unit, image.

    Raises:
        UsageError: the file does not end in .png, .svg or .pdf.
    """
    if output is None:
        parts = [re.sub(r"[^A-Za-z0-9.-]+", "_", str(word)).strip("_") for word in (method, *words)]
        return Path("-".join(part for part in parts if part) + ".png")
    if output.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UsageError(f"expected -o with a file that ends in .png, .svg or .pdf, got {output}")
    return output


def maps_path(picture: Path) -> Path:
    """Return where the numbers of a picture go."""
    return picture.with_suffix(".npz")
