"""The part of a report on probabilities: whether they can be trusted."""

from typing import Any

from markupsafe import Markup

from striate.metrics.calibration import Calibration, calibration
from striate.metrics.predictions import Predictions
from striate.report.numbers import format_number, percent
from striate.report.rate_charts import reliability_diagram

_FITTED = 1e-6  # a temperature this near to 1 was not fitted


def calibration_section(predictions: Predictions, temperature: float) -> dict[str, Any]:
    """Measure calibration before and after the temperature and draw both.

    Args:
        predictions: of the network; their logits are not divided by any temperature.
        temperature: of the bundle; 1 where none was fitted: then there is one chart.

    Raises:
        NonFiniteLossError: a logit is NaN or infinite.
    """
    found = [("as trained", calibration(predictions.logits, predictions.labels))]
    fitted = abs(temperature - 1.0) > _FITTED
    if fitted:
        after = calibration(predictions.logits, predictions.labels, temperature)
        found.append((f"at temperature {temperature:.3g}", after))
    return {
        "charts": [(name if fitted else "", Markup(reliability_diagram(one.bins))) for name, one in found],
        "heads": [name for name, _ in found],
        "rows": _rows([one for _, one in found]),
        "summary": _summary(found[-1][1], predictions.multi_label),
        "fitted": fitted,
        "temperature": f"{temperature:.3g}",
        "multi": predictions.multi_label,
        "bins": len(found[0][1].bins),
    }


def _rows(found: list[Calibration]) -> list[tuple[str, list[str]]]:
    return [
        ("calibration error (ECE)", [percent(one.ece) for one in found]),
        ("the same, bins of equal size", [percent(one.ece_equal_mass) for one in found]),
        ("cross-entropy, nats", [format_number(one.nll, digits=4) for one in found]),
        ("Brier score", [format_number(one.brier, digits=3) for one in found]),
    ]


def _summary(one: Calibration, multi_label: bool) -> str:
    """Say what the mean gap means: overconfident, underconfident, or neither."""
    filled = [
        (b.num, b.confidence, b.accuracy)
        for b in one.bins
        if b.confidence is not None and b.accuracy is not None
    ]
    total = sum(num for num, _, _ in filled)
    claimed = sum(num * confidence for num, confidence, _ in filled) / total
    correct = sum(num * accuracy for num, _, accuracy in filled) / total
    what = "labels" if multi_label else "predictions"
    said = f"On average its {what} claim {percent(claimed)} and {percent(correct)} are correct"
    gap = claimed - correct
    if abs(gap) < 0.005:
        return f"{said}."
    return f"{said}: it is {'over' if gap > 0 else 'under'}confident by {abs(100 * gap):.1f} points."
