"""``striate calc``: the arithmetic of layers, step by step."""

import json as json_module
import re
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from striate.cli.options import JsonOption
from striate.cli.show import out
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.anatomy.calc import Sheet, Step
    from striate.anatomy.fitting import Misfit


def calc(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="Input and layers, joined by > or on lines (docs/notation.md); or a network's name or .net"
            " file.",
        ),
    ] = None,
    same: Annotated[
        str | None,
        typer.Option("--same", metavar="FxF", help="Find the padding that keeps the size under this window."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the arithmetic of layers as on the slides: sizes, parameters, MACs, im2col, receptive field.

    Example:  [bold]striate calc "227x227x3 > conv 96 11x11 s4 p0 > maxpool 3x3 s2"[/]

    Example:  [bold]striate calc "7x7x3 > conv 1 3x3 s3"[/]  (it doesn't fit)

    Example:  [bold]striate calc --same 5x5[/]
    """
    if (text is None) == (same is None):
        raise UsageError(
            'expected either layers, as in striate calc "32x32x3 > conv 10 5x5 p2", or --same 5x5, got'
            f" {'neither' if text is None else 'both'}"
        )
    if same is not None:
        _same(same, json=json)
        return
    assert text is not None
    from striate.nets.arithmetic import sheet as work_out

    sheet = work_out(text)
    if json:
        print(json_module.dumps(sheet.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(sheet)
    if sheet.stopped:
        raise UsageError(sheet.stopped)


def _print(sheet: "Sheet") -> None:
    from striate.anatomy.calc import count, show

    values = count(sheet.input_shape)
    out.print(f"[bold]input[/]  {show(sheet.input_shape)}")
    _line("values", _values(sheet.input_shape, values))
    for step in sheet.steps:
        out.print()
        heading = f"[bold]{escape(step.name)}[/]  {escape(step.title)}"
        if step.keeps:
            keeps = f"{heading}: keeps {show(step.output)}"
            out.print(keeps + ("" if step.parameters_sum else ", no parameters"), highlight=False)
            if step.parameters_sum:
                _line("parameters", step.parameters_sum)
            continue
        out.print(heading, highlight=False)
        _print_step(step)
    out.print("\n[bold]total[/]")
    _line("parameters", f"{sheet.parameters:,} ({_weights_and_biases(sheet)})")
    _line("MACs", f"{sheet.macs:,} ({2 * sheet.macs:,} FLOP)")
    _line("values", f"{sheet.values:,} ({_memory(sheet.values)}), the input and each output once")
    out.print(
        "[dim]For one image. 1 MAC = 2 FLOP, of convolutions and fully connected layers. Values: 4 bytes"
        " each; activations, dropout and batch normalisation work in place.[/]",
        highlight=False,
    )


def _print_step(step: "Step") -> None:
    from striate.anatomy.calc import show

    problems = {problem.arithmetic: problem for problem in step.misfits}
    for size in step.size:
        if size in problems:
            _line("size", f"{size} doesn't fit", style="yellow")
            _print_misfit(problems[size], pools=step.im2col is None)
        elif size == step.size[-1] and not problems:
            _line("size", f"{size} -> {show(step.output)}")
        else:
            _line("size", size)
    if problems:
        _line("output", show(step.output))
    if not step.size:
        _line("size", f"{show(step.input)} -> {show(step.output)}")
    if step.parameters_sum:
        _line("parameters", step.parameters_sum)
        if step.biases:
            _line("", _weights_and_biases(step))
    else:
        _line("parameters", "none")
    if step.macs_sum:
        _line("MACs", step.macs_sum)
    if step.im2col is not None:
        (rows, columns), (filters, taps), groups = (
            step.im2col.columns,
            step.im2col.weights,
            step.im2col.groups,
        )
        each = f", for each of {groups} groups" if groups > 1 else ""
        _line("im2col", f"W_row {filters} x {taps}, X_col {rows} x {columns}{each}")
    _line("field", _field(step))
    _line("values", _values(step.output, step.values))


def _print_misfit(problem: "Misfit", *, pools: bool) -> None:
    """Print what each way of rounding gives, and what would fit."""
    down, up = ("PyTorch", "Caffe, PyTorch's ceil_mode") if pools else ("PyTorch, Caffe", "Caffe's pools")
    px = f"{problem.lost_px} px at the far edge {'is' if problem.lost_px == 1 else 'are'} never read"
    _line("  floor", f"{problem.floor} ({down}): {px}")
    past = f"reads {problem.missing_px} px past the far edge"
    if problem.ceil == problem.zeros:
        _line("  ceil", f"{problem.ceil} ({up}, cuda-convnet): {past}")
    else:
        _line("  ceil", f"{problem.ceil} ({up}): the next window would start in the padding")
        _line("", f"{problem.zeros} (cuda-convnet): {past}")
    label = "  would fit"
    for what in ("stride", "pad", "input"):
        found = [f"{one.value} (gives {one.size})" for one in problem.fitting if one.what == what]
        name = f"input {problem.axis}" if what == "input" else what
        _line(label, f"{name} {' or '.join(found)}" if found else f"no {name} alone")
        label = ""


def _field(step: "Step") -> str:
    rows, columns = step.field.rows, step.field.columns
    if rows.jump_px is None:
        return f"everything before it, {rows.size_px}x{columns.size_px} px"
    return (
        step.field_sum if rows == columns else f"{rows.size_px}x{columns.size_px} px; rows: {step.field_sum}"
    )


def _values(volume: tuple[int, ...], values: int) -> str:
    product = "*".join(map(str, (*volume[1:], volume[0])))
    equals = f" = {values:,}" if len(volume) > 1 else ""
    return f"{product}{equals} ({_memory(values)})"


def _weights_and_biases(counted: "Step | Sheet") -> str:
    biases = "bias" if counted.biases == 1 else "biases"
    return f"{counted.weights:,} weights + {counted.biases:,} {biases}"


def _memory(values: int) -> str:
    size = 4 * values
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size:,} bytes"


def _line(label: str, text: str, *, style: str = "") -> None:
    out.print(f"  {label:<13}{escape(text)}", style=style or None, highlight=False, soft_wrap=True)


def _same(window: str, *, json: bool) -> None:
    from striate.anatomy.fitting import same_padding

    sizes = re.fullmatch(r"(\d{1,6})(?:\s*[xX*\u00d7]\s*(\d{1,6}))?", window.strip())
    if sizes is None:
        raise UsageError(f"--same: expected the size of a window, got {window!r}: write --same 5x5")
    sides = dict.fromkeys((int(sizes.group(1)), int(sizes.group(2) or sizes.group(1))))
    answers = [same_padding(side) for side in sides]
    if json:
        found = [{"kernel_px": one.kernel_px, "before": one.before, "after": one.after} for one in answers]
        print(json_module.dumps(found, indent=2))
        return
    for one in answers:
        if one.symmetric:
            text = f"pad {one.arithmetic} keeps the size"
        else:
            text = (
                f"{one.arithmetic} is no whole number, so no pad of both edges keeps the size; {one.before}"
                f" before and {one.after} after would, or an odd window"
            )
        out.print(f"window of {one.kernel_px} px at stride 1: {text}", highlight=False)
