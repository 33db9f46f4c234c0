"""How much a client may send to the service, and how long it may take."""

from dataclasses import dataclass, fields

from striate.core.errors import UsageError

MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the service; all are above 0.

    Attributes:
        request_mb: the largest body of one request, in MB (1,000,000 bytes).
        request_images: the most images in one request.
        pixels: the largest width x height of an image, read from its header before it is decoded.
        queue_requests: how many requests may wait for a response; one more is refused.
        held_mb: how many MB of bodies may be in memory, of all requests together; more are refused.
        connections: how many connections may be open.
        upload_s: how long a client may take to send the head of a request, and again its body.
        wait_s: how long a request that has come in may wait for its response.
    """

    request_mb: float = 16.0
    request_images: int = 64
    pixels: int = 50_000_000
    queue_requests: int = 64
    held_mb: float = 256.0
    connections: int = 512
    upload_s: float = 30.0
    wait_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing through."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 < value < float("inf"):
                raise UsageError(f"expected `{field.name}` above 0 and finite, got {value}")
        if self.held_mb < self.request_mb:
            raise UsageError(
                f"expected `held_mb` of at least `request_mb`, got {self.held_mb:g} and {self.request_mb:g}"
            )

    @property
    def request_bytes(self) -> int:
        """The largest body in bytes."""
        return int(self.request_mb * MB)

    @property
    def held_bytes(self) -> int:
        """The most bytes of bodies in memory."""
        return int(self.held_mb * MB)
