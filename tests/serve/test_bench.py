import itertools

import numpy as np
import pytest
import torch
from torch import nn

from striate.core.compute import Compute
from striate.data.preprocess import Preprocessing
from striate.serve import bench_engine, bench_slide

GREY = Preprocessing(channels=1, height_px=4, width_px=6, resize_px=None, mean=(0.0,), std=(1.0,))

# The column "Total (ms)" of the source, which the sums of the other two columns must meet.
TITAN_TOTAL_MS = {
    "AlexNet": 14.56,
    "Inception-V1": 39.14,
    "VGG-16": 128.62,
    "VGG-19": 147.32,
    "ResNet-18": 31.54,
    "ResNet-34": 51.59,
    "ResNet-50": 103.58,
    "ResNet-101": 156.44,
    "ResNet-152": 217.91,
}
XEON_TOTAL_MS = {
    "VGG-16": 8495.48,
    "VGG-19": 9849.23,
    "ResNet-18": 2195.78,
    "ResNet-34": 3965.21,
    "ResNet-50": 6627.25,
    "ResNet-101": 11306.24,
    "ResNet-152": 16872.78,
}


class Clock:
    """A clock that goes on only when an engine works."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class FakeEngine:
    """Takes 0.1 s twice, then 0.1, 0.2, 0.3 s ... for a batch alone, and 0.05 s in a stream."""

    def __init__(self, clock):
        self.clock = clock
        self.shapes = set()
        self.alone = itertools.chain([0.1, 0.1], (0.1 * n for n in itertools.count(1)))

    def logits(self, pixels):
        self.shapes.add((pixels.shape, pixels.dtype.name))
        self.clock.now += next(self.alone)
        return np.zeros((len(pixels), 2), np.float32)

    def stream(self, batches):
        for batch in batches:
            self.clock.now += 0.05
            yield np.zeros((len(batch), 2), np.float32)


def test_speed_by_a_clock_that_is_known(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench_engine, "time", clock)
    engine = FakeEngine(clock)

    speed = bench_engine.measure_engine(engine, GREY, 8, seconds=1.0)

    # Alone: 0.1 + 0.2 + 0.3 + 0.4 s = 1.0 s of measuring end at four calls, but five are the least.
    assert engine.shapes == {((8, 4, 6, 1), "uint8")}
    assert speed.num_calls == 5
    assert speed.latency_ms == pytest.approx((300.0, 460.0, 496.0))
    assert speed.images_per_s == pytest.approx(8 / 0.05)


def test_ceiling_counts_two_operations_a_product(monkeypatch):
    clock = Clock()
    seconds = iter([0.5, 0.25, 0.4, 9.0])

    def multiply(a, b):
        assert a.shape == b.shape == (3072, 3072)
        assert a.dtype == torch.float32
        clock.now += next(seconds)

    monkeypatch.setattr(bench_engine, "time", clock)
    monkeypatch.setattr(torch, "mm", multiply)

    assert bench_engine.matrix_ceiling("fp32", torch.device("cpu")) == pytest.approx(2 * 3072**3 / 0.25)


def test_published_times_add_up_to_the_published_totals():
    for row in bench_slide.SLIDE:
        assert row.titan.total_ms == pytest.approx(TITAN_TOTAL_MS[row.title], abs=0.011)  # rounded columns
        if row.xeon is None:
            assert row.title not in XEON_TOTAL_MS
        else:
            assert row.xeon.total_ms == pytest.approx(XEON_TOTAL_MS[row.title], abs=0.011)
    assert {row.title for row in bench_slide.SLIDE} == set(TITAN_TOTAL_MS)


def test_measuring_a_network_runs_both_passes_and_leaves_nothing():
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(48, 3)

        def forward(self, images):
            seen.append(tuple(images.shape))
            scores = self.fc(images.flatten(1))
            scores.register_hook(lambda gradient: seen.append(float(gradient.sum())))
            return (scores, scores)  # as networks with auxiliary classifiers do

    net = Net().train()

    compute = Compute(device="cpu", precision="fp32", batch_images=5)
    times = bench_slide.measure(net, (3, 4, 4), compute=compute, rounds=2)

    assert seen == [(5, 3, 4, 4), 15.0] * 3  # one round to warm up, two that count; the gradient is all ones
    assert times.forward_ms > 0
    assert times.backward_ms > 0
    assert net.fc.weight.grad is None
    assert net.training
