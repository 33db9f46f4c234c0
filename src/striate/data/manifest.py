"""Images listed in a file: CSV with a header, or one JSON object a line (JSONL).

Columns are known by the names that people and tools give them (pandas, fastai, Kaggle, AutoML); the delimiter
is read from the header. What was understood is said in the source's notes.
"""

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.core.errors import DataError
from striate.core.progress import Progress, silent
from striate.data.folders import read_image_file
from striate.data.source import NO_SPLIT, Source, counted, likely_split, normal, printable, unique_names

_MANIFESTS = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
_DELIMITERS = (",", ";", "\t", "|")

_COLUMNS = {
    "path": "path file filename file_name filepath file_path image image_path imagepath img img_path"
    " image_name image_file img_name fname fn name photo gcs_uri uri image_id id",
    "label": "label class category target class_name classname label_name category_name species breed tag y"
    " annotation ground_truth class_label",
    "labels": "labels classes categories tags targets",
    "split": "split subset set partition usage ml_use data_split dataset fold",
    "is_valid": "is_valid is_val valid is_validation validation",
    "is_test": "is_test test",
}
"""What a column may be called, the likeliest first."""

_TRIED_EXTENSIONS = (".jpg", ".png", ".jpeg", ".JPG", ".webp", ".tif", ".bmp")
_TRUE, _FALSE = frozenset({"true", "1", "1.0", "yes"}), frozenset({"false", "0", "0.0", "no", ""})


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    path: str
    labels: tuple[str, ...]
    split: int


def is_manifest(path: Path) -> bool:
    """Tell whether a path has the extension of a manifest: ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson``."""
    return path.suffix.lower() in _MANIFESTS


