"""The command ``striate``."""

import sys
from typing import Annotated

import typer

from striate import __version__
from striate.cli import data, evaluate, nets, predict, train
from striate.cli.show import print_error
from striate.core.errors import StriateError

app = typer.Typer(
    name="striate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The classic convolutional networks, LeNet-5 to ResNet: train, test and use them on your images.\n\n"
    "Start with:  [bold]striate train lenet5_modern --data digits[/]",
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


app.command("nets")(nets.nets)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("data")(data.data)


def main() -> None:
    """Run the command line; exit with 0, 1 (it failed) or 2 (it was asked for wrongly)."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:  # accepted anywhere, also behind the command
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    try:
        app(args=arguments, prog_name="striate")
    except StriateError as error:
        if debug:
            raise
        print_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        print_error("interrupted")
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except MemoryError:
        if debug:
            raise
        print_error("out of memory: use smaller batches (--set batch_images=32) or a smaller network")
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        print_error(
            f"unexpected {type(error).__name__}: {error}; this is a bug in striate, --debug shows where"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
