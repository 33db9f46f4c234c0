import gc
import io
import threading
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.core.compute import Compute
from striate.core.errors import DataError
from striate.data.find import Item
from striate.data.preprocess import Preprocessing
from striate.serve import pipeline
from striate.serve.engine import open_engine
from striate.serve.pipeline import stream_logits
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork

PRE = Preprocessing(channels=3, height_px=16, width_px=16, resize_px=16)
BUNDLE = Bundle(net="test", classes=("a", "b", "c"), preprocessing=PRE, state={})


@pytest.fixture(scope="module", params=["openvino", "torch"])
def engine(request):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 3)).eval()
    network = OpenNetwork(net=net, bundle=BUNDLE, name="test")
    compute = Compute(precision="fp32", batch_images=4, threads=1)
    return open_engine(network, engine=request.param, compute=compute)


def picture(seed, side=24):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def overtaken(number):
    """Return pictures of which each second one is read before the one in front of it."""
    read = [threading.Event() for _ in range(number)]

    def item(k):
        def bytes_of():
            if k % 2 == 0 and k + 1 < number:
                assert read[k + 1].wait(30)
            read[k].set()
            return picture(k)

        return Item(str(k), bytes_of)

    return [item(k) for k in range(number)]


def unreadable():
    raise DataError("gone")


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_keep_the_order_of_the_images(engine, threads):
    items = overtaken(23) if threads > 1 else [Item(str(k), partial(picture, k)) for k in range(23)]
    items[4:10] = [Item("4", partial(picture, 4)), Item("5", lambda: b"no image")] + [
        Item(str(k), unreadable)
        for k in range(6, 10)  # a whole batch of broken ones
    ]
    items[22] = Item("22", lambda: picture(22)[:200])
    found = list(stream_logits(engine, PRE, iter(items), threads=threads))
    assert [image.file for image, _ in found] == [str(k) for k in range(23)]
    assert [image.file for image, logits in found if logits is None] == ["5", "6", "7", "8", "9", "22"]
    assert found[6][0].error == "gone"
    assert all((image.error is None) == (logits is not None) for image, logits in found)
    for k in (0, 4, 10, 21):
        small = Image.open(io.BytesIO(picture(k))).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(
            found[k][1], engine.logits(np.asarray(small)[None])[0], rtol=1e-5, atol=1e-5
        )


def test_few_images_are_in_memory(engine, monkeypatch):
    alive = most = 0
    lock = threading.Lock()

    def gone():
        nonlocal alive
        with lock:
            alive -= 1

    real = pipeline.prepare

    def counted(item, preprocessing):
        nonlocal alive, most
        made = real(item, preprocessing)
        own = made.pixels.copy()
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(own, gone)
        return pipeline.Prepared(made.file, own)

    monkeypatch.setattr(pipeline, "prepare", counted)
    data = picture(0)
    for num_images in (40, 400):
        most = 0
        assert sum(
            1
            for _ in stream_logits(
                engine, PRE, (Item("x", lambda: data) for _ in range(num_images)), threads=2
            )
        )
        gc.collect()
        assert alive == 0
        assert most <= 10 * engine.batch_images


def test_nothing_runs_on_when_the_reader_stops(engine):
    before = threading.active_count()
    data = picture(0)
    results = stream_logits(engine, PRE, (Item("x", lambda: data) for _ in range(10**9)), threads=2)
    next(results)
    results.close()
    assert threading.active_count() == before


def test_no_images_no_answers(engine):
    assert list(stream_logits(engine, PRE, [])) == []


def test_an_error_that_is_no_broken_image_comes_through(engine):
    def forgotten():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream_logits(engine, PRE, [Item("x", forgotten)]))
