"""The whole job, room by room: images in, a trained, tested and reported network out.

This is what the command line calls and what ``import striate`` offers. A file is imported when something of
it is first asked for, so that predicting does not load what training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from striate.job.benching import Benched, bench
    from striate.job.blend_methods import BlendTable, blend_table
    from striate.job.blending import BlendResult, average_bundles, soup_bundles
    from striate.job.bundles import open_bundle
    from striate.job.calibration import CalibrateResult, calibrate_bundle
    from striate.job.comparing import compare_runs
    from striate.job.comparison import Comparison
    from striate.job.ensembling import EnsembleResult, ensemble_bundles
    from striate.job.evaluation import EvaluateResult, Measurement, answers_of, evaluate_bundle, measure
    from striate.job.exporting import ExportPrecisionChoice, export_bundle
    from striate.job.labelled import Split
    from striate.job.plan import CompileChoice
    from striate.job.predicting import PredictResult, predict_to_file
    from striate.job.quantizing import QuantizeResult, quantize_bundle
    from striate.job.report_page import ReportResult, write_report
    from striate.job.result import TrainResult
    from striate.job.training import resume, train
    from striate.job.weights import convert_weights, export_torchvision, open_weights

__all__ = [
    "Benched",
    "BlendResult",
    "BlendTable",
    "CalibrateResult",
    "Comparison",
    "CompileChoice",
    "EnsembleResult",
    "EvaluateResult",
    "ExportPrecisionChoice",
    "Measurement",
    "PredictResult",
    "QuantizeResult",
    "ReportResult",
    "Split",
    "TrainResult",
    "answers_of",
    "average_bundles",
    "bench",
    "blend_table",
    "calibrate_bundle",
    "compare_runs",
    "convert_weights",
    "ensemble_bundles",
    "evaluate_bundle",
    "export_bundle",
    "export_torchvision",
    "measure",
    "open_bundle",
    "open_weights",
    "predict_to_file",
    "quantize_bundle",
    "resume",
    "soup_bundles",
    "train",
    "write_report",
]

_HOME = {
    "Benched": "benching",
    "BlendResult": "blending",
    "BlendTable": "blend_methods",
    "CalibrateResult": "calibration",
    "Comparison": "comparison",
    "CompileChoice": "plan",
    "EnsembleResult": "ensembling",
    "EvaluateResult": "evaluation",
    "ExportPrecisionChoice": "exporting",
    "Measurement": "evaluation",
    "PredictResult": "predicting",
    "QuantizeResult": "quantizing",
    "ReportResult": "report_page",
    "Split": "labelled",
    "TrainResult": "result",
    "answers_of": "evaluation",
    "average_bundles": "blending",
    "bench": "benching",
    "blend_table": "blend_methods",
    "calibrate_bundle": "calibration",
    "compare_runs": "comparing",
    "convert_weights": "weights",
    "ensemble_bundles": "ensembling",
    "evaluate_bundle": "evaluation",
    "export_bundle": "exporting",
    "export_torchvision": "weights",
    "measure": "evaluation",
    "open_bundle": "bundles",
    "open_weights": "weights",
    "predict_to_file": "predicting",
    "quantize_bundle": "quantizing",
    "resume": "training",
    "soup_bundles": "blending",
    "train": "training",
    "write_report": "report_page",
}


def __getattr__(name: str) -> Any:
    """Fetch a public name when it is first asked for."""
    if name in _HOME:
        return getattr(import_module(f"striate.job.{_HOME[name]}"), name)
    raise AttributeError(f"module 'striate.job' has no attribute {name!r}")
