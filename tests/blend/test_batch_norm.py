"""Batch norm's statistics, against direct computation over all images."""

import numpy as np
import pytest
import torch
from torch import nn

from striate.blend.batch_norm import has_batch_norm, recompute_batch_norm
from striate.core.errors import DataError
from striate.data.batch import Batch


def batches(images, size):
    labels = torch.zeros(len(images), dtype=torch.int64)
    for start in range(0, len(images), size):
        part = slice(start, start + size)
        yield Batch(images[part], labels[part], np.arange(len(images))[part])


def deep():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(5, 4, 3),
        nn.BatchNorm2d(4, momentum=None),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 6),
        nn.BatchNorm1d(6, affine=False),
        nn.BatchNorm1d(6, track_running_stats=False),
    )


@pytest.fixture
def images():
    return torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 + 2


@pytest.mark.parametrize("size", [48, 16, 10])
def test_the_first_layer_equals_numpy_over_all_images(images, size):
    net = deep()
    assert recompute_batch_norm(net, batches(images, size)) == 48
    with torch.no_grad():
        values = net[0](images).numpy().astype(np.float64).transpose(1, 0, 2, 3).reshape(5, -1)
    np.testing.assert_allclose(net[1].running_mean.numpy(), values.mean(1), rtol=1e-5)
    np.testing.assert_allclose(net[1].running_var.numpy(), values.var(1, ddof=1), rtol=1e-5)


def test_one_batch_gives_the_statistics_of_every_layer(images):
    net = deep()
    recompute_batch_norm(net, batches(images, 48))
    with torch.no_grad():
        for k, module in enumerate(net):  # forward by hand, each norm by its own batch
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                flat = images.transpose(0, 1).reshape(images.shape[1], -1).double()
                if module.running_mean is not None:
                    np.testing.assert_allclose(module.running_mean, flat.mean(1), rtol=1e-4, atol=1e-6)
                    np.testing.assert_allclose(module.running_var, flat.var(1), rtol=1e-4)
                images = nn.functional.batch_norm(
                    images, None, None, module.weight, module.bias, training=True, eps=module.eps
                )
            elif not isinstance(module, nn.Dropout):
                images = net[k](images)


def test_nothing_else_changes(images):
    net = deep()
    net[4].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    recompute_batch_norm(net, batches(images, 16))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]) != ("running" in name), name
    assert [module.training for module in net.modules()] == modes
    assert (net[1].momentum, net[5].momentum) == (0.1, None)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_order_and_size_of_batches_hardly_matter(images):
    one, other = deep(), deep()
    recompute_batch_norm(one, batches(images, 24))
    order = torch.randperm(48, generator=torch.Generator().manual_seed(2))
    recompute_batch_norm(other, batches(images[order], 24))
    np.testing.assert_allclose(one[1].running_var, other[1].running_var, rtol=1e-6)
    np.testing.assert_allclose(one[5].running_var, other[5].running_var, rtol=0.1)


def test_a_reused_norm_sees_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, x):
            return self.norm(x) + self.norm(x + 10)

    net = Twice()
    x = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    recompute_batch_norm(net, batches(x, 8))
    both = np.concatenate([x.numpy(), x.numpy() + 10]).transpose(1, 0, 2, 3).reshape(2, -1)
    np.testing.assert_allclose(net.norm.running_mean, both.mean(1), rtol=1e-5)
    np.testing.assert_allclose(net.norm.running_var, both.var(1, ddof=1), rtol=1e-5)


def test_state_is_put_back_after_an_error(images):
    net = deep()

    def broken():
        yield from batches(images, 24)
        raise OSError("disk")

    before = net[1].running_mean.clone()
    with pytest.raises(OSError, match="disk"):
        recompute_batch_norm(net, broken())
    assert torch.equal(net[1].running_mean, before)
    assert net[1].momentum == 0.1
    assert net.training
    assert not net[1]._forward_pre_hooks


def test_no_images_is_an_error():
    with pytest.raises(DataError, match="training images"):
        recompute_batch_norm(deep(), ())
    assert has_batch_norm(deep())
    assert not has_batch_norm(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False)))
