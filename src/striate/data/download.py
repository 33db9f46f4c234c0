"""Fetching one file from the network: resumed after a cut, checked against a published checksum."""

import hashlib
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

from striate.core.errors import DataError, UsageError
from striate.core.progress import Progress, silent

_CHUNK_BYTES = 2**18
_ATTEMPTS = 4
_AGENT = "striate"
_HEX_DIGITS = {"md5": 32, "sha256": 64}
_SHORTEST_PREFIX = 8
_NAMES = {"md5": "MD5", "sha256": "SHA-256"}
_HOPS = 5


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: its file name.
        url: where it is.
        checksum: ``md5:`` or ``sha256:`` and the published sum in hexadecimal, or its first digits, at least
            8. It guards against damage; the addresses are fixed in striate's code.
    """

    name: str
    url: str
    checksum: str

    def __post_init__(self) -> None:
        """Refuse a checksum that could not be compared."""
        algorithm, _, digits = self.checksum.partition(":")
        if not (
            algorithm in _HEX_DIGITS
            and _SHORTEST_PREFIX <= len(digits) <= _HEX_DIGITS[algorithm]
            and re.fullmatch("[0-9a-f]+", digits)
        ):
            raise UsageError(
                f"{self.name}: expected a checksum like md5:0123abcd or sha256:0123abcd (at least"
                f" {_SHORTEST_PREFIX} small hexadecimal digits), got {self.checksum!r}: copy it from the"
                " publisher"
            )

    @property
    def checksum_text(self) -> str:
        """The checksum in words, such as ``MD5 f68b3c2d...`` or ``SHA-256 beginning with 7be5be79``."""
        algorithm, _, digits = self.checksum.partition(":")
        beginning = "" if len(digits) == _HEX_DIGITS[algorithm] else "beginning with "
        return f"{_NAMES[algorithm]} {beginning}{digits}"


def download(
    remote: RemoteFile, folder: Path, *, progress: Progress = silent, timeout_s: float = 30.0
) -> Path:
    """Download a file into a folder, unless it is there already.

    Bytes go to ``NAME.part``, which a later call continues; a whole file with the right checksum is
    renamed.

    Args:
        remote: what to fetch.
        folder: where to put it; made if it does not exist.
        progress: called with bytes received and bytes expected.
        timeout_s: how long to wait for the server each time.

    Returns:
        The path of the file.

    Raises:
        DataError: the network or the disk failed, or the checksum is wrong. The one line names the file, its
            checksum and where to put it by hand.
    """
    target = folder / remote.name
    if target.exists():
        return target
    part = folder / f"{remote.name}.part"
    by_hand = f"get {remote.url} ({remote.checksum_text}) by other means and put it at {target}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _fetch(remote, part, progress, timeout_s)
                break
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416 and part.exists():  # the part is as long as the file, or longer
                    if _sum(part, remote).startswith(remote.checksum):
                        break
                    part.unlink()
                if (error.code < 500 and error.code != 416) or attempt == _ATTEMPTS:
                    raise
            except (OSError, HTTPException) as error:
                received = part.stat().st_size if part.exists() else 0
                if attempt == _ATTEMPTS or received == 0 or _is_local(error):
                    raise
        found = _sum(part, remote)
        if not found.startswith(remote.checksum):
            part.unlink()
            raise DataError(
                f"{remote.name}: expected {remote.checksum_text}, got {found.partition(':')[2]}:"
                f" try again, or {by_hand}"
            )
        with open(part, "rb") as whole:
            os.fsync(whole.fileno())
        os.replace(part, target)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{remote.name}: can't be downloaded ({' '.join(str(reason).split())}): {by_hand}"
        ) from error
    return target


def _is_local(error: BaseException) -> bool:
    """Tell whether trying again is no use, because this machine's disk refused."""
    return isinstance(error, OSError) and not isinstance(
        error, urllib.error.URLError | ConnectionError | TimeoutError
    )


def _fetch(remote: RemoteFile, part: Path, progress: Progress, timeout_s: float) -> None:
    """Go on where the part ends; ``ConnectionError`` if the server stops before its announced end."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        remote.url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    )
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range", "")) == have
        if response.status == 206 and not resumed:
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another range than was asked for")
        received = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = received + int(length) if length and length.isdigit() else None
        with open(part, "ab" if resumed else "wb") as file:
            received = _copy(response, file, received, total, remote.name, progress)
    if total is not None and received < total:
        raise ConnectionError(f"the connection ended after {received:,} of {total:,} bytes")


def _copy(
    response: IO[bytes], file: IO[bytes], received: int, total: int | None, name: str, progress: Progress
) -> int:
    while chunk := response.read(_CHUNK_BYTES):
        file.write(chunk)
        received += len(chunk)
        progress(f"downloading {name}", received, total)
    return received


def _starts_at(content_range: str) -> int:
    """Read the first byte's number from ``bytes 200-1000/67589``; -1 if there is none."""
    start = content_range.removeprefix("bytes ").split("-", 1)[0]
    return int(start) if start.isdigit() else -1


def _sum(path: Path, remote: RemoteFile) -> str:
    """Compute the sum that ``remote`` publishes, written in the same way."""
    algorithm = remote.checksum.partition(":")[0]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def announced_sha256(url: str, *, timeout_s: float = 30.0) -> str:
    """Ask a server for the SHA-256 of a large file, which it names before it redirects to the file's store.

    Args:
        url: where the file is; redirects within the same site are followed, others are not.
        timeout_s: how long to wait for the server each time.

    Returns:
        64 hexadecimal digits, from the header ``X-Linked-ETag`` or else ``ETag``.

    Raises:
        DataError: the server names no SHA-256.
        OSError: the network failed, or the server refused (``urllib.error.URLError`` is one).
    """
    opener = urllib.request.build_opener(_NoRedirect)
    for _ in range(_HOPS):
        request = urllib.request.Request(
            url, method="HEAD", headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"}
        )
        try:
            with opener.open(request, timeout=timeout_s) as response:
                headers = response.headers
        except urllib.error.HTTPError as error:
            error.close()
            if not 300 <= error.code < 400:
                raise
            headers = error.headers
        for name in ("X-Linked-ETag", "ETag"):
            tag = (headers.get(name) or "").removeprefix("W/").strip('"').lower()
            if re.fullmatch("[0-9a-f]{64}", tag):
                return tag
        target = urljoin(url, headers.get("Location") or url)
        if target == url or urlsplit(target)[:2] != urlsplit(url)[:2]:
            break
        url = target
    raise DataError(f"{url}: expected the server to name the file's SHA-256, got none: pass a file instead")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Give redirects back as errors, so that their headers can be read."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None
