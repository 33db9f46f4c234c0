from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from striate.core.errors import DataError
from striate.data.augment import Augmentation
from striate.data.batches import Loader, in_order, num_training_batches, ordered_map, shuffled
from striate.data.dataset import colour_statistics, fit_preprocessing, for_network, open_dataset
from striate.data.preprocess import Preprocessing

CANVAS = Preprocessing(channels=3, height_px=20, width_px=20, resize_px=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for name, count in (("cat", 21), ("dog", 12)):
        (root / name).mkdir()
        for k in range(count):
            size = (int(rng.integers(24, 60)), int(rng.integers(24, 60)), 3)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(root / name / f"{k}.png")
    (root / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    return root


def opened(folder, **options):
    return open_dataset(folder, CANVAS, **{"val_fraction": 0.1, "test_fraction": 0.2, **options})


def pictures(dataset, threads=0, **changes):
    base = Loader(
        dataset=dataset,
        indices=dataset.splits.train,
        preprocessing=for_network(CANVAS, (3, 16, 16)),
        batch_images=5,
        threads=threads,
    )
    return replace(base, **changes)


AUGMENTATIONS = [
    Augmentation(),
    Augmentation(crop_pad_px=2, flip=True),
    Augmentation(
        resized_crop_area=(0.3, 1.0),
        flip=True,
        colour_pca_std=0.1,
        brightness=0.2,
        contrast=0.3,
        saturation=0.4,
    ),
]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_are_the_same_from_store_or_files_and_with_any_number_of_threads(folder, augmentation):
    stored, loose = opened(folder), opened(folder, keep=False)
    assert stored.store is not None
    assert loose.store is None
    colours = colour_statistics(stored, stored.splits.train)
    assert colours == replace(colour_statistics(loose, loose.splits.train), principal=colours.principal)
    runs = [
        list(shuffled(pictures(dataset, threads), augmentation, colours, seed=1, epoch=4))
        for dataset in (stored, loose)
        for threads in (0, 1, 3)
    ]
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.labels, other.labels)
            assert np.array_equal(one.indices, other.indices)


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(folder):
    dataset = opened(folder)
    colours = colour_statistics(dataset, dataset.splits.train)
    orders = []
    for epoch in range(3):
        batches = list(shuffled(pictures(dataset), Augmentation(), colours, seed=0, epoch=epoch))
        assert [len(b.indices) for b in batches] == [5] * 4 + [len(dataset.splits.train) - 20]
        orders.append(np.concatenate([b.indices for b in batches]))
        assert sorted(orders[-1]) == sorted(dataset.splits.train)
        for batch in batches:
            assert np.array_equal(batch.labels.numpy(), dataset.source.labels[batch.indices])
    assert not np.array_equal(orders[0], orders[1])
    later = list(shuffled(pictures(dataset), Augmentation(), colours, seed=0, epoch=1, first=2))
    assert np.array_equal(np.concatenate([b.indices for b in later]), orders[1][10:])


def test_a_lone_last_image_is_left_out_of_training_only(folder):
    dataset = opened(folder)
    colours = colour_statistics(dataset, dataset.splits.train)
    few = pictures(dataset, indices=dataset.splits.train[:11])
    assert sum(len(b.indices) for b in shuffled(few, Augmentation(), colours, seed=0, epoch=0)) == 10
    assert num_training_batches(few) == 2
    assert sum(len(b.indices) for b in in_order(few)) == 11
    assert num_training_batches(pictures(dataset, indices=dataset.splits.train[:1])) == 1


def test_in_order_against_plain_pillow(folder):
    dataset = opened(folder)
    batch = next(in_order(pictures(dataset)))
    for image, index in zip(batch.images, batch.indices, strict=True):
        picture = Image.open(folder / dataset.source.files[index])
        scale = 20 / min(picture.size)
        picture = picture.resize(
            tuple(max(20, round(side * scale)) for side in picture.size), Image.Resampling.BILINEAR
        )
        left, top = (picture.width - 20) // 2 + 2, (picture.height - 20) // 2 + 2
        expected = np.asarray(picture)[top : top + 16, left : left + 16] / 255
        off = np.abs(image.permute(1, 2, 0).numpy() - expected)
        assert off.max() < 2.01 / 255  # see test_resizing_is_pillows_but_for_rounding
        assert off.mean() < 0.1 / 255


def test_statistics_against_numpy(folder):
    dataset = opened(folder)
    found = colour_statistics(dataset, dataset.splits.train)
    pixels = dataset.store.read(dataset.splits.train).reshape(-1, 3) / 255
    np.testing.assert_allclose(found.mean, pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.std, pixels.std(0), atol=1e-6)
    np.testing.assert_allclose(found.principal @ found.principal.T, np.cov(pixels.T, bias=True), atol=1e-9)
    with pytest.raises(DataError, match="expected training images"):
        colour_statistics(dataset, np.array([], np.int64))


def test_broken_images_are_in_no_split_and_strict_refuses_them(folder):
    dataset = opened(folder)
    assert [b.file for b in dataset.scan.broken] == ["cat/broken.png"]
    everywhere = np.concatenate([dataset.splits.train, dataset.splits.val, dataset.splits.test])
    assert len(everywhere) == 33
    assert "cat/broken.png" not in {dataset.source.files[i] for i in everywhere}
    with pytest.raises(DataError, match=r"1 of 34 images.*cat/broken\.png.*`strict`"):
        opened(folder, strict=True)


def test_fingerprint_follows_content_and_labels_not_names(folder, tmp_path):
    import shutil

    first = opened(folder).fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "cat" / "0.png").rename(copy / "cat" / "zzz.png")
    assert opened(copy).fingerprint == first
    (copy / "cat" / "zzz.png").rename(copy / "dog" / "zzz.png")
    assert opened(copy).fingerprint != first


@pytest.mark.parametrize(
    ("size", "resize", "fill"),
    [((28, 28), None, 0), ((32, 32), None, 0), ((16, 16), 32, 0), ((40, 40), 32, 0), ((24, 32), None, 200)],
)
def test_preprocessing_keeps_pixels_where_a_border_does(tmp_path, size, resize, fill):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("L", size, fill).save(tmp_path / name / "x.png")
    from striate.data.sources import open_source

    found = fit_preprocessing(open_source(tmp_path), (1, 32, 32), canvas_px=None)
    assert (found.resize_px, found.fill) == (resize, fill)


def test_ordered_map_keeps_order_bounds_work_and_raises_in_place():
    started = []

    def double(x):
        started.append(x)
        if x == 7:
            raise ValueError("seven")
        return 2 * x

    results = ordered_map(double, range(100), threads=3)
    assert [next(results) for _ in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    assert max(started) <= 11
    with pytest.raises(ValueError, match="seven"):
        next(results)
