import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import UsageError
from striate.data.find import Item, find_images
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.predict import predict
from striate.weights.bundle import Bundle

PRE = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.2,), std=(0.5,))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = build("lenet5_modern", num_classes=3).eval()
    return net, Bundle(
        net="lenet5_modern", classes=("x", "y", "z"), preprocessing=PRE, state=net.state_dict()
    )


def png(seed, side=40):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)).save(
        buffer, "png"
    )
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for k, name in enumerate(["b.png", "a.jpg", "deep/c.PNG", "deep/er/d.png"]):
        (tmp_path / name).write_bytes(png(k))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return tmp_path


def test_answers_are_those_of_the_network(trained, folder):
    net, bundle = trained
    [answer] = predict(net, bundle, find_images([folder / "b.png"]), topk=2)
    grey = torch.from_numpy(np.array(Image.open(folder / "b.png").convert("L")))[None, None]
    small = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear", antialias=True)
    images = (small / 255 - 0.2) / 0.5
    with torch.no_grad():
        expected = net(images).softmax(1)[0].numpy()
    order = np.argsort(-expected)[:2]
    assert [name for name, _ in answer.ranked] == ["xyz"[k] for k in order]
    np.testing.assert_allclose([p for _, p in answer.ranked], expected[order], rtol=1e-4)


@pytest.mark.parametrize("batch_images", [1, 2, 32])
def test_order_is_kept_and_broken_files_are_named(trained, folder, batch_images):
    found = list(predict(*trained, find_images([folder]), batch_images=batch_images))
    names = [p.file.removeprefix(f"{folder}/") for p in found]
    assert names == ["a.jpg", "b.png", "broken.jpg", "deep/c.PNG", "deep/er/d.png"]
    assert [p.error is None for p in found] == [True, True, False, True, True]
    assert all(abs(sum(q for _, q in p.ranked) - 1) < 1e-5 for p in found if p.error is None)


def test_archives_and_named_files(trained, folder):
    path = folder / "pictures.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "deep", "deep")
    found = list(predict(*trained, find_images([path, folder / "notes.txt"])))
    assert [p.file for p in found] == [
        f"{path}/deep/c.PNG",
        f"{path}/deep/er/d.png",
        str(folder / "notes.txt"),
    ]
    assert found[2].error is not None
    loose = list(predict(*trained, find_images([folder / "deep" / "c.PNG"])))
    assert [name for name, _ in loose[0].ranked] == [name for name, _ in found[0].ranked]
    np.testing.assert_allclose([p for _, p in loose[0].ranked], [p for _, p in found[0].ranked], rtol=1e-5)
    with pytest.raises(UsageError, match="no such file"):
        list(find_images([folder / "missing.png"]))
    with pytest.raises(UsageError, match="topk"):
        list(predict(*trained, [], topk=0))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_a_folder_are_left_out_and_links_to_nothing_reported(trained, folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    found = {Path(one.file).name: one.error for one in predict(*trained, find_images([folder]))}
    assert "pipe.jpg" not in found
    assert found["lost.jpg"] == "can't be read: No such file or directory"
    assert len(found) == 6


def test_a_folder_that_cannot_be_read_is_reported(trained, folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = list(predict(*trained, find_images([folder])))
    assert [(one.file, one.error) for one in found if "deep/er" in one.file] == [
        (f"{folder}/deep/er", "this folder can't be read: Permission denied")
    ]
    assert len(found) == 5


def test_a_long_stream_needs_no_more_memory_than_a_short_one(trained):
    content = png(0, side=200)
    asked = 0

    def stream(count):
        nonlocal asked
        for k in range(count):
            asked += 1
            yield Item(str(k), lambda: content)

    def peak(count):
        tracemalloc.start()
        for _ in predict(*trained, stream(count), batch_images=4, threads=2):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    assert peak(400) < 1.5 * peak(40)
    asked = 0
    results = predict(*trained, stream(10**9), batch_images=4, threads=2)  # an endless stream answers at once
    next(results)
    results.close()
    assert asked <= 40  # ten batches, whatever the engine keeps in flight
