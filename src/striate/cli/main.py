"""The command ``striate``.

An option that gets a new name keeps its old one for one version, unlisted: one line in ``OLD_NAMES``, and the
words of a command line are renamed before they are parsed.
"""

import errno
import io
import re
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from striate import __version__
from striate.cli import (
    anatomy,
    bench,
    blend,
    calc,
    calibrate,
    compare,
    compare_runs,
    data,
    draw,
    evaluate,
    export,
    look,
    nets,
    predict,
    quantize,
    report,
    serve,
    train,
    weights,
)
from striate.cli.options import in_options
from striate.cli.show import print_error
from striate.core.errors import StriateError

OLD_NAMES: dict[str, dict[str, str]] = {
    "draw": {"--output": "--out"},
    "look": {"--output": "--out"},
    "look activations": {"--maps": "--top"},
    "look deconv": {"--count": "--top"},
    "look filters": {"--filters": "--top", "--only": "--unit"},
    "look gallery": {"-k": "--top", "--units": "--num-units"},
    "look gradcam": {"--count": "--top"},
    "look occlusion": {"--target": "--class"},
    "look segment": {"--top": "--quantile"},
    "look strongest": {"-k": "--top", "--units": "--unit"},
    "evaluate": {"--topk": "--top"},
    "report": {"--output": "--out"},
}
"""Command, or group of commands, to its old options and what they are called now."""

_INTERRUPTED = 130  # what typer makes of Ctrl-C

_TRAIN, _MEASURE, _LOOK, _READ, _USE = _PANELS = (
    "Train",
    "Measure",
    "Look inside a trained network",
    "Read a network: sizes, costs, figures",
    "Use a trained network",
)


class _InPanels(TyperGroup):
    """Lists the commands in the order of their panels."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List them."""
        commands: dict[str, Any] = dict(self.commands)
        return sorted(commands, key=lambda name: _PANELS.index(commands[name].rich_help_panel))


app = typer.Typer(
    name="striate",
    cls=_InPanels,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Start with:  [bold]striate train lenet5_modern --data digits[/]\n\n"
    "The classic convolutional networks, LeNet-5 to ResNet: train, test and use them on your images.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"striate {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("train", rich_help_panel=_TRAIN)(train.train)
app.command("data", rich_help_panel=_TRAIN)(data.data)
app.add_typer(blend.app, name="blend", rich_help_panel=_TRAIN)
app.command("evaluate", rich_help_panel=_MEASURE)(evaluate.evaluate)
app.command("compare-runs", rich_help_panel=_MEASURE)(compare_runs.compare_runs)
app.command("calibrate", rich_help_panel=_MEASURE)(calibrate.calibrate)
app.command("report", rich_help_panel=_MEASURE)(report.report)
app.add_typer(look.app, name="look", rich_help_panel=_LOOK)
app.add_typer(nets.app, name="nets", rich_help_panel=_READ)
app.command("anatomy", rich_help_panel=_READ)(anatomy.anatomy)
app.command("compare", rich_help_panel=_READ)(compare.compare)
app.command("calc", rich_help_panel=_READ)(calc.calc)
app.command("draw", rich_help_panel=_READ)(draw.draw)
app.add_typer(weights.app, name="weights", rich_help_panel=_READ)
app.command("predict", rich_help_panel=_USE)(predict.predict)
app.command("quantize", rich_help_panel=_USE)(quantize.quantize)
app.command("export", rich_help_panel=_USE)(export.export)
app.command("serve", rich_help_panel=_USE)(serve.serve)
app.command("bench", rich_help_panel=_USE)(bench.bench)


def main() -> None:
    """Run the command line; exit with 0, 1 (it failed) or 2 (wrong usage)."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:  # accepted anywhere, also behind the command
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold anything
    try:
        code = app(args=_in_new_names(arguments), prog_name="striate", standalone_mode=False) or 0
        if code == _INTERRUPTED:
            training = "train" in arguments[:2]
            print_error("interrupted" + ("; to continue: striate train --resume RUN" if training else ""))
        sys.exit(1 if code == _INTERRUPTED else code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if hasattr(error, "format_message"):  # the option parser's own errors
            _print_usage_error(error)
            sys.exit(2)
        if debug:
            raise
        print_error(in_options(_in_one_line(error), _command(arguments)))
        sys.exit(error.exit_code if isinstance(error, StriateError) else 1)


def _in_new_names(arguments: list[str]) -> list[str]:
    """Rename old options, except after ``--``."""
    words = [word for word in arguments if not word.startswith("-")]
    renamed = {old: new for n in (1, 2) for old, new in OLD_NAMES.get(" ".join(words[:n]), {}).items()}
    end = arguments.index("--") if "--" in arguments else len(arguments)
    found = []
    for word in arguments[:end]:
        name, equals, value = word.partition("=")
        found.append(f"{renamed.get(name, name)}{equals}{value}")
    return found + arguments[end:]


def _command(arguments: list[str]) -> Any:
    """Return the command that a command line names, or the group where it names none."""
    command: Any = typer.main.get_command(app)
    for word in arguments:
        if not word.startswith("-"):
            found = getattr(command, "commands", {}).get(word)
            if found is None:
                break
            command = found
    return command


def _print_usage_error(error: Any) -> None:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    message = error.format_message().replace("Value error, ", "").rstrip(".?")
    message = re.sub(r" \(Possible options: (.*)\)$", r": did you mean \1", message)
    where = error.ctx.command_path if error.ctx else "striate"
    print_error(f"{message.replace('. Did you', ': did you')}; see {where} --help")


def _in_one_line(error: Exception) -> str:
    if isinstance(error, StriateError):
        return str(error)
    out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if out_of_memory or "can't allocate memory" in str(error):
        return "out of memory: use smaller batches (`batch_images=32`), a smaller network or smaller images"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"can't write ({error.strerror}): free some space"
    return f"unexpected {type(error).__name__}: {error}; this is a bug in striate, --debug shows where"


if __name__ == "__main__":
    main()
