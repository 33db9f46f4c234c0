"""Occlusion against sums by hand, a loop over single images, linear networks, and Captum."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.core.errors import InputSizeError, UsageError
from striate.data.preprocess import Preprocessing
from striate.look.occlusion import fill_of, occlude, places
from striate.look.top import TopLayer, top_layer
from striate.nets import build


class Linear(nn.Module):
    """Scores that are sums of weighted pixels."""

    def __init__(self, classes: int = 3, shape: tuple[int, int, int] = (2, 9, 11)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, *shape))
        self.bias = nn.Parameter(torch.randn(classes))

    def forward(self, images):
        return torch.einsum("nchw,kchw->nk", images, self.weight) + self.bias


class Own(nn.Module):
    """A user's network: functional and in-place ReLUs, a module used twice, ``view``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.again = nn.Conv2d(6, 6, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(6 * 8 * 8, 4)

    def forward(self, images):
        maps = functional.relu(self.first(images), inplace=True)
        maps = torch.relu_(self.again(self.again(maps)))
        maps = functional.max_pool2d(maps, 2)
        return self.out(self.drop(maps.view(len(maps), -1)))


def small() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(4 * 6 * 6, 7),
    )


def by_hand(net, images, tops, lefts, size, fill, layer):
    """One image, one place at a time: sum of every map, and all probabilities."""
    sums, probabilities = [], []
    kept = []
    handle = net.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    for image in images:
        for top in tops:
            for left in lefts:
                covered = image.clone()
                for channel in range(image.shape[0]):
                    for row in range(top, top + size[0]):
                        for column in range(left, left + size[1]):
                            covered[channel, row, column] = fill[channel, row, column]
                kept.clear()
                with torch.no_grad():
                    probabilities.append(net(covered[None]).softmax(1)[0])
                sums.append(kept[-1][0].sum(dim=(1, 2)))
    handle.remove()
    grid = (len(images), len(tops), len(lefts), -1)
    return torch.stack(sums).reshape(grid), torch.stack(probabilities).reshape(grid)


def test_the_paper_s_three_maps_equal_a_loop_over_single_images():
    net = small().eval()
    images = torch.randn(2, 3, 16, 16)
    fill = torch.randn(3, 16, 16)
    maps = occlude(net, images, [5, 0], size_px=(5, 7), stride_px=(4, 6), fill=fill, layer="4")
    assert maps.grid.tops == (0, 4, 8, 11)
    assert maps.grid.lefts == (0, 6, 9)
    assert maps.grid.rows == (2, 6, 10, 13)
    assert maps.grid.columns == (3, 9, 12)
    sums, probabilities = by_hand(net, images, maps.grid.tops, maps.grid.lefts, (5, 7), fill, "4")
    whole = torch.stack([net[:5](image[None])[0].sum(dim=(1, 2)) for image in images])
    units = whole.argmax(dim=1)
    assert maps.activation.unit.tolist() == units.tolist()
    for number, (unit, target) in enumerate(zip(units, [5, 0], strict=True)):
        torch.testing.assert_close(maps.activation.map[number], sums[number, :, :, unit])
        torch.testing.assert_close(maps.activation.whole[number], whole[number, unit])
        torch.testing.assert_close(maps.probability.map[number], probabilities[number, :, :, target])
        assert torch.equal(maps.label.map[number], probabilities[number].argmax(dim=-1))


def test_on_a_linear_network_the_score_falls_by_the_weights_times_what_was_covered():
    net = Linear().double()
    images = torch.randn(3, 2, 9, 11, dtype=torch.float64)
    fill = torch.tensor([0.3, -1.2], dtype=torch.float64)
    maps = occlude(net, images, 1, size_px=4, stride_px=3, fill=fill)
    assert maps.activation is None
    for number, image in enumerate(images):
        change = (net.weight[1] * (image - fill[:, None, None])).sum(dim=0).detach()
        for i, top in enumerate(maps.grid.tops):
            for j, left in enumerate(maps.grid.lefts):
                fall = maps.score.whole[number] - maps.score.map[number, i, j]
                expected = change[top : top + 4, left : left + 4].sum()
                torch.testing.assert_close(fall, expected, rtol=0, atol=1e-12)


