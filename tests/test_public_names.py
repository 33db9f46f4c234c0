import subprocess
import sys

import striate


def test_every_public_name_is_there():
    assert all(getattr(striate, name) is not None for name in striate.__all__)


def test_predicting_loads_neither_training_nor_reports():
    code = (
        "import sys, striate; striate.open_bundle;"
        "print([name for name in sys.modules if name.startswith(('striate.training', 'striate.report'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
