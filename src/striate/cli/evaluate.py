"""``striate evaluate``."""

import csv
import io
import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import (
    BatchOption,
    DataOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    SplitOption,
    StrictOption,
    compute_of,
)
from striate.cli.show import Listener, err, out, percent
from striate.core.choices import ClassOrder
from striate.core.errors import UsageError

if TYPE_CHECKING:
    from striate.evaluation.measure import Measurement
    from striate.metrics.gains import Figure

_CONFUSIONS = 5
_PROTOCOL_HELP = "single, flip, ten-crop, 144-crop, dense or multi-scale; repeatable."
_Classes = Literal["all", "hardest"]


def evaluate(
    bundles: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE...",
            help="Bundles (.safetensors), run folders or predictions files (.csv, .parquet); or the name of a"
            " network, with random weights, to try a protocol's speed.",
        ),
    ],
    data: DataOption = None,
    protocol: Annotated[list[str] | None, typer.Option("--protocol", "-p", help=_PROTOCOL_HELP)] = None,
    scales: Annotated[
        str | None, typer.Option(help="Shorter sides in pixels to average over, e.g. 256,384,512.")
    ] = None,
    canvas: Annotated[
        int | None, typer.Option(min=1, help="Side of the square that ten crops are cut from, in pixels.")
    ] = None,
    pad: Annotated[
        int | None, typer.Option(min=1, help="Border around the image for ten crops or dense, in pixels.")
    ] = None,
    top: Annotated[
        str | None,
        typer.Option(help="Which top-k accuracies, e.g. 1,5. Default: 1, and 5 from 6 classes on."),
    ] = None,
    split: SplitOption = "auto",
    classes: Annotated[
        _Classes | None, typer.Option(help="Table of classes; hardest: lowest recall first.")
    ] = None,
    suspects: Annotated[
        int, typer.Option(min=0, help="List up to this many images whose label is likely wrong.")
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(help="Write all predictions to a file, .csv or .parquet.")
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the figures as CSV.")
    ] = None,
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    strict: StrictOption = False,
    json: JsonOption = False,
) -> None:
    """Measure trained networks: top-1, top-5, loss and every class, with 95% Wilson intervals.

    Protocols other than single show each image several times, as the papers did, and are compared with a
    single crop by a paired interval.

    Example:  [bold]striate evaluate runs/demo --data digits --protocol ten-crop[/]
    """
    from striate.evaluation.measure import measure
    from striate.evaluation.protocol import SINGLE, read_protocols
    from striate.metrics.predictions_file import is_predictions_file, save_predictions

    asked = read_protocols(protocol or ["single"], scales=scales, canvas_px=canvas, pad_px=pad)
    protocols = (SINGLE, *(one for one in asked if one != SINGLE))
    bundles = list(dict.fromkeys(bundles))
    ranks = None if top is None else _ranks(top)
    if save is not None and not is_predictions_file(save):
        raise UsageError(f"expected --save with a file that ends in .csv or .parquet, got {save}")
    if save is not None and (len(bundles) > 1 or len(asked) > 1):
        raise UsageError("expected one network and one protocol with --save, got several: save one at a time")
    with Listener() as listener:
        measured = measure(
            bundles,
            data,
            protocols=protocols,
            split=split,
            compute=compute_of(device, precision, batch),
            strict=strict,
            progress=listener,
        )
    groups = [[one for one in measured if one.source == source] for source in bundles]
    if save is not None:
        save_predictions(groups[0][-1].predictions, save)
    results = [
        (one, one.figures(top=ranks, against=None if one is group[0] else group[0]))
        for group in groups
        for one in group
    ]
    if csv_file is not None:
        _write_csv(results, csv_file)
    if json:
        records = [_record(one, found) for one, found in results if one.protocol in (None, *asked)]
        record = records[0] if len(records) == 1 else {"results": records}
        print(json_module.dumps(record, indent=2, ensure_ascii=False))
        return
    for number, group in enumerate(groups):
        if number:
            out.print()
        _show(
            [result for result in results if result[0] in group],
            ", ".join(data or []),
            classes=classes,
            details=len(groups) == 1 or classes is not None,
            suspects=suspects,
        )
    if save is not None:
        out.print(f"predictions  {escape(str(save))}", highlight=False)
    if broken := measured[0].broken:
        err.print(f"[yellow]{len(broken)} broken files were left out[/]; `striate data` names them")


_Result = tuple["Measurement", "tuple[Figure, ...]"]


def _ranks(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"expected --top as whole numbers such as 1,5, got {text!r}")
    return tuple(int(part) for part in parts)


def _show(
    results: Sequence[_Result], data: str, *, classes: _Classes | None, details: bool, suspects: int
) -> None:
    """Print one network: its figures by each protocol, and details of the last."""
    last, found = results[-1]
    on = f" on {escape(data)}" if last.protocol is not None else ""
    split = f": {escape(last.split)}" if last.split else ""
    out.print(f"[bold]{escape(last.source)}[/]{on}{split}", highlight=False)
    if last.note:
        out.print(f"[yellow]{escape(last.note)}[/]")
    if not last.trained:
        out.print("[yellow]random weights (seed 0): only the speed means anything[/]")
    num = len(last.predictions.files)
    if len(results) == 1:
        for one in found[:-1]:
            out.print(f"[bold]{one.what} {_value(one, num)}[/]{_interval(one, num)}", highlight=False)
        out.print(f"{num:,} images, loss {last.loss:.4f} nats", highlight=False)
    else:
        _show_protocols(results, num)
    if details:
        _show_details(last, classes)
    if suspects:
        _show_suspects(last, suspects)


