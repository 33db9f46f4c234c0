"""Calibration against hand-computed bins, scipy's minimiser, torch's LBFGS and scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss

from striate.core.errors import DataError, NonFiniteLossError, UsageError
from striate.metrics.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    brier,
    calibration,
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    temperature_fit,
)


def calibrated(num_images: int, num_classes: int, seed: int = 0):
    """Draw logits, and labels from the very probabilities that they stand for."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (num_images, num_classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) < draw.random((num_images, 1))).sum(axis=1)
    return logits, np.minimum(labels, num_classes - 1)


def several_labels(num_images: int, num_classes: int, seed: int = 0):
    draw = np.random.default_rng(seed)
    logits = draw.normal(-1, 2, (num_images, num_classes))
    return logits, (draw.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)


def test_calibration_error_by_hand():
    # Two classes, four bins. Confidences 0.6, 0.7 | 0.8, 1.0 in bins (0.5, 0.75] and (0.75, 1].
    p = np.array([[0.6, 0.4], [0.3, 0.7], [0.8, 0.2], [0.0, 1.0]])
    labels = np.array([0, 0, 0, 0])  # right, wrong, right, wrong
    bins = reliability(p, labels, num_bins=4)
    assert [one.num for one in bins] == [0, 0, 2, 2]
    assert (bins[2].confidence, bins[2].accuracy) == (pytest.approx(0.65), 0.5)
    assert (bins[3].confidence, bins[3].accuracy) == (pytest.approx(0.9), 0.5)
    assert (bins[0].confidence, bins[0].accuracy, bins[0].interval.high) == (None, None, 1.0)
    assert calibration_error(bins) == pytest.approx(0.5 * 0.15 + 0.5 * 0.4)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    p = np.array([[0.5, 0.3, 0.2], [0.75, 0.15, 0.1]])
    bins = reliability(p, np.array([0, 0]), num_bins=4)
    assert [one.num for one in bins] == [0, 1, 1, 0]
    assert (bins[1].above, bins[1].upto) == (0.25, 0.5)


def test_equal_mass_by_hand():
    confidence = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
    p = np.stack([confidence, 1 - confidence], axis=1)
    bins = reliability(p, np.array([0, 1, 0, 0, 0, 0]), num_bins=3, equal_mass=True)
    assert [one.num for one in bins] == [2, 2, 2]
    assert [one.upto for one in bins] == [0.6, 0.8, 0.95]
    # |0.5 - 0.55| / 3 + |1 - 0.75| / 3 + |1 - 0.925| / 3
    assert calibration_error(bins) == pytest.approx((0.05 + 0.25 + 0.075) / 3)


def test_equal_confidences_stay_in_one_bin():
    p = np.array([[0.7, 0.3]] * 5 + [[0.9, 0.1]])
    bins = reliability(p, np.array([0, 1, 0, 1, 0, 0]), num_bins=3, equal_mass=True)
    assert [one.num for one in bins] == [5, 1]
    assert bins[0].accuracy == 0.6


def test_multi_label_bins_hold_every_class_of_every_image():
    p = np.array([[0.0, 0.9], [0.4, 1.0]])
    bins = reliability(p, np.array([[0, 1], [1, 1]]), num_bins=2)
    assert [one.num for one in bins] == [2, 2]
    assert (bins[0].confidence, bins[0].accuracy) == (pytest.approx(0.2), 0.5)


def test_likelihood_and_brier_against_scikit_learn():
    logits, labels = calibrated(300, 4)
    scaled = torch.tensor(logits / 1.7)
    p = scaled.softmax(1).numpy()
    assert negative_log_likelihood(logits, labels, 1.7) == pytest.approx(log_loss(labels, p))
    assert brier(p, labels) == pytest.approx(((p - np.eye(4)[labels]) ** 2).sum(1).mean())
    two, binary = calibrated(200, 2)
    q = torch.tensor(two).softmax(1).numpy()
    assert brier(q, binary) == pytest.approx(2 * brier_score_loss(binary, q[:, 1]))


def test_multi_label_likelihood_is_torchs():
    logits, labels = several_labels(50, 3)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.tensor(logits / 0.6), torch.tensor(labels, dtype=torch.float64)
    )
    assert negative_log_likelihood(logits, labels, 0.6) == pytest.approx(expected.item())


