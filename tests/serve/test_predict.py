import io
import math
import os
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.data.find import Item
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.engine import engine_for
from striate.serve.predict import predict, predict_one, rank
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.open import OpenNetwork

PRE = Preprocessing(channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.2,), std=(0.5,))
FP32 = Compute(device="cpu", precision="fp32")
FEW = replace(FP32, batch_images=4, threads=2)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = build("lenet5_modern", num_classes=3).eval()
    bundle = Bundle(net="lenet5_modern", classes=("x", "y", "z"), preprocessing=PRE, state=net.state_dict())
    return OpenNetwork(net=net, bundle=bundle, name="test")


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
    [answer] = predict(trained, folder / "b.png", top=2, compute=FP32)
    grey = torch.from_numpy(np.array(Image.open(folder / "b.png").convert("L")))[None, None]
    small = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear", antialias=True)
    images = (small / 255 - 0.2) / 0.5
    with torch.no_grad():
        expected = trained.net(images).softmax(1)[0].numpy()
    order = np.argsort(-expected)[:2]
    assert [name for name, _ in answer.ranked] == ["xyz"[k] for k in order]
    np.testing.assert_allclose([p for _, p in answer.ranked], expected[order], rtol=1e-4)


@pytest.mark.parametrize("batch_images", [1, 2, 32])
def test_order_is_kept_and_broken_files_are_named(trained, folder, batch_images):
    found = list(predict(trained, folder, compute=replace(FP32, batch_images=batch_images)))
    names = [p.file.removeprefix(f"{folder}/") for p in found]
    assert names == ["a.jpg", "b.png", "broken.jpg", "deep/c.PNG", "deep/er/d.png"]
    assert [p.error is None for p in found] == [True, True, False, True, True]
    assert all(abs(sum(q for _, q in p.ranked) - 1) < 1e-5 for p in found if p.error is None)


def test_archives_and_named_files(trained, folder):
    path = folder / "pictures.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder / "deep", "deep")
    found = list(predict(trained, [path, folder / "notes.txt"], compute=FP32))
    assert [p.file for p in found] == [
        f"{path}/deep/c.PNG",
        f"{path}/deep/er/d.png",
        str(folder / "notes.txt"),
    ]
    assert found[2].error is not None
    loose = list(predict(trained, folder / "deep" / "c.PNG", compute=FP32))
    assert [name for name, _ in loose[0].ranked] == [name for name, _ in found[0].ranked]
    np.testing.assert_allclose([p for _, p in loose[0].ranked], [p for _, p in found[0].ranked], rtol=1e-5)
    with pytest.raises(UsageError, match="no such file"):
        predict(trained, [folder / "b.png", folder / "missing.png"])
    with pytest.raises(UsageError, match="`top` of at least 1, got 0"):
        predict(trained, [], top=0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_in_a_folder_are_left_out_and_links_to_nothing_reported(trained, folder):
    os.mkfifo(folder / "pipe.jpg")
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    found = {Path(one.file).name: one.error for one in predict(trained, folder, compute=FP32)}
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
    found = list(predict(trained, folder, compute=FP32))
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
        for _ in predict(trained, stream(count), compute=FEW):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    assert peak(400) < 1.5 * peak(40)
    asked = 0
    results = predict(trained, stream(10**9), compute=FEW)  # an endless stream answers at once
    next(results)
    results.close()
    assert asked <= 40  # ten batches, whatever the engine keeps in flight


# -- Images in memory ----------------------------------------------------------------------------------------


def photo(mode="RGB", kind="png", size=(60, 45), **options):
    """A file with colours, and with an edge that tells up from down and left from right."""
    rows, columns = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([rows * 255 // size[1], columns * 255 // size[0], (rows * columns) % 256], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    "file",
    [
        photo(),
        photo("L"),
        photo("1"),
        photo("P"),
        photo("RGBA"),
        photo("LA"),
        photo("CMYK", "tiff"),
        photo("RGB", "tiff", exif=turned(6)),
        photo("RGB", "jpeg", quality=95, exif=turned(8)),
        photo("RGB", "png", exif=turned(3)),
    ],
    ids=["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "TIFF turned", "JPEG turned", "PNG turned"],
)
def test_pillows_image_is_predicted_as_its_file(trained, tmp_path, file):
    (tmp_path / "x").write_bytes(file)
    opened = Image.open(io.BytesIO(file))
    loaded = Image.open(io.BytesIO(file))
    loaded.load()
    as_file, in_bytes, *in_memory = predict(
        trained, [tmp_path / "x", file, opened, loaded], top=3, compute=FP32
    )
    assert as_file.file == str(tmp_path / "x")
    assert [one.file for one in (in_bytes, *in_memory)] == ["image 2", "image 3", "image 4"]
    assert {one.ranked for one in (in_bytes, *in_memory)} == {as_file.ranked}


def test_arrays_are_predicted_as_their_files(trained):
    rgb = np.array(Image.open(io.BytesIO(photo())))
    grey = np.array(Image.open(io.BytesIO(photo("L"))))
    files = list(predict(trained, [photo(), photo("L")], top=3, compute=FP32))
    arrays = [rgb, grey]
    assert [one.ranked for one in predict(trained, arrays, top=3, compute=FP32)] == [
        one.ranked for one in files
    ]
    alone = list(predict(trained, (rgb, rgb[::1], grey[:, :, None]), top=3, compute=FP32))
    assert [one.ranked for one in alone] == [files[0].ranked, files[0].ranked, files[1].ranked]
    assert len(list(predict(trained, np.stack([rgb] * 5), compute=FP32))) == 5
    assert [one.file for one in predict(trained, (one for one in arrays), compute=FP32)] == [
        "image 1",
        "image 2",
    ]


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (np.zeros((8, 8, 3), np.float32), "got float32 of 8 x 8 x 3: scale it to 0..255"),
        (np.zeros((3, 8, 8), np.uint8), "got uint8 of 3 x 8 x 8: put the three colours last"),
        (np.zeros((8, 8, 4), np.uint8), "got uint8 of 8 x 8 x 4"),
        (np.zeros((0, 8, 3), np.uint8), "got uint8 of 0 x 8 x 3"),
        (np.zeros((), np.uint8), "got uint8 of no dimensions"),
        (np.zeros((2, 8, 8, 3), np.float64), "got float64 of 8 x 8 x 3"),
        (torch.zeros(3, 8, 8), "got Tensor"),
        (7, "got int"),
    ],
)
def test_wrong_images_are_refused_in_one_line(trained, wrong, got):
    with pytest.raises(UsageError, match=got) as caught:
        next(predict(trained, wrong))
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="expected"):
        predict(trained, [photo(), wrong]) if not isinstance(
            wrong, np.ndarray
        ) or wrong.ndim != 4 else predict(trained, wrong)


