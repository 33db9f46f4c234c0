"""Ledgers of memory against the lectures' table, hand-made sums, and what autograd really keeps."""

import pytest
import torch
from torch import nn

from striate import nets
from striate.anatomy import LEDGERS, ledger, trace
from striate.core.errors import UsageError


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):
        return trace(nets.build("vgg16"))


def test_the_lectures_vgg16_table(vgg16):
    book = ledger(vgg16)
    # Lectures, VGG-16: "INPUT: [224x224x3] memory: 224*224*3=150K" and so on, exact.
    assert book.rows["input"] == 4 * 150_528
    assert book.rows["conv1_1"] == book.rows["conv1_2"] == 4 * 3_211_264
    assert book.rows["pool1"] == 4 * 802_816
    assert book.rows["relu1_1"] == book.rows["flatten"] == book.rows["drop6"] == 0
    assert book.rows["pool5"] == 4 * 25_088
    assert book.rows["fc8"] == 4 * 1000
    # Their sum; the "24M * 4 bytes" printed below the table in two lectures does not follow from its rows.
    assert book.values == 15_237_608
    assert book.total_bytes == 60_950_432


def test_relu_outputs_apart(vgg16):
    convolutions = 6_422_528 + 3_211_264 + 2_408_448 + 1_204_224 + 301_056
    assert ledger(vgg16, "separate").values == 15_237_608 + convolutions + 2 * 4096


def test_im2col_of_the_lecture_example():
    net = nn.Sequential(nn.Conv2d(3, 96, 11, stride=4))
    book = ledger(trace(net, (3, 227, 227)), "im2col")
    assert book.rows["0"] == 4 * 363 * 3025
    assert book.values == 1_098_075
    assert book.largest == ("0", 4 * 1_098_075)


def test_im2col_counts_every_group():
    net = nn.Conv2d(8, 4, 3, groups=2)
    book = ledger(trace(nn.Sequential(net), (8, 6, 6)), "im2col")
    assert book.values == 2 * (4 * 9) * (4 * 4)


@pytest.mark.parametrize("name", list(LEDGERS))
def test_a_batch_multiplies_the_rows(vgg16, name):
    one, seven = ledger(vgg16, name), ledger(vgg16, name, batch_images=7)
    assert seven.rows == {row: 7 * count for row, count in one.rows.items()}
    assert seven.besides == one.besides


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.left = nn.Conv2d(4, 4, 1)
        self.tanh = nn.Tanh()
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.5)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(8 * 16, 5)

    def forward(self, images):
        maps = self.relu(self.bn(self.conv(images)))
        maps = torch.cat([maps, self.tanh(self.left(maps)) + maps], 1)
        return self.fc(self.drop(self.flat(self.pool(maps))))


def kept_by_autograd(net, images):
    """Bytes of the different tensors that autograd saves, besides the network's own."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = net(images).sum()
    assert loss.requires_grad
    return sum(size for size, _ in found.values())


def test_training_ledger_is_what_autograd_keeps():
    net = Branches().train()
    images = torch.rand(3, 2, 8, 8)
    expected = kept_by_autograd(net, images)
    # One batch's mean and deviation, whatever the batch; the ledger counts them for each image.
    expected += 2 * 2 * 4 * 4
    assert ledger(trace(net, (2, 8, 8)), "training", batch_images=3).activation_bytes == expected


def test_training_ledger_of_a_plain_net_is_what_autograd_keeps():
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.Sigmoid()),
        *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 10)),
    )
    book = ledger(trace(net, (1, 28, 28)), "training", batch_images=2)
    assert book.activation_bytes == kept_by_autograd(net, torch.rand(2, 1, 28, 28))
    parameters = (25 + 1) * 6 + (6 * 9 + 1) * 8 + (200 + 1) * 10
    assert book.besides == dict.fromkeys(("weights", "gradients", "momentum"), 4 * parameters)
    assert book.total_bytes == book.activation_bytes + 12 * parameters


def test_auxiliary_classifiers_train_too():
    with torch.device("meta"):
        book = ledger(trace(nets.build("googlenet")), "training")
    assert book.besides["weights"] == 4 * 13_378_280


def test_functional_calls_are_judged_as_modules():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3, padding=1)

        def forward(self, images):
            maps = nn.functional.relu(self.conv(nn.functional.pad(images, (1, 1, 1, 1))))
            return nn.functional.max_pool2d(maps, 2)

    record = trace(Net(), (1, 6, 6))
    # Input 36, convolution 2x8x8, pool 2x4x4; the padding belongs to the convolution.
    assert ledger(record).values == 36 + 128 + 32


def test_refuses():
    record = trace(nn.Sequential(nn.ReLU()), (1, 2, 2))
    with pytest.raises(UsageError, match="expected a ledger of lecture, separate, training, im2col, got 'x'"):
        ledger(record, "x")
    with pytest.raises(UsageError, match="at least 1 image, got 0"):
        ledger(record, batch_images=0)
