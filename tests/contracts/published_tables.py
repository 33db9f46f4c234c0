"""What the papers print about each network, transcribed by hand: volumes, parameters, multiply-accumulates.

One ``Published`` per network of ``NETS``, in ``tables/FILE.py`` for the networks of ``nets/FILE.py``. Nothing
there is computed by the code under test.
"""

import importlib
import pkgutil

import tables
from tables.record import Published

TABLES: dict[str, Published] = {}
for module in pkgutil.iter_modules(tables.__path__):
    if module.name != "record":
        TABLES |= importlib.import_module(f"tables.{module.name}").TABLES
