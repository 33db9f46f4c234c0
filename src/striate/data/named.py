"""Data sets known by name: digits, mnist, fashion-mnist, cifar10, cifar100.

They are looked for under ``$STRIATE_DATA`` and in the user's cache (``$XDG_CACHE_HOME/striate`` or
``~/.cache/striate``), in any official form or as class folders, and downloaded otherwise.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError
from striate.core.progress import Progress, silent
from striate.data.archives import is_archive, open_archive_source
from striate.data.cifar import CIFAR10, CIFAR100, Release, find_cifar, read_cifar
from striate.data.download import RemoteFile, download
from striate.data.folders import open_folder
from striate.data.idx import read_idx
from striate.data.source import NO_SPLIT, Source
from striate.data.unite import unite

_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A data set that striate knows.

    Attributes:
        folders: names of its folder below the data folder, the first for downloads.
        classes: its class names; empty where the files themselves name them.
        remote: the official files, all needed.
        cifar: how its files are named, if it is one of the CIFAR sets.
        notes: attribution.
    """

    folders: tuple[str, ...]
    classes: tuple[str, ...]
    remote: tuple[RemoteFile, ...]
    cifar: Release | None
    notes: tuple[str, ...]


def _idx_remote(base: str, md5s: Sequence[str]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{file}.gz", f"{base}{file}.gz", f"md5:{md5}")
        for file, md5 in zip(_IDX_FILES, md5s, strict=True)
    )


_KRIZHEVSKY = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"

