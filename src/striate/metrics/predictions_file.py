r"""Predictions files: a network's predictions as CSV or Parquet, to compute with later without the network.

Both formats hold the same table, one row for each image:

========================  =============================================================================
column                    content
========================  =============================================================================
``file``                  name of the image, each once
``true``                  its class; several are joined with ``"; "``
``predicted``             the class of the highest logit, or every class above 0.5
``p_predicted``           probability of that class; the highest one where several labels are allowed
``network``, ``split``    which network, and which images these are; the same in every row
``temperature``           what the logits are divided by for ``p_predicted``; 1 where it is left out
``is:CLASS``              1 or 0, one column per class; only where an image may carry several labels
``logit:CLASS``           float32, one column per class, in the order of the classes
========================  =============================================================================

``file``, ``true`` and the ``logit:`` columns (with several labels, the ``is:`` ones instead of ``true``) are
enough to read a file that another program wrote; ``predicted`` and ``p_predicted`` are for people and are
computed again. What is not text in a name (a lone surrogate) is written as ``\udcNN``.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from striate.core.atomic import atomic_path
from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent
from striate.metrics.predictions import Predictions
from striate.metrics.predictions_columns import (
    EVERY_ROW,
    Columns,
    every_row,
    header,
    refuse_unwritable,
    texts,
)

_SUFFIXES = (".csv", ".parquet")
_MAX_LINE = 1 << 24  # characters; far beyond a header of 100,000 classes
_MAX_VALUES = 1 << 32  # 16 GiB of logits
_STAGE_ROWS = 500
_KEPT_TEXTS = ("file", "true", *EVERY_ROW)


def is_predictions_file(path: str | Path) -> bool:
    """Return whether a path is named like a predictions file (``.csv`` or ``.parquet``, in any case)."""
    return Path(path).suffix.lower() in _SUFFIXES


def save_predictions(predictions: Predictions, path: Path, *, progress: Progress = silent) -> None:
    """Write predictions as a predictions file; ``load_predictions`` reads them back exactly.

    Args:
        predictions: at least one image.
        path: ends in ``.csv`` or ``.parquet``; an existing file is replaced once the new one is whole.
        progress: listener; counts images.

    Raises:
        UsageError: another extension, or Parquet without the package that writes it.
        DataError: no images, a file or class name that is empty or occurs twice, or labels out of range.
        NonFiniteLossError: a logit is NaN or infinite.
        WriteError: the file can't be written.
    """
    write = _write_parquet if _suffix(path) == ".parquet" else _write_csv
    refuse_unwritable(predictions)
    write(predictions, path, progress)


def load_predictions(path: Path, *, progress: Progress = silent) -> Predictions:
    """Read a predictions file.

    Messages count rows as a spreadsheet does: the header of a CSV file is row 1. Parquet has no row of names,
    so its first image is row 1.

    Args:
        path: ends in ``.csv`` or ``.parquet``.
        progress: listener; counts rows.

    Returns:
        The predictions, named after the file where it has no column ``network``.

    Raises:
        UsageError: another extension, or Parquet without the package that reads it.
        DataError: the file is missing, damaged, or not a predictions file; the message names the row.
    """
    read = _read_parquet if _suffix(path) == ".parquet" else _read_csv
    try:
        return read(path, progress)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected one that `striate evaluate` saved") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}): name a file") from None


def _suffix(path: Path) -> str:
    if not is_predictions_file(path):
        raise UsageError(
            f"expected a predictions file that ends in .csv or .parquet, got {path.name!r}: rename it"
        )
    return path.suffix.lower()


def _write_csv(predictions: Predictions, path: Path, progress: Progress) -> None:
    num = len(predictions.files)
    same = every_row(predictions)
    nine_digits = ",".join(["%.9g"] * len(predictions.classes))  # as many as bring a float32 back exactly
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(header(predictions))
        for i, (name, true, predicted, p) in enumerate(zip(*texts(predictions), strict=True)):
            marks = [int(mark) for mark in predictions.labels[i]] if predictions.multi_label else []
            logits = (nine_digits % tuple(predictions.logits[i].tolist())).split(",")
            table.writerow([name, true, predicted, f"{p:.6f}", *same, *marks, *logits])
            if (i + 1) % _STAGE_ROWS == 0 or i + 1 == num:
                progress("write predictions", i + 1, num)


def _read_csv(path: Path, progress: Progress) -> Predictions:
    row = 1
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            rows = csv.reader(_short_lines(file), strict=True)
            names = next(rows, [])
            columns = Columns(names, path)
            kept = [name for name in _KEPT_TEXTS if name in columns.index]
            cells: dict[str, list[str]] = {name: [] for name in kept}
            marks: list[NDArray[np.float32]] = []
            logits: list[NDArray[np.float32]] = []
            blank = False
            for row, line in enumerate(rows, 2):
                if blank or (line and len(line) != len(names)):
                    expected = f"{len(names)} cells as in the header"
                    got = "none before it" if blank else str(len(line))
                    raise columns.error(
                        row, expected, got, "the file is cut off or was edited; save it again"
                    )
                blank = not line  # only at the end
                if blank:
                    continue
                for name in kept:
                    cells[name].append(line[columns.index[name]])
                for places, matrix in ((columns.marks, marks), (columns.logits, logits)):
                    matrix.append(_numbers(line, places, names, columns, row))
                if len(logits) % _STAGE_ROWS == 0:
                    progress("read predictions", len(logits), None)
        except UnicodeDecodeError:
            raise DataError(
                f"{path}, after row {row:,}: expected UTF-8 text, got other bytes: save it as CSV UTF-8"
            ) from None
        except csv.Error as error:
            raise DataError(
                f"{path}, after row {row:,}: expected CSV, got a damaged one ({error}): save it again"
            ) from None
    return columns.predictions(cells, _stacked(marks), _stacked(logits), 2)


def _short_lines(file: IO[str]) -> Iterator[str]:
    """Yield lines, but never one that would fill the memory."""
    while line := file.readline(_MAX_LINE):
        if len(line) >= _MAX_LINE:
            raise csv.Error(f"a line of over {_MAX_LINE:,} characters")
        yield line


def _numbers(
    line: Sequence[str], indices: Sequence[int], names: Sequence[str], columns: Columns, row: int
) -> NDArray[np.float32]:
    values = []
    for i in indices:
        try:
            values.append(float(line[i]))
        except ValueError:
            expected = f"a number under {names[i][:60]}"
            raise columns.error(row, expected, repr(line[i][:60]), "correct it or save again") from None
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused
        return np.array(values, np.float64).astype(np.float32)


def _stacked(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(rows) if rows else np.empty((0, 0), np.float32)


def _arrow() -> tuple[Any, Any]:
    """Import what reads and writes Parquet."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            "expected the package pyarrow for .parquet, got none: pip install pyarrow, or name a .csv file"
        ) from None
    return pyarrow, parquet