def test_the_strongest_map_is_that_of_the_whole_image():
    # Map 0 answers to red, map 1 to blue; the red square is stronger, and the occluder can hide all of it.
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 36, 2))
    net[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[:, :, None, None]
    images = torch.zeros(1, 3, 6, 6)
    images[0, 0, :2, :2] = 5
    images[0, 2, 4:, 4:] = 4
    maps = occlude(net, images, size_px=2, stride_px=2)
    assert maps.activation.unit.tolist() == [0]
    assert maps.activation.whole.tolist() == [20]
    assert maps.activation.map.tolist() == [[[0, 20, 20], [20, 20, 20], [20, 20, 20]]]


def test_places_begin_at_the_corner_and_end_at_the_border():
    assert places(224, 50, 10) == (*range(0, 171, 10), 174)
    assert places(10, 4, 3) == (0, 3, 6)
    assert places(10, 4, 4) == (0, 4, 6)
    assert places(10, 10, 4) == (0,)
    assert places(10, 4, 100) == (0, 6)
    assert places(3, 1, 1) == (0, 1, 2)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"size_px": 17}, "occluder of 1 to 16 px"),
        ({"size_px": 0}, "occluder of 1 to 16 px"),
        ({"size_px": (4, 4, 4)}, "height and width"),
        ({"size_px": 4.0}, "whole pixels"),
        ({"stride_px": 0}, "at least 1 px"),
        ({"fill": torch.zeros(4)}, "3 numbers"),
        ({"fill": torch.zeros(3, 8, 8)}, "3 numbers"),
        ({"target": 7}, "classes 0 to 6"),
        ({"target": -1}, "classes 0 to 6"),
        ({"target": [1, 2, 3]}, "one for each of 2 images"),
        ({"layer": "conv9"}, "name of a layer"),
        ({"batch_images": 0}, "at least 1 image"),
    ],
)
def test_what_does_not_go_together_is_refused_and_leaves_no_trace(words, error):
    net = small().train()
    keywords = {"size_px": 4, "stride_px": 4, **words}
    with pytest.raises(UsageError, match=error):
        occlude(net, torch.randn(2, 3, 16, 16), **keywords)
    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_images_and_networks_of_another_kind_are_refused():
    with pytest.raises(UsageError, match="N x C x H x W"):
        occlude(small(), torch.randn(3, 16, 16))
    with pytest.raises(UsageError, match="N x C x H x W"):
        occlude(small(), torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(UsageError, match="N x classes scores"):
        occlude(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 16, 16), size_px=4, stride_px=8)
    with pytest.raises(InputSizeError):
        occlude(build("lenet5_modern"), torch.randn(1, 1, 28, 28), size_px=4, stride_px=8)


def test_an_exception_in_the_middle_leaves_the_network_as_it_was():
    net = small().train()
    net[3].eval()
    for parameter in net[0].parameters():
        parameter.requires_grad_(False)

    def stop(stage, done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        occlude(net, torch.randn(1, 3, 16, 16), size_px=4, stride_px=4, progress=stop)
    assert [module.training for module in net] == [True, True, True, False, True, True, True]
    assert [parameter.requires_grad for parameter in net.parameters()] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    assert not any(module._forward_hooks for module in net.modules())


def test_the_batch_size_and_the_company_of_other_images_do_not_matter():
    net = small()
    images = torch.randn(3, 3, 16, 16)
    together = occlude(net, images, size_px=5, stride_px=3)
    for batch in (1, 7, 1000):
        again = occlude(net, images, size_px=5, stride_px=3, batch_images=batch)
        torch.testing.assert_close(again.probability.map, together.probability.map)
        torch.testing.assert_close(again.activation.map, together.activation.map)
    alone = occlude(net, images[1:2], size_px=5, stride_px=3)
    torch.testing.assert_close(alone.probability.map[0], together.probability.map[1])
    torch.testing.assert_close(alone.activation.map[0], together.activation.map[1])


def test_without_a_target_the_predicted_class_of_each_image_is_followed():
    net = small().eval()
    images = torch.randn(5, 3, 16, 16)
    maps = occlude(net, images, size_px=4, stride_px=12)
    assert maps.target.tolist() == maps.label.whole.tolist() == net(images).argmax(1).tolist()
    torch.testing.assert_close(maps.probability.whole, net(images).softmax(1).amax(1).detach())


def test_scores_that_are_independent_are_read_so():
    net = small().eval()
    images = torch.randn(1, 3, 16, 16)
    maps = occlude(net, images, 3, size_px=4, stride_px=12, multi_label=True)
    torch.testing.assert_close(maps.probability.whole, net(images).sigmoid()[:, 3].detach())
    torch.testing.assert_close(maps.probability.map, maps.score.map.sigmoid())


@pytest.mark.parametrize("multi_label", [False, True])
def test_probabilities_are_at_the_temperature(multi_label):
    net = small().eval()
    images = torch.randn(2, 3, 16, 16)
    maps = occlude(net, images, 3, size_px=4, stride_px=12, multi_label=multi_label, temperature=4.0)
    scores = net(images).detach()
    by_hand = (
        1 / (1 + (-scores[:, 3] / 4).exp())
        if multi_label
        else ((scores[:, 3] / 4).exp() / (scores / 4).exp().sum(1))
    )
    torch.testing.assert_close(maps.probability.whole, by_hand)
    torch.testing.assert_close(maps.score.whole, scores[:, 3])
    assert maps.label.whole.tolist() == scores.argmax(1).tolist()


def test_a_network_of_the_user_s_own():
    net = Own().train()
    images = torch.randn(2, 3, 16, 16)
    maps = occlude(net, images, 2, size_px=6, stride_px=5, fill=0.5)
    assert all(module.training for module in net.modules())
    # ``again`` is used twice: its last use counts, after the ReLU that its code applies.
    assert (maps.activation.layer, maps.activation.rectified) == ("again", True)
    net.eval()
    fill = torch.full((3, 16, 16), 0.5)
    _, probabilities = by_hand(net, images, maps.grid.tops, maps.grid.lefts, (6, 6), fill, "again")
    torch.testing.assert_close(maps.probability.map, probabilities[..., 2])
    with torch.no_grad():
        covered = images[1].clone()
        covered[:, 5:11, 10:16] = 0.5
        twice = net.again(net.again(net.first(covered[None]).relu())).relu()
    torch.testing.assert_close(maps.activation.map[1, 1, 2], twice[0, maps.activation.unit[1]].sum())


def test_a_layer_is_summed_before_an_in_place_relu_changes_it():
    net = small()
    images = torch.randn(1, 3, 16, 16)
    maps = occlude(net, images, layer="3", size_px=4, stride_px=12)
    whole = net[:4](images)[0].sum(dim=(1, 2))
    torch.testing.assert_close(maps.activation.whole[0], whole.max().detach())


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 2, 3), nn.ReLU()
        self.hidden, self.out = nn.Linear(2 * 36, 5), nn.Linear(5, 2)

    def forward(self, images):
        return self.out(self.relu(self.hidden(self.relu(self.conv(images)).flatten(1))))


