"""Options that commands share, old names, and library messages in the command line's terms."""

import subprocess
import sys

import pytest
import typer

from striate.cli import main
from striate.cli.options import compute_of, in_options
from striate.core.compute import Compute
from striate.core.errors import UsageError


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("evaluate", "expected `data` here", "expected --data here"),
        ("evaluate", "use `batch_images=32`", "use --batch 32"),
        ("train", "use `batch_images=32`", "use --set batch_images=32"),
        ("train", "lower `lr` or use `clip_norm=1.0`", "lower --set lr or use --set clip_norm=1.0"),
        ("train", "`epochs=30`, `cycles=3`", "--epochs 30, --set cycles=3"),
        ("train", "`settings`, `net_arguments`, `net`", "--set, --arg, NETWORK"),
        ("train", '`precision="fp32"`', "--precision fp32"),
        ("train", "`strict=True` or `strict`", "--strict or --strict"),
        ("blend soup", "`lr=0.01`, `epochs=5`", "--lr 0.01, --epochs 5"),
        ("train", "`flip=False`, `flip=True`", "--set flip=False, --set flip=True"),
        ("blend soup", "`batch_norm=False`", "--no-batch-norm"),
        ("blend average", "`held_out=train`, `weights`", "--held-out train, --weights"),
        ("quantize", "`max_drop_points=1`", "--max-drop 1"),
        ("evaluate", "`canvas_px`, `pad_px=10`", "--canvas, --pad 10"),
        ("predict", "`bundle`", "BUNDLE"),
        ("anatomy", "`input_shape=3x64x64` or `arguments`", "--input 3x64x64 or --arg"),
        ("nets", "`data`, `lr=1`, `softmax`", "`data`, `lr=1`, `softmax`"),
        ("nets", 'run `striate nets` or `striate.load("x")`', 'run `striate nets` or `striate.load("x")`'),
        ("evaluate", '`resume("runs/a")`', "`striate train --resume runs/a`"),
        ("evaluate", "`resume('my runs/a')`", "`striate train --resume 'my runs/a'`"),
        (None, "`data`, `max_drop_points=1`, `lr=0.1`, `lr`", "--data, --max-drop 1, --set lr=0.1, --lr"),
        (None, "`batch_images`, `checkpoint_s=5`", "--batch, --checkpoint-seconds 5"),
    ],
)
def test_a_message_names_options(command, message, shown):
    parsed = None if command is None else main._command(command.split())
    assert in_options(message, parsed) == shown


def test_the_command_of_a_line_is_found_behind_global_options():
    assert main._command(["--debug", "look", "filters", "lenet5"]).name == "filters"
    assert main._command(["look", "nothing"]).name == "look"


def test_old_names_are_renamed_and_nothing_else():
    renamed = main._in_new_names(["draw", "lenet5", "--output", "a.svg", "--output=b.svg", "--title", "x=1"])
    assert renamed == ["draw", "lenet5", "--out", "a.svg", "--out=b.svg", "--title", "x=1"]
    assert main._in_new_names(["draw", "--", "--output"]) == ["draw", "--", "--output"]
    assert main._in_new_names(["anatomy", "--output"]) == ["anatomy", "--output"]


@pytest.mark.parametrize("path", sorted(main.OLD_NAMES))
def test_an_old_name_leads_to_an_option_and_is_one_no_longer(path):
    group = main._command(path.split())
    commands = list(getattr(group, "commands", {"": group}).values())
    names = [{name for parameter in command.params for name in parameter.opts} for command in commands]
    for old, new in main.OLD_NAMES[path].items():
        assert any(new in found for found in names)
        assert not any(old in found for found in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian': did you mean 'train'; see striate --help"),
        (["look", "filterz"], "No such command 'filterz': did you mean 'filters'; see striate look --help"),
        (
            ["anatomy", "lenet5", "--dept", "1"],
            "No such option: --dept: did you mean --depth",
        ),
    ],
)
def test_a_mistyped_word_names_close_ones(run, words, message):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")


def test_a_message_of_the_library_is_printed_with_options(run, monkeypatch):
    def failing(*arguments, **options):
        raise UsageError("expected `depth` of at least 1, got 0: use `depth=1`")

    monkeypatch.setattr("striate.anatomy.trace", failing)
    code, _, err = run("anatomy", "lenet5")
    assert (code, err) == (2, "error: expected --depth of at least 1, got 0: use --depth 1\n")


def test_compute_of_options():
    assert compute_of("cpu", "bf16", 8, 2) == Compute(
        device="cpu", precision="bf16", batch_images=8, threads=2
    )
    assert compute_of("auto", "auto") == Compute()


def test_every_command_of_the_help_is_in_a_group():
    command = typer.main.get_command(main.app)
    assert all(one.rich_help_panel for one in command.commands.values())


def test_options_load_nothing_heavy():
    program = "import sys, striate.cli.options; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
