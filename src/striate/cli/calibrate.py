"""``striate calibrate``."""

import json as json_module
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.options import (
    BatchOption,
    BundleArgument,
    DeviceOption,
    ForceOption,
    JsonOption,
    OutOption,
    PrecisionOption,
    RequiredDataOption,
    compute_of,
    in_options,
)
from striate.cli.show import Listener, err, out


def calibrate(
    bundle: BundleArgument,
    data: RequiredDataOption,
    split: Annotated[
        str, typer.Option(help="The images to fit on: val. Training and test images are refused.")
    ] = "val",
    target: OutOption = None,
    force: ForceOption = False,
    batch: BatchOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Make a network's probabilities mean what they say: fit a temperature and keep it in the bundle.

    The logits are divided by one number, fitted on validation images. Only the probabilities change, not the
    predicted classes. Without --out the bundle itself is changed.

    Example:  [bold]striate calibrate runs/demo --data mnist[/]
    """
    from striate.evaluation.calibrate import calibrate as run_calibrate

    with Listener() as listener:
        result = run_calibrate(
            bundle,
            data,
            split=split,
            out=target,
            force=force,
            compute=compute_of(device, precision, batch),
            progress=listener,
        )
    for note in result.notes:
        err.print(f"[yellow]{escape(in_options(note))}[/]", highlight=False)
    if json:
        print(json_module.dumps(result.to_json(), indent=2, ensure_ascii=False))
        return
    was = "" if result.replaced == 1.0 else f" (it held {result.replaced:.3f})"
    out.print(
        f"temperature [bold]{result.fit.temperature:.3f}[/], written to {escape(str(result.bundle))}{was}",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("images", "", "before", "after"):
        table.add_column(heading, justify="right" if heading in ("before", "after") else "left")
    rows = [(f"{result.fit.before.num_images:,} fitted on", result.fit.before, result.fit.after)]
    if result.test_before is not None and result.test_after is not None:
        rows.append((f"{result.test_before.num_images:,} test", result.test_before, result.test_after))
    for words, before, after in rows:
        for label, low, high in (
            ("NLL", f"{before.nll:.4f}", f"{after.nll:.4f}"),
            ("ECE", f"{before.ece:.2%}", f"{after.ece:.2%}"),
            ("ECE, equal mass", f"{before.ece_equal_mass:.2%}", f"{after.ece_equal_mass:.2%}"),
            ("Brier", f"{before.brier:.4f}", f"{after.brier:.4f}"),
        ):
            table.add_row(words, label, low, high)
            words = ""
    out.print(table)
    honest = (
        "The test images are the honest figure: nothing was fitted on them."
        if result.test_after is not None
        else "There are no test images, so its calibration on new ones is not known."
    )
    out.print(
        "[dim]NLL: mean negative log likelihood in nats. ECE: mean gap between confidence and accuracy, over"
        f" 15 bins of equal width, or of equally many predictions. {honest}[/]",
        highlight=False,
    )