def _write_parquet(predictions: Predictions, path: Path, progress: Progress) -> None:
    arrow, parquet = _arrow()
    num = len(predictions.files)
    *words, p = texts(predictions)
    arrays = [arrow.array(column, arrow.string()) for column in words]
    arrays.append(arrow.array(np.array(p, np.float32)))
    arrays += [arrow.array([text] * num, arrow.string()) for text in every_row(predictions)]
    if predictions.multi_label:
        arrays += [
            arrow.array(column) for column in np.ascontiguousarray(predictions.labels.T.astype(np.int8))
        ]
    arrays += [arrow.array(column) for column in np.ascontiguousarray(predictions.logits.T)]
    table = arrow.Table.from_arrays(arrays, names=header(predictions))
    with atomic_path(path) as temporary:
        parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    progress("write predictions", num, num)


def _read_parquet(path: Path, progress: Progress) -> Predictions:
    arrow, parquet = _arrow()
    with open(path, "rb") as file:
        try:
            opened = parquet.ParquetFile(file, page_checksum_verification=True)
            columns = Columns(opened.schema_arrow.names, path)
            num = opened.metadata.num_rows
            if num * len(columns.names) > _MAX_VALUES:
                raise DataError(
                    f"{path}: expected at most {_MAX_VALUES:,} logits, got {num:,} rows of"
                    f" {len(columns.names):,}: save it in parts"
                )
            table = opened.read()
            cells = {
                name: table.column(columns.index[name]).cast(arrow.string()).to_pylist()
                for name in _KEPT_TEXTS
                if name in columns.index
            }
            marks, logits = (
                _matrix([table.column(i) for i in indices], num, arrow)
                for indices in (columns.marks, columns.logits)
            )
        except (arrow.ArrowException, OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(
                f"{path}: expected a Parquet file that `striate evaluate` saved, got a damaged or foreign one"
                f" ({reason}): save it again"
            ) from None
    for name, values in cells.items():
        if None in values:
            raise columns.error(values.index(None) + 1, f"a text under {name}", "none", "save the file again")
    progress("read predictions", num, num)
    return columns.predictions(cells, marks, logits, 1)


def _matrix(columns: Sequence[Any], num_rows: int, arrow: Any) -> NDArray[np.float32]:
    """Return columns side by side; an empty cell becomes NaN."""
    matrix = np.empty((num_rows, len(columns)), np.float32)
    for k, column in enumerate(columns):
        whole = column.cast(arrow.int8()) if arrow.types.is_boolean(column.type) else column
        matrix[:, k] = whole.cast(arrow.float32(), safe=False).to_numpy()
    return matrix
