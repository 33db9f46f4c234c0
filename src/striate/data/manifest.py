"""Images listed in a file: CSV with a header, or one JSON object a line (JSONL)."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.core.errors import DataError
from striate.core.progress import Progress, silent
from striate.data.folders import read_image_file
from striate.data.source import NO_SPLIT, Source, counted, printable, split_number, unique_names

_MANIFESTS = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})


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
    ``labels``, any number of them: separated by ``|`` or ``;`` in a CSV, a list in JSON. ``split`` (train,
    val or test) is optional, but all rows have one or none has. Images keep the manifest's order, classes are
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
    if kind in (".jsonl", ".ndjson"):
        records = _json_records(text, name)
    else:
        records = _csv_records(text, name, "\t" if kind == ".tsv" else ",")
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
    root = path.parent
    absolute = [os.path.join(root, row.path) for row in rows]
    _check_present(rows, absolute, name, progress)
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
    )


def _csv_records(text: str, name: str, delimiter: str) -> Iterator[tuple[int, dict[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        if "path" not in header or not {"label", "labels"} & set(header) or len(set(header)) < len(header):
            raise DataError(
                f"{name}: expected a header with path, label (or labels) and perhaps split,"
                f" got {printable(','.join(header))[:100] or 'nothing'}: name the columns so"
            )
        for values in reader:
            if not values:
                continue
            if len(values) != len(header):
                raise DataError(
                    f"{name}: line {reader.line_num}: expected {counted(len(header), 'value')},"
                    f" got {len(values)}: quote values that contain {delimiter!r}"
                )
            record: dict[str, object] = dict(zip(header, values, strict=True))
            if "labels" in record:
                parts = str(record["labels"]).replace(";", "|").split("|")
                record["labels"] = [part.strip() for part in parts if part.strip()]
            yield reader.line_num, record
    except csv.Error as error:
        raise DataError(
            f"{name}: line {reader.line_num}: expected CSV, got {_brief(error)}: fix the line"
        ) from error


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
    split: int | None = NO_SPLIT
    if written not in (None, ""):
        split = split_number(written.strip()) if isinstance(written, str) else None
        if split is None:
            raise DataError(
                f"{name}: line {line}: expected split train, val or test, got {written!r}: use one of them"
            )
    return _Row(line, path.strip(), labels, split if split is not None else NO_SPLIT), several


def _label(given: object, line: int, name: str) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    if isinstance(given, str) and given.strip():
        return given.strip()
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


def _check_present(rows: list[_Row], absolute: list[str], name: str, progress: Progress) -> None:
    missing = []
    for at, path in enumerate(absolute):
        if not os.path.isfile(path):
            missing.append(f"{printable(rows[at].path)} (line {rows[at].line})")
        if at % 1000 == 0:
            progress("checking files", at, len(absolute))
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{name}: expected every listed file to exist, {counted(len(missing), 'file')} missing: {shown};"
            " paths are relative to the manifest's folder"
        )


def _brief(error: BaseException) -> str:
    return " ".join(printable(str(error)).split())[:100] or type(error).__name__
