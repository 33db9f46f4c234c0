"""striate: the working laboratory for the classic convolutional networks, LeNet-5 to ResNet.

``striate.train``, ``striate.resume``, ``striate.evaluate`` and ``striate.open_bundle`` do the main job from
Python; each is described in ``striate.job``. Importing this package is light: torch is imported when one of
them is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from striate.core.version import __version__

if TYPE_CHECKING:
    from striate.job import answers_of, bench, blend_table, compare_runs, measure, open_bundle, resume, train
    from striate.job import average_bundles as average
    from striate.job import calibrate_bundle as calibrate
    from striate.job import ensemble_bundles as ensemble
    from striate.job import evaluate_bundle as evaluate
    from striate.job import export_bundle as export
    from striate.job import quantize_bundle as quantize
    from striate.job import soup_bundles as soup
    from striate.job import write_report as report

__all__ = [
    "__version__",
    "answers_of",
    "average",
    "bench",
    "blend_table",
    "calibrate",
    "compare_runs",
    "ensemble",
    "evaluate",
    "export",
    "measure",
    "open_bundle",
    "quantize",
    "report",
    "resume",
    "soup",
    "train",
]

_FROM_JOB = {
    "answers_of": "answers_of",
    "measure": "measure",
    "report": "write_report",
    "train": "train",
    "average": "average_bundles",
    "bench": "bench",
    "blend_table": "blend_table",
    "ensemble": "ensemble_bundles",
    "soup": "soup_bundles",
    "calibrate": "calibrate_bundle",
    "compare_runs": "compare_runs",
    "resume": "resume",
    "evaluate": "evaluate_bundle",
    "export": "export_bundle",
    "quantize": "quantize_bundle",
    "open_bundle": "open_bundle",
}


def __getattr__(name: str) -> Any:
    """Fetch a public function when it is first asked for."""
    if name in _FROM_JOB:
        return getattr(import_module("striate.job"), _FROM_JOB[name])
    raise AttributeError(f"module 'striate' has no attribute {name!r}")
