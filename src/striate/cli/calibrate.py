"""``striate calibrate``."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from striate.cli.show import Listener, err, out

if TYPE_CHECKING:
    from striate.evaluation.calibrate import CalibrateResult


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle (.safetensors) or a run folder.")],
    data: Annotated[list[str], typer.Option("--data", "-d", help="Labelled images, as for `striate train`.")],
    split: Annotated[
        str, typer.Option(help="The images to fit on: val. Training and test images are refused.")
    ] = "val",
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write here instead of into the bundle itself.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a network's probabilities mean what they say: fit a temperature and keep it in the bundle.

    The logits are divided by one number, fitted on validation images. No answer changes, only how sure it is.

    Example:  [bold]striate calibrate runs/demo --data mnist[/]
    """
    from striate.evaluation.calibrate import calibrate_bundle

    with Listener() as listener:
        result = calibrate_bundle(
            bundle,
            data,
            split=split,
            out=target,
            force=force,
            batch_images=batch,
            precision=precision,  # type: ignore[arg-type]
            device=device,  # type: ignore[arg-type]
            progress=listener,
        )
    for note in result.notes:
        err.print(f"[yellow]{escape(note)}[/]", highlight=False)
    if json:
        print(json_module.dumps(_record(result), indent=2, ensure_ascii=False))
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
        else "There are no test images, so how well it does on new ones is not known."
    )
    out.print(
        "[dim]NLL: mean negative log likelihood in nats. ECE: mean gap between confidence and share of right"
        f" answers, over 15 bins of equal width, or of equally many answers. {honest}[/]",
        highlight=False,
    )


def _record(result: "CalibrateResult") -> dict[str, object]:
    test = None
    if result.test_before is not None and result.test_after is not None:
        test = {"before": result.test_before.to_json(), "after": result.test_after.to_json()}
    return {
        "bundle": str(result.bundle),
        "split": result.split,
        "replaced": result.replaced,
        **result.fit.to_json(),
        "notes": list(result.notes),
        "fitted_on": {"before": result.fit.before.to_json(), "after": result.fit.after.to_json()},
        "test": test,
    }
