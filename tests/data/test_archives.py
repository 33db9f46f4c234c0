"""Archives: Python's own tarfile and zipfile write them, and hostile ones are made by hand."""

import gzip
import io
import os
import random
import struct
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from striate.core.errors import BrokenImageError, DataError
from striate.data import archives
from striate.data.sources import open_source

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (4, 3), value).save(out, "PNG")
    return out.getvalue()


FILES = {
    "set/train/ant/1.png": png(1),
    "set/train/ant/" + "long" * 40 + ".png": png(2),
    "set/train/bee/é ☃.png": png(3),
    "set/val/bee/1.png": png(4),
    "set/README.txt": b"hello",
}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> tuple:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content), kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def write_tar(path: Path, members: list[tuple], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as tar:
        for info, content in members:
            tar.addfile(info, content)
    return path


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def ordinary() -> list[tuple]:
    """Pack them in the reverse of the order in which they are to be listed."""
    return [member(name, FILES[name]) for name in reversed(FILES)]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize(
    ("name", "mode"),
    [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.tar.xz", "w:xz")],
)
def test_tars_of_any_make(tmp_path: Path, form: int, name: str, mode: str) -> None:
    source = open_source(write_tar(tmp_path / name, ordinary(), mode, form))
    check_ordinary(source)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_zips(tmp_path: Path, method: int) -> None:
    check_ordinary(open_source(write_zip(tmp_path / "x.zip", FILES, method)))


def check_ordinary(source) -> None:
    images = sorted(name for name in FILES if name.endswith(".png"))
    assert list(source.files) == images
    assert [source.fetch(k) for k in range(4)] == [FILES[name] for name in images]
    assert source.classes == ("ant", "bee")
    assert source.labels.tolist() == [int("/bee/" in name) for name in images]
    assert source.splits.tolist() == [int("/val/" in name) for name in images]
    assert source.notes == ("1 file left out that are no images (.txt 1)",)


def test_a_tar_whose_numbers_are_base_256(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a/1.png").tobuf())
    content = png(5)
    header[124:136] = b"\x80" + len(content).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    body = bytes(header) + content + bytes(-len(content) % 512)
    second = tarfile.TarInfo("b/1.png")
    second.size = len(content)
    (tmp_path / "x.tar").write_bytes(
        body + second.tobuf() + content + bytes(-len(content) % 512) + bytes(1024)
    )
    source = open_source(tmp_path / "x.tar")
    assert [source.fetch(k) for k in (0, 1)] == [content, content]


def test_one_top_folder_is_passed_over_in_an_archive(tmp_path: Path) -> None:
    source = open_source(write_zip(tmp_path / "x.zip", {"pets/cat/1.png": png(1), "pets/dog/1.png": png(2)}))
    assert source.classes == ("cat", "dog")


def test_many_threads_read_one_archive(tmp_path: Path) -> None:
    files = {f"{'ab'[k % 2]}/{k}.png": png(k % 256) * (1 + k % 7) for k in range(200)}
    tar = write_tar(tmp_path / "x.tar.gz", [member(*item) for item in files.items()], "w:gz")
    for source in (open_source(tar), open_source(write_zip(tmp_path / "x.zip", files))):
        wrong: list[str] = []

        def work(seed: int, source=source, wrong=wrong) -> None:
            order = list(range(200))
            random.Random(seed).shuffle(order)
            wrong.extend(source.files[k] for k in order if source.fetch(k) != files[source.files[k]])

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_nothing_is_left_open_or_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    path = write_tar(tmp_path / "x.tar.gz", ordinary(), "w:gz")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    source = open_source(path)
    assert os.listdir(tmp_path / "tmp") == []
    assert source.fetch(0)
    del source
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


# -- Hostile and damaged -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "a/.."])
def test_members_outside_are_refused(tmp_path: Path, name: str) -> None:
    tar = write_tar(tmp_path / "x.tar", [*ordinary(), member(name, png(1))])
    for path in (tar, write_zip(tmp_path / "x.zip", {**FILES, name: png(1)})):
        with pytest.raises(DataError, match="would lie outside the archive"):
            open_source(path)


def test_backslashes_in_a_zip_are_folders(tmp_path: Path) -> None:
    source = open_source(write_zip(tmp_path / "x.zip", {"a\\1.png": png(1), "b\\1.png": png(2)}))
    assert list(source.files) == ["a/1.png", "b/1.png"]
    with pytest.raises(DataError, match="outside"):
        open_source(write_zip(tmp_path / "y.zip", {"a\\..\\..\\1.png": png(1)}))


def test_links_and_devices_are_passed_over(tmp_path: Path) -> None:
    odd = [
        member("a/link.png", kind=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("a/hard.png", kind=tarfile.LNKTYPE, linkname="a/1.png"),
        member("a/null.png", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("a/pipe.png", kind=tarfile.FIFOTYPE),
    ]
    source = open_source(write_tar(tmp_path / "x.tar", [*odd, *ordinary()]))
    assert list(source.files) == sorted(name for name in FILES if name.endswith(".png"))
    assert source.notes[:2] == ("2 links in the archive left out", "2 devices in the archive left out")
    info = zipfile.ZipInfo("set/train/ant/link.png")
    info.external_attr = 0o120777 << 16
    path = write_zip(tmp_path / "x.zip", FILES)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(info, "/etc/passwd")
    source = open_source(path)
    assert "set/train/ant/link.png" not in source.files
    assert source.notes[0] == "1 link in the archive left out"


@pytest.mark.parametrize("make", ["tar.gz", "zip"])
def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str) -> None:
    monkeypatch.setattr(archives, "_BOMB_FROM_BYTES", 2**20)
    zeros = {"a/1.png": bytes(4 * 2**20), "b/1.png": png(1)}
    if make == "zip":
        path = write_zip(tmp_path / "x.zip", zeros)
    else:
        path = write_tar(tmp_path / "x.tar.gz", [member(*item) for item in zeros.items()], "w:gz")
    with pytest.raises(DataError, match="decompression bomb"):
        open_source(path)


def test_a_tar_that_unpacks_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 2**16)
    noise = random.Random(0).randbytes(2**17)
    path = write_tar(tmp_path / "x.tar.gz", [member("a/1.png", noise)], "w:gz")
    with pytest.raises(DataError, match="64 GiB"):
        open_source(path)


def test_too_many_members_or_too_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = write_tar(tmp_path / "x.tar", ordinary())
    packed = write_zip(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 50)
    for path in (tar, packed):
        with pytest.raises(BrokenImageError, match="too large"):
            open_source(path).fetch(0)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 4)
    for path in (tar, packed):
        with pytest.raises(DataError, match="expected at most 4 members"):
            open_source(path)


def cut(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


def flip(at: float) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        place = int(len(data) * at)
        return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]

    return change


@pytest.mark.parametrize("damage", [cut(0.0), cut(0.02), cut(0.5), cut(0.95)])
@pytest.mark.parametrize("make", ["tar", "tar.gz", "tar.xz", "zip"])
def test_archives_cut_short(tmp_path: Path, make: str, damage: Callable[[bytes], bytes]) -> None:
    noisy = {f"{'ab'[k % 2]}/{k}.png": random.Random(k).randbytes(3000) for k in range(40)}
    if make == "zip":
        path = write_zip(tmp_path / "x.zip", noisy)
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[make]
        path = write_tar(tmp_path / f"x.{make}", [member(*item) for item in noisy.items()], mode)
    path.write_bytes(damage(path.read_bytes().rstrip(b"\0")))
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_bad_header_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    path = write_tar(
        tmp_path / "x.tar", [member("a/1.png", png(1)), member("b/1.png", png(2)), member("c/1", b"")]
    )
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 0x55  # in the name of the second member
    path.write_bytes(data)
    with pytest.raises(DataError, match="bad header at byte 1,024"):
        open_source(path)


def test_a_flipped_bit_in_a_gzip_or_zip_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar.gz", ordinary(), "w:gz")
    path.write_bytes(flip(0.5)(path.read_bytes()))
    with pytest.raises(DataError, match="damaged archive"):
        open_source(path)
    noise = random.Random(1).randbytes(5000)
    path = write_zip(tmp_path / "x.zip", {"a/1.png": noise, "b/1.png": png(1)})
    path.write_bytes(flip(0.4)(path.read_bytes()))
    with pytest.raises(BrokenImageError, match="damaged in the archive"):
        open_source(path).fetch(0)


def test_an_encrypted_zip_and_something_else(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", {"a/1.png": png(1)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<H", data, at + 8, 1)
    path.write_bytes(data)
    with pytest.raises(DataError, match="password"):
        open_source(path)
    (tmp_path / "y.tar").write_bytes(b"this is no archive " * 100)
    with pytest.raises(DataError, match="expected a tar or zip archive"):
        open_source(tmp_path / "y.tar")
    (tmp_path / "z.tar.gz").write_bytes(gzip.compress(b"nor is this " * 100))
    with pytest.raises(DataError, match="expected a tar or zip archive"):
        open_source(tmp_path / "z.tar.gz")


# -- Shared data ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (SHARED / "hymenoptera.tar").exists(), reason="../shared/data/hymenoptera.tar is not there"
)
def test_hymenoptera_agrees_with_tarfile() -> None:
    source = open_source(SHARED / "hymenoptera.tar")
    with tarfile.open(SHARED / "hymenoptera.tar") as tar:
        names = sorted(one.name for one in tar if one.isfile())
        assert list(source.files) == names
        for index in range(0, len(names), 37):
            assert source.fetch(index) == tar.extractfile(names[index]).read()  # type: ignore[union-attr]
    counts = {
        (source.classes[label], split): sum((source.labels == label) & (source.splits == split))
        for label in (0, 1)
        for split in (0, 1)
    }
    # its README: train 123 ants and a placeholder, 121 bees; val 70 and 83
    assert counts == {("ants", 0): 124, ("ants", 1): 70, ("bees", 0): 121, ("bees", 1): 83}
