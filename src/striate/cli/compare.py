"""``striate compare``: networks side by side."""

import json as json_module
import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.show import out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.anatomy.compare import Comparison
    from striate.anatomy.profile import Profile

_MAX_NAME = 24


def compare(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NET",
            help="Two or more: names, .net files, layers joined by >, or stacks as in 'conv 3x3 x3'.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line a network, for a spreadsheet.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table of Markdown.")] = False,
) -> None:
    """Compare networks: parameters, MACs, activations, depth, receptive field; ratios to the first.

    Example:  [bold]striate compare alexnet googlenet[/]

    Example:  [bold]striate compare "conv 3x3 x3" "conv 7x7"[/]
    """
    if json + csv + markdown > 1:
        raise UsageError("expected at most one of --json, --csv and --markdown, got several: choose one")
    from striate.anatomy.compare import compare as put_together

    texts: dict[str, str] = {}
    found = put_together([_profile(word, texts) for word in networks])
    if json:
        print(json_module.dumps({**found.to_dict(), "texts": texts}, indent=2, ensure_ascii=False))
    elif csv:
        print(found.to_csv(), end="")
    elif markdown:
        print(found.to_markdown(), end="")
    else:
        _print(found, texts)


def _profile(word: str, texts: dict[str, str]) -> "Profile":
    """Read and trace one network; note the text of one that has no name."""
    import torch

    from striate import nets
    from striate.anatomy.compare import stack_text
    from striate.anatomy.profile import profile
    from striate.anatomy.trace import trace
    from striate.nets import notation

    stack = stack_text(word)
    with torch.device("meta"):
        if word.endswith(".net"):
            written = notation.read(word)
            return profile(trace(notation.build(written)), name=written.name)
        if stack is not None or re.search(r"[>\n\u2192]|\d\s*[xX*\u00d7]\s*\d", word):
            text = stack or word
            name = word if stack or len(word) <= _MAX_NAME else f"text {len(texts) + 1}"
            texts[name] = text
            return profile(trace(notation.build(notation.parse(text))), name=name)
        entry = nets.find(word)
        error = entry.published_error
        return profile(trace(nets.build(word)), name=entry.name, published_error=error)


def _parts(found: "Comparison", width: int) -> list[list[int]]:
    """Share the networks among tables that fit the screen; the first, the ratios' base, stands in each."""
    lines = found.to_cells()
    widths = []
    for i, profile in enumerate(found.profiles):
        value = max(len(profile.name), *(len(cells[i][0]) for _, cells in lines))
        widths.append(value + max(len(cells[i][1]) for _, cells in lines) + 4)
    base = max(len(label) for label, _ in lines) + 2 + widths[0]
    parts = [[0]]
    used = base
    for i in range(1, len(widths)):
        if used + widths[i] > width and len(parts[-1]) > 1:
            parts.append([0])
            used = base
        parts[-1].append(i)
        used += widths[i]
    return parts


def _print(found: "Comparison", texts: dict[str, str]) -> None:
    lines = found.to_cells()
    for columns in _parts(found, out.width):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
        table.add_column("", no_wrap=True)
        for column in columns:
            table.add_column(escape(found.profiles[column].name), justify="right")
            if column:
                table.add_column("", style="bold", no_wrap=True)
        for label, cells in lines:
            row = [f"[dim]{label}[/]" if label.startswith(" ") else label]
            for column in columns:
                value, ratio = cells[column]
                row += [escape(value), ratio] if column else [escape(value)]
            table.add_row(*row)
        out.print(table, highlight=False)
        out.print()
    for name, text in texts.items():
        out.print(f"[bold]{escape(name)}[/]: {escape(text)}", highlight=False)
    published = [profile for profile in found.profiles if profile.published_error]
    if published:
        out.print("[bold]published errors[/]")
    for profile in published:
        out.print(f"- {escape(profile.name)}: {escape(profile.published_error)}", highlight=False)
    if found.remarks:
        out.print("[bold]remarks[/]")
    for remark in found.remarks:
        out.print(f"- {escape(remark)}", highlight=False)
    out.print(
        f"[dim]Ratios to {escape(found.profiles[0].name)}. For one image, as at test time; 1 MAC = 2 FLOP, of"
        " convolutions and matrix products. Activations by the lecture ledger: the input and each output"
        " once, ReLU and batch normalisation in place. Receptive field of the last convolution, pool or join"
        " whose maps are larger than 1x1.[/]",
        highlight=False,
    )
