"""What the ``striate look`` commands share: their own options, opening a network, writing a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from striate.cli.arguments import arguments_of, read_size
from striate.cli.options import OUT
from striate.cli.show import out as screen
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.look.picture import Picture
    from striate.weights.open import OpenNetwork


def _checked(path: Path | None) -> Path | None:
    """Refuse a file that is no picture before anything is computed."""
    if path is not None:
        from striate.look.picture import check_ending

        check_ending(path)
    return path


IMAGE_HELP = (
    "A file; digits:12 is image 12 of scikit-learn's digits, sample:china.jpg and sample:flower.jpg are its"
    " photos."
)
DATA_HELP = (
    "Images: a data set's name (digits, cifar10, ...), folders, archives, manifests, files. Repeatable."
)

ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help=f"{IMAGE_HELP} Folders and archives, too.")
]
UnitsOption = Annotated[
    list[str] | None,
    typer.Option("--unit", metavar="N,N-N", help="Numbers of units, from 0, such as 0,5,10-19. Repeatable."),
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="ROW,COL", help="Place in the map. Default: where it is largest."),
]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        *OUT,
        metavar="FILE",
        callback=_checked,
        help="The picture: .png, .svg or .pdf; the numbers go beside it, .npz.",
    ),
]


def open_network(network: str, seed: int, input: str | None, arguments: list[str] | None) -> "OpenNetwork":
    """Open the network that a command names.

    Raises:
        UsageError: there is no such network, or a trained one comes with ``--input`` or ``--arg``.
        BundleError: the file is damaged.
    """
    from striate.weights.open import open_network as opened

    return opened(network, input_shape=read_size(input), arguments=arguments_of(arguments), seed=seed)


def default_path(way: str, opened: "OpenNetwork", *words: object) -> Path:
    """Return the picture to write where none is named: a way of looking, the network, and more words."""
    from striate.look.inputs import network_name
    from striate.look.picture import file_name

    return Path(file_name(way, network_name(opened), *words) + ".png")


def write(picture: "Picture", path: Path | None, *, numbers: bool = False) -> None:
    """Write a picture and print where it is; with ``numbers`` also where its numbers are."""
    from striate.look.picture import numbers_path

    path = picture.save(path)
    line = f"{path}, {numbers_path(path)}" if numbers else str(path)
    screen.print(escape(line), highlight=False, soft_wrap=True)


def read_place(text: str | None) -> tuple[int, int] | None:
    """Read ``ROW,COL``.

    Raises:
        UsageError: anything else.
    """
    if text is None:
        return None
    words = text.split(",")
    if len(words) != 2 or not all(word.strip().isdecimal() for word in words):
        raise UsageError(f"expected --at as ROW,COL, such as 3,5, got {text!r}")
    return int(words[0]), int(words[1])
