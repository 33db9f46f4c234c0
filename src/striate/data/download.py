"""Fetching one file from the network: resumed after a cut, checked against a published checksum."""

import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

from striate.core.errors import DataError
from striate.core.progress import Progress, silent

_CHUNK_BYTES = 2**18
_ATTEMPTS = 4
_REMOTE = (urllib.error.URLError, ConnectionError, TimeoutError)
_AGENT = "striate (https://pypi.org/project/striate)"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: its file name.
        url: where it is.
        md5: its published MD5 sum, in hexadecimal. It guards against damage; the addresses that have one are
            fixed in striate's code.
    """

    name: str
    url: str
    md5: str


def download(
    remote: RemoteFile, folder: Path, *, progress: Progress = silent, timeout_s: float = 30.0
) -> Path:
    """Download a file into a folder, unless it is there already.

    Bytes go to ``NAME.part``, which a later call goes on with; a whole file with the right checksum is
    renamed.

    Args:
        remote: what to fetch.
        folder: where to put it; made if it does not exist.
        progress: told bytes received and bytes expected.
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
    by_hand = f"get {remote.url} (MD5 {remote.md5}) by other means and put it at {target}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _fetch(remote, part, progress, timeout_s)
                break
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 416 and part.exists():  # the part is as long as the file, or longer
                    if _md5(part) == remote.md5:
                        break
                    part.unlink()
                if (error.code < 500 and error.code != 416) or attempt == _ATTEMPTS:
                    raise
            except (OSError, HTTPException) as error:
                received = part.stat().st_size if part.exists() else 0
                if attempt == _ATTEMPTS or received == 0 or _is_local(error):
                    raise
        found = _md5(part)
        if found != remote.md5:
            part.unlink()
            raise DataError(f"{remote.name}: expected MD5 {remote.md5}, got {found}: try again, or {by_hand}")
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


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
