"""Protocols against loops written by hand: cut, show one view at a time, average."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate.core.compute import Compute
from striate.core.errors import DataError, UsageError
from striate.data.dataset import fetch_image
from striate.data.preprocess import Preprocessing
from striate.data.source import Source
from striate.data.sources import open_source
from striate.evaluation.protocol import Protocol, evaluate_protocol, make_showing, read_protocols
from striate.metrics.predictions import sigmoid, softmax

SIDE = 11  # all of it is read: (11 - 3) / 2 + 1 = 5 places of the convolution
PRE = Preprocessing(
    channels=3,
    height_px=SIDE,
    width_px=SIDE,
    resize_px=14,
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    colour_order="BGR",
)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    """Seven pictures of several shapes in two classes."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(4)
    sizes = ((14, 14), (20, 14), (14, 23), (30, 40), (14, 14), (16, 15), (40, 28))
    for k, (width, height) in enumerate(sizes):
        folder = root / ("even" if k % 2 == 0 else "odd")
        folder.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{k}.png")
    return open_source(root)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(150, 4),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


def fp32(**settings: int) -> Compute:
    return Compute(device="cpu", precision="fp32", **settings)


def indices(source: Source) -> np.ndarray:
    return np.arange(len(source.files))


def answer(net: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """Return the scores of one view, ``H x W x 3`` uint8, normalised by hand."""
    normed = (pixels / 255.0 - np.array(PRE.mean)) / np.array(PRE.std)
    image = torch.from_numpy(normed[:, :, ::-1].copy()).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        return net.eval()(image)[0].double().numpy()


def shorter(image: Image.Image, side: int) -> np.ndarray:
    scale = side / min(image.size)
    size = (round(image.height * scale), round(image.width * scale))
    maps = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    if size != maps.shape[2:]:
        maps = torch.nn.functional.interpolate(maps, size, mode="bilinear", antialias=True)
    return maps[0].permute(1, 2, 0).numpy()


def p_of(run_logits: np.ndarray) -> np.ndarray:
    return softmax(run_logits.astype(np.float64))


def test_ten_crops_are_ten_explicit_calls(source, net):
    run = evaluate_protocol(
        net, source, indices(source), PRE, Protocol(kind="ten-crop"), compute=fp32(threads=2)
    )
    assert run.showing.num_views == 10
    for i, got in enumerate(p_of(run.logits)):
        pixels = shorter(fetch_image(source, i), 14)
        top, left = (pixels.shape[0] - 14) // 2, (pixels.shape[1] - 14) // 2
        square = pixels[top : top + 14, left : left + 14]
        found = []
        for y, x in ((0, 0), (0, 3), (3, 0), (3, 3), (1, 1)):
            crop = square[y : y + SIDE, x : x + SIDE]
            found += [softmax(answer(net, view)[None])[0] for view in (crop, crop[:, ::-1])]
        assert got == pytest.approx(np.mean(found, axis=0), abs=1e-5)


@pytest.mark.parametrize("scales", [(14,), (14, 18, 21)])
def test_dense_averages_scores_over_places_and_posteriors_over_mirrors_and_scales(source, net, scales):
    """Simonyan and Zisserman, section 3.2, with every crop shown by itself: stride 2, no padding."""
    run = evaluate_protocol(
        net, source, indices(source), PRE, Protocol(kind="dense", scales_px=scales), compute=fp32()
    )
    for i, got in enumerate(p_of(run.logits)):
        posteriors = []
        for scale in scales:
            pixels = shorter(fetch_image(source, i), scale)
            for whole in (pixels, pixels[:, ::-1]):
                places = [
                    answer(net, whole[y : y + SIDE, x : x + SIDE])
                    for y in range(0, whole.shape[0] - SIDE + 1, 2)
                    for x in range(0, whole.shape[1] - SIDE + 1, 2)
                ]
                posteriors.append(softmax(np.mean(places, axis=0)[None])[0])
        assert got == pytest.approx(np.mean(posteriors, axis=0), abs=1e-5)


def test_flip_of_a_multi_label_network_averages_sigmoids(source, net):
    run = evaluate_protocol(
        net, source, indices(source), PRE, Protocol(kind="flip"), multi_label=True, compute=fp32()
    )
    got = sigmoid(run.logits.astype(np.float64))
    for i in range(len(got)):
        pixels = shorter(fetch_image(source, i), 14)
        top, left = (pixels.shape[0] - SIDE) // 2, (pixels.shape[1] - SIDE) // 2
        crop = pixels[top : top + SIDE, left : left + SIDE]
        both = [1 / (1 + np.exp(-answer(net, view))) for view in (crop, crop[:, ::-1])]
        assert got[i] == pytest.approx(np.mean(both, axis=0), abs=1e-5)


@pytest.mark.parametrize("kind", ["flip", "ten-crop", "144-crop", "dense", "multi-scale"])
def test_neither_batch_size_nor_order_nor_threads_matter(source, net, kind):
    protocol = Protocol(kind=kind)
    everyone = indices(source)
    first = evaluate_protocol(net, source, everyone, PRE, protocol, compute=fp32(batch_images=64)).logits
    order = np.random.default_rng(0).permutation(everyone)
    other = evaluate_protocol(
        net, source, order, PRE, protocol, compute=fp32(batch_images=3, threads=3)
    ).logits
    assert other == pytest.approx(first[order], abs=1e-5)
    alone = evaluate_protocol(net, source, everyone[3:4], PRE, protocol, compute=fp32(batch_images=1)).logits
    assert alone == pytest.approx(first[3:4], abs=1e-5)


def test_batches_hold_no_more_than_was_asked_for(source):
    seen = []

    class Watched(nn.Module):
        def forward(self, images):
            seen.append(tuple(images.shape))
            return images.mean(dim=(2, 3))

    evaluate_protocol(
        Watched(), source, indices(source), PRE, Protocol(kind="144-crop"), compute=fp32(batch_images=50)
    )
    assert all(shape[0] <= 50 and shape[1:] == (3, SIDE, SIDE) for shape in seen)
    assert sum(shape[0] for shape in seen) == 7 * 144


def test_the_networks_mode_is_put_back_and_progress_is_told(source, net):
    net.train()
    told = []
    evaluate_protocol(
        net,
        source,
        indices(source),
        PRE,
        Protocol(kind="dense"),
        progress=lambda stage, done, total, note="": told.append((stage, done, total)),
    )
    assert all(module.training for module in net.modules())
    assert told[-1] == ("evaluate", 7, 7)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize(
    ("protocol", "crop", "resize", "views", "words"),
    [
        (Protocol(), 224, 256, 1, "shorter side 256 px, the 224x224 px centre"),
        (Protocol(), 32, None, 1, "the image as 32x32 px"),
        (Protocol(kind="flip"), 32, None, 2, "mirror"),
        (Protocol(kind="ten-crop"), 224, 256, 10, "central square of 256 px"),
        (Protocol(kind="ten-crop"), 32, 32, 10, "border of 4 px"),
        (Protocol(kind="ten-crop", scales_px=(256, 288)), 224, 256, 20, "256 and 288 px"),
        (Protocol(kind="ten-crop", canvas_px=300), 224, 256, 10, "300 px"),
        (Protocol(kind="144-crop"), 224, 256, 144, "256, 288, 320 and 352 px"),
        (Protocol(kind="dense"), 224, 256, 2, "shorter side 256 px"),
        (Protocol(kind="dense"), 224, 384, 2, "shorter side 384 px"),
        (Protocol(kind="dense"), 32, 32, 2, "border of 4 px"),
        (Protocol(kind="multi-scale"), 224, 256, 6, "224, 256 and 288 px"),
        (Protocol(kind="multi-scale"), 224, 384, 6, "352, 384 and 416 px"),
        (Protocol(kind="multi-scale"), 224, 240, 6, "224, 240 and 272 px"),
        (Protocol(kind="multi-scale"), 32, 32, 6, "32, 37 and 42 px"),
        (Protocol(kind="multi-scale", scales_px=(256, 384, 512)), 224, 256, 6, "256, 384 and 512 px"),
    ],
)
def test_what_is_done_is_said(protocol, crop, resize, views, words):
    pre = Preprocessing(channels=3, height_px=crop, width_px=crop, resize_px=resize)
    showing = make_showing(protocol, pre)
    assert showing.num_views == views
    assert words in showing.words


def test_protocols_are_read():
    assert read_protocols(["single"]) == (Protocol(),)
    assert read_protocols(["single,ten-crop", "dense", "single"], scales="256, 384") == (
        Protocol(),
        Protocol(kind="ten-crop", scales_px=(256, 384)),
        Protocol(kind="dense", scales_px=(256, 384)),
    )
    assert read_protocols(["ten-crop", "flip"], canvas_px=40) == (
        Protocol(kind="ten-crop", canvas_px=40),
        Protocol(kind="flip"),
    )


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["tencrop"], {}, "expected a protocol out of single, flip, ten-crop"),
        (["dense,"], {}, "expected a protocol out of"),
        (["dense"], {"scales": "256;384"}, "such as 256,384,512"),
        (["dense"], {"scales": "0"}, "such as 256,384,512"),
        (["dense"], {"scales": "256,256"}, "each scale once"),
        (["flip"], {"scales": "256"}, "expected `scales_px` with ten-crop"),
        (["dense"], {"canvas_px": 256}, "expected `canvas_px` with ten-crop"),
        (["144-crop"], {"pad_px": 4}, "expected `pad_px` with ten-crop or dense"),
        (["ten-crop"], {"pad_px": 4, "scales": "40"}, "choose one"),
    ],
)
def test_wrong_protocols_are_refused(words, options, message):
    with pytest.raises(UsageError, match=message):
        read_protocols(words, **options)


def test_wrong_sizes_are_refused(source, net):
    with pytest.raises(UsageError, match="at least 11 px, the network's input, got 10"):
        evaluate_protocol(net, source, indices(source), PRE, Protocol(kind="dense", scales_px=(14, 10)))
    with pytest.raises(DataError, match="at least one image"):
        evaluate_protocol(net, source, indices(source)[:0], PRE, Protocol())
    with pytest.raises(UsageError, match="scores of shape N x K"):
        evaluate_protocol(nn.Flatten(0), source, indices(source), PRE, Protocol())
