"""Pictures, an engine with a gate and a running service for the tests of ``serve.http``."""

import io
import signal
import threading
import time

import httpx
import numpy as np
from PIL import Image

from striate.serve.http.server import Server, listen

PATIENCE_S = 30  # before a test that waits for something gives up


def encoded(seed=0, size=(40, 40), kind="png"):
    """A picture of noise as a file."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def wait_until(condition):
    """Wait for something that is certain to come; fail if it does not."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.005)


def request(method, url, **content):
    """Ask as ``httpx.request`` does, without the tenth of a second that it takes to load certificates."""
    return httpx.request(method, url, verify=False, trust_env=False, timeout=PATIENCE_S, **content)


def get(url):
    """Ask for a page."""
    return request("GET", url)


def post(url, **content):
    """Send something."""
    return request("POST", url, **content)


class GatedEngine:
    """An engine that answers nothing before its gate is opened; logits are (mean of the pixels, 0, 1)."""

    name, precision = "torch", "fp32"

    def __init__(self, batch_images=4):
        self.batch_images = batch_images
        self.gate = threading.Event()
        self.batches = []
        self.error = None

    def logits(self, pixels):
        self.batches.append(len(pixels))
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        means = pixels.reshape(len(pixels), -1).mean(1)
        return np.stack([means, 0 * means, 0 * means + 1], 1).astype(np.float32)

    def stream(self, batches):
        raise NotImplementedError

    def close(self):
        pass


class Live:
    """A service behind real sockets, in a thread."""

    def __init__(self, service):
        self.service = service
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        up = threading.Event()
        self.server = Server(service, up.set)
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()
        assert up.wait(PATIENCE_S)

    def signal(self):
        self.server.handle_exit(signal.SIGTERM, None)

    def join(self):
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()

    def measure(self, name, **labels):
        value = self.service.measures._registry.get_sample_value(name, labels)
        return 0 if value is None else value
