import numpy as np
import pytest

from striate.data import store as store_module
from striate.data.store import PixelStore, store_for


@pytest.mark.parametrize("in_memory", [True, False])
def test_reads_back_what_was_written_in_any_order(monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(store_module, "_MEMORY_BYTES", 0)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)
    store = PixelStore(50, (4, 5, 3))
    for index in reversed(range(50)):
        store.write(index, pixels[index, :, ::-1][:, ::-1])  # a view that is not contiguous
    asked = np.array([7, 7, 49, 0, 23])
    assert np.array_equal(store.read(asked), pixels[asked])


def test_too_many_images_get_no_store(monkeypatch):
    monkeypatch.setattr(store_module, "_MEMORY_BYTES", 1000)
    monkeypatch.setattr(store_module, "_FILE_BYTES", 2000)
    assert store_for(1, (10, 10, 3)) is not None
    assert store_for(6, (10, 10, 3)) is not None
    assert store_for(7, (10, 10, 3)) is None
