"""Evaluation against a loop written by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.data.batch import Batch
from striate.evaluation.evaluate import evaluate
from striate.metrics.multilabel import MultiLabelScores
from striate.metrics.scores import Scores

CLASSES = ("a", "b", "c")


def small_net(num_out: int = 3) -> nn.Sequential:
    generator = torch.Generator().manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.9), nn.Flatten(), nn.Linear(64, num_out)
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net


def batches(sizes=(4, 4, 1), *, multi: bool = False) -> list[Batch]:
    generator, made, start = torch.Generator().manual_seed(9), [], 0
    for size in sizes:
        images = torch.randn(size, 2, 6, 6, generator=generator)
        labels = torch.randint(0, 3, (size,), generator=generator)
        if multi:
            labels = (torch.rand(size, 3, generator=generator) < 0.5).float()
        made.append(Batch(images, labels, 100 + np.arange(start, start + size)))
        start += size
    return made


def test_equals_a_loop_by_hand():
    net, data = small_net(), batches()
    result = evaluate(net, data, CLASSES)
    net.eval()
    p, losses, right = [], [], 0
    for batch in data:
        for image, label in zip(batch.images, batch.labels, strict=True):
            logits = net(image[None])[0].detach().double().numpy()
            one = np.exp(logits) / np.exp(logits).sum()
            p.append(one)
            losses.append(-np.log(one[int(label)]))
            right += int(one.argmax() == int(label))
    assert isinstance(result.scores, Scores)
    assert result.probabilities == pytest.approx(np.array(p), abs=1e-6)
    assert result.probabilities.dtype == np.float32
    assert result.scores.loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert result.scores.top1 == right / 9
    assert result.indices.tolist() == list(range(100, 109))
    assert result.labels.tolist() == [int(label) for batch in data for label in batch.labels]


@pytest.mark.parametrize("fails", [False, True])
def test_every_module_gets_its_mode_back(fails: bool):
    net = small_net(num_out=7 if fails else 3).train()
    net[1].eval()  # a frozen batch normalisation inside a training network
    before = [module.training for module in net.modules()]
    statistics = net[1].running_mean.clone()
    if fails:
        with pytest.raises(UsageError, match=r"logits of shape \(4, 3\) from the network, got \(4, 7\)"):
            evaluate(net, batches(), CLASSES)
    else:
        evaluate(net, batches(), CLASSES)
    assert [module.training for module in net.modules()] == before
    assert before == [True, True, False, True, True, True]
    assert torch.equal(net[1].running_mean, statistics)


def test_the_network_can_be_trained_afterwards_on_tensors_that_the_source_keeps():
    net, kept = small_net(), torch.zeros(4, 2, 6, 6)

    def source():
        nonlocal kept
        kept = kept + 1.0  # made while evaluate runs
        yield Batch(kept, torch.zeros(4, dtype=torch.int64), np.arange(4))

    evaluate(net, source(), CLASSES, autocast_dtype=torch.bfloat16)
    net(kept).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_autocast_rounds_the_network_but_not_the_answers():
    net, data = small_net(), batches()
    exact = evaluate(net, data, CLASSES)
    rounded = evaluate(net, data, CLASSES, autocast_dtype=torch.bfloat16)
    assert rounded.probabilities.dtype == np.float32
    assert rounded.probabilities == pytest.approx(exact.probabilities, abs=0.03)
    assert not np.array_equal(rounded.probabilities, exact.probabilities)
    assert rounded.probabilities.sum(axis=1) == pytest.approx(np.ones(9), abs=1e-6)


def test_memory_format_reaches_the_network():
    seen = []

    class Watch(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images.is_contiguous(memory_format=torch.channels_last))
            return images.mean(dim=(2, 3))

    images = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    evaluate(Watch(), [Batch(images, torch.tensor([0, 1]), np.arange(2))], CLASSES)
    assert seen == [True]


def test_logits_far_apart_give_an_exact_loss():
    class Fixed(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 200.0, -50.0]])

    batch = Batch(torch.zeros(1, 1, 2, 2), torch.tensor([0]), np.arange(1))
    assert evaluate(Fixed(), [batch], CLASSES).scores.loss == pytest.approx(200.0)


def test_multilabel_uses_sigmoids():
    net, data = small_net(), batches(multi=True)
    result = evaluate(net, data, CLASSES)
    net.eval()
    logits = torch.cat([net(batch.images) for batch in data]).detach().double().numpy()
    labels = torch.cat([batch.labels for batch in data]).numpy()
    p = 1 / (1 + np.exp(-logits))
    assert isinstance(result.scores, MultiLabelScores)
    assert result.probabilities == pytest.approx(p, abs=1e-6)
    assert result.scores.loss == pytest.approx(-np.mean(np.log(np.where(labels == 1, p, 1 - p))), abs=1e-6)


def test_progress_counts_images():
    told = []
    evaluate(small_net(), batches(), CLASSES, total=9, progress=lambda *call: told.append(call))
    assert told == [("evaluate", 4, 9), ("evaluate", 8, 9), ("evaluate", 9, 9)]


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(DataError, match="at least one image"):
        evaluate(small_net(), [], CLASSES)


def test_labels_out_of_range_are_refused():
    batch = Batch(torch.zeros(2, 2, 6, 6), torch.tensor([0, 3]), np.arange(2))
    with pytest.raises(DataError, match=r"in 0\.\.2, got 0\.\.3"):
        evaluate(small_net(), [batch], CLASSES)


def test_mixed_labels_are_refused():
    with pytest.raises(DataError, match="one kind of labels"):
        evaluate(small_net(), [*batches((2,)), *batches((2,), multi=True)], CLASSES)


def test_a_network_elsewhere_is_refused():
    with pytest.raises(UsageError, match="expected a network on cpu, got one on meta"):
        evaluate(small_net().to("meta"), batches(), CLASSES)


def test_a_diverged_network_is_named_as_such():
    net = small_net()
    with torch.no_grad():
        net[4].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="diverged"):
        evaluate(net, batches(), CLASSES)
