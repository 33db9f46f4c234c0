"""What the service counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The counters of one service; nothing is registered outside of it.

    Attributes:
        requests: by page and status; every request that got a response.
        refusals: of ``POST /predict`` by reason.
        images: by what became of them, ``answered`` or ``broken``.
        request_seconds: from the head of a ``POST /predict`` to its response.
        batch_images: images in a batch.
        engine_seconds: of one batch in the network.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "striate_requests", "Requests that got an answer.", ["page", "status"], registry=self._registry
        )
        self.refusals = Counter(
            "striate_refusals", "Requests to predict that were refused.", ["reason"], registry=self._registry
        )
        self.images = Counter(
            "striate_images", "Images that got an answer.", ["outcome"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "striate_request_seconds",
            "From the head of a request to predict to its answer.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batch_images = Histogram(
            "striate_batch_images", "Images in a batch.", buckets=_IMAGES, registry=self._registry
        )
        self.engine_seconds = Histogram(
            "striate_engine_seconds",
            "One batch in the network.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        ProcessCollector(registry=self._registry)

    def watch(self, name: str, words: str, value: Callable[[], float]) -> None:
        """Publish a number that is read when the page is requested.

        Args:
            name: in Prometheus.
            words: what it is.
            value: returns it.
        """
        Gauge(name, words, registry=self._registry).set_function(value)

    def ran(self, images: int, seconds: float) -> None:
        """Count one batch."""
        self.batch_images.observe(images)
        self.engine_seconds.observe(seconds)

    def text(self) -> bytes:
        """Write everything in Prometheus's text format, version 0.0.4."""
        return generate_latest(self._registry)
