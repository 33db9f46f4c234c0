"""Options that commands share, each with one name and one meaning; library messages in the same terms.

A command takes an option by its type, ``device: DeviceOption = "auto"``. Where the same option needs a help
text of its own, the command takes the names from here: ``typer.Option(*OUT, help="The page (.html).")``.
"""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from striate.core.choices import DeviceChoice, EngineChoice, EnginePrecisionChoice, PrecisionChoice, Split

if TYPE_CHECKING:
    from striate.core.compute import Compute

DATA = ("--data", "-d")
OUT = ("--out", "-o")

NETWORK_HELP = (
    "A network: a bundle or run folder, a name (`striate nets`), a .net file, or module:factory, a function"
    " of your own that returns a torch.nn.Module."
)
UNTRAINED_HELP = (
    "Name of a network (`striate nets`), a .net file, or module:factory, a function of your own that returns"
    " a torch.nn.Module."
)
DATA_HELP = (
    "Labelled images: digits, mnist, fashion-mnist, cifar10, cifar100, a folder of class folders, a .tar,"
    " .tar.gz or .zip of one, or a .csv or .jsonl list."
)
BUNDLE_HELP = "A bundle (.safetensors) or a run folder."

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
UntrainedArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=UNTRAINED_HELP)]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help=BUNDLE_HELP)]
BundlesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="BUNDLE", help="Bundles (.safetensors), run folders or predictions files (.csv, .parquet)."
    ),
]

DataOption = Annotated[
    list[str] | None,
    typer.Option(
        *DATA,
        metavar="DATA",
        help=f"{DATA_HELP} Repeatable.",
    ),
]
RequiredDataOption = Annotated[
    list[str],
    typer.Option(*DATA, metavar="DATA", help="Labelled images, as for `striate train`. Repeatable."),
]
SplitOption = Annotated[Split, typer.Option("--split", help="Which of the images.")]
DeviceOption = Annotated[DeviceChoice, typer.Option("--device", help="Where to compute.")]
PrecisionOption = Annotated[
    PrecisionChoice, typer.Option("--precision", help="auto takes bf16 where the hardware computes in it.")
]
EnginePrecisionOption = Annotated[
    EnginePrecisionChoice, typer.Option("--precision", help="int8 needs a quantized bundle.")
]
EngineOption = Annotated[EngineChoice, typer.Option("--engine", help="What runs the network.")]
BatchOption = Annotated[
    int | None, typer.Option("--batch", min=1, help="Images in a forward pass; chosen if not given.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads that decode or compute; default: all cores.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
OutOption = Annotated[Path | None, typer.Option(*OUT, metavar="FILE", help="File to write.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Stop at a broken image instead of leaving it out.")
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="KEY=VALUE",
        help="An argument of an untrained network, e.g. --arg num_classes=10. Repeatable.",
    ),
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="Input size of an untrained network, e.g. 3x224x224; default: its own.",
    ),
]
ClassOption = Annotated[
    str | None,
    typer.Option(
        "--class", metavar="CLASS", help="Name or number of a class; default: the network's first choice."
    ),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="CLASS",
        help="Name or number of a class; default: the network's first choices. Repeatable.",
    ),
]


def compute_of(
    device: DeviceChoice,
    precision: EnginePrecisionChoice,
    batch: int | None = None,
    threads: int | None = None,
) -> "Compute":
    """Make the library's value of these options.

    Args:
        device: ``--device``.
        precision: ``--precision``.
        batch: ``--batch``: images, at least 1, or None.
        threads: ``--threads``, at least 1, or None.
    """
    from striate.core.compute import Compute

    return Compute(device=device, precision=precision, batch_images=batch, threads=threads)


_OPTION_OF = {
    "arguments": "arg",
    "net_arguments": "arg",
    "settings": "set",
    "input_shape": "input",
    "batch_images": "batch",
    "checkpoint_s": "checkpoint-seconds",
    "held_mb": "max-held-mb",
    "pixels": "max-pixels",
    "queue_requests": "queue",
    "request_images": "max-images",
    "request_mb": "max-request-mb",
    "upload_s": "upload-timeout-s",
    "wait_ms": "batch-wait-ms",
    "wait_s": "timeout-s",
    "target": "class",
}
"""Options whose name is not the argument's with dashes, with or without its unit."""

_UNIT = re.compile(r"_(px|s|ms|mb|points)$")
_ARGUMENT = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")
_RESUME = re.compile(r"`resume\(([\"'])([^`]*)\1\)`")


def in_options(message: str, command: Any = None) -> str:
    """Say a library's message in the command line's terms.

    Arguments in backticks become options: ```data``` ``--data``, ```max_drop_points=1``` ``--max-drop 1``.
    A field of a recipe that is no option becomes ``--set lr=0.1``, and ```resume("RUN")``` ``striate train
    --resume RUN``. Whole commands and other calls in backticks stay as they are.

    Args:
        message: of an error or a warning.
        command: typer's command that the message is for: what it has no option or argument for stays as it
            is. None where that is not known.
    """
    known = None if command is None else _words_of(command)

    def in_words(found: re.Match[str]) -> str:
        name, value = found.group(1), found.group(2)
        word = _word_for(name, value, known)
        if word is None:
            return found.group(0)
        if value is None:
            return word
        if word.startswith("--set "):
            return f"{word}={value}"
        if value in ("True", "False"):
            return word if value == "True" else word.replace("--", "--no-", 1)
        return word + " " + value.strip("\"'")

    message = _RESUME.sub(lambda found: f"`striate train --resume {shlex.quote(found.group(2))}`", message)
    return _ARGUMENT.sub(in_words, message)


def _words_of(command: Any) -> dict[str, str]:
    """Map an argument's name, with dashes, to what is typed for it in a command."""
    words = {}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            shown = parameter.metavar or parameter.name.upper()
            words[parameter.name] = shown.removesuffix("...")
        words |= {name[2:]: name for name in parameter.opts if name.startswith("--")}
    return words


def _word_for(name: str, value: str | None, known: dict[str, str] | None) -> str | None:
    """Return what is typed for an argument, without its value; None where there is nothing to type."""
    from striate.recipes.recipe import FIELDS

    names = [one.replace("_", "-") for one in (_OPTION_OF.get(name, name), name, _UNIT.sub("", name))]
    if known is None:
        is_field = name in FIELDS and name != "epochs" and value is not None
        return f"--set {name}" if is_field else f"--{names[0] if name in _OPTION_OF else names[-1]}"
    found = next((known[one] for one in names if one in known), None)
    return f"--set {name}" if found is None and name in FIELDS and "set" in known else found
