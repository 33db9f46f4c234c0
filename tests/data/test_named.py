"""Data sets known by name, from files made here in their official forms."""

import gzip
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import DataError
from striate.data.cifar import load_plain_pickle
from striate.data.named import NAMED_SETS, data_folders, open_named
from striate.data.sources import open_source

RNG = np.random.default_rng(7)
TRAIN = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
TEST = RNG.integers(0, 256, (3, 28, 28), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, and an empty cache."""
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True)
    for name, array in (
        ("train-images-idx3-ubyte", TRAIN),
        ("train-labels-idx1-ubyte", np.array([5, 0, 4, 1, 9, 2], np.uint8)),
        ("t10k-images-idx3-ubyte", TEST),
        ("t10k-labels-idx1-ubyte", np.array([7, 2, 1], np.uint8)),
    ):
        content = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(
            gzip.compress(content) if packed else content
        )


@pytest.mark.parametrize(("folder", "packed"), [("mnist", True), ("MNIST/raw", False)])
def test_mnist_from_idx_files(home: Path, folder: str, packed: bool) -> None:
    write_idx(home / folder, packed)
    source = open_source("mnist", download=False)
    assert source.labels.tolist() == [5, 0, 4, 1, 9, 2, 7, 2, 1]
    assert source.splits.tolist() == [0] * 6 + [2] * 3
    assert source.classes == tuple("0123456789")
    for index, expected in enumerate([*TRAIN, *TEST]):
        np.testing.assert_array_equal(source.fetch(index), expected)
    assert (source.files[0], source.files[6]) == ("train/00000", "test/00000")


def test_fashion_mnist_is_found_in_the_cache_and_has_its_names(home: Path) -> None:
    write_idx(home.parent / "cache" / "striate" / "fashion-mnist", True)
    source = open_source("Fashion-MNIST", download=False)
    assert source.classes[5] == "Sandal"
    assert source.classes[9] == "Ankle boot"


@pytest.mark.parametrize(
    "damage", [b"", b"\0\0\x08\x03", b"\0\0\x0d\x01\0\0\0\0", idx(TRAIN)[:-1], idx(TRAIN) + b"x"]
)
def test_damaged_idx_files_are_refused(home: Path, damage: bytes) -> None:
    write_idx(home / "mnist", False)
    (home / "mnist" / "train-images-idx3-ubyte").write_bytes(damage)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: expected an IDX file"):
        open_source("mnist", download=False)


def batches(label_key: str) -> dict[str, dict]:
    """Split twelve images over the batches, as Python 2 would have pickled them: bytes for keys."""
    planes = COLOUR.transpose(0, 3, 1, 2).reshape(12, 3072)
    names = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    return {
        name: {b"data": planes[2 * k : 2 * k + 2], label_key.encode(): [k, 9 - k]}
        for k, name in enumerate(names)
    }


CLASSES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
LABELS = [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]


def check_cifar10(source) -> None:
    assert source.classes == tuple(name.decode() for name in CLASSES)
    assert source.labels.tolist() == LABELS
    assert source.splits.tolist() == [0] * 10 + [2, 2]
    for index in range(12):
        np.testing.assert_array_equal(source.fetch(index), COLOUR[index])


def python_release() -> dict[str, bytes]:
    files = {name: pickle.dumps(batch, protocol=4) for name, batch in batches("labels").items()}
    files["batches.meta"] = pickle.dumps({b"label_names": CLASSES}, protocol=4)
    return files


def binary_release() -> dict[str, bytes]:
    files = {}
    for name, batch in batches("labels").items():
        rows = zip(batch[b"labels"], batch[b"data"], strict=True)
        files[f"{name}.bin"] = b"".join(bytes([label]) + row.tobytes() for label, row in rows)
    files["batches.meta.txt"] = b"\n".join(CLASSES) + b"\n\n"
    return files


@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("archived", [False, True])
def test_cifar10_in_its_official_forms(home: Path, form: str, archived: bool) -> None:
    files = python_release() if form == "python" else binary_release()
    folder = "cifar-10-batches-py" if form == "python" else "cifar-10-batches-bin"
    if archived:
        with tarfile.open(home / f"cifar-10-{form}.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f"{folder}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    else:
        (home / "cifar10" / folder).mkdir(parents=True)
        for name, content in files.items():
            (home / "cifar10" / folder / name).write_bytes(content)
    check_cifar10(open_source("cifar10", download=False))


def test_cifar100_takes_the_fine_labels(home: Path) -> None:
    planes = COLOUR.transpose(0, 3, 1, 2).reshape(12, 3072)
    folder = home / "cifar-100-binary"
    folder.mkdir()
    for name, part in (("train", slice(0, 10)), ("test", slice(10, 12))):
        rows = [bytes([19, 90 + k % 10]) + planes[k].tobytes() for k in range(12)[part]]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
    (folder / "fine_label_names.txt").write_text("\n".join(f"c{k}" for k in range(100)))
    source = open_source("cifar100", download=False)
    assert source.labels.tolist() == [90 + k % 10 for k in range(12)]
    np.testing.assert_array_equal(source.fetch(3), COLOUR[3])


class Hostile:
    def __reduce__(self) -> tuple:
        return (os.mkdir, (os.environ["STRIATE_DATA"] + "/run",))


@pytest.mark.parametrize("protocol", range(5))
def test_a_hostile_batch_runs_nothing(home: Path, protocol: int) -> None:
    content = pickle.dumps({b"data": Hostile()}, protocol=protocol)
    with pytest.raises(DataError, match="hostile"):
        load_plain_pickle(content, "data_batch_1")
    assert os.listdir(home) == []
    pickle.loads(content)  # the attack is real
    assert os.listdir(home) == ["run"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        pickle.dumps([1, 2]),
        pickle.dumps({"a": np.zeros(3)})[:-9],
        b"\x80\x04cos\nsystem\n.",
        b"\x80\x04cbuiltins\neval\n.",
        b"\x80\x04cnumpy\nload\n.",
    ],
)
def test_other_pickles_are_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        load_plain_pickle(content, "data_batch_1")


@pytest.mark.parametrize(
    "change",
    [
        {b"data": np.zeros((2, 3071), np.uint8)},
        {b"data": np.zeros((2, 3072), np.float32)},
        {b"labels": [1]},
        {b"labels": ["x", "y"]},
        {b"labels": [0, 10]},
        {b"labels": [-1, 0]},
    ],
)
def test_batches_that_do_not_fit_are_refused(home: Path, change: dict) -> None:
    folder = home / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in python_release().items():
        (folder / name).write_bytes(content)
    (folder / "data_batch_3").write_bytes(pickle.dumps({**batches("labels")["data_batch_3"], **change}))
    with pytest.raises(DataError, match="download it again"):
        open_source("cifar10", download=False)


def test_a_missing_batch_is_named(home: Path) -> None:
    folder = home / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in python_release().items():
        if name != "data_batch_4":
            (folder / name).write_bytes(content)
    with pytest.raises(DataError, match="expected the file data_batch_4"):
        open_source("cifar10", download=False)


def test_class_folder_archives_are_taken_when_no_release_is_there(home: Path) -> None:
    for split in ("train", "test"):
        with tarfile.open(home / f"fashion-mnist-{split}.tar.gz", "w:gz") as tar:
            for label in range(10):
                out = io.BytesIO()
                Image.new("L", (28, 28), label).save(out, "PNG")
                info = tarfile.TarInfo(f"{split}/{label}/1.png")
                info.size = len(out.getvalue())
                tar.addfile(info, io.BytesIO(out.getvalue()))
    source = open_source("fashion-mnist", download=False)
    assert source.classes[:2] == ("T-shirt/top", "Trouser")
    assert source.labels.tolist() == [*range(10), *range(10)]
    assert source.splits.tolist() == [0] * 10 + [2] * 10
    assert any("not from the official release" in note for note in source.notes)


def test_absent_sets_say_what_to_put_where(home: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_source("cifar100", download=False)
    message = str(caught.value)
    assert "cifar-100-python.tar.gz (MD5 eb9058c3a382ffc7106e4002c42a8d85)" in message
    assert str(home / "cifar100") in message
    assert len(message.splitlines()) == 1


def test_the_cache_is_looked_at_after_the_data_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_folders() == [home, home.parent / "cache" / "striate"]
    monkeypatch.delenv("STRIATE_DATA")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folders() == [Path.home() / ".cache" / "striate"]


def test_digits_are_scaled_to_the_full_range() -> None:
    from sklearn.datasets import load_digits

    source = open_source("digits")
    assert len(source) == 1797
    assert (source.splits == -1).all()
    original = load_digits()
    assert source.labels.tolist() == original.target.tolist()
    # x * 255 / 16 rounded to nearest, halves up, by hand
    table = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    for index in (0, 1000, 1796):
        expected = [[table[int(value)] for value in row] for row in original.images[index]]
        assert source.fetch(index).tolist() == expected


def test_every_set_has_a_checksum_of_the_right_form() -> None:
    for known in NAMED_SETS.values():
        for file in known.remote:
            assert len(bytes.fromhex(file.checksum.removeprefix("md5:"))) == 16
            assert file.url.endswith(file.name)


def test_open_named_takes_other_folders(tmp_path: Path) -> None:
    write_idx(tmp_path / "mnist", True)
    assert len(open_named("mnist", download_missing=False, folders=[tmp_path])) == 9
