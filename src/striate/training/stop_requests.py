"""How a training is asked to stop: Ctrl-C or SIGTERM, heard between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into a flag for the loop; a second one acts at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before: dict[signal.Signals, Any] = {}

    def request(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, request)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