NAMED_SETS: Final[dict[str, NamedSet]] = {
    "mnist": NamedSet(
        folders=("mnist", "MNIST", "MNIST/raw"),
        classes=_DIGITS,
        remote=_idx_remote(  # a mirror: the original site is often out of reach; checksums as published there
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
        cifar=None,
        notes=("MNIST: Y. LeCun, C. Cortes, C. J. C. Burges",),
    ),
    "fashion-mnist": NamedSet(
        folders=("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
        classes=_FASHION,
        remote=_idx_remote(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
        cifar=None,
        notes=("Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, Zalando SE, MIT licence",),
    ),
    "cifar10": NamedSet(
        folders=("cifar10", "cifar-10", "CIFAR10"),
        classes=(),
        remote=(
            RemoteFile(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "md5:c58f30108f718f92721af3b95e74349a",
            ),
        ),
        cifar=CIFAR10,
        notes=(f"CIFAR-10: {_KRIZHEVSKY}",),
    ),
    "cifar100": NamedSet(
        folders=("cifar100", "cifar-100", "CIFAR100"),
        classes=(),
        remote=(
            RemoteFile(
                "cifar-100-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
            ),
        ),
        cifar=CIFAR100,
        notes=(f"CIFAR-100, fine labels: {_KRIZHEVSKY}",),
    ),
}
"""The sets that are found on disk or downloaded, by name; ``digits`` comes with scikit-learn."""

NAMES: Final = ("digits", *NAMED_SETS)
"""Every name that ``open_source`` knows."""


def data_folders() -> list[Path]:
    """List the folders in which named sets are looked for, best first."""
    folders = []
    if os.environ.get("STRIATE_DATA"):
        folders.append(Path(os.environ["STRIATE_DATA"]).expanduser())
    cache = os.environ.get("XDG_CACHE_HOME")
    folders.append((Path(cache) if cache else Path.home() / ".cache") / "striate")
    return folders


def open_named(
    name: str,
    *,
    download_missing: bool = True,
    known: NamedSet | None = None,
    folders: Sequence[Path] | None = None,
    progress: Progress = silent,
) -> Source:
    """Open a data set by its name.

    Args:
        name: one of ``NAMES``.
        download_missing: fetch it if it is not on this machine.
        known: its description; None for the one in ``NAMED_SETS``.
        folders: where to look; None for ``data_folders()``.
        progress: called while reading, unpacking and downloading.

    Raises:
        DataError: it is damaged, or not there and can't be downloaded.
    """
    if name == "digits":
        return _digits()
    known = known or NAMED_SETS[name]
    roots = list(folders) if folders is not None else data_folders()
    found = _find(name, known, roots, progress)
    if found is not None:
        return found
    target = _writable(roots) / known.folders[0]
    if not download_missing:
        raise DataError(
            f"{name}: expected it under {' or '.join(map(str, roots))}, got nothing there: put"
            f" {', '.join(f'{file.name} ({file.checksum_text})' for file in known.remote)} into {target},"
            " or allow the download"
        )
    for file in known.remote:
        download(file, target, progress=progress)
    found = _find(name, known, [target.parent], progress)
    if found is None:
        raise DataError(
            f"{name}: the downloaded files in {target} make no data set: remove them and try again"
        )
    return found


def _writable(roots: Sequence[Path]) -> Path:
    """Return the first folder that can be written to, or the last."""
    for root in roots:
        existing = next((one for one in (root, *root.parents) if one.exists()), root)
        if os.access(existing, os.W_OK):
            return root
    return roots[-1]


def _find(name: str, known: NamedSet, roots: Sequence[Path], progress: Progress) -> Source | None:
    """Look for a set: official releases in every folder first, then class folders and archives of them."""
    for root in roots:
        inside = [root / folder for folder in known.folders]
        if known.cifar is not None:
            path = find_cifar(known.cifar, [*inside, root])
            if path is not None:
                return _from_cifar(name, known, known.cifar, path, progress)
        else:
            for folder in inside:
                files = [_either(folder, file) for file in _IDX_FILES]
                present = [file for file in files if file is not None]
                if len(present) == len(files):
                    return _from_idx(name, known, present)
    for root in roots:
        found = _class_folders(name, known, root, progress)
        if found is not None:
            return found
    return None


def _either(folder: Path, file: str) -> Path | None:
    """Find an IDX file under its name, gzipped or not (some copies write ``.idx3`` with a dot)."""
    dotted = file.replace("-idx", ".idx")
    for candidate in (file, f"{file}.gz", dotted, f"{dotted}.gz"):
        if (folder / candidate).is_file():
            return folder / candidate
    return None


def _from_idx(name: str, known: NamedSet, files: Sequence[Path]) -> Source:
    train, train_labels, test, test_labels = (read_idx(file) for file in files)
    for images, labels, file in ((train, train_labels, files[0]), (test, test_labels, files[2])):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(f"{file.name}: expected as many images as labels, got others: download it again")
    labels = np.concatenate([train_labels, test_labels]).astype(np.int64)
    if labels.max(initial=0) >= len(known.classes):
        raise DataError(f"{name}: expected labels below {len(known.classes)}, got others: download it again")

    def fetch(index: int) -> NDArray[np.uint8]:
        return train[index] if index < len(train) else test[index - len(train)]

    return Source(
        name=name,
        files=_numbered(len(train), len(test)),
        labels=labels,
        classes=known.classes,
        splits=_train_test(len(train), len(test)),
        fetch=fetch,
        notes=known.notes,
    )


def _from_cifar(name: str, known: NamedSet, release: Release, path: Path, progress: Progress) -> Source:
    content = read_cifar(release, path, progress=progress)
    num_test = len(content.labels) - content.num_train
    return Source(
        name=name,
        files=_numbered(content.num_train, num_test),
        labels=content.labels,
        classes=content.classes,
        splits=_train_test(content.num_train, num_test),
        fetch=lambda index: np.ascontiguousarray(content.planes[index].transpose(1, 2, 0)),
        notes=known.notes,
    )


def _class_folders(name: str, known: NamedSet, root: Path, progress: Progress) -> Source | None:
    """Look for a set as class folders, or as archives of them named after it."""
    parts: list[Source] = []
    shown: list[str] = []
    for folder in known.folders:
        if any((root / folder / split).is_dir() for split in ("train", "test")):
            parts, shown = [open_folder(root / folder, name=name, progress=progress)], [folder]
            break
    if not parts:
        for stems in ((f"{name}-train", f"{name}-val", f"{name}-test"), (name,)):
            for stem in stems:
                for suffix in (".tar", ".tar.gz", ".tgz", ".zip"):
                    path = root / f"{stem}{suffix}"
                    if path.is_file() and is_archive(path):
                        parts.append(open_archive_source(path, name=name, progress=progress))
                        shown.append(path.name)
                        break
            if parts:
                break
    if not parts:
        return None
    source = parts[0] if len(parts) == 1 else unite(parts, name=name)
    if known.classes and source.classes == _DIGITS:
        source = replace(source, classes=known.classes)
    note = f"{name} is read from class folders ({', '.join(shown)}), not from the official release"
    return replace(source, notes=(*source.notes, note, *known.notes))


def _digits() -> Source:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.floor(bunch.images * (255 / 16) + 0.5).astype(np.uint8)
    num = len(pixels)
    return Source(
        name="digits",
        files=[f"digits/{index:05d}" for index in range(num)],
        labels=bunch.target.astype(np.int64),
        classes=_DIGITS,
        splits=np.full(num, NO_SPLIT, np.int8),
        fetch=lambda index: pixels[index],
        notes=("digits: scikit-learn's copy of the test part of UCI's optdigits (E. Alpaydin, C. Kaynak)",),
    )


def _numbered(num_train: int, num_test: int) -> list[str]:
    return [f"train/{index:05d}" for index in range(num_train)] + [
        f"test/{index:05d}" for index in range(num_test)
    ]


def _train_test(num_train: int, num_test: int) -> NDArray[np.int8]:
    return np.repeat(np.array([0, 2], np.int8), [num_train, num_test])
