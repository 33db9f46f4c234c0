"""What tests of several rooms use."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def arrays():
    """Return what reads a file of arrays (``.npz``) whole and closes it."""

    def read(path):
        with np.load(path) as file:
            return dict(file)

    return read
