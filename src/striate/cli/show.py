"""How the command line shows progress and prints errors."""

import json
import sys
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from striate.cli.options import in_options
from striate.core.text import printable


class _Terminal(Console):
    """A console on which text from files can't command the terminal: escapes are printed, not sent."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render, with everything that is not printable as its escape."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text.replace("\n", "").isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), segment.style)


out = _Terminal()
err = _Terminal(stderr=True)

_EPOCH_LINES = 30  # at most; a longer training prints every second, third ... epoch
_WORDS = {"scan": "reading images", "train": "training", "evaluate": "testing"}


class Listener:
    """A ``Progress`` that draws bars on a terminal and prints a line for each epoch.

    Everything goes to the error stream, so that results can be piped. A stage appears after half a second;
    shorter ones are never shown.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Draw."""
        if stage == "epoch":
            every = -(-(total or 1) // _EPOCH_LINES)
            if done != 1 and done % every and done != total:
                return
            width = len(str(total))
            err.print(f"epoch {done:>{width}}/{total}  {note}", highlight=False)
            return
        if stage == "note":
            err.print(f"[yellow]{escape(in_options(note))}[/]", highlight=False)
            return
        now = time.monotonic()
        if now - self._started.setdefault(stage, now) < 0.5:
            return
        if stage not in self._tasks:
            words = _WORDS.get(stage, stage)
            self._tasks[stage] = self._bars.add_task(words, total=total, note=note)
        self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
        if total is not None and done >= total:
            self._bars.remove_task(self._tasks.pop(stage))
            del self._started[stage]

    def __enter__(self) -> "Listener":
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and leave nothing on the screen."""
        self._bars.stop()


def print_error(message: str) -> None:
    """Print one line on the error stream, never wrapped."""
    line = printable(" ".join(message.split()))
    if err.is_terminal:
        err.print("[bold red]error[/] ", end="")
        err.out(line, highlight=False)
    else:
        print(f"error: {line}", file=sys.stderr)


def print_json(value: object) -> None:
    """Print a result as JSON, indented, in which everything that is not printable is escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text))


def percent(rate: float, num_images: int) -> str:
    """Write a rate with as many decimals as the number of images supports."""
    return f"{rate:.2%}" if num_images >= 1000 else f"{rate:.1%}"
