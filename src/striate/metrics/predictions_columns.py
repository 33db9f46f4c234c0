"""The table in a predictions file: its columns, how names become text, and how predictions are read back."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.metrics.checks import check_labels, check_marks, check_values
from striate.metrics.predictions import Predictions

TEXTS = ("file", "true", "predicted")
EVERY_ROW = ("network", "split", "temperature")
_MARK, _LOGIT = "is:", "logit:"
_JOIN = "; "
_GIVEN = 0.5  # a label is given where its probability is above
_MAX_CLASSES = 100_000

_NOT_TEXT = re.compile(r"[\ud800-\udfff]|\\(?=u(?:d[89a-f][0-9a-f]{2}|005c))")
_ESCAPE = re.compile(r"\\u(d[89a-f][0-9a-f]{2}|005c)")


def escaped(name: str) -> str:
    r"""Write a name as text: a lone surrogate as ``\udcNN``, a ``\`` that would read so as ``\u005c``."""
    return _NOT_TEXT.sub(lambda found: f"\\u{ord(found[0]):04x}", name)


def unescaped(text: str) -> str:
    """Undo ``escaped``."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)


def refuse_unwritable(predictions: Predictions) -> None:
    """Refuse predictions that could not be read again from a file.

    Raises:
        DataError: no images, a file or class name that is empty or occurs twice, or labels out of range.
        NonFiniteLossError: a logit is NaN or infinite.
    """
    check_values(predictions.logits, predictions.classes, "logits")
    if predictions.multi_label:
        check_marks(predictions.labels, predictions.logits.shape)
    else:
        check_labels(predictions.labels, len(predictions.logits), len(predictions.classes))
    if len(predictions.files) != len(predictions.logits):
        raise DataError(
            f"expected one file name for each of {len(predictions.logits)} images, got"
            f" {len(predictions.files)}: name every image"
        )
    for what, names in (("class", predictions.classes), ("file", predictions.files)):
        wrong = _first_repeated(names)
        if wrong is not None:
            raise DataError(
                f"expected {what} names that are all different and not empty, got {names[wrong]!r} as number"
                f" {wrong + 1}: rename it, then save again"
            )


def header(predictions: Predictions) -> list[str]:
    """Return the names of the columns."""
    classes = [escaped(name) for name in predictions.classes]
    marks = [_MARK + name for name in classes] if predictions.multi_label else []
    return [*TEXTS, "p_predicted", *EVERY_ROW, *marks, *(_LOGIT + name for name in classes)]


def texts(predictions: Predictions) -> tuple[list[str], list[str], list[str], list[float]]:
    """Return the columns for people: file, true, predicted, probability of the prediction."""
    classes = [escaped(name) for name in predictions.classes]
    p = predictions.probabilities(predictions.temperature)
    if predictions.multi_label:
        true = [_JOIN.join(classes[k] for k in np.flatnonzero(row)) for row in predictions.labels]
        predicted = [_JOIN.join(classes[k] for k in np.flatnonzero(row > _GIVEN)) for row in p]
    else:
        true = [classes[label] for label in predictions.labels.tolist()]
        predicted = [classes[best] for best in predictions.logits.argmax(axis=1).tolist()]
    return [escaped(name) for name in predictions.files], true, predicted, p.max(axis=1).tolist()


def every_row(predictions: Predictions) -> list[str]:
    """Return the texts that are the same in every row, in the order of ``EVERY_ROW``."""
    return [escaped(predictions.name), escaped(predictions.split), repr(float(predictions.temperature))]