def test_a_relu_that_is_used_again_later_is_not_taken_for_the_top_layer():
    # The last use of ``relu`` gives five hidden units; the convolution is rectified instead.
    net = Reused()
    assert top_layer(net, (1, 8, 8)).name == "conv"
    images = torch.randn(1, 1, 8, 8)
    maps = occlude(net, images, size_px=2, stride_px=6)
    expected = net.conv(images).relu()[0].sum(dim=(1, 2)).max()
    torch.testing.assert_close(maps.activation.whole[0], expected.detach())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("lenet5", "C3_squash"),
        ("alexnet", "relu5"),
        ("vgg16", "relu5_3"),
        ("googlenet", "inception_5b"),
        ("resnet50", "conv5_3.relu3"),
    ],
)
def test_the_top_convolution_layer_of_the_papers_networks(name, layer):
    with torch.device("meta"):
        net = build(name)
    assert top_layer(net, net.input_shape) == TopLayer(layer, False)


def test_fills():
    preprocessing = Preprocessing(
        channels=3,
        height_px=8,
        width_px=8,
        resize_px=8,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.5),
        colour_order="BGR",
    )
    images = torch.randn(2, 3, 8, 8)
    # (0.5 - mean) / std, blue first.
    torch.testing.assert_close(fill_of("grey", images, preprocessing), torch.tensor([-0.2, 0.0, 0.5]))
    assert fill_of("mean", images, preprocessing).abs().max() < 1e-6
    with pytest.raises(UsageError, match="grey, mean, blur"):
        fill_of("white", images, preprocessing)
    with pytest.raises(UsageError, match="more than 0 px"):
        fill_of("blur", images, preprocessing, blur_px=0)


def test_the_blurred_image_keeps_its_level_and_slopes_and_loses_its_details():
    preprocessing = Preprocessing(
        channels=1, height_px=60, width_px=60, resize_px=60, mean=(0.0,), std=(1.0,)
    )
    slope = torch.arange(60.0).expand(1, 1, 60, 60)
    blurred = fill_of("blur", slope, preprocessing, blur_px=3)
    torch.testing.assert_close(blurred[..., 12:-12], slope[..., 12:-12])
    stripes = (torch.arange(60) % 2).float().expand(1, 1, 60, 60)
    assert (fill_of("blur", stripes, preprocessing, blur_px=3) - 0.5)[..., 12:-12].abs().max() < 0.01
    dot = torch.zeros(1, 1, 60, 60)
    dot[0, 0, 30, 30] = 1
    spread = fill_of("blur", dot, preprocessing, blur_px=4)[0, 0]
    distance = (torch.arange(60.0) - 30) ** 2
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0))
    assert float((spread.sum(0) * distance).sum()) == pytest.approx(16, rel=0.03)


def test_progress_counts_every_occluded_image():
    seen = []
    occlude(
        small(),
        torch.randn(2, 3, 16, 16),
        size_px=4,
        stride_px=6,
        batch_images=4,
        progress=lambda stage, done, total, note="": seen.append((stage, done, total)),
    )
    assert seen == [("occluding", done, 18) for done in (4, 8, 12, 16, 18)]


@pytest.mark.peer
def test_captum_finds_the_same_falls_where_both_cover_the_same():
    attr = pytest.importorskip("captum.attr")
    net = small().eval()
    images = torch.randn(1, 3, 16, 16)
    # Windows side by side, so that Captum's average over overlapping ones is the fall itself.
    maps = occlude(net, images, 2, size_px=4, stride_px=4, fill=0.25)
    found = attr.Occlusion(net).attribute(
        images, sliding_window_shapes=(3, 4, 4), strides=(3, 4, 4), baselines=0.25, target=2
    )
    falls = (maps.score.whole[:, None, None] - maps.score.map)[0]
    torch.testing.assert_close(found[0, 0, ::4, ::4].float(), falls)
