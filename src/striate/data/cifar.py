"""The official releases of CIFAR-10 and CIFAR-100: Python batches and binary batches."""

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.core.progress import Progress, silent
from striate.data.archives import open_archive

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_AGAIN = "download it again"


@dataclass(frozen=True, slots=True)
class Release:
    """How one data set names its files.

    Attributes:
        python_folder: folder of the Python batches.
        binary_folder: folder of the binary batches.
        python_archive: the archive that holds the first.
        binary_archive: the archive that holds the second.
        train: the training batches, in order (binary ones add ``.bin``).
        test: the test batch.
        label_key: key of the labels in a Python batch.
        label_bytes: label bytes before each image of a binary batch; the last one counts.
        names_key: key of the class names in the Python release's file of names.
        python_names: that file.
        binary_names: the binary release's text file of class names.
    """

    python_folder: str
    binary_folder: str
    python_archive: str
    binary_archive: str
    train: tuple[str, ...]
    test: str
    label_key: bytes
    label_bytes: int
    names_key: bytes
    python_names: str
    binary_names: str


CIFAR10 = Release(
    python_folder="cifar-10-batches-py",
    binary_folder="cifar-10-batches-bin",
    python_archive="cifar-10-python.tar.gz",
    binary_archive="cifar-10-binary.tar.gz",
    train=("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"),
    test="test_batch",
    label_key=b"labels",
    label_bytes=1,
    names_key=b"label_names",
    python_names="batches.meta",
    binary_names="batches.meta.txt",
)
CIFAR100 = Release(
    python_folder="cifar-100-python",
    binary_folder="cifar-100-binary",
    python_archive="cifar-100-python.tar.gz",
    binary_archive="cifar-100-binary.tar.gz",
    train=("train",),
    test="test",
    label_key=b"fine_labels",
    label_bytes=2,
    names_key=b"fine_label_names",
    python_names="meta",
    binary_names="fine_label_names.txt",
)


@dataclass(frozen=True, slots=True)
class Cifar:
    """The content of a release.

    Attributes:
        planes: uint8 ``[n, 3, 32, 32]`` in the official order, training images first.
        labels: int64 ``[n]``.
        num_train: how many are training images.
        classes: the class names in the order of the labels.
    """

    planes: NDArray[np.uint8]
    labels: NDArray[np.int64]
    num_train: int
    classes: tuple[str, ...]


def find_cifar(release: Release, folders: Sequence[Path]) -> Path | None:
    """Return the first folder or archive of a release below some folders, or None."""
    for folder in folders:
        for inside in (release.python_folder, release.binary_folder):
            if (folder / inside).is_dir():
                return folder / inside
        for archive in (release.python_archive, release.binary_archive):
            if (folder / archive).is_file():
                return folder / archive
    return None


def read_cifar(release: Release, path: Path, *, progress: Progress = silent) -> Cifar:
    """Read a release from one of its folders or archives.

    Python batches are pickles; only arrays, their types and plain containers are admitted, so that a hostile
    one can't run code.

    Raises:
        DataError: a batch is missing, damaged or hostile.
    """
    binary = path.name in (release.binary_folder, release.binary_archive)
    if path.is_dir():
        read = _folder_reader(path)
    else:
        read = _archive_reader(path, release.binary_folder if binary else release.python_folder, progress)
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    num_train = 0
    for batch in (*release.train, release.test):
        progress(f"reading {path.name}", len(images), len(release.train) + 1)
        name = f"{batch}.bin" if binary else batch
        content = read(name)
        one = _from_binary(content, name, release) if binary else _from_pickle(content, name, release)
        images.append(one[0])
        labels.append(one[1])
        num_train += len(one[1]) if batch != release.test else 0
    classes = _class_names(read, release, binary)
    all_labels = np.concatenate(labels)
    if all_labels.min(initial=0) < 0 or all_labels.max(initial=0) >= len(classes):
        raise DataError(f"{path.name}: expected labels below {len(classes)}, got others: download it again")
    return Cifar(np.concatenate(images), all_labels, num_train, classes)


def _folder_reader(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise DataError(
                f"{folder.name}: expected the file {name}, got {error.strerror}: download the set again"
            ) from error

    return read


def _archive_reader(path: Path, inside: str, progress: Progress) -> Callable[[str], bytes]:
    archive = open_archive(path, name=path.name, progress=progress)
    place = {name: at for at, name in enumerate(archive.names)}

    def read(name: str) -> bytes:
        at = place.get(f"{inside}/{name}")
        if at is None:
            raise DataError(f"{path.name}: expected a member {inside}/{name}, got none: download it again")
        return archive.read(at, None)

    return read


def _from_binary(content: bytes, name: str, release: Release) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    row = release.label_bytes + _PIXELS
    if not content or len(content) % row:
        raise DataError(
            f"{name}: expected records of {row} bytes, got {len(content):,} bytes: download it again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    planes = rows[:, release.label_bytes :].reshape(-1, 3, _SIDE, _SIDE)
    return planes, rows[:, release.label_bytes - 1].astype(np.int64)


def _from_pickle(content: bytes, name: str, release: Release) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = load_plain_pickle(content, name)
    data = batch.get(b"data")
    labels = batch.get(release.label_key)
    if (
        not isinstance(data, np.ndarray)
        or data.dtype != np.uint8
        or data.ndim != 2
        or data.shape[1] != _PIXELS
    ):
        raise DataError(f"{name}: expected rows of {_PIXELS} bytes under {b'data'!r}, got others: {_AGAIN}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DataError(f"{name}: expected whole numbers under {release.label_key!r}, got others: {_AGAIN}")
    if len(labels) != len(data):
        raise DataError(f"{name}: expected {len(data)} labels, got {len(labels)}: {_AGAIN}")
    return data.reshape(-1, 3, _SIDE, _SIDE), np.array(labels, np.int64)


def _class_names(read: Callable[[str], bytes], release: Release, binary: bool) -> tuple[str, ...]:
    if binary:
        lines = read(release.binary_names).decode("utf-8", "replace").split("\n")
        return tuple(line.strip() for line in lines if line.strip())
    names = load_plain_pickle(read(release.python_names), release.python_names).get(release.names_key)
    if not isinstance(names, list) or not all(isinstance(one, bytes | str) for one in names):
        raise DataError(
            f"{release.python_names}: expected a list of class names, got none: download it again"
        )
    return tuple(one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in names)


# What a pickled array of numbers needs, under the module names of NumPy 1 and NumPy 2.
_ADMITTED = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
    }
)


class _PlainUnpickler(pickle.Unpickler):
    """Rebuilds arrays and plain containers, and refuses every other name that a pickle mentions."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def load_plain_pickle(content: bytes, name: str) -> dict[Any, Any]:
    """Read a pickled dictionary of arrays and plain values without letting it run code.

    Raises:
        DataError: it is damaged, names anything but arrays, or is no dictionary.
    """
    try:
        value = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # damaged bytes may make the unpickler raise anything
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise DataError(
            f"{name}: expected a pickle of plain arrays, got a damaged or hostile one ({reason}): {_AGAIN}"
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{name}: expected a pickled dictionary, got {type(value).__name__}: download it again"
        )
    return value
