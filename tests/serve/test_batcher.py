"""Batches are formed, answered and bounded as they should be."""

import threading

import numpy as np
import pytest
from PIL import Image
from running_service import encoded, wait_until

from striate.core.errors import BrokenImageError, UsageError
from striate.data.preprocess import Preprocessing
from striate.serve.http import batching
from striate.serve.http.batching import Batcher

PRE = Preprocessing(channels=3, height_px=8, width_px=8, resize_px=8, mean=(0,) * 3, std=(1,) * 3)


def flat(level):
    """A file of 8 x 8 pixels of one level."""
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level,) * 3).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def make(gated):
    made = []

    def begin(**options):
        made.append(Batcher(gated, PRE, max_pixels=10_000, **{"decoders": 2, "runners": 1, **options}))
        return made[-1]

    yield begin
    gated.gate.set()
    for one in made:
        one.close()


def test_every_image_gets_its_own_answer_in_batches_of_at_most_four(make, gated):
    ran = []
    batcher = make(ran=lambda images, seconds: ran.append(images))
    answers = [batcher.submit(flat(k), str(k)) for k in range(50)]
    gated.gate.set()
    assert [answer.result(30)[0] for answer in answers] == list(range(50))
    batcher.close()
    assert sum(gated.batches) == 50
    assert max(gated.batches) == 4
    assert ran == gated.batches
    assert batcher.waiting_images == 0


def test_images_that_came_while_the_network_ran_go_together(make, gated):
    batcher = make()
    first = batcher.submit(flat(9), "first")
    wait_until(lambda: gated.batches == [1])
    others = [batcher.submit(flat(k), str(k)) for k in range(4)]
    wait_until(lambda: len(batcher._decoded) == 4)
    gated.gate.set()
    assert [one.result(30)[0] for one in (first, *others)] == [9, 0, 1, 2, 3]
    assert gated.batches == [1, 4]


def test_a_batch_waits_only_for_images_on_their_way(make, gated):
    gated.gate.set()
    batcher = make(wait_ms=1e9)  # a lone image would wait for days
    assert batcher.submit(flat(5), "lone").result(30)[0] == 5
    broken = batcher.submit(b"no image", "broken")
    with pytest.raises(BrokenImageError):
        broken.result(30)
    assert batcher.submit(flat(6), "lone").result(30)[0] == 6


def test_decoded_images_are_bounded(make, gated):
    batcher = make()
    answers = [batcher.submit(flat(k % 256), str(k)) for k in range(300)]
    wait_until(lambda: len(batcher._decoded) == 3 * 4)
    assert batcher.waiting_images == 300
    assert len(batcher._encoded) >= 300 - 4 - 12  # one batch in the network, three decoded
    gated.gate.set()
    assert [answer.result(30)[0] for answer in answers] == [k % 256 for k in range(300)]


def test_cancelled_images_never_reach_the_network(make, gated):
    batcher = make()
    running = batcher.submit(flat(1), "running")
    wait_until(lambda: gated.batches == [1])
    dropped = [batcher.submit(flat(2), "dropped") for _ in range(40)]
    kept = batcher.submit(flat(3), "kept")
    assert all(one.cancel() for one in dropped)
    gated.gate.set()
    assert running.result(30)[0] == 1
    assert kept.result(30)[0] == 3
    assert gated.batches == [1, 1]


def test_what_is_wrong_with_an_image(make, gated):
    gated.gate.set()
    batcher = make()

    def reason(data):
        with pytest.raises(BrokenImageError) as caught:
            batcher.submit(data, "it").result(30)
        return caught.value.reason

    assert "empty" in reason(b"")
    assert "too large to decode safely: 101 x 100" in reason(encoded(0, (100, 101)))
    assert "TIFF is not taken here" in reason(encoded(0, (8, 8), "tiff"))
    assert "zip archive" in reason(b"PK\x03\x04...")
    assert "damaged PNG" in reason(encoded()[:90])
    assert batcher.submit(encoded(0, (100, 100)), "fits").result(30).shape == (3,)


def test_an_engine_that_fails_fails_its_batch_alone(make, gated):
    gated.gate.set()
    gated.error = MemoryError("no room")
    batcher = make()
    with pytest.raises(MemoryError):
        batcher.submit(flat(1), "a").result(30)
    gated.error = None
    assert batcher.submit(flat(2), "b").result(30)[0] == 2


def test_any_bug_in_decoding_leaves_the_threads_alive(make, gated, monkeypatch):
    gated.gate.set()
    batcher = make()
    with monkeypatch.context() as patch:
        patch.setattr(batching, "to_pixels", lambda image, preprocessing: 1 / 0)
        bad = [batcher.submit(flat(1), "a") for _ in range(5)]
        for one in bad:
            assert isinstance(one.exception(30), ZeroDivisionError)
    assert batcher.submit(flat(2), "b").result(30)[0] == 2


def test_closing_answers_what_has_come_in(make, gated):
    batcher = make(runners=3)
    answers = [batcher.submit(flat(k), str(k)) for k in range(30)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    wait_until(lambda: batcher._closed)
    assert not any(answer.done() for answer in answers)
    gated.gate.set()
    closing.join()
    assert all(answer.done() for answer in answers)
    np.testing.assert_array_equal([answer.result()[0] for answer in answers], np.arange(30))
    with pytest.raises(UsageError, match="closed"):
        batcher.submit(flat(0), "late")
    with pytest.raises(UsageError, match="`wait_ms` of at least 0"):
        make(wait_ms=-1)
