"""Settings for every test: one thread for each worker, so that two workers share two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
