"""A file of predictions that a killed run can resume: one row for each image, none twice, none lost.

Beside ``predictions.csv``, ``predictions.csv.json`` says what made it: the bundle (by the hash of its file),
engine, precision, the paths, the number of classes named. Only a run with the same values resumes the file.
Rows are written whole and in the order of the images; a kill can tear only the last one, which is cut off and
made again.
"""

import csv
import io
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from striate.core.atomic import write_text_atomic
from striate.core.errors import DataError, UsageError, WriteError
from striate.data.find import Item
from striate.data.source import printable
from striate.serve.predict import Prediction

_SYNC_S = 5.0  # a power cut loses at most this much; a kill loses nothing that was written


@dataclass(frozen=True, slots=True)
class CsvRows:
    """Columns ``file, class_1, probability_1, class_2, ..., error``; broken images have empty cells.

    Attributes:
        num_named: classes named for each image.
    """

    num_named: int

    def head(self) -> str:
        """Return the first line, with its end: the names of the columns."""
        names = [f"{what}_{k}" for k in range(1, self.num_named + 1) for what in ("class", "probability")]
        return _csv_line(["file", *names, "error"])

    def line(self, prediction: Prediction) -> str:
        """Write one prediction as one line, with its end."""
        cells = [cell for name, p in prediction.ranked for cell in (printable(name), f"{p:.6f}")]
        cells += [""] * (2 * self.num_named - len(cells))
        return _csv_line([prediction.file, *cells, prediction.error or ""])

    def read(self, line: str) -> tuple[str, bool]:
        """Return the file of a line, and whether the image could be read.

        Raises:
            ValueError: the line is not of this format.
        """
        [cells] = csv.reader([line], strict=True)
        if len(cells) != 2 * self.num_named + 2:
            raise ValueError(f"{len(cells)} columns")
        return cells[0], not cells[-1]


@dataclass(frozen=True, slots=True)
class JsonRows:
    """One JSON object a line: ``file``, ``predictions`` (``class``, ``probability``), ``error``."""

    def head(self) -> str:
        """Return nothing: every line is a prediction."""
        return ""

    def line(self, prediction: Prediction) -> str:
        """Write one prediction as one line, with its end."""
        ranked = [{"class": name, "probability": round(p, 6)} for name, p in prediction.ranked]
        record = {"file": prediction.file, "predictions": ranked, "error": prediction.error}
        return json.dumps(record, ensure_ascii=False) + "\n"

    def read(self, line: str) -> tuple[str, bool]:
        """See ``CsvRows``."""
        record = json.loads(line)
        if not isinstance(record, dict) or not isinstance(record.get("file"), str) or "error" not in record:
            raise ValueError("no prediction")
        return record["file"], record["error"] is None


Rows = CsvRows | JsonRows


def rows_for(path: Path, num_named: int) -> Rows:
    """Choose the format by the file's extension.

    Raises:
        UsageError: it is neither ``.csv`` nor ``.jsonl``.
    """
    if path.suffix == ".csv":
        return CsvRows(num_named)
    if path.suffix == ".jsonl":
        return JsonRows()
    raise UsageError(f"{path}: expected `out` to end in .csv or .jsonl")