def _show_protocols(results: Sequence[_Result], num: int) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("protocol", no_wrap=True)
    table.add_column("")
    for heading in ("value", "95% interval", "gain over single (95%)", "images/s"):
        table.add_column(heading, justify="right")
    for index, (one, found) in enumerate(results):
        name = one.protocol.kind if one.protocol else "file"
        speed = (
            "" if one.images_per_s is None else f"{one.images_per_s:,.{1 if one.images_per_s < 100 else 0}f}"
        )
        for row, figure in enumerate(found):
            first = row == 0
            table.add_row(
                f"[bold]{name}[/]" if first else "",
                figure.what,
                _value(figure, num),
                _ends(figure, num),
                _gain(figure, num),
                speed if first else "",
            )
        if index + 1 < len(results):
            table.add_section()
    out.print(table)
    out.print(
        f"{num:,} images; gains in percentage points of the same images (paired bootstrap)", style="dim"
    )
    for one, _ in results:
        if one.protocol is not None:
            views = "1 view" if one.views == 1 else f"{one.views} views"
            out.print(f"{one.protocol.kind}, {views}: {escape(one.words)}", style="dim", highlight=False)


def _show_details(one: "Measurement", classes: _Classes | None) -> None:
    from striate.cli.score_tables import class_table, confusion_pairs, imbalance_line, multilabel_table
    from striate.metrics.scores import Scores

    order: ClassOrder = "hardest" if classes == "hardest" else "class"
    scores = one.scores
    temperature = one.calibration.temperature
    scaled = "" if temperature == 1.0 else f" at temperature {temperature:.3g}"
    out.print(f"calibration error (ECE) {one.calibration.ece:.1%}{scaled}", highlight=False)
    out.print(imbalance_line(scores))
    out.print()
    if isinstance(scores, Scores):
        out.print(class_table(scores, order=order, all_classes=classes == "all"))
        if len(scores.classes) > 2 and scores.top1 < 1:
            out.print()
            out.print(confusion_pairs(scores, _CONFUSIONS))
    else:
        out.print(multilabel_table(scores, order=order, all_classes=classes == "all"))


def _show_suspects(one: "Measurement", num: int) -> None:
    from striate.cli.score_tables import suspects_table

    out.print()
    out.print(
        "[bold]Labels that are likely wrong[/] (confident learning; only for images it was not trained on)"
    )
    out.print(suspects_table(one.suspects(num), one.predictions.classes))


def _value(figure: "Figure", num: int) -> str:
    if figure.value is None:
        return "-"
    return percent(figure.value, num) if figure.interval else f"{figure.value:.4f}"


def _ends(figure: "Figure", num: int) -> str:
    if figure.interval is None:
        return ""
    return f"{percent(figure.interval[0], num)} to {percent(figure.interval[1], num)}"


def _interval(figure: "Figure", num: int) -> str:
    return f"  (95% interval {_ends(figure, num)})" if figure.interval else ""


def _gain(figure: "Figure", num: int) -> str:
    if figure.gain is None:
        return ""
    if figure.gain_interval is None:
        return f"{figure.gain:+.4f}"
    digits = 2 if num >= 1000 else 1
    low, high = figure.gain_interval
    return f"{100 * figure.gain:+.{digits}f} ({100 * low:+.{digits}f} to {100 * high:+.{digits}f})"


def _record(one: "Measurement", found: "tuple[Figure, ...]") -> dict[str, Any]:
    return {
        "bundle": one.source,
        "trained": one.trained,
        "note": one.note,
        "protocol": one.protocol.kind if one.protocol else None,
        "views": one.views,
        "done": one.words,
        "images_per_s": one.images_per_s,
        "split": one.split,
        "broken": [{"file": file, "reason": reason} for file, reason in one.broken],
        "calibration": {"ece": one.calibration.ece, "temperature": one.calibration.temperature},
        "figures": [figure.to_json() for figure in found],
        **one.scores.to_json(),
    }


def _write_csv(results: Sequence[_Result], path: Path) -> None:
    """Write one row for each figure, and for each class with its recall, of each network and protocol."""
    from striate.cli.score_tables import class_rows
    from striate.core.atomic import write_text_atomic

    text = io.StringIO(newline="")
    rows = csv.writer(text)
    headings = ("bundle", "protocol", "split", "images", "what", "class", "value", "low", "high")
    rows.writerow((*headings, "gain", "gain_low", "gain_high", "images_per_s"))
    for one, found in results:
        kind = one.protocol.kind if one.protocol else ""
        own = (one.source, kind, one.split)
        speed = "" if one.images_per_s is None else f"{one.images_per_s:.3f}"
        for figure in found:
            ends, gains = figure.interval or ("", ""), figure.gain_interval or ("", "")
            number, gain = ("" if value is None else value for value in (figure.value, figure.gain))
            num = len(one.predictions.files)
            rows.writerow((*own, num, figure.what, "", number, *ends, gain, *gains, speed))
        for entry in class_rows(one.scores):
            for what in ("recall", "precision", "f1", "average_precision"):
                if entry.get(what) is None:
                    continue
                low, high = (entry[f"recall_{end}"] if what == "recall" else "" for end in ("low", "high"))
                value = entry[what]
                rows.writerow((*own, entry["images"], what, entry["class"], value, low, high, *[""] * 4))
    # A name may hold anything, also bytes that are not text.
    write_text_atomic(path, text.getvalue().encode("utf-8", "backslashreplace").decode())
