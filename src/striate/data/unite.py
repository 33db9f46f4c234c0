"""Several sources as one."""

import os
from collections.abc import Sequence

import numpy as np

from striate.core.errors import DataError
from striate.data.source import Source, printable, unique_names


def unite(parts: Sequence[Source], *, name: str | None = None) -> Source:
    """Put sources one after another, each with its own splits.

    Their classes must be the same, or one source must have all of them; then its order of classes holds. File
    names that occur in two sources get their source's name in front.

    Args:
        parts: at least one source.
        name: the result's name; None for the names joined by " + ".

    Raises:
        DataError: the classes differ, or single-label and multi-label sources are mixed.
    """
    if len(parts) == 1:
        return parts[0]
    joined = name if name is not None else " + ".join(part.name for part in parts)
    if len({part.multi_label for part in parts}) > 1:
        raise DataError(
            f"{joined}: expected one label or several labels in all sources, got a mix: open them apart"
        )
    largest = max(parts, key=lambda part: len(part.classes))
    for part in parts:
        extra = sorted(set(part.classes) - set(largest.classes))
        if extra:
            shown = ", ".join(extra[:3]) + (", ..." if len(extra) > 3 else "")
            raise DataError(
                f"{joined}: expected the classes of {part.name} among those of {largest.name},"
                f" got {shown} as well:"
                " rename the folders, or put all classes into one source"
            )
    number = {one: index for index, one in enumerate(largest.classes)}
    labels = []
    for part in parts:
        places = np.array([number[one] for one in part.classes], np.int64)
        if part.multi_label:
            wide = np.zeros((len(part), len(number)), np.float32)
            wide[:, places] = part.labels
            labels.append(wide)
        else:
            labels.append(places[part.labels])
    ends = np.cumsum([len(part) for part in parts])

    def fetch(index: int) -> object:
        at = int(np.searchsorted(ends, index, side="right"))
        return parts[at].fetch(index - int(ends[at]) + len(parts[at]))

    return Source(
        name=joined,
        files=_names(parts),
        labels=np.concatenate(labels),
        classes=largest.classes,
        splits=np.concatenate([part.splits for part in parts]),
        fetch=fetch,  # type: ignore[arg-type]
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _names(parts: Sequence[Source]) -> list[str]:
    plain = [file for part in parts for file in part.files]
    if len(set(plain)) == len(plain):
        return plain
    last = [printable(os.path.basename(part.name.rstrip("/")) or part.name) for part in parts]
    prefixes = unique_names(last)
    return [f"{prefix}/{file}" for prefix, part in zip(prefixes, parts, strict=True) for file in part.files]