def test_a_broken_image_in_memory_is_named(trained):
    cut = Image.open(io.BytesIO(photo(size=(300, 200))[:900]))
    broken, good = predict(trained, [cut, photo()], compute=FP32)
    assert (broken.ranked, broken.label, broken.probability) == ((), None, None)
    assert broken.error.startswith("damaged image: cut short")
    assert (good.label, good.probability) == good.ranked[0]


def test_one_image_and_an_engine_that_stays_open(trained, folder, tmp_path_factory):
    with engine_for(trained, engine="torch", compute=FP32) as engine:
        one = predict_one(trained, folder / "b.png", engine=engine)
        again = predict_one(trained, Image.open(folder / "b.png"), engine=engine)
        assert again.file == one.file == str(folder / "b.png")
        assert again == one
        assert list(predict(trained, folder / "b.png", engine=engine)) == [one]
    with pytest.raises(UsageError, match="closed"):
        predict_one(trained, folder / "b.png", engine=engine)
    for several in (folder, [photo()], str(folder / "x.tar")):
        with pytest.raises(UsageError, match="expected one image"):
            predict_one(trained, several)
    path = tmp_path_factory.mktemp("bundle") / "net.safetensors"
    save_bundle(trained.bundle, path)
    [by_path] = predict(path, folder / "b.png", engine="torch", compute=FP32)
    assert by_path == one


def test_a_name_is_no_trained_network():
    with pytest.raises(UsageError, match="lenet5: expected a trained network, got random weights"):
        predict("lenet5", photo())


@pytest.mark.parametrize("multi_label", [False, True])
def test_probabilities_are_those_of_the_formula(trained, multi_label):
    logits = np.array([-50.0, 3.5, -41.0], np.float32)
    bundle = replace(trained.bundle, multi_label=multi_label, temperature=1.25)
    scaled = [float(one) / 1.25 for one in logits]
    if multi_label:
        expected = [1 / (1 + math.exp(-one)) for one in scaled]
    else:
        expected = [math.exp(one) / sum(map(math.exp, scaled)) for one in scaled]
    ranked = rank(logits, bundle, 3)
    assert [name for name, _ in ranked] == ["y", "z", "x"]
    np.testing.assert_allclose([p for _, p in ranked], [expected[k] for k in (1, 2, 0)], rtol=1e-12)
