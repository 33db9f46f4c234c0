"""Scanning: pictures made here, hashed and measured independently."""

import hashlib
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from striate.core.errors import BrokenImageError
from striate.data.scan import scan
from striate.data.source import Source

RNG = np.random.default_rng(5)


def encode(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def source_of(contents: list, labels: list[int] | None = None) -> Source:
    def fetch(index: int):
        if isinstance(contents[index], Exception):
            raise contents[index]
        return contents[index]

    num = len(contents)
    return Source(
        name="made here",
        files=[f"{index}.png" for index in range(num)],
        labels=np.array(labels if labels is not None else [0] * num, np.int64),
        classes=("a", "b"),
        splits=np.full(num, -1, np.int8),
        fetch=fetch,
    )


def mixed() -> list:
    contents: list = []
    for index in range(60):
        colour = Image.fromarray(RNG.integers(0, 256, (10 + index, 20, 3), dtype=np.uint8))
        contents.append(encode(colour, "JPEG") if index % 2 else encode(colour.convert("L"), "PNG"))
    contents[7] = b"nothing"
    contents[8] = contents[9][:100]
    contents[30] = BrokenImageError("30.png", "can't be read: gone")
    contents[31] = RNG.integers(0, 256, (5, 6), dtype=np.uint8)
    contents[32] = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return contents


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_every_image_is_hashed_measured_and_handed_over_once(threads: int) -> None:
    contents = mixed()
    handed: dict[int, np.ndarray] = {}
    lock = threading.Lock()

    def sink(index: int, pixels: np.ndarray) -> None:
        with lock:
            assert index not in handed
            handed[index] = pixels

    found = scan(source_of(contents), threads=threads, sink=sink)
    assert [(one.index, one.file) for one in found.broken] == [(7, "7.png"), (8, "8.png"), (30, "30.png")]
    assert found.broken[2].reason == "can't be read: gone"
    good = [index for index in range(60) if index not in (7, 8, 30)]
    assert sorted(handed) == good == np.flatnonzero(found.good).tolist()
    for index in range(60):
        if isinstance(contents[index], bytes):
            expected = hashlib.blake2b(contents[index], digest_size=16).digest()
            assert found.digests[index].tobytes() == expected
    for index in good:
        if index not in (31, 32):
            assert found.sizes_px[index].tolist() == [10 + index, 20]
            assert found.grey[index] == (index % 2 == 0)
    assert found.sizes_px[[7, 8, 30]].tolist() == [[0, 0]] * 3
    assert (found.sizes_px[31].tolist(), found.grey[31]) == ([5, 6], True)
    assert (found.sizes_px[32].tolist(), found.grey[32]) == ([6, 5], False)
    np.testing.assert_array_equal(np.asarray(handed[32]), contents[32])


def test_arrays_of_equal_bytes_and_other_shape_have_other_hashes() -> None:
    values = np.arange(12, dtype=np.uint8)
    found = scan(source_of([values.reshape(3, 4), values.reshape(4, 3), values.reshape(3, 4).copy()]))
    assert found.digests[0].tobytes() != found.digests[1].tobytes()
    assert found.digests[0].tobytes() == found.digests[2].tobytes()


def test_sizes_are_full_sizes_even_when_decoded_small() -> None:
    photo = encode(Image.new("RGB", (640, 480)), "JPEG")
    seen: list[tuple[int, ...]] = []
    found = scan(source_of([photo]), min_side_px=60, sink=lambda index, pixels: seen.append(pixels.shape))
    assert seen == [(60, 80, 3)]
    assert found.sizes_px.tolist() == [[480, 640]]


def test_a_failing_sink_ends_the_scan_and_its_threads() -> None:
    before = threading.active_count()

    def sink(index: int, pixels: np.ndarray) -> None:
        if index == 20:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        scan(source_of([encode(Image.new("L", (4, 4)), "PNG")] * 500), threads=4, sink=sink)
    assert threading.active_count() == before


def test_a_stop_from_the_caller_ends_the_threads() -> None:
    before = threading.active_count()

    def impatient(stage: str, done: int, total: int | None, note: str = "") -> None:
        raise KeyboardInterrupt

    def slow(index: int, pixels: np.ndarray) -> None:
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        scan(source_of([np.zeros((2, 2), np.uint8)] * 100_000), threads=3, sink=slow, progress=impatient)
    assert threading.active_count() == before


def test_progress_ends_at_the_total() -> None:
    told: list[tuple[int, int | None]] = []
    scan(source_of(mixed()), progress=lambda stage, done, total, note="": told.append((done, total)))
    assert told[-1] == (60, 60)


def test_an_empty_source() -> None:
    found = scan(source_of([]))
    assert found.digests.shape == (0, 16)
    assert found.broken == ()
