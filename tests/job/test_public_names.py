import subprocess
import sys

import striate
from striate import job


def test_every_public_name_is_there():
    assert all(callable(getattr(job, name)) for name in job.__all__ if name[0].islower())
    assert sorted(job._HOME) == sorted(job.__all__)
    assert all(getattr(striate, name) is not None for name in striate.__all__)


def test_predicting_loads_neither_training_nor_reports():
    code = (
        "import sys, striate; striate.open_bundle;"
        "print([name for name in sys.modules if name.startswith(('striate.fit', 'striate.score'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