def open_manifest(path: Path, *, name: str, progress: Progress = silent) -> Source:
    """Read a manifest and check that every file that it lists is there.

    Each row has ``path``, relative to the manifest's folder, and either ``label``, one class name, or
    ``labels``, any number of them: separated by ``|``, ``;`` or ``,`` in a CSV, a list in JSON. ``split``
    (train, val or test) or ``is_valid`` (true, false) is optional, but all rows have one or none has. Other
    usual names of these columns are known, and commas, semicolons, tabs and bars between values. Paths may be
    written with backslashes, and without their extension. Images keep the manifest's order, classes are
    sorted by name.

    Args:
        path: an existing ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file in UTF-8.
        name: the source, for messages.
        progress: called with the number of rows checked.

    Raises:
        DataError: the manifest can't be read, a row is wrong (with its line number), or files are missing.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{name}: expected a manifest in UTF-8, got {_brief(error)}: save it as UTF-8"
        ) from error
    kind = path.suffix.lower()
    notes: list[str] = []
    if kind in (".jsonl", ".ndjson"):
        records = _json_records(text, name)
    else:
        records = _csv_records(text, name, "\t" if kind == ".tsv" else ",", notes)
    rows: list[_Row] = []
    multi_label: bool | None = None
    for line, record in records:
        row, several = _row(line, record, name)
        if multi_label is not None and several != multi_label:
            raise DataError(
                f"{name}: line {line}: expected label or labels in all rows, got a mix of both: use one"
            )
        multi_label = several
        rows.append(row)
    if not rows:
        raise DataError(f"{name}: expected at least one row under the header, got none: list the images")
    _check_rows(rows, name)
    absolute = _located(rows, path.parent, name, notes, progress)
    classes = sorted({label for row in rows for label in row.labels})
    if len(classes) < 2 and not (multi_label and classes):
        raise DataError(f"{name}: expected at least two classes, got {len(classes)}: check the label column")
    number = {label: index for index, label in enumerate(classes)}
    if multi_label:
        labels = np.zeros((len(rows), len(classes)), np.float32)
        for at, row in enumerate(rows):
            labels[at, [number[label] for label in row.labels]] = 1
    else:
        labels = np.array([number[row.labels[0]] for row in rows], np.int64)
    return Source(
        name=name,
        files=unique_names(row.path for row in rows),
        labels=labels,
        classes=tuple(unique_names(classes)),
        splits=np.array([row.split for row in rows], np.int8),
        fetch=lambda index: read_image_file(absolute[index], rows[index].path),
        notes=tuple(notes),
    )


def _csv_records(
    text: str, name: str, usual: str, notes: list[str]
) -> Iterator[tuple[int, dict[str, object]]]:
    marked, _, rest = text.partition("\n")
    skipped = 0
    if marked.strip().lower() in {f"sep={one}" for one in _DELIMITERS}:  # Excel's own first line
        text, skipped = rest, 1
    delimiter = _delimiter(text, usual)
    if delimiter != usual:
        words = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
        notes.append(f"values are separated by {words[delimiter]}")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        columns = _columns(header, notes)
        if "path" not in columns or not {"label", "labels"} & set(columns):
            raise DataError(
                f"{name}: expected a header with path, label (or labels) and perhaps split,"
                f" got {printable(','.join(header))[:100] or 'nothing'}: name the columns so"
            )
        for values in reader:
            if not values:
                continue
            line = reader.line_num + skipped
            if len(values) != len(header):
                raise DataError(
                    f"{name}: line {line}: expected {counted(len(header), 'value')},"
                    f" got {len(values)}: quote values that contain {delimiter!r}"
                )
            record: dict[str, object] = {key: values[at] for key, at in columns.items()}
            if "labels" in record:
                parts = re.split(r"[|;,]", str(record["labels"]))
                record["labels"] = [part.strip() for part in parts if part.strip()]
            yield line, record
    except csv.Error as error:
        raise DataError(
            f"{name}: line {reader.line_num + skipped}: expected CSV, got {_brief(error)}: fix the line"
        ) from error


def _delimiter(text: str, usual: str) -> str:
    """Return the delimiter whose reading of the header knows most columns; the usual one among equals."""
    header = text.partition("\n")[0]

    def known(delimiter: str) -> tuple[int, bool]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:
            cells = []
        return len(_columns([cell.strip() for cell in cells], [])), delimiter == usual

    return max(_DELIMITERS, key=known)


def _columns(header: Sequence[str], notes: list[str]) -> dict[str, int]:
    """Find the columns by their usual names; ``notes`` takes what was understood of other names."""
    plain = [re.sub(r"[^a-z0-9]+", "_", cell.lower()).strip("_") for cell in header]
    found: dict[str, int] = {}
    for key, names in _COLUMNS.items():
        for one in names.split():
            if plain.count(one) == 1 and plain.index(one) not in found.values():
                found[key] = plain.index(one)
                break
    if "label" in found and "labels" in found:
        del found["label" if "labels" in plain else "labels"]
    if "split" in found:
        found.pop("is_valid", None)
        found.pop("is_test", None)
    read = [f"{printable(header[at])} as {key}" for key, at in found.items() if plain[at] != key]
    if read:
        notes.append(f"columns read: {', '.join(read)}")
    return found


def _json_records(text: str, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{name}: line {number}: expected one JSON object, got {_brief(error)}: fix the line"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{name}: line {number}: expected one JSON object, got {type(record).__name__}")
        yield number, record


def _row(line: int, record: dict[str, object], name: str) -> tuple[_Row, bool]:
    """Check one record; return it and whether it is multi-label."""
    path = record.get("path")
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise DataError(f"{name}: line {line}: expected the path of an image, got {path!r}: fill it in")
    several = "labels" in record
    given = record["labels"] if several else [record.get("label")]
    if not isinstance(given, list):
        raise DataError(f"{name}: line {line}: expected a list of labels, got {given!r}: write [...]")
    labels = tuple(_label(one, line, name) for one in given)
    written = record.get("split")
    split: int | None = _from_flags(record, line, name)
    if written not in (None, ""):
        split = likely_split(written) if isinstance(written, str) else None
        if split is None:
            raise DataError(
                f"{name}: line {line}: expected split train, val or test, got {written!r}: use one of them"
            )
    return _Row(line, path.strip(), labels, split if split is not None else NO_SPLIT), several


def _from_flags(record: dict[str, object], line: int, name: str) -> int:
    """Return the split that columns such as ``is_valid`` say, as fastai writes them."""
    split = NO_SPLIT
    for key, number in (("is_valid", 1), ("is_test", 2)):
        if key not in record:
            continue
        value = str(record[key]).strip().lower()
        if value not in _TRUE | _FALSE:
            raise DataError(f"{name}: line {line}: expected true or false as {key}, got {record[key]!r}")
        if value in _TRUE:
            return number
        split = 0
    return split


def _label(given: object, line: int, name: str) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if isinstance(given, str) and given.strip():
        return normal(given.strip())
    raise DataError(f"{name}: line {line}: expected the name of a class, got {given!r}: fill in the label")


def _check_rows(rows: list[_Row], name: str) -> None:
    with_split = sum(row.split != NO_SPLIT for row in rows)
    if with_split not in (0, len(rows)):
        raise DataError(
            f"{name}: expected a split in all rows or none, got {with_split:,} of {len(rows):,}:"
            " fill in the rest"
        )
    first_line: dict[str, int] = {}
    for row in rows:
        if row.path in first_line:
            raise DataError(
                f"{name}: line {row.line}: expected each path once, got {printable(row.path)} again (line"
                f" {first_line[row.path]}): remove one, or use a labels column for several labels"
            )
        first_line[row.path] = row.line


def _located(rows: list[_Row], root: Path, name: str, notes: list[str], progress: Progress) -> list[str]:
    """Find every listed file: as written, with slashes for backslashes, or with an image's extension."""
    found, missing = [], []
    repaired = {"written with backslashes": 0, "written without extension": 0}
    for at, row in enumerate(rows):
        path = os.path.join(root, row.path)
        if not os.path.isfile(path) and "\\" in row.path:
            other = os.path.join(root, row.path.replace("\\", "/"))
            if os.path.isfile(other):
                path = other
                repaired["written with backslashes"] += 1
        if not os.path.isfile(path) and not os.path.splitext(path)[1]:
            for extension in _TRIED_EXTENSIONS:
                if os.path.isfile(path + extension):
                    path += extension
                    repaired["written without extension"] += 1
                    break
        if not os.path.isfile(path):
            missing.append(f"{printable(row.path)} (line {row.line})")
        found.append(path)
        if at % 1000 == 0:
            progress("checking files", at, len(rows))
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{name}: expected every listed file to exist, {counted(len(missing), 'file')} missing: {shown};"
            " paths are relative to the manifest's folder"
        )
    notes += [f"{counted(count, 'path')} {how}" for how, count in repaired.items() if count]
    return found


def _brief(error: BaseException) -> str:
    return " ".join(printable(str(error)).split())[:100] or type(error).__name__
