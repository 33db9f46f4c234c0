"""Reading the images of a request: into memory only, and never more than the limits allow.

The limits hold while the body comes in: a client that sends too much or too slowly is refused at once.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from striate.data.source import printable
from striate.serve.http.limits import Limits

Reason = Literal["queue", "memory", "time", "stopping", "size", "type", "body"]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_LONGEST_NAME = 200
_LONGEST_BOUNDARY = 200
_TAKES = "send multipart/form-data with files, or one image as image/jpeg, image/png ..."


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        reason: one word for the measures.
        message: one line for the client.
    """

    def __init__(self, status: int, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason: Reason = reason
        self.message = message


class ClientGoneError(Exception):
    """The client closed the connection before its response."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One image of a request.

    Attributes:
        file: its name for the response, at most 200 printable characters without folders; it is never opened.
        data: its bytes.
    """

    file: str
    data: bytes


class HeldBytes:
    """Counts the bytes of all requests in memory."""

    def __init__(self, most: int) -> None:
        """Count from 0 to at most ``most``."""
        self.most = most
        self.now = 0

    def take(self, number: int) -> None:
        """Count more.

        Raises:
            Refusal: that would be too many; nothing is counted then.
        """
        if self.now + number > self.most:
            raise Refusal(503, "memory", "too many large requests at once: try again in a second")
        self.now += number

    def give_back(self, number: int) -> None:
        """Count fewer."""
        self.now -= number


class Body:
    """Reads one request's body and gives its bytes back to ``held`` when the request is over."""

    def __init__(self, headers: Mapping[str, str], receive: Receive, limits: Limits, held: HeldBytes) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            headers: of the request, by name in lower case.
            receive: ASGI's.
            limits: what is allowed.
            held: counts the bytes of all requests.
        """
        self._headers = headers
        self._receive = receive
        self._limits = limits
        self._held = held
        self._size = 0
        self._more = True

    async def uploads(self) -> list[Upload]:
        """Read the body to its end and return the images in it, in their order.

        Raises:
            Refusal: too large, too slow, of a type that is not taken, or damaged.
            ClientGoneError: the connection was closed.
        """
        kind, options = parse_options_header(self._headers.get("content-type"))
        packed = self._headers.get("content-encoding", "identity").strip().lower()
        if packed not in ("", "identity"):
            raise Refusal(415, "type", f"expected a body that is not packed, got {packed[:20]!r}")
        multipart = kind == b"multipart/form-data"
        if not (multipart or kind.startswith(b"image/") or kind == b"application/octet-stream"):
            got = printable(kind.decode("latin-1"))[:60] or "none"
            raise Refusal(415, "type", f"expected images, got a body of type {got}: {_TAKES}")
        form = _Form(_boundary(options), self._limits.request_images) if multipart else None
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._limits.request_bytes):
            raise self._too_large()
        whole = bytearray()
        try:
            async with asyncio.timeout(self._limits.upload_s):
                while (chunk := await self._next()) is not None:
                    if form is None:
                        whole += chunk
                    else:
                        form.write(chunk)
        except TimeoutError:
            raise Refusal(
                408, "time", f"expected the whole body within {self._limits.upload_s:g} s: try again"
            ) from None
        if form is not None:
            return form.uploads()
        return [Upload("image", bytes(whole))] if whole else []

    async def client_gone(self) -> None:
        """Wait until the client closes the connection; only after the whole body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def give_back(self) -> None:
        """Report that the bytes have left memory."""
        self._held.give_back(self._size)
        self._size = 0

    async def _next(self) -> bytes | None:
        """Return the next piece of the body, None after the last."""
        if not self._more:
            return None
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        if self._size + len(chunk) > self._limits.request_bytes:
            raise self._too_large()
        self._held.take(len(chunk))
        self._size += len(chunk)
        self._more = bool(message.get("more_body", False))
        return chunk

    def _too_large(self) -> Refusal:
        most = f"{self._limits.request_mb:g} MB ({self._limits.request_bytes:,} bytes)"
        return Refusal(413, "size", f"expected a body of at most {most}, got more: send fewer images at once")


class _Form:
    """Takes a ``multipart/form-data`` body apart while it comes in."""

    def __init__(self, boundary: bytes, most_images: int) -> None:
        self._most = most_images
        self._found: list[Upload] = []
        self._name: str | None = None
        self._data = bytearray()
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._name_part,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._end_all,
            },
        )

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            reason = printable(str(error))[:100]
            raise Refusal(
                400, "body", f"the multipart body is damaged ({reason}): its boundary may be wrong"
            ) from None

    def uploads(self) -> list[Upload]:
        if not self._ended:
            raise Refusal(400, "body", "the multipart body ends before its last boundary: send it whole")
        return self._found

    def _begin(self) -> None:
        self._headers = {}
        self._header = self._value = b""
        self._name = None
        self._data = bytearray()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _name_part(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"filename" not in options:
            field = printable(options.get(b"name", b"").decode("utf-8", "replace"))[:60]
            raise Refusal(
                400, "body", f"the part {field!r} is no file: send files alone, settings go into the address"
            )
        self._name = file_name(options[b"filename"].decode("utf-8", "replace"))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if not self._data and len(self._found) >= self._most:
            raise Refusal(413, "size", f"expected at most {self._most} images in a request: send several")
        self._data += data[start:end]

    def _end(self) -> None:
        if self._data or self._name:  # a browser's form sends a nameless empty file where none was chosen
            if len(self._found) >= self._most:
                raise Refusal(413, "size", f"expected at most {self._most} images in a request: send several")
            self._found.append(Upload(self._name or f"image {len(self._found) + 1}", bytes(self._data)))
        self._data = bytearray()

    def _end_all(self) -> None:
        self._ended = True


def file_name(given: str) -> str:
    """Make a client's name of a file fit for a response: no folders, printable, at most 200 characters.

    Args:
        given: anything.

    Returns:
        What comes after the last slash or backslash, with control characters written as escapes; may be
        empty.
    """
    return printable(re.split(r"[/\\]", given)[-1])[:_LONGEST_NAME]


def _boundary(options: Mapping[bytes, bytes]) -> bytes:
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
        raise Refusal(400, "body", "expected multipart/form-data; boundary=..., got no usable boundary")
    return boundary
