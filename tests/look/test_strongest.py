import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from striate.core.errors import BrokenImageError, CheckpointError, DataError, UsageError
from striate.data.preprocess import Preprocessing
from striate.look.patches import cut, patch_box, patch_sheets, strongest_patches
from striate.look.running import reading
from striate.look.stream import Listed, ListedImages, TensorImages, black_and_white, fetch
from striate.look.strongest import find_strongest


class Small(nn.Module):
    """Convolutions with padding, a functional ReLU in place, and a layer that is used twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3, padding=1)
        self.twice = nn.Conv2d(5, 5, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.last = nn.Linear(5 * 6 * 6, 4)

    def forward(self, images):
        maps = functional.relu(self.first(images), inplace=True)
        maps = self.twice(self.twice(maps)).relu_()
        return self.last(self.pool(maps).flatten(1))


@pytest.fixture
def net():
    return Small()


@pytest.fixture
def images():
    return torch.randn(23, 3, 12, 12)


def by_hand(maps, k):
    """The k strongest images of each unit by sorting everything: value, then image, then place."""
    found = []
    for unit in range(maps.shape[1]):
        entries = []
        for image, one in enumerate(maps[:, unit]):
            places = [
                (-float(one[row, column]), row, column)
                for row in range(one.shape[0])
                for column in range(one.shape[1])
            ]
            value, row, column = min(places)
            entries.append((value, image, row, column))
        found.append([(-value, image, row, column) for value, image, row, column in sorted(entries)[:k]])
    return found


def entries(found):
    return [
        list(
            zip(
                *(getattr(found, name)[unit].tolist() for name in ("values", "numbers", "rows", "columns")),
                strict=True,
            )
        )
        for unit in range(len(found.values))
    ]


def without_values(rows):
    return [[entry[1:] for entry in row] for row in rows]


def test_equals_brute_force_before_the_relu_that_works_in_place(net, images):
    found = find_strongest(net, TensorImages(images=images, batch_images=7), ["first"], k=4)["first"]
    wanted = by_hand(functional.conv2d(images, net.first.weight, net.first.bias, padding=1).detach(), 4)
    assert without_values(entries(found)) == without_values(wanted)
    torch.testing.assert_close(found.values, torch.tensor([[entry[0] for entry in row] for row in wanted]))
    assert found.map_size == (12, 12)
    assert found.num_images == 23
    assert found.names == {number: str(number) for number in found.numbers.unique().tolist()}
    at_border = (found.rows == 0) | (found.rows == 11) | (found.columns == 0) | (found.columns == 11)
    assert at_border.any()


def test_a_module_used_twice_counts_at_its_last_use(net, images):
    found = find_strongest(net, TensorImages(images=images), ["twice"], k=3)["twice"]
    with torch.no_grad():
        maps = net.twice(net.twice(net.first(images).relu()))
    assert without_values(entries(found)) == without_values(by_hand(maps, 3))


def test_several_layers_in_one_pass_and_features(net, images):
    found = find_strongest(net, TensorImages(images=images), ["last", "first", "pool"], k=2)
    alone = find_strongest(net, TensorImages(images=images), ["pool"], k=2)["pool"]
    assert entries(found["pool"]) == entries(alone)
    assert list(found) == ["last", "first", "pool"]
    with torch.no_grad():
        scores = net(images)
    assert found["last"].numbers.tolist() == scores.topk(2, dim=0).indices.t().tolist()
    assert found["last"].map_size == (1, 1)
    assert not found["last"].rows.any()


@pytest.mark.parametrize("batch_images", [1, 5, 23])
def test_batch_size_changes_nothing(net, images, batch_images):
    one = find_strongest(net, TensorImages(images=images, batch_images=batch_images), ["pool"], k=5)["pool"]
    other = find_strongest(net, TensorImages(images=images, batch_images=8), ["pool"], k=5)["pool"]
    assert torch.equal(one.numbers, other.numbers)
    assert torch.equal(one.rows, other.rows)
    assert torch.equal(one.columns, other.columns)
    torch.testing.assert_close(one.values, other.values)


@pytest.mark.parametrize("batch_images", [1, 2, 6])
def test_ties_go_to_the_first_image_and_the_first_place(batch_images):
    images = torch.zeros(6, 1, 4, 4)
    for number in (1, 2, 4, 5):
        images[number, 0, 2, 1] = images[number, 0, 1, 3] = images[number, 0, 3, 0] = 1
    net = nn.Sequential(nn.Identity())
    found = find_strongest(net, TensorImages(images=images, batch_images=batch_images), ["0"], k=5)["0"]
    assert found.numbers.tolist() == [[1, 2, 4, 5, 0]]
    assert found.rows.tolist() == [[1, 1, 1, 1, 0]]
    assert found.columns.tolist() == [[3, 3, 3, 3, 0]]


def test_fewer_images_than_k(net, images):
    found = find_strongest(net, TensorImages(images=images[:3]), ["first"], k=9)["first"]
    assert found.values.shape == (5, 3)
    assert sorted(found.numbers[0].tolist()) == [0, 1, 2]


class Interrupted(Exception):
    pass


class Stops:
    """A stream that fails before some image, as a person who presses Ctrl-C."""

    def __init__(self, inner, before):
        self.inner, self.before = inner, before

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def batches(self, first=0, only=None):
        for batch in self.inner.batches(first, only):
            if batch.end > self.before:
                raise Interrupted
            yield batch


@pytest.mark.parametrize("stops", [(1,), (8, 9, 15), (20, 22)])
def test_a_pass_that_was_interrupted_goes_on(net, images, tmp_path, stops):
    whole = TensorImages(images=images, batch_images=3)
    wanted = find_strongest(net, whole, ["first", "pool"], k=4)
    state = tmp_path / "pass.state"
    for before in stops:
        with pytest.raises(Interrupted):
            find_strongest(net, Stops(whole, before), ["first", "pool"], k=4, state=state)
        assert state.exists() == (before >= 3)
    seen = []
    found = find_strongest(
        net,
        whole,
        ["first", "pool"],
        k=4,
        state=state,
        progress=lambda stage, done, total, note="": seen.append(done),
    )
    for layer, one in found.items():
        assert entries(one) == entries(wanted[layer])
        assert one.names == wanted[layer].names
        assert one.num_images == 23
    assert not state.exists()
    assert len(seen) == 8 - max(stops) // 3  # only the batches that were left were run


def test_state_is_written_while_the_pass_runs(net, images, tmp_path):
    state = tmp_path / "pass.state"
    seen = []

    def watch(stage, done, total, note=""):
        seen.append(state.exists())

    find_strongest(
        net,
        TensorImages(images=images, batch_images=4),
        ["first"],
        state=state,
        save_every_s=0,
        progress=watch,
    )
    assert seen[0] is False
    assert all(seen[1:])


def test_state_of_another_network_layer_or_data_is_refused(net, images, tmp_path):
    whole = TensorImages(images=images, batch_images=3)
    state = tmp_path / "pass.state"
    with pytest.raises(Interrupted):
        find_strongest(net, Stops(whole, 9), ["first"], k=4, state=state)
    with pytest.raises(CheckpointError, match="another: delete it"):
        find_strongest(net, whole, ["pool"], k=4, state=state)
    with pytest.raises(CheckpointError, match="another: delete it"):
        find_strongest(Small(), whole, ["first"], k=4, state=state)
    with pytest.raises(CheckpointError, match="at least 9 images, got 5"):
        find_strongest(net, TensorImages(images=images[:5]), ["first"], k=4, state=state)
    state.write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="delete it"):
        find_strongest(net, whole, ["first"], k=4, state=state)


def listed(count, *, broken=(), name="image {}"):
    def opener(number):
        def open_image(side):
            if number in broken:
                raise BrokenImageError(f"image {number}", "cut off")
            generator = np.random.default_rng(number)
            return Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))

        return open_image

    def listing():
        return (Listed(name.format(number), opener(number)) for number in range(count))

    prepared = Preprocessing(
        channels=3, height_px=12, width_px=12, resize_px=12, mean=(0.5, 0.4, 0.3), std=(0.2,) * 3
    )
    return ListedImages(listing=listing, preprocessing=prepared, total=count, batch_images=4, threads=2)


def test_broken_images_are_left_out_and_keep_their_number(net, tmp_path):
    found = find_strongest(net, listed(11, broken=(0, 5)), ["first"], k=20)["first"]
    assert found.num_images == 9
    assert sorted(found.numbers[0].tolist()) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert found.num_broken == 2
    assert found.broken == (("image 0", "cut off"), ("image 5", "cut off"))
    with pytest.raises(DataError, match=r"none that can be read \(image 0: cut off\)"):
        find_strongest(net, listed(2, broken=(0, 1)), ["first"])
    state = tmp_path / "pass.state"
    with pytest.raises(Interrupted):
        find_strongest(net, Stops(listed(11, broken=(0, 5)), 7), ["first"], k=20, state=state)
    again = find_strongest(net, listed(11, broken=(0, 5)), ["first"], k=20, state=state)["first"]
    assert entries(again) == entries(found)
    assert again.broken == found.broken


def test_data_that_changed_is_noticed(net, tmp_path):
    state = tmp_path / "pass.state"
    with pytest.raises(Interrupted):
        find_strongest(net, Stops(listed(11), 5), ["first"], k=20, state=state)
    with pytest.raises(CheckpointError, match="image number 0, got photo 0: the data set changed"):
        find_strongest(net, listed(11, name="photo {}"), ["first"], k=20, state=state)


def test_streams_read_from_any_place_and_show_what_they_read():
    stream = listed(11, broken=(5,))
    batches = list(stream.batches(3, {3, 5, 9}))
    assert [number for batch in batches for number in batch.numbers] == [3, 9]
    assert batches[-1].end == 10
    found = fetch(stream, [9, 2])
    pixels = np.random.default_rng(9).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    np.testing.assert_allclose(stream.shown(found[9][None])[0], pixels / 255, atol=1e-6)
    with pytest.raises(DataError, match="image number 5"):
        fetch(stream, [5])
    black, white = black_and_white(stream.preprocessing)
    torch.testing.assert_close(black, torch.tensor([-2.5, -2.0, -1.5]))
    torch.testing.assert_close(white, torch.tensor([2.5, 3.0, 3.5]))


def test_nothing_is_left_behind_after_an_error(net, images):
    net.train()
    bad = images.clone()
    bad[9] = torch.nan
    with pytest.raises(DataError, match="NaN for 9"):
        find_strongest(net, TensorImages(images=bad, batch_images=4), ["first"])
    with pytest.raises(UsageError, match="did you mean"):
        find_strongest(net, TensorImages(images=images), ["frist"])
    with pytest.raises(UsageError, match="at least 1"):
        find_strongest(net, TensorImages(images=images), ["first"], k=0)
    assert net.training
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_layers_above_are_not_computed(net, images):
    calls = []
    handle = net.last.register_forward_hook(lambda *_: calls.append(1))
    with reading(net, ["first"], images[:1]) as run:
        run(images, lambda name, maps: None)
    handle.remove()
    assert len(calls) == 1  # the probe


def test_patches_are_cut_at_borders_and_filled_with_grey():
    image = np.arange(12, dtype=np.float32).reshape(3, 4, 1)
    patch = cut(image, (-1, 2, 1, 4), 0.5)
    np.testing.assert_array_equal(patch[..., 0], [[0.5, 0.5, 0.5], [2, 3, 0.5], [6, 7, 0.5]])
    outside = cut(image, (-5, -5, -3, -4), 0.5)
    assert outside.shape == (3, 2, 1)
    assert (outside == 0.5).all()


def test_patches_and_projections_of_the_strongest(images):
    """On a linear network the projection of a unit is its value times its filter, at its place."""
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1, bias=False))
    source = TensorImages(images=images, batch_images=6)
    found = find_strongest(net, source, ["0"], k=4)["0"]
    (one,) = strongest_patches(net, source, found, units=[2])
    assert one.unit == 2
    assert one.patches.shape == (4, 3, 3, 3)
    shown = source.shown(images)
    for place in range(4):
        number, (row, column) = one.numbers[place], one.places[place]
        assert one.boxes[place] == (row - 1, column - 1, row + 1, column + 1)
        padded = np.pad(shown[number], ((1, 1), (1, 1), (0, 0)), constant_values=0.5)
        np.testing.assert_allclose(one.patches[place], padded[row : row + 3, column : column + 3])
        wanted = one.values[place] * net[0].weight[2].detach().numpy()
        inside = np.zeros((12, 12), bool)
        inside[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
        mask = np.pad(inside, 1)[row : row + 3, column : column + 3]
        np.testing.assert_allclose(one.projections[place], wanted * mask, atol=1e-6)


def test_a_field_larger_than_the_image_shows_the_image(net, images):
    found = find_strongest(net, TensorImages(images=images), ["last"], k=4)["last"]
    patches = list(strongest_patches(net, TensorImages(images=images), found))
    assert [one.unit for one in patches] == [0, 1, 2, 3]
    assert patches[0].patches.shape == (4, 12, 12, 3)
    assert patches[0].boxes[0] == (0, 0, 11, 11)
    assert patch_box(None, 3, 4, (3, 12, 10)) == (0, 0, 11, 9)
    signals, pixels = patch_sheets(patches[0], tile_px=30)
    assert signals.shape == pixels.shape == (49, 49, 3)  # 2 x 2 tiles of 24 px and a gap of 1
    with pytest.raises(UsageError, match="units 0 to 3"):
        list(strongest_patches(net, TensorImages(images=images), found, units=[4]))
