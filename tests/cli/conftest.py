import sys

import pytest

from striate.cli import show
from striate.cli.main import main


@pytest.fixture
def run(capsys, monkeypatch):
    """Run ``striate WORDS...`` as from a shell; return exit code, standard output and error output.

    ``width``: columns of the screen, from this call on; None leaves them as they are. A file whose commands
    all start alike, or that needs an empty folder to work in, makes its own ``run`` of this one.
    """

    def call(*words, width=None):
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
            for console in (show.out, show.err):  # a console keeps the width that it started with
                monkeypatch.setattr(console, "_width", width)
        monkeypatch.setattr(sys, "argv", ["striate", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return call
