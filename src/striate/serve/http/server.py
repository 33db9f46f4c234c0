"""Running the service: the socket, timeouts for slow clients, and a graceful stop."""

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

from striate.core.choices import EngineChoice
from striate.core.compute import Compute
from striate.core.errors import UsageError
from striate.core.progress import Progress, silent
from striate.serve.engine import Engine, engine_for
from striate.serve.http.limits import Limits
from striate.serve.http.service import Service, make_app
from striate.weights.bundle import Bundle
from striate.weights.open import NetworkChoice, open_network

_KEEP_ALIVE_S = 5
_LARGEST_PORT = 65535


def serve(
    network: NetworkChoice,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    engine: EngineChoice = "auto",
    compute: Compute = Compute(),
    limits: Limits = Limits(),
    top: int = 5,
    wait_ms: float = 2.0,
    ready: Callable[[str, Engine], None] = lambda url, engine: None,
    progress: Progress = silent,
) -> bool:
    """Serve a network until SIGTERM or SIGINT, then answer what has come in and return.

    While it stops, new requests are refused with 503. A second signal ends it at once.

    Args:
        network: a bundle, a run folder, an open network, or a name (random weights).
        host: the address to listen on.
        port: 0 takes any free one.
        engine: see ``open_engine``.
        compute: see ``open_engine``; ``threads`` also decode.
        limits: what clients may send.
        top: classes in a response unless the client says otherwise, at least 1.
        wait_ms: how long a batch waits for images that are being decoded.
        ready: gets the address and the engine when requests are taken.
        progress: see ``open_engine``.

    Returns:
        Whether every request that had come in was answered; False after a second signal.

    Raises:
        UsageError: the address can't be listened on, or a number is out of range.
        BundleError: the bundle is damaged.
    """
    opened = open_network(network)
    with engine_for(opened, engine=engine, compute=compute, progress=progress) as running:
        listening = listen(host, port)
        try:
            warm_up(running, opened.bundle)
            service = Service(
                running, opened.bundle, limits=limits, top=top, wait_ms=wait_ms, threads=compute.threads
            )
        except BaseException:
            listening.close()
            raise
        server = Server(service, lambda: ready(url_of(listening), running))
        server.run(sockets=[listening])  # closes the socket
        if server.force_exit:
            return False
        service.close()
        return True


def listen(host: str, port: int) -> socket.socket:
    """Open a port.

    Raises:
        UsageError: it is in use or not allowed, or the address is not this machine's.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise UsageError(f"expected `port` of 0 to {_LARGEST_PORT}, got {port}")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        known = isinstance(error, OSError) and not isinstance(error, socket.gaierror) and number
        words = os.strerror(number) if known and number else str(getattr(error, "strerror", error))
        other = "`port` (0: any free one)" if number in (errno.EADDRINUSE, errno.EACCES) else "`host`"
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
    """Run the network on batches of 1, 2, 4 ... blank images, so that the first client does not wait."""
    taken, most = bundle.preprocessing, engine.batch_images
    for images in (*(2**k for k in range(most.bit_length()) if 2**k < most), most):
        engine.logits(np.zeros((images, taken.height_px, taken.width_px, taken.channels), np.uint8))


class Server(uvicorn.Server):
    """Uvicorn with a graceful stop: refuse new requests, answer those that have come in, then close."""

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
        """Listen, then call ``ready``."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to stop at the first signal; end at once at the second."""
        if self._service.stopping:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(
                logging.CRITICAL
            )  # it logs what it cuts off as errors
        self._service.stop()

    async def on_tick(self, counter: int) -> bool:
        """Leave the loop after the last response."""
        if self._service.stopping and not self._service.active:
            self.should_exit = True
        return await super().on_tick(counter)


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """Give uvicorn's connections timeouts.

    Uvicorn waits for ever for the head of a request, for a body that nobody reads any more, and for a client
    that does not take its response. Here each of these ends after ``limits.upload_s``. The body of a request
    that is being read has its own limit (``upload.Body``).
    """

    class WithTimeouts(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            # Head and body of a response are two packets: without this the second waits 40 ms for the client.
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

    return WithTimeouts


def _bare(status: int, words: str) -> bytes:
    """Write a response for a connection that never sent a whole request."""
    body = json.dumps({"error": words}).encode()
    head = {408: "408 Request Timeout", 503: "503 Service Unavailable\r\nRetry-After: 1"}[status]
    return (
        f"HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode() + body