@pytest.mark.parametrize("true_temperature", [0.3, 1.0, 2.5, 12.0])
def test_a_known_temperature_comes_back(true_temperature):
    logits, labels = calibrated(4000, 10)
    fitted = fit_temperature(true_temperature * logits, labels)
    assert fitted == pytest.approx(true_temperature, rel=0.05)  # the sampling error is about 2%


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_the_minimum_is_scipys(scale):
    for make in (calibrated, several_labels):
        logits, labels = make(200, 5, seed=3)
        logits = scale * logits

        def loss(log_t, logits=logits, labels=labels):
            scaled = torch.tensor(logits * math.exp(-log_t))
            if labels.ndim == 1:
                return torch.nn.functional.cross_entropy(scaled, torch.tensor(labels)).item()
            target = torch.tensor(labels, dtype=torch.float64)
            return torch.nn.functional.binary_cross_entropy_with_logits(scaled, target).item()

        peer = minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9})
        assert math.log(fit_temperature(logits, labels)) == pytest.approx(peer.x, abs=1e-5)


def test_the_minimum_is_that_of_lbfgs():
    logits, labels = calibrated(300, 6, seed=4)
    logits = 3 * logits
    scaled, target = torch.tensor(logits), torch.tensor(labels)
    temperature = torch.ones((), dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [temperature],
        max_iter=500,
        tolerance_grad=1e-14,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure():
        search.zero_grad()
        loss = torch.nn.functional.cross_entropy(scaled / temperature, target)
        loss.backward()
        return loss

    search.step(closure)
    assert fit_temperature(logits, labels) == pytest.approx(temperature.item(), rel=1e-5)


def test_the_order_of_the_images_changes_no_bit():
    logits, labels = calibrated(500, 7, seed=5)
    logits = (2 * logits).astype(np.float32)
    order = np.random.default_rng(6).permutation(500)
    assert fit_temperature(logits[order], labels[order]) == fit_temperature(logits, labels)
    assert calibration(logits[order], labels[order]) == calibration(logits, labels)


def test_calibrating_mends_what_is_too_sure_and_keeps_the_answers():
    logits, labels = calibrated(3000, 10)
    fit = temperature_fit(4 * logits, labels)
    assert fit.note == ""
    assert fit.after.nll < fit.before.nll
    assert fit.after.ece < 0.03 < 0.1 < fit.before.ece
    assert fit.after.brier < fit.before.brier
    assert fit.after.bins[14].accuracy is not None
    assert sum(one.num for one in fit.after.bins) == 3000
    assert json.loads(json.dumps(fit.after.to_json()))["temperature"] == fit.temperature


def test_all_right_leaves_the_temperature_at_one():
    logits = np.array([[4.0, 0.0], [0.0, 5.0], [3.0, 1.0]])
    labels = np.array([0, 1, 0])
    assert fit_temperature(logits, labels) == MIN_TEMPERATURE
    fit = temperature_fit(logits, labels)
    assert fit.temperature == 1.0
    assert "the 3 images, all of them correct, have no best temperature" in fit.note
    assert fit.after == fit.before
    one = temperature_fit(logits[:1], labels[:1])
    assert (one.temperature, one.before.num_images) == (1.0, 1)
    # One answer of confidence 1 / (1 + e^-4), and right.
    assert one.before.ece == pytest.approx(1 - 1 / (1 + math.exp(-4)))


def test_all_wrong_is_no_better_than_guessing():
    logits, labels = np.array([[4.0, 0.0], [0.0, 5.0]]), np.array([1, 0])
    assert fit_temperature(logits, labels) == MAX_TEMPERATURE
    fit = temperature_fit(logits, labels)
    assert fit.temperature == 1.0
    assert "no better than guessing" in fit.note


def test_equal_logits_are_changed_by_no_temperature():
    assert fit_temperature(np.full((5, 3), 2.5), np.array([0, 1, 2, 0, 1])) == 1.0
    assert temperature_fit(np.zeros((2, 3)), np.array([0, 1])).before.nll == pytest.approx(math.log(3))


def test_huge_logits_stay_finite():
    logits = np.array([[1e30, 0.0], [0.0, 1e30], [1e30, 0.0]])
    assert np.isfinite(negative_log_likelihood(logits, np.array([0, 1, 1])))
    assert 0 < fit_temperature(logits, np.array([0, 1, 1])) <= MAX_TEMPERATURE


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    logits = np.zeros((2, 3))
    logits[1, 1] = bad
    for call in (fit_temperature, temperature_fit, calibration, negative_log_likelihood, brier, reliability):
        with pytest.raises(NonFiniteLossError, match="finite"):
            call(logits, np.array([0, 1]))


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3)), np.zeros(0, int)),
        (np.zeros((2, 3)), np.zeros(3, int)),
        (np.zeros((2, 3)), np.array([0, 3])),
        (np.zeros((2, 3)), np.array([0, -1])),
        (np.zeros((2, 3)), np.array([0.0, 1.0])),
        (np.zeros((2, 3)), np.full((2, 3), 2)),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels):
    with pytest.raises(DataError, match="expected"):
        fit_temperature(logits, labels)


def test_no_bins_are_refused():
    with pytest.raises(UsageError, match="at least one bin"):
        reliability(np.ones((1, 1)), np.array([0]), num_bins=0)