@dataclass(slots=True)
class PredictionFile:
    """A file of predictions, open for more rows; made by ``open_predictions``.

    Attributes:
        path: where it is.
        num_before: rows that were there when it was opened.
        num_broken: rows of images that could not be read, of this run and earlier ones.
        num_written: rows of this run.
    """

    path: Path
    num_before: int
    num_broken: int
    num_written: int = 0
    _rows: Rows = field(repr=False, kw_only=True)
    _file: IO[bytes] = field(repr=False, kw_only=True)
    _end: int = field(repr=False, kw_only=True)
    _synced_s: float = field(default=0.0, repr=False)

    def missing(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items that have no row yet, in their order.

        Rows and items are compared side by side, so nothing is held in memory as long as they agree. Where
        images were added or removed since the file was started, the names of the other rows are read in.
        """
        done = self._names()
        others: Counter[str] | None = None
        for item in items:
            if others is None:
                name = next(done, None)
                if name == item.file:
                    continue
                others = Counter(done)
                if name is not None:
                    others[name] += 1
            if others[item.file]:
                others[item.file] -= 1
            else:
                yield item

    def write(self, prediction: Prediction) -> None:
        """Append one row.

        Raises:
            WriteError: the disk is full; the rows before stay.
        """
        try:
            _append(self._file, self._rows.line(prediction).encode())
            if time.monotonic() - self._synced_s > _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced_s = time.monotonic()
        except OSError as error:
            raise _cut_short(self.path, error) from None
        self.num_written += 1
        self.num_broken += prediction.error is not None

    def _names(self) -> Iterator[str]:
        with open(self.path, "rb") as file:
            file.seek(len(self._rows.head().encode()))
            while file.tell() < self._end:
                yield self._rows.read(file.readline().decode())[0]


@contextmanager
def open_predictions(path: Path, about: Mapping[str, Any], num_named: int) -> Iterator[PredictionFile]:
    """Start a file of predictions, or resume one that was started with the same values.

    Args:
        path: ends in ``.csv`` or ``.jsonl``.
        about: what the rows depend on, as JSON: bundle, paths, precision ...; compared with the values that
            the file was started with.
        num_named: classes named for each image.

    Yields:
        The file.

    Raises:
        UsageError: the file was started with other values, or by another program; or the file beside it would
            replace one of another program.
        DataError: a row in it is damaged, or another process is writing it.
        WriteError: it can't be written.
    """
    rows = rows_for(path, num_named)
    beside = path.with_name(path.name + ".json")
    about = json.loads(json.dumps(dict(about)))
    if path.exists() and not path.is_file():
        raise UsageError(f"expected a file to write, got {path}, a folder or a device: name another")
    new = not path.exists()
    with _open(path) as file:
        _lock(file, path)
        found = None
        try:
            found = _start(file, path, beside, about, rows)
            yield found
        finally:
            if found is not None and not found.num_before + found.num_written:
                path.unlink(missing_ok=True)  # no images, or stopped before the first row
                beside.unlink(missing_ok=True)
            elif found is None and new:
                path.unlink(missing_ok=True)
            with suppress(OSError):
                os.fsync(file.fileno())


def _start(file: IO[bytes], path: Path, beside: Path, about: Mapping[str, Any], rows: Rows) -> PredictionFile:
    try:
        if _is_empty(path, beside):
            _check_beside(path, beside)
            write_text_atomic(beside, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
            file.truncate(0)
        else:
            _check_same(path, beside, about)
        num_before, num_broken, end = _repair(file, path, rows)
    except OSError as error:
        raise _cut_short(path, error) from None
    return PredictionFile(path, num_before, num_broken, _rows=rows, _file=file, _end=end)


def _append(file: IO[bytes], line: bytes) -> None:
    """Write without a buffer, so that nothing of a row that does not fit is written later."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def _cut_short(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"can't write {path} ({error.strerror or error}): free some space, then run the same command again;"
        " it resumes where it stopped"
    )


def _open(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "a+b")
    except OSError as error:
        raise WriteError(f"can't write {path} ({error.strerror or error}): name another file") from None


def _is_empty(path: Path, beside: Path) -> bool:
    """Say whether a file has no row: nothing in it, or the names of columns that striate wrote."""
    with open(path, "rb") as file:
        first, second = file.readline(), file.readline()
    names = b"file,class_1,"
    names_alone = not second and (first.startswith(names) or names.startswith(first))
    return not first or (path.suffix == ".csv" and names_alone and _is_ours(_read(beside)))


def _check_beside(path: Path, beside: Path) -> None:
    """Refuse to replace another program's file."""
    if beside.exists() and not _is_ours(_read(beside)):
        raise UsageError(f"{beside} exists and {path.name} would replace it: name another file")


def _read(beside: Path) -> Any:
    try:
        return json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_ours(content: Any) -> bool:
    return isinstance(content, dict) and "bundle" in content and "paths" in content


def _check_same(path: Path, beside: Path, about: Mapping[str, Any]) -> None:
    started_with = _read(beside)
    if not _is_ours(started_with):
        raise UsageError(
            f"{path} exists and was not made by `striate predict` ({beside.name} is not beside it): name"
            " another file, or delete it"
        )
    for key in about:
        was = started_with.get(key)
        if was != about[key]:
            raise UsageError(
                f"{path} was started with {key} {_short(was)}, not {_short(about[key])}: use the same"
                f" {'unchanged file' if key == 'bundle' else 'again'}, or write another file"
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _repair(file: IO[bytes], path: Path, rows: Rows) -> tuple[int, int, int]:
    """Cut a torn last row off; return how many rows there are, how many of broken images, and the end."""
    head = rows.head().encode()
    file.seek(0)
    first = file.read(len(head))
    if first != head:
        if not head.startswith(first):
            raise DataError(f"{path}, line 1: expected the columns of this command: name another file")
        file.truncate(0)
        _append(file, head)
        return 0, 0, len(head)
    good = broken = 0
    end = len(head)
    for line in file:
        if not line.endswith(b"\n"):
            file.truncate(end)
            break
        try:
            fine = rows.read(line.decode())[1]
        except (ValueError, csv.Error):
            raise DataError(
                f"{path}, line {good + broken + bool(head) + 1}: damaged row; delete the file to start again"
            ) from None
        good += fine
        broken += not fine
        end += len(line)
    file.seek(0, os.SEEK_END)
    return good + broken, broken, end


def _lock(file: IO[bytes], path: Path) -> None:
    """Make sure that only one process writes the file, where the system has locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _busy(path) from None
    except OSError:  # some network file systems have no locks
        return
    if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise _busy(path)  # it has just ended without a row and deleted its file


def _busy(path: Path) -> DataError:
    return DataError(f"{path}: another `striate predict` is writing it; wait for it")


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
