"""``striate data``."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import DATA_HELP, JsonOption
from striate.cli.show import Listener, out

if TYPE_CHECKING:
    from striate.data.inspect import Inspection, SameContent

_SHOWN = 10


def data(
    data: Annotated[list[str], typer.Argument(metavar="DATA", help=f"{DATA_HELP} Several are combined.")],
    json: JsonOption = False,
) -> None:
    """Inspect labelled images: classes, sizes, splits, duplicates, broken files.

    Nothing is changed. Exits with 1 where something would harm training.

    Example:  [bold]striate data photos/[/]
    """
    from striate.data.inspect import inspect_data

    with Listener() as listener:
        found = inspect_data(data, progress=listener)
    if json:
        print(found.to_json())
    else:
        _print(found)
    if found.problems:
        raise typer.Exit(1)


def _print(found: "Inspection") -> None:
    out.print(
        f"[bold]{escape(found.name)}[/]: {found.num_images:,} images, {len(found.classes)} classes",
        highlight=False,
    )
    parts = [
        part for part in ("train", "val", "test", "none") if any(getattr(one, part) for one in found.classes)
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    headings = {"none": "images"}
    for part in parts:
        table.add_column(headings.get(part, part), justify="right")
    listed = found.classes if len(found.classes) <= 40 else found.classes[:20]
    for one in listed:
        table.add_row(escape(one.name), *(f"{getattr(one, part):,}" for part in parts))
    if len(listed) < len(found.classes):
        table.add_row(f"[dim]and {len(found.classes) - len(listed)} more[/]")
    sums = (sum(getattr(one, part) for one in found.classes) for part in parts)
    table.add_row("[dim]all[/]", *(f"[dim]{total:,}[/]" for total in sums))
    out.print(table)
    if parts == ["none"]:
        out.print("[dim]no splits: training holds out validation and test images by content[/]")
    height, width = found.height_px, found.width_px
    if found.num_sizes == 1:
        out.print(
            f"size     {height.median} x {width.median} px (height x width), all equal", highlight=False
        )
    elif found.num_sizes:
        out.print(
            f"height   {height.smallest} to {height.largest} px, median {height.median}\n"
            f"width    {width.smallest} to {width.largest} px, median {width.median}\n"
            f"sizes    {found.num_sizes:,} different ones",
            highlight=False,
        )
    out.print(f"colour   {found.num_colour:,} colour, {found.num_grey:,} grey", highlight=False)
    if found.extensions:
        kinds = ", ".join(f"{extension or 'none'} {count:,}" for extension, count in found.extensions)
        out.print(f"files    {escape(kinds)}", highlight=False)
    out.print(f"balance  largest class / smallest class = {found.imbalance:.1f}", highlight=False)
    for note in found.notes:
        out.print(f"[dim]note     {escape(note)}[/]", highlight=False)
    if found.broken:
        out.print(
            f"\n[yellow]{found.num_broken:,} broken files[/] (training leaves them out):",
            highlight=False,
        )
        for broken in found.broken[:_SHOWN]:
            out.print(f"  {escape(broken.file)}: {escape(broken.reason)}", highlight=False, soft_wrap=True)
        _more(found.num_broken)
    _print_same("identical content in several splits", found.across_splits, found.num_across_splits)
    _print_same("identical content under different labels", found.conflicting, found.num_conflicting)
    if found.problems:
        out.print(f"\n[bold red]problems for training or its measurement: {len(found.problems)}[/]")
        for problem in found.problems:
            out.print(f"  {escape(problem)}", highlight=False, soft_wrap=True)
    else:
        out.print("\n[green]nothing found that would harm training[/]")


def _print_same(words: str, groups: "tuple[SameContent, ...]", total: int) -> None:
    if not groups:
        return
    out.print(f"\n[yellow]{total:,} x {words}[/]:", highlight=False)
    for group in groups[:_SHOWN]:
        out.print("  " + "  =  ".join(map(escape, group.files)), highlight=False, soft_wrap=True)
    _more(total)


def _more(total: int) -> None:
    if total > _SHOWN:
        out.print(f"  [dim]and {total - _SHOWN:,} more (--json lists up to 100)[/]", highlight=False)
