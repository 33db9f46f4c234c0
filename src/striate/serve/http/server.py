"""Running the service: the socket, patience with slow clients, and a graceful stop."""

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Callable
from types import FrameType

import numpy as np
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from striate.core.errors import UsageError
from striate.serve.engine import Engine
from striate.serve.http.limits import Limits
from striate.serve.http.service import Service, make_app
from striate.weights.bundle import Bundle

_KEEP_ALIVE_S = 5
_LARGEST_PORT = 65535


def serve(
    engine: Engine,
    bundle: Bundle,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    topk: int = 5,
    wait_ms: float = 2.0,
    threads: int | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> bool:
    """Serve a network until SIGTERM or SIGINT, then answer what has come in and return.

    While it stops, new requests are refused with 503. A second signal ends it at once.

    Args:
        engine: of ``open_engine`` for this bundle; it stays open.
        bundle: gives classes, preprocessing and temperature.
        host: the address to listen on.
        port: 0 takes any free one.
        limits: None takes the defaults.
        topk: classes in an answer unless the client says otherwise, at least 1.
        wait_ms: how long a batch waits for images that are being decoded.
        threads: that decode; None takes one for each core.
        ready: told the address when requests are taken.

    Returns:
        Whether every request that had come in was answered; False after a second signal.

    Raises:
        UsageError: the address can't be listened on, or a number makes no sense.
    """
    limits = limits or Limits()
    listening = listen(host, port)
    try:
        warm_up(engine, bundle)
        service = Service(engine, bundle, limits=limits, topk=topk, wait_ms=wait_ms, threads=threads)
    except BaseException:
        listening.close()
        raise
    server = Server(service, lambda: ready(url_of(listening)))
    server.run(sockets=[listening])  # closes the socket
    if server.force_exit:
        return False
    service.close()
    return True


def listen(host: str, port: int) -> socket.socket:
    """Take a port.

    Raises:
        UsageError: it is taken or not allowed, or the address is not this machine's.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise UsageError(f"expected --port of 0 to {_LARGEST_PORT}, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and number
        words = os.strerror(number) if known and number else str(getattr(error, "strerror", error))
        other = "--port (0: any free one)" if number in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise UsageError(
            f"can't listen on {host or repr(host)} port {port} ({words.lower()}): try another {other}"
        ) from None


def url_of(listening: socket.socket) -> str:
    """Return the address that a browser would use."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(host: str) -> bool:
    """Say whether only programs of this machine can reach an address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def warm_up(engine: Engine, bundle: Bundle) -> None:
    """Run the network on batches of 1, 2, 4 ... blank images, so that the first client need not wait."""
    taken, most = bundle.preprocessing, engine.batch_images
    for images in (*(2**k for k in range(most.bit_length()) if 2**k < most), most):
        engine.logits(np.zeros((images, taken.height_px, taken.width_px, taken.channels), np.uint8))


class Server(uvicorn.Server):
    """Uvicorn with a graceful stop: refuse what is new, answer what is there, then close the door."""

    def __init__(self, service: Service, ready: Callable[[], None] = lambda: None) -> None:
        """Prepare to run a service.

        Args:
            service: to run.
            ready: called when requests are taken.
        """
        limits = service.limits
        config = uvicorn.Config(
            make_app(service),
            http=protocol(limits),
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=round(limits.upload_s + limits.wait_s) + 1,
        )
        super().__init__(config)
        self._service = service
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop at the first signal; end at once at the second."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(
                logging.CRITICAL
            )  # it logs what it cuts off as errors
        self._service.stop()

    async def on_tick(self, counter: int) -> bool:
        """Leave the loop when the last request has its answer."""
        if self._service.stopping and not self._service.active:
            self.should_exit = True
        return await super().on_tick(counter)


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Make uvicorn's connections impatient.

    Uvicorn waits for ever for the head of a request, for a body that nobody reads any more, and for a client
    that does not take its answer. Here each of these ends after ``limits.upload_s``. The body of a request
    that is being read has its own limit (``upload.Body``).
    """

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # Head and body of an answer are two packets: without this the second waits 40 ms for the client.
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self.connections) > limits.connections:
                transport.write(_bare(503, "too many connections: try again in a second"))
                transport.close()
            self._watch()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)
                self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            busy = self.cycle is not None and not self.cycle.response_complete
            if busy:
                self._unwatch()
            elif self._timer is None:
                self._timer = self.loop.call_later(limits.upload_s, self._give_up)

        def _unwatch(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if self.cycle is None and not self.transport.is_closing():
                words = f"expected the head of a request within {limits.upload_s:g} s"
                self.transport.write(_bare(408, words))
                self.transport.close()
                self._timer = self.loop.call_later(1.0, self._give_up)
            else:
                self.transport.abort()

    return Impatient


def _bare(status: int, words: str) -> bytes:
    """Write an answer for a connection that never came to a request."""
    body = json.dumps({"error": words}).encode()
    head = {408: "408 Request Timeout", 503: "503 Service Unavailable\r\nRetry-After: 1"}[status]
    return (
        f"HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body
