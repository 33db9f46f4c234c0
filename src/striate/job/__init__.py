"""The whole job, room by room: images in, a trained, tested and reported network out.

This is what the command line calls and what ``import striate`` offers.
"""

from striate.job.bundles import open_bundle
from striate.job.evaluation import EvaluateResult, Split, evaluate_bundle
from striate.job.plan import CompileChoice
from striate.job.result import TrainResult
from striate.job.training import resume, train
from striate.job.weights import convert_weights, export_torchvision, open_weights

__all__ = [
    "CompileChoice",
    "EvaluateResult",
    "Split",
    "TrainResult",
    "convert_weights",
    "evaluate_bundle",
    "export_torchvision",
    "open_bundle",
    "open_weights",
    "resume",
    "train",
]
