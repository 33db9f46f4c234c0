"""striate: the working laboratory for the classic convolutional networks, LeNet-5 to ResNet."""

from importlib import import_module
from typing import Any

from striate.core.version import __version__

_HOME = {
    "measure": ("evaluation.measure", "measure"),
    "report": ("report.write", "write_report"),
    "train": ("training.train", "train"),
    "average": ("blend.merge_bundles", "average"),
    "bench": ("serve.bench", "bench"),
    "blend_table": ("blend.table", "blend_table"),
    "ensemble": ("blend.ensemble", "ensemble"),
    "soup": ("blend.merge_bundles", "soup"),
    "calibrate": ("evaluation.calibrate", "calibrate"),
    "compare": ("evaluation.compare_runs", "compare"),
    "resume": ("training.train", "resume"),
    "evaluate": ("evaluation.measure", "evaluate"),
    "export": ("serve.export", "export_bundle"),
    "quantize": ("serve.quantize", "quantize_bundle"),
    "open_bundle": ("weights.open", "open_bundle"),
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Fetch a public function when it is first asked for."""
    if name in _HOME:
        module, own = _HOME[name]
        return getattr(import_module(f"striate.{module}"), own)
    raise AttributeError(f"module 'striate' has no attribute {name!r}")
