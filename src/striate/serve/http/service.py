"""The service: how a request is handled, and the pages."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from striate.core.errors import BrokenImageError
from striate.core.version import __version__
from striate.serve.engine import Engine
from striate.serve.http.batching import Batcher
from striate.serve.http.limits import Limits
from striate.serve.http.measures import CONTENT_TYPE, Measures
from striate.serve.http.messages import PREDICT_BODY, PREDICT_STATUSES, Answer, Health, Info
from striate.serve.http.page import api_page, front_page
from striate.serve.http.upload import Body, ClientGoneError, HeldBytes, Refusal, Upload
from striate.serve.predict import check_top, rank
from striate.weights.bundle import Bundle

_CLIENT_GONE = 499  # nginx's status; nobody receives it, the metrics count it
_RETRY_AFTER_S = 1

_Message = MutableMapping[str, Any]
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Any]


class Service:
    """Answers requests with one network.

    Attributes:
        bundle: what is served.
        limits: what clients may send.
        top: classes in a response unless the client says otherwise.
        measures: the counters.
        stopping: whether new requests are refused.
        active: requests to predict that are being read or answered.
    """

    def __init__(
        self,
        engine: Engine,
        bundle: Bundle,
        *,
        limits: Limits = Limits(),
        top: int = 5,
        wait_ms: float = 2.0,
        threads: int | None = None,
    ) -> None:
        """Start the threads of the batcher.

        Args:
            engine: of ``open_engine`` for this bundle; it stays open when this is closed.
            bundle: gives classes, preprocessing and temperature.
            limits: what clients may send.
            top: classes in a response unless the client says otherwise, at least 1.
            wait_ms: how long a batch waits for images that are being decoded.
            threads: that decode; None takes one for each core.

        Raises:
            UsageError: ``top``, ``wait_ms`` or ``threads`` is out of range.
        """
        check_top(top)
        self.bundle = bundle
        self.limits = limits
        self.top = top
        self.measures = Measures()
        self.stopping = False
        self.active = 0
        self._engine = engine
        self._waiting = 0
        self._held = HeldBytes(self.limits.held_bytes)
        self._batcher = Batcher(
            engine,
            bundle.preprocessing,
            max_pixels=self.limits.pixels,
            wait_ms=wait_ms,
            decoders=threads,
            ran=self.measures.ran,
        )
        watch = self.measures.watch
        watch("striate_requests_active", "Requests to predict being read or answered.", lambda: self.active)
        watch("striate_requests_waiting", "Requests that wait for their answer.", lambda: self._waiting)
        watch("striate_images_waiting", "Images without answer.", lambda: self._batcher.waiting_images)
        watch("striate_held_bytes", "Bodies in memory.", lambda: self._held.now)

    def stop(self) -> None:
        """Refuse new requests from now on; those that have come in are still answered."""
        self.stopping = True

    def close(self) -> None:
        """Answer what waits, then stop the threads. The engine stays open."""
        self.stop()
        self._batcher.close()

    async def predict(self, request: Request, topk: int | None) -> Response:
        """Answer ``POST /predict``."""
        self.active += 1
        started = time.perf_counter()
        body = Body(request.headers, request.receive, self.limits, self._held)
        try:
            if self.stopping:
                raise Refusal(503, "stopping", "the service is stopping: try again in a second")
            self._refuse_if_full()  # before the body is read, which costs least
            uploads = await body.uploads()
            if not uploads:
                raise Refusal(422, "body", "expected at least one image, got an empty body")
            self._refuse_if_full()
            self._waiting += 1
            try:
                answers = await self._answers(uploads, body)
            finally:
                self._waiting -= 1
        except Refusal as refusal:
            self.measures.refusals.labels(refusal.reason).inc()
            return _problem(refusal.status, refusal.message)
        except ClientGoneError:
            return Response(status_code=_CLIENT_GONE)
        finally:
            body.give_back()
            self.active -= 1
        self.measures.request_seconds.observe(time.perf_counter() - started)
        images = [self._record(*one, topk or self.top) for one in zip(uploads, answers, strict=True)]
        broken = sum(image["error"] is not None for image in images)
        self.measures.images.labels("answered").inc(len(images) - broken)
        self.measures.images.labels("broken").inc(broken)
        headers = {"Connection": "close"} if self.stopping else None
        return JSONResponse({"images": images}, 422 if broken == len(images) else 200, headers)

    def info(self) -> dict[str, Any]:
        """Say what is served, and how."""
        bundle, engine = self.bundle, self._engine
        versions = {"striate": __version__, **{name: version(name) for name in ("torch", "numpy", "pillow")}}
        if engine.name == "openvino":
            versions["openvino"] = version("openvino")
        return {
            "net": bundle.net,
            "classes": list(bundle.classes),
            "multi_label": bundle.multi_label,
            "temperature": float(bundle.temperature),
            "preprocessing": bundle.preprocessing.to_json(),
            "engine": engine.name,
            "precision": engine.precision,
            "batch_images": engine.batch_images,
            "topk": self.top,
            "limits": asdict(self.limits),
            "versions": versions,
            "trained_with": {name: str(number) for name, number in bundle.versions.items()},
        }

    def _refuse_if_full(self) -> None:
        if self._waiting >= self.limits.queue_requests:
            raise Refusal(503, "queue", f"{self._waiting} requests are waiting: try again in a second")

    async def _answers(
        self, uploads: list[Upload], body: Body
    ) -> list[NDArray[np.float32] | BrokenImageError]:
        """Wait for the logits of some images; stop when it takes too long or the client is gone."""
        answers = asyncio.gather(
            *(asyncio.wrap_future(self._batcher.submit(one.data, one.file)) for one in uploads),
            return_exceptions=True,
        )
        gone = asyncio.ensure_future(body.client_gone())
        try:
            both: set[asyncio.Future[Any]] = {answers, gone}
            await asyncio.wait(both, timeout=self.limits.wait_s, return_when=asyncio.FIRST_COMPLETED)
            if not answers.done():
                if gone.done():
                    raise ClientGoneError
                raise Refusal(
                    503, "time", f"no answer within {self.limits.wait_s:g} s: try again in a second"
                )
        finally:
            gone.cancel()
            answers.cancel()  # images that still wait are dropped; finished ones are not affected
        found: list[NDArray[np.float32] | BrokenImageError] = []
        for one in answers.result():
            if isinstance(one, BaseException) and not isinstance(one, BrokenImageError):
                raise one
            found.append(one)
        return found

    def _record(
        self, upload: Upload, answer: NDArray[np.float32] | BrokenImageError, top: int
    ) -> dict[str, Any]:
        if isinstance(answer, BrokenImageError):
            return {"file": upload.file, "predictions": [], "error": answer.reason}
        if not np.isfinite(answer).all():
            return {"file": upload.file, "predictions": [], "error": "the network gave no finite numbers"}
        ranked = rank(answer, self.bundle, top)
        predictions = [{"class": name, "probability": round(p, 6)} for name, p in ranked]
        return {"file": upload.file, "predictions": predictions, "error": None}


def make_app(service: Service) -> FastAPI:
    """Put a service behind its pages.

    Nothing is loaded from anywhere else: FastAPI's own page, which takes its scripts from a content delivery
    network, is replaced by a plain one.
    """
    app = FastAPI(
        title="striate serve",
        version=__version__,
        summary=f"Classifies images with {printable_net(service.bundle)}.",
        description='Errors of every page are `{"error": "one line"}`.',
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )

    @app.post(
        "/predict",
        response_model=Answer,
        responses=PREDICT_STATUSES,
        openapi_extra=PREDICT_BODY,
        summary="Classify images",
    )
    async def predict(
        request: Request,
        topk: Annotated[
            int | None, Query(ge=1, description=f"How many classes to name; {service.top} if not given.")
        ] = None,
    ) -> Response:
        return await service.predict(request, topk)

    @app.get(
        "/health",
        response_model=Health,
        responses={503: {"model": Health, "description": "Stopping: send requests elsewhere."}},
        summary="Live and ready?",
        response_description="Takes requests.",
    )
    async def health() -> Response:
        stopping = service.stopping
        record = {"live": True, "ready": not stopping, "stopping": stopping}
        return JSONResponse(record, 503 if stopping else 200)

    @app.get(
        "/info",
        response_model=Info,
        summary="What is served",
        response_description="Network, limits, versions.",
    )
    async def info() -> Response:
        return JSONResponse(service.info())

    @app.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=PlainMetrics,
        response_description="The text format, version 0.0.4.",
    )
    async def metrics() -> Response:
        return PlainMetrics(service.measures.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/", include_in_schema=False)
    async def front(request: Request) -> Response:
        return _page(front_page(service.info(), str(request.base_url)))

    @cache
    def described() -> str:
        return api_page(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _page(described())

    @app.exception_handler(RequestValidationError)
    async def refuse_parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return _problem(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        words = {
            404: "no such page: expected POST /predict or GET /, /docs, /info, /health, /metrics",
            405: "expected POST for /predict and GET for the other pages, got another method",
        }
        return _problem(
            error.status_code, words.get(error.status_code, str(error.detail)), dict(error.headers or {})
        )

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return _problem(500, f"unexpected {type(error).__name__}: a bug in striate; its log has more")

    app.add_middleware(_Counted, measures=service.measures)
    return app


def printable_net(bundle: Bundle) -> str:
    """Name a bundle's network in one line; one that was written in the notation has no name."""
    return bundle.net if "\n" not in bundle.net and len(bundle.net) <= 60 else "a network of your own"


class PlainMetrics(Response):
    """Prometheus's text format."""

    media_type = "text/plain"


class _Counted:
    """Counts every response by page and status."""

    _PAGES = frozenset({"/", "/predict", "/health", "/info", "/metrics", "/docs", "/openapi.json"})

    def __init__(self, app: _App, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        page = scope["path"] if scope["path"] in self._PAGES else "other"
        head_alone = scope["method"] == "HEAD" and page not in ("/predict", "other")
        if head_alone:  # what load balancers ask; every page that may be got has it
            scope = {**scope, "method": "GET"}

        async def counting(message: _Message) -> None:
            if message["type"] == "http.response.start":
                self._measures.requests.labels(page, str(message["status"])).inc()
                message["headers"] = [*message.get("headers", ()), (b"x-content-type-options", b"nosniff")]
            elif head_alone:
                message["body"] = b""
            await send(message)

        await self._app(scope, receive, counting)


def _problem(status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    extra = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else {}
    return JSONResponse({"error": words}, status, {**(headers or {}), **extra})


def _page(html: str) -> Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})
