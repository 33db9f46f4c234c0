import gc
import io
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.core.errors import DataError
from striate.data.find import Item
from striate.data.preprocess import Preprocessing
from striate.serve import pipeline
from striate.serve.engine import open_engine
from striate.serve.pipeline import answer
from striate.weights.bundle import Bundle

PRE = Preprocessing(channels=3, height_px=16, width_px=16, resize_px=16)
BUNDLE = Bundle(net="test", classes=("a", "b", "c"), preprocessing=PRE, state={})


@pytest.fixture(scope="module", params=["openvino", "torch"])
def engine(request):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 3)).eval()
    return open_engine(net, BUNDLE, engine=request.param, precision="fp32", batch_images=4, threads=1)


def picture(seed, side=24):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def late(data, seconds):
    def read():
        time.sleep(seconds)
        return data

    return read


def unreadable():
    raise DataError("gone")


@pytest.mark.parametrize("threads", [1, 3])
def test_answers_keep_the_order_of_the_images(engine, threads):
    seconds = np.random.default_rng(0).uniform(0, 0.004, 23)
    items = [Item(str(k), late(picture(k), s)) for k, s in enumerate(seconds)]
    items[5] = Item("5", lambda: b"no image")
    items[6:10] = [Item(str(k), unreadable) for k in range(6, 10)]  # a whole batch of broken ones
    items[22] = Item("22", lambda: picture(22)[:200])
    found = list(answer(engine, PRE, iter(items), threads=threads))
    assert [one.file for one in found] == [str(k) for k in range(23)]
    assert [one.file for one in found if one.logits is None] == ["5", "6", "7", "8", "9", "22"]
    assert found[6].error == "gone"
    assert all((one.error is None) == (one.logits is not None) for one in found)
    for k in (0, 4, 10, 21):
        small = Image.open(io.BytesIO(picture(k))).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(
            found[k].logits, engine.logits(np.asarray(small)[None])[0], rtol=1e-5, atol=1e-5
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
            1 for _ in answer(engine, PRE, (Item("x", lambda: data) for _ in range(num_images)), threads=2)
        )
        gc.collect()
        assert alive == 0
        assert most <= 10 * engine.batch_images


def test_nothing_runs_on_when_the_reader_stops(engine):
    before = threading.active_count()
    data = picture(0)
    answers = answer(engine, PRE, (Item("x", lambda: data) for _ in range(10**9)), threads=2)
    next(answers)
    answers.close()
    assert threading.active_count() == before


def test_no_images_no_answers(engine):
    assert list(answer(engine, PRE, [])) == []


def test_an_error_that_is_no_broken_image_comes_through(engine):
    def forgotten():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(answer(engine, PRE, [Item("x", forgotten)]))
