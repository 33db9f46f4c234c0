"""One network, several views, several networks, averaged weights: what each of them brings on CIFAR-10.

For every seed it trains, by the command line,

- ``parent``: one cycle of the learning rate, with a moving average (EMA) of the weights beside the last ones;
- ``cycles``: a cyclic schedule that leaves a snapshot at the end of each cycle;
- ``constant``: a constant rate, where the moving average matters, again beside the last weights;
- ``tune1`` ...: fine-tunes of the parent that differ in seed, learning rate and augmentation.

Then all are asked about the test images: single crop, flip, ten crops, the ensemble of the parents of all
seeds, the snapshots' ensemble, averages against last weights, and soups and the ensemble of the fine-tunes.
Soups and "best" are chosen on validation images, a tenth of the training images; nothing is chosen on test
images. It prints a Markdown table and the commands.

Everything goes to ``--out``. What is finished there is used again, and what was stopped goes on, so that the
same command continues after a kill and adds seeds.

Example::

    python benchmarks/blend_cifar.py --data cifar10-train.tar.gz cifar10-test.tar.gz --out runs/blend
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from striate.blend.ensemble import average_predictions
from striate.blend.merge_bundles import soup
from striate.core.compute import pick_device
from striate.core.environment import describe_machine
from striate.evaluation.measure import evaluate
from striate.evaluation.protocol import Protocol
from striate.metrics.interval import wilson
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_file import load_predictions, save_predictions
from striate.metrics.seeds import summarise
from striate.nets import describe, find
from striate.weights.bundle import load_bundle
from striate.weights.run_folder import RunFolder, snapshot_files

NET = Path(__file__).with_suffix(".net")
# Fine-tunes of one parent: each line is one, by its differences from the others.
TUNES = (
    ("lr=0.02",),
    ("lr=0.05",),
    ("lr=0.02", "label_smoothing=0.1"),
    ("lr=0.05", "brightness=0.2", "contrast=0.2"),
    ("lr=0.01",),
    ("lr=0.1",),
    ("lr=0.02", "weight_decay=0.001"),
    ("lr=0.05", "label_smoothing=0.1", "crop_pad_px=6"),
)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", nargs="+", required=True, help="archives or folders with train and test images"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--net", default=str(NET), help="a name, or a .net file; default: %(default)s")
    parser.add_argument("--recipe", default="resnet_cifar_quick", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=16, help="of a parent; default: %(default)s")
    parser.add_argument("--cycles", type=int, default=4, help="snapshots of a run; default: %(default)s")
    parser.add_argument("--fine-tunes", type=int, default=4, help="of a parent; default: %(default)s")
    parser.add_argument("--tune-epochs", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="further recipe fields for every run")
    options = parser.parse_args()
    if not 2 <= options.fine_tunes <= len(TUNES):
        parser.error(f"expected 2 to {len(TUNES)} fine-tunes, got {options.fine_tunes}")
    if options.seeds < 1 or options.epochs % options.cycles:
        parser.error("expected at least one seed, and epochs that are a multiple of the cycles")
    return options


class Experiment:
    """The runs of one folder: each is trained once, each question is asked once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.out: Path = options.out
        self.commands: dict[str, str] = {}
        self.data = " ".join(f"--data {Path(part).name}" for part in options.data)
        asked = {key: value for key, value in vars(options).items() if key not in ("out", "seeds")}
        record = self.out / "experiment.json"
        if record.exists() and json.loads(record.read_text()) != asked:
            sys.exit(f"{record}: this folder holds the runs of other settings: name another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(asked, indent=2) + "\n")

    def train(self, name: str, seed: int, epochs: int, changes: Iterable[str], *words: str) -> Path:
        """Train a run, go on with one that was stopped, or use a finished one."""
        run = self.out / f"seed{seed % 1000}" / name
        settings = [f"--set={change}" for change in ("val_fraction=0.1", *changes, *self.options.set)]
        data = [word for part in self.options.data for word in ("--data", part)]
        begin = ["train", self.options.net, *data, "--recipe", self.options.recipe, *settings, *words]
        begin += ["--epochs", str(epochs), "--seed", str(seed), "--out", str(run)]
        self.commands.setdefault(name, self._in_words(begin))
        if (run / "report.html").exists():
            return run
        again = ["train", "--resume", str(run)] if (run / "run.json").exists() else begin
        print(f"\n$ striate {shlex.join(again)}", file=sys.stderr, flush=True)
        subprocess.run(
            [sys.executable, "-m", "striate.cli.main", *again], check=True, stdout=subprocess.DEVNULL
        )
        return run

    def ask(self, bundle: Path, protocol: str = "single") -> Predictions:
        """Get a bundle's answers about the test images, from a file where they are there already."""
        where = bundle.relative_to(self.out).with_suffix("")
        file = self.out / "answers" / f"{'-'.join(where.parts)}-{protocol}.parquet"
        if not file.exists():
            print(f"evaluating {where} ({protocol})", file=sys.stderr, flush=True)
            shown = Protocol(kind=protocol)  # type: ignore[arg-type]
            save_predictions(
                evaluate(bundle, self.options.data, protocol=shown, split="test").predictions, file
            )
        return load_predictions(file)

    def soup(self, name: str, kind: str, bundles: Sequence[Path], seed: int) -> Path:
        """Make a soup, or use the one that is there."""
        target = self.out / f"seed{seed}" / f"{name}.safetensors"
        if not target.exists():
            print(f"making {target.relative_to(self.out)}", file=sys.stderr, flush=True)
            made = soup(bundles, self.options.data, target, kind=kind, seed=seed)  # type: ignore[arg-type]
            for note in (*made.notes, made.warning or ""):
                if note:
                    print(f"  {note}", file=sys.stderr, flush=True)
        return target

    def _in_words(self, words: Sequence[str]) -> str:
        """Write a command with the folders left out."""
        text = " ".join(["striate", *(shlex.quote(word) for word in words)]).replace(str(self.out), "OUT")
        for path in (*self.options.data, self.options.net):
            text = text.replace(str(path), Path(path).name)
        return text


class Table:
    """Accuracies by method: one for each seed, or one for all seeds together."""

    def __init__(self) -> None:
        self.rows: dict[str, list[float]] = {}
        self.passes: dict[str, int] = {}
        self.commands: dict[str, str] = {}
        self.intervals: dict[str, tuple[float, float]] = {}

    def add(self, method: str, answers: Predictions, passes: int, command: str) -> None:
        """Add a seed's answers to a method."""
        correct = answers.correct
        self.rows.setdefault(method, []).append(float(correct.mean()))
        self.passes[method] = passes
        self.commands.setdefault(method, command)
        interval = wilson(int(correct.sum()), len(correct))
        self.intervals.setdefault(method, (interval.low, interval.high))

    def add_mean(self, method: str, several: Sequence[Predictions], command: str) -> None:
        """Add the mean accuracy of several networks that are used one at a time."""
        self.rows.setdefault(method, []).append(float(np.mean([one.correct.mean() for one in several])))
        self.passes[method] = 1
        self.commands.setdefault(method, command)

    def to_markdown(self, base: str, seeds: int) -> str:
        """Write the table; gains are against ``base``, seed by seed."""
        heads = [
            *(f"seed {seed}" for seed in range(seeds)),
            "mean",
            "spread",
            "95 % interval",
            "gain over the parent",
        ]
        lines = [f"| method | passes | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
        for method, rates in self.rows.items():
            if len(rates) == seeds and seeds > 1:
                whole = summarise(rates)
                assert whole.spread is not None
                assert whole.interval is not None
                cells = [f"{rate:.2%}" for rate in rates]
                cells += [f"**{whole.mean:.2%}**", f"{100 * whole.spread:.2f}", _range(whole.interval, "t")]
                gains = summarise([rate - own for rate, own in zip(rates, self.rows[base], strict=True)])
                assert gains.interval is not None
                low, high = gains.interval
                gain = f"{100 * gains.mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
            else:  # one figure: chance in the choice of the test images is all that is known
                cells = ["" for _ in range(seeds)]
                interval = self.intervals.get(method)
                cells += [f"**{rates[0]:.2%}**", "", "" if interval is None else _range(interval, "Wilson")]
                gain = f"{100 * (rates[0] - float(np.mean(self.rows[base]))):+.2f}"
            cells.append("" if method == base else gain)
            lines.append(f"| {method} | {self.passes[method]} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _range(interval: tuple[float, float], kind: str) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%} ({kind})"


def together(members: Sequence[Path], several: Sequence[Predictions]) -> Predictions:
    """Average probabilities, each at its bundle's temperature."""
    return average_predictions(
        [
            replace(one, temperature=load_bundle(path).temperature)
            for one, path in zip(several, members, strict=True)
        ]
    )


def one_seed(experiment: Experiment, table: Table, seed: int) -> Path:
    """Train, blend and measure everything of one seed; return the parent."""
    options = experiment.options
    smooth = ("average=ema", "ema_decay=0.998")
    parent = RunFolder(
        experiment.train("parent", seed, options.epochs, (*smooth, f"warmup_epochs={options.epochs / 4:g}"))
    )
    cycles = RunFolder(
        experiment.train(
            "cycles", seed, options.epochs, ("warmup_epochs=0", "lr=0.1"), "--snapshots", str(options.cycles)
        )
    )
    constant = RunFolder(
        experiment.train(
            "constant", seed, options.epochs, (*smooth, "schedule=constant", "warmup_epochs=0", "lr=0.05")
        )
    )
    tunes = [
        RunFolder(
            experiment.train(
                f"tune{number}",
                seed + 1000 * number,
                options.tune_epochs,
                ("schedule=cosine", "warmup_epochs=0", *changes),
                "--weights",
                str(parent.path),
            )
        ).bundle
        for number, changes in enumerate(TUNES[: options.fine_tunes], 1)
    ]
    ask, data = experiment.ask, experiment.data
    evaluate = f"striate evaluate OUT/seed0/parent {data}"
    table.add("parent, single crop", ask(parent.bundle), 1, evaluate)
    table.add("parent, flip", ask(parent.bundle, "flip"), 2, f"{evaluate} --protocol flip")
    table.add("parent, ten-crop", ask(parent.bundle, "ten-crop"), 10, f"{evaluate} --protocol ten-crop")
    last = f"striate evaluate OUT/seed0/parent/last.safetensors {data}"
    table.add("parent, last weights instead of their average", ask(parent.last), 1, last)
    table.add("constant rate, last weights", ask(constant.last), 1, last.replace("parent", "constant"))
    table.add(
        "constant rate, moving average", ask(constant.bundle), 1, evaluate.replace("parent", "constant")
    )
    snapshots = snapshot_files(cycles)
    table.add(
        "cyclic, last snapshot alone",
        ask(snapshots[-1]),
        1,
        f"striate evaluate OUT/seed0/cycles/snapshots/{snapshots[-1].name} {data}",
    )
    table.add(
        f"cyclic, ensemble of {len(snapshots)} snapshots",
        together(snapshots, [ask(one) for one in snapshots]),
        len(snapshots),
        f"striate blend ensemble OUT/seed0/cycles --snapshots {data}",
    )
    k = len(tunes)
    names = " ".join(f"OUT/seed0/tune{number}" for number in range(1, k + 1))
    answers = [ask(tune) for tune in tunes]
    best = min(range(k), key=lambda i: load_bundle(tunes[i]).metrics["val_error"])
    table.add_mean(f"fine-tunes, mean of {k}", answers, f"striate evaluate {names} {data}")
    shown = f"striate blend table {names} {data}"
    table.add("fine-tunes, best on validation", answers[best], 1, shown)
    table.add(f"fine-tunes, ensemble of {k}", together(tunes, answers), k, shown)
    for kind in ("uniform", "greedy", "learned"):
        made = experiment.soup(f"{kind}-soup", kind, tunes, seed)
        table.add(
            f"fine-tunes, {kind} soup",
            ask(made),
            1,
            f"striate blend soup {names} --{kind} {data} -o OUT/seed0/{kind}-soup.safetensors",
        )
    return parent.bundle


def main() -> None:
    """Train, blend, measure and print."""
    options = arguments()
    experiment, table, begun = Experiment(options), Table(), time.monotonic()
    parents = [one_seed(experiment, table, seed) for seed in range(options.seeds)]
    k = len(parents)
    if k > 1:
        names, data = " ".join(f"OUT/seed{seed}/parent" for seed in range(k)), experiment.data
        answers = [experiment.ask(parent) for parent in parents]
        mixed = experiment.soup("parents-soup", "uniform", parents, 0)
        table.add(
            f"ensemble of {k} parents (seeds)",
            together(parents, answers),
            k,
            f"striate blend ensemble {names} {data}",
        )
        soup = f"striate blend soup {names} --uniform {data} -o OUT/seed0/parents-soup.safetensors"
        table.add(f"uniform soup of {k} parents (no common start)", experiment.ask(mixed), 1, soup)
    print(_about(options, experiment.ask(parents[0])))
    print(table.to_markdown("parent, single crop", options.seeds))
    print("\nTrained with (seed 0; the other seeds alike, OUT is the folder of the runs):\n")
    print("\n".join(f"    {command}" for command in experiment.commands.values()))
    print("\nMeasured with:\n")
    print("\n".join(f"    {command}" for command in dict.fromkeys(table.commands.values())))
    print(
        f"\nThis call took {(time.monotonic() - begun) / 60:.1f} min; training, by the runs' records:",
        end=" ",
    )
    print(f"{sum(_training_seconds(options.out)) / 60:.1f} min.")


def _training_seconds(out: Path) -> Iterable[float]:
    for file in out.glob("seed*/*/metrics.csv"):
        rows = [line.split(",") for line in file.read_text().splitlines()]
        place = rows[0].index("seconds")
        yield sum(float(row[place]) for row in rows[1:])


def _about(options: argparse.Namespace, answers: Predictions) -> str:
    summary: Any = describe(find(options.net).reference, num_classes=len(answers.classes))
    machine = describe_machine(pick_device("auto"))
    return (
        f"{Path(options.net).name}: {summary.parameters:,} parameters, {summary.macs / 1e6:.1f} M MACs;"
        f" {options.epochs} epochs, {options.tune_epochs} for a fine-tune; {len(answers.labels):,} test"
        f" images. {machine['processor']}, {machine['threads']} threads.\n\n"
        "Spread is the standard deviation between seeds, in points. Intervals (95 %) are Student's t over the"
        " seeds, or Wilson's over the test images where there is one figure. Gains are in points, with the t"
        " interval of the differences seed by seed.\n"
    )


if __name__ == "__main__":
    main()
