"""Saliency against linear networks, sums of scores, and Captum."""

import pytest
import torch
from torch import nn

from striate.core.errors import UsageError
from striate.look.gradcam import grad_cam
from striate.look.saliency import (
    completeness,
    gradient,
    guided,
    integrated_gradients,
    magnitude,
    smooth,
    targets,
)
from striate.nets import build


@pytest.fixture
def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 5, 6))


@pytest.fixture
def net():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * 3 * 3, 5)),
    )


def test_a_linear_network(linear):
    images = torch.randn(2, 3, 4, 5)
    weights = linear[1].weight[[2, 5]].reshape(2, 3, 4, 5).detach()
    base = torch.randn(3, 1, 1)
    for maps in (
        gradient(linear, images, [2, 5]),
        guided(linear, images, torch.tensor([2, 5])),
        smooth(gradient, samples=3)(linear, images, [2, 5]),
    ):
        torch.testing.assert_close(maps, weights)
    torch.testing.assert_close(
        integrated_gradients(linear, images, [2, 5], baseline=base, steps=1), weights * (images - base)
    )


def test_smooth_grad_is_the_mean_over_noisy_copies(net):
    image = torch.randn(1, 3, 12, 12)
    generator = torch.Generator().manual_seed(5)
    noise = torch.stack([torch.randn(3, 12, 12, generator=generator) for _ in range(7)])
    copies = (image + 0.2 * (image.max() - image.min()) * noise).requires_grad_(True)
    (slopes,) = torch.autograd.grad(net(copies)[:, 3].sum(), copies)
    found = smooth(gradient, samples=7, noise=0.2, seed=5)(net, image, 3, batch_images=3)
    torch.testing.assert_close(found[0], slopes.mean(0))
    torch.testing.assert_close(smooth(gradient, samples=2, noise=0)(net, image, 3), gradient(net, image, 3))
    assert not torch.equal(found, smooth(gradient, samples=7, noise=0.2, seed=6)(net, image, 3))


def test_any_method_can_be_smoothed(net):
    image = torch.randn(1, 3, 12, 12)
    generator = torch.Generator().manual_seed(2)
    noise = torch.stack([torch.randn(3, 12, 12, generator=generator) for _ in range(4)])
    copies = image + 0.1 * (image.max() - image.min()) * noise
    found = smooth(grad_cam, samples=4, noise=0.1, seed=2)(net, image, 1)
    assert found.shape == (1, 1, 12, 12)
    by_hand = torch.stack([grad_cam(net, copy[None], 1)[0] for copy in copies]).mean(0)
    torch.testing.assert_close(found[0], by_hand)


def test_drawing_noise_leaves_the_global_numbers_alone(net):
    state = torch.get_rng_state()
    smooth(gradient, samples=2)(net, torch.randn(1, 3, 12, 12, generator=torch.Generator()), 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_integrated_gradients_add_up(net):
    images = torch.randn(3, 3, 12, 12)
    for base in (None, torch.full((3, 1, 1), -2.0)):
        maps = integrated_gradients(net, images, [0, 1, 4], baseline=base, steps=300)
        begin = torch.zeros(3, 12, 12) if base is None else base.expand(3, 12, 12)
        with torch.no_grad():
            rise = net(images)[range(3), [0, 1, 4]] - net(begin[None])[0, [0, 1, 4]]
        torch.testing.assert_close(maps.sum((1, 2, 3)), rise, rtol=0.02, atol=2e-3)
        check = completeness(net, images, [0, 1, 4], maps, baseline=base)
        torch.testing.assert_close(check.difference, rise)
        torch.testing.assert_close(check.total, maps.sum((1, 2, 3)))
        assert check.gap.max() < 0.05


def test_more_steps_add_up_better(net):
    image = torch.randn(1, 3, 12, 12)
    gaps = [
        float(completeness(net, image, 2, integrated_gradients(net, image, 2, steps=steps)).gap)
        for steps in (1, 512)
    ]
    assert gaps[1] < gaps[0]


METHODS = {
    "gradient": gradient,
    "guided": guided,
    "smooth": smooth(gradient, samples=5),
    "integrated": lambda *words, **named: integrated_gradients(*words, steps=5, **named),
}


@pytest.mark.parametrize("method", METHODS)
def test_results_do_not_depend_on_the_batch(net, method):
    images = torch.randn(4, 3, 12, 12)
    whole = METHODS[method](net, images, None)
    told = []
    parts = METHODS[method](net, images, None, batch_images=3, progress=lambda *words: told.append(words))
    alone = torch.cat([METHODS[method](net, image[None], None) for image in images])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-6)
    assert told[-1][1] == told[-1][2]


def test_the_best_class_is_chosen(net):
    images = torch.randn(4, 3, 12, 12)
    best = net(images).argmax(1)
    assert targets(net, images, None).tolist() == best.tolist()
    torch.testing.assert_close(gradient(net, images, None), gradient(net, images, best))


def test_the_largest_magnitude_over_colours():
    maps = torch.tensor([[[[1.0]], [[-3.0]], [[2.0]]]])
    assert magnitude(maps).tolist() == [[[3.0]]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, images: gradient(net, images, 5), "classes from 0 to 4"),
        (lambda net, images: gradient(net, images, [1, 2, 3]), "one for each of 2 images"),
        (lambda net, images: gradient(net, images, torch.tensor(0.5)), "class number"),
        (lambda net, images: gradient(net, images[0], 1), "N x C x H x W"),
        (lambda net, images: gradient(net[:4], images, 1), "N x classes"),
        (lambda net, images: smooth(gradient, samples=0), "at least 1 sample"),
        (lambda net, images: smooth(gradient, noise=-1), "noise"),
        (lambda net, images: integrated_gradients(net, images, 1, steps=0), "at least 1 step"),
        (lambda net, images: integrated_gradients(net, images, 1, baseline=torch.zeros(4, 1, 1)), "baseline"),
    ],
)
def test_wrong_wishes(net, call, message):
    with pytest.raises(UsageError, match=message):
        call(net, torch.randn(2, 3, 12, 12))


def test_nothing_is_left_behind():
    net = build("resnet20").train()
    net.conv1.weight.requires_grad_(False)
    for method in METHODS.values():
        method(net, torch.randn(1, 3, 32, 32), 1)
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net.conv1.weight.requires_grad
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.peer
def test_captum_agrees(net):
    attr = pytest.importorskip("captum.attr")
    images = torch.randn(3, 3, 12, 12)
    pixels = images.clone().requires_grad_(True)
    best = net(images).argmax(1)
    expected = attr.Saliency(net).attribute(pixels, target=best, abs=False)
    torch.testing.assert_close(gradient(net, images, None), expected)
    expected = attr.IntegratedGradients(net).attribute(
        pixels, target=best, n_steps=40, method="riemann_middle", baselines=torch.full_like(images, -1.0)
    )
    found = integrated_gradients(net, images, None, steps=40, baseline=torch.full((3, 1, 1), -1.0))
    torch.testing.assert_close(found, expected.to(found), rtol=1e-4, atol=1e-6)
