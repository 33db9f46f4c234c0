"""The part of a report on probabilities: whether they can be taken at their word."""

from typing import Any

from markupsafe import Markup

from striate.metrics.calibration import Calibration, calibration
from striate.metrics.predictions import Predictions
from striate.report import words as say
from striate.report.rate_figures import reliability_diagram
from striate.report.svg import format_number

_FITTED = 1e-6  # a temperature this near to 1 was not fitted


def calibration_section(answers: Predictions, temperature: float) -> dict[str, Any]:
    """Measure calibration before and after the temperature and draw both.

    Args:
        answers: of the network, not divided by any temperature.
        temperature: of the bundle; 1 where none was fitted: then there is one figure.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    before = calibration(answers.logits, answers.labels)
    found = [("as trained", before)]
    if abs(temperature - 1.0) > _FITTED:
        after = calibration(answers.logits, answers.labels, temperature)
        found = [("as trained", before), (f"at temperature {temperature:.3g}", after)]
    return {
        "figures": [(name if len(found) > 1 else "", _figure(one)) for name, one in found],
        "heads": [name for name, _ in found],
        "rows": _rows([one for _, one in found]),
        "words": _in_words(found[-1][1], answers.multi_label),
        "fitted": len(found) > 1,
        "temperature": f"{temperature:.3g}",
        "multi": answers.multi_label,
        "bins": len(before.bins),
    }


def _figure(one: Calibration) -> Markup:
    return Markup(reliability_diagram(one.bins))


def _rows(found: list[Calibration]) -> list[tuple[str, list[str]]]:
    return [
        ("calibration error (ECE)", [say.percent(one.ece) for one in found]),
        ("the same, bins of equal size", [say.percent(one.ece_equal_mass) for one in found]),
        ("cross-entropy, nats", [format_number(one.nll, digits=4) for one in found]),
        ("Brier score", [format_number(one.brier, digits=3) for one in found]),
    ]


def _in_words(one: Calibration, multi_label: bool) -> str:
    """Say what the mean gap means: too sure, too modest, or as sure as it may be."""
    filled = [(b.num, b.confidence, b.accuracy) for b in one.bins if b.confidence is not None]
    total = sum(num for num, _, _ in filled)
    sure = sum(num * (confidence or 0.0) for num, confidence, _ in filled) / total
    right = sum(num * (accuracy or 0.0) for num, _, accuracy in filled) / total
    what = "labels" if multi_label else "answers"
    told = f"On average its {what} claim {say.percent(sure)} and {say.percent(right)} are right"
    gap = sure - right
    if abs(gap) < 0.005:
        return f"{told}."
    return f"{told}: it is {'too sure' if gap > 0 else 'too modest'} by {abs(100 * gap):.1f} points."
