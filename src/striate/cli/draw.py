"""``striate draw``: the architecture figure of a network."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from striate.cli.arguments import arguments_of, read_size
from striate.cli.options import OUT, ArgOption, InputOption, UntrainedArgument
from striate.cli.show import out
from striate.core.atomic import atomic_path
from striate.core.errors import UsageError

_KINDS = ("svg", "png", "pdf")
_SMALL_TEXT = 5.0  # points: below this a printed label can't be read with ease


def draw(
    network: UntrainedArgument,
    files: Annotated[
        list[Path], typer.Option(*OUT, metavar="FILE", help="File to write: .svg, .png or .pdf. Repeatable.")
    ],
    style: Annotated[
        str, typer.Option(help="volumes (chains of layers), graph (branches), or auto.")
    ] = "auto",
    scale: Annotated[str, typer.Option(help="Scale of volumes: linear, log, or auto.")] = "auto",
    theme: Annotated[str, typer.Option(help="light, dark, or print (grey).")] = "light",
    width: Annotated[
        str,
        typer.Option(help="Width of the page in mm; or, as in 1600px, of a page of 180 mm in pixels."),
    ] = "180mm",
    title: Annotated[str, typer.Option(help="Title above the figure.")] = "",
    depth: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Draw layers whose names share N parts as one; 1 for blocks."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Draw normalisation, activations and dropout as steps too.")
    ] = False,
    towers: Annotated[
        bool, typer.Option("--towers", help="Draw AlexNet's two halves one above the other.")
    ] = False,
    once: Annotated[
        bool | None,
        typer.Option(
            "--once/--each",
            help="Draw equal blocks once with their number, or each of them; default: by length.",
            show_default=False,
        ),
    ] = None,
    arguments: ArgOption = None,
    input: InputOption = None,
) -> None:
    """Draw the architecture of a network, ready for a paper.

    Example:  [bold]striate draw alexnet -o alexnet.svg[/]

    Example:  [bold]striate draw resnet34 -o resnet34.pdf --theme print[/]

    Example:  [bold]striate draw my_nets:tiny --input 3x64x64 -o tiny.png --width 1600px[/]
    """
    kinds = [_kind(file) for file in files]
    width_mm, pixels = _width(width)
    from striate.anatomy import trace
    from striate.anatomy.draw import PAPER_MM, THEMES, encode, layout
    from striate.weights.open import build_network, short_name

    if theme not in THEMES:
        raise UsageError(f"expected a theme of {', '.join(THEMES)}, got {theme!r}")
    net, shape, reference = build_network(
        network, size=read_size(input), arguments=arguments_of(arguments), device="meta"
    )
    picture = layout(
        trace(net, shape, name=short_name(reference)),
        style=style,
        scale=scale,
        width_mm=PAPER_MM if width_mm is None else width_mm,
        title=title,
        depth=depth,
        full=full,
        towers=towers,
        once=once,
    )
    for file, kind in zip(files, kinds, strict=True):
        data = encode(picture, kind, theme=theme, pixels=pixels)
        with atomic_path(file) as temporary:
            temporary.write_bytes(data)
        shown = f"{picture.width_mm:.0f} x {picture.height_mm:.0f} mm"
        if pixels is not None and kind != "pdf":
            shown = f"{pixels} x {round(pixels * picture.height / picture.width)} px"
        said = f"{escape(str(file))}: {shown}, letters of {picture.smallest_text:.1f} pt and more"
        out.print(said if pixels is None else said.partition(", letters")[0], highlight=False)
    if picture.smallest_text < _SMALL_TEXT:
        out.print(
            f"[yellow]The smallest letters are {picture.smallest_text:.1f} pt: a larger --width, --once or"
            " --depth 1 makes them larger[/]",
            highlight=False,
        )


def _kind(file: Path) -> str:
    kind = file.suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise UsageError(f"expected a file that ends in .svg, .png or .pdf, got {file}")
    return kind


def _width(text: str) -> tuple[float | None, int | None]:
    """Read millimetres or pixels."""
    number, is_px = text.removesuffix("mm"), text.endswith("px")
    try:
        if is_px:
            pixels = int(text.removesuffix("px"))
            if not 100 <= pixels <= 20_000:
                raise UsageError(f"expected a width of 100 to 20000 px, got {pixels}")
            return None, pixels
        return float(number), None
    except ValueError:
        raise UsageError(f"expected a --width such as 180mm or 1600px, got {text!r}") from None