class Columns:
    """Where a predictions file has which column.

    Attributes:
        index: of each column by its name.
        names: the classes, as they are written.
        logits: numbers of the ``logit:`` columns, in the order of the classes.
        marks: numbers of the ``is:`` columns in the same order; none where an image has one label.
    """

    def __init__(self, names: Sequence[str], path: Path) -> None:
        """Find the columns.

        Args:
            names: of all columns.
            path: the file, for messages.

        Raises:
            DataError: a column is missing or occurs twice, or there are more than 100,000 classes.
        """
        self._path = path
        wrong = _first_repeated([name or f"\0{i}" for i, name in enumerate(names)])
        if wrong is not None:
            raise DataError(
                f"{path}: expected each column once, got {names[wrong][:60]!r} twice: remove one of them"
            )
        self.index = {name: i for i, name in enumerate(names)}
        self.names = [name.removeprefix(_LOGIT) for name in names if name.startswith(_LOGIT)]
        marked = {name.removeprefix(_MARK) for name in names if name.startswith(_MARK)}
        if "file" not in self.index or not self.names:
            raise DataError(
                f"{path}: expected a column file and columns logit:CLASS, got"
                f" {', '.join(repr(name[:20]) for name in names[:5]) or 'nothing'}"
                f"{' ...' if len(names) > 5 else ''}: did `striate evaluate` save this file?"
            )
        if len(self.names) > _MAX_CLASSES:
            raise DataError(
                f"{path}: expected at most {_MAX_CLASSES:,} classes, got {len(self.names):,}:"
                " did `striate evaluate` save this file?"
            )
        if marked and marked != set(self.names):
            odd = min(marked ^ set(self.names))
            raise DataError(
                f"{path}: expected columns is:CLASS and logit:CLASS for the same classes, got only one"
                f" for {odd[:60]!r}: add the other"
            )
        if not marked and "true" not in self.index:
            raise DataError(f"{path}: expected a column true with each image's class, got none: add it")
        if "" in self.names:
            raise DataError(f"{path}: expected a class name behind each logit:, got none: name the class")
        self.logits = [self.index[_LOGIT + name] for name in self.names]
        self.marks = [self.index[_MARK + name] for name in self.names] if marked else []

    def predictions(
        self,
        cells: dict[str, list[str]],
        marks: NDArray[np.float32],
        logits: NDArray[np.float32],
        first_row: int,
    ) -> Predictions:
        """Check the columns and return the predictions.

        Args:
            cells: texts of the columns ``file``, ``true``, ``network``, ``split`` and ``temperature``,
                where they exist.
            marks: ``N x K``; ignored where an image has one label.
            logits: ``N x K``.
            first_row: number of the first image's row, for messages.

        Raises:
            DataError: no rows, or one that is wrong; the message names it.
        """
        if not cells["file"]:
            raise DataError(f"{self._path}: expected one row for each image, got none: evaluate again")
        files = tuple(unescaped(name) for name in cells["file"])
        wrong = _first_repeated(files)
        if wrong is not None:
            what = f"{files[wrong][:80]!r} a second time" if files[wrong] else "an empty one"
            raise self.error(wrong + first_row, "each file name once", what, "remove the row")
        bad = np.argwhere(~np.isfinite(logits))
        if len(bad):
            row, k = bad[0].tolist()
            expected = f"a finite number under logit:{self.names[k][:60]}"
            raise self.error(row + first_row, expected, f"{logits[row, k]}", "evaluate again")
        labels: NDArray[Any] = (
            self._marked(marks, first_row) if self.marks else self._labelled(cells["true"], first_row)
        )
        name, split, temperature = (
            self._same(column, cells.get(column, []), first_row) for column in EVERY_ROW
        )
        return Predictions(
            name=name or self._path.stem,
            classes=tuple(unescaped(name) for name in self.names),
            files=files,
            labels=labels,
            logits=logits,
            split=split,
            temperature=self._temperature(temperature, first_row),
        )

    def _temperature(self, text: str, first_row: int) -> float:
        try:
            value = float(text or "1")
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise self.error(
                first_row, "a number above 0 under temperature", repr(text[:80]), "leave it empty"
            )
        return value

    def error(self, row: int, expected: str, got: str, remedy: str) -> DataError:
        """Return the error about a row."""
        return DataError(f"{self._path}, row {row:,}: expected {expected}, got {got}: {remedy}")

    def _labelled(self, true: Sequence[str], first_row: int) -> NDArray[np.int64]:
        number = {name: k for k, name in enumerate(self.names)}
        labels = np.array([number.get(name, -1) for name in true], np.int64)
        if labels.min() < 0:
            row = int(labels.argmin())
            expected = "the name of a class under true"
            raise self.error(row + first_row, expected, repr(true[row][:80]), "correct the label")
        return labels

    def _marked(self, marks: NDArray[np.float32], first_row: int) -> NDArray[np.float32]:
        bad = np.argwhere((marks != 0) & (marks != 1))
        if len(bad):
            row, k = bad[0].tolist()
            expected = f"0 or 1 under is:{self.names[k][:60]}"
            raise self.error(row + first_row, expected, f"{marks[row, k]:g}", "correct the label")
        return marks

    def _same(self, column: str, values: Sequence[str], first_row: int) -> str:
        for row, value in enumerate(values):
            if value != values[0]:
                expected = f"the {column} of the first row, {values[0][:60]!r}"
                remedy = "keep one file for each network and split"
                raise self.error(row + first_row, expected, repr(value[:60]), remedy)
        return unescaped(values[0]) if values else ""


def _first_repeated(names: Sequence[str]) -> int | None:
    """Return the index of the first name that is empty or occurred before."""
    seen = {""}
    for i, name in enumerate(names):
        if name in seen:
            return i
        seen.add(name)
    return None
