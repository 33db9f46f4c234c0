"""Downloads from a server on this machine that misbehaves on purpose."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from striate.core.errors import DataError, UsageError
from striate.data.download import RemoteFile, announced_sha256, download

CONTENT = random.Random(3).randbytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """What the server does, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.cut_after: list[int] = []  # bytes after which each of the next answers breaks off
        self.ranges = True
        self.status = 0
        self.url = ""
        self.heads: dict[str, dict[str, str]] = {}  # headers of the answers to HEAD, by path


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            server.asked.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
            if server.status or start >= len(CONTENT):
                self.send_error(server.status or 416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
            body = CONTENT[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = server.cut_after.pop(0) if server.cut_after else len(body)
            self.wfile.write(body[:cut])

        def do_HEAD(self) -> None:
            server.asked.append(self.path)
            headers = server.heads.get(self.path)
            if headers is None:
                self.send_error(404)
                return
            self.send_response(307 if "Location" in headers else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/set.bin"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


def remote(server: Server, md5: str = MD5) -> RemoteFile:
    return RemoteFile("set.bin", server.url, f"md5:{md5}")


def test_a_whole_file(server: Server, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = download(remote(server), tmp_path / "new", progress=lambda *what: told.append(what[:3]))
    assert path == tmp_path / "new" / "set.bin"
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("downloading set.bin", len(CONTENT), len(CONTENT))
    assert [one.name for one in path.parent.iterdir()] == ["set.bin"]
    download(remote(server), tmp_path / "new")
    assert server.asked == [None]


def test_a_cut_is_resumed_at_once(server: Server, tmp_path: Path) -> None:
    server.cut_after = [300_000, 1_000]
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=301000-"]


def test_a_later_call_resumes(server: Server, tmp_path: Path) -> None:
    server.cut_after = [200_000, 0, 0, 0]
    with pytest.raises(DataError, match="can't be downloaded"):
        download(remote(server), tmp_path)
    assert (tmp_path / "set.bin.part").read_bytes() == CONTENT[:200_000]
    assert not (tmp_path / "set.bin").exists()
    server.asked.clear()
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=200000-"]


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1000])
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_part_that_was_whole_already(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert download(remote(server), tmp_path).read_bytes() == CONTENT
    (tmp_path / "set.bin").unlink()
    (tmp_path / "set.bin.part").write_bytes(CONTENT + b"too long")
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_part_or_file_never_becomes_the_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "set.bin.part").write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match=f"expected MD5 {MD5}"):
        download(remote(server), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert download(remote(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500])
def test_what_to_do_by_hand(server: Server, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(DataError) as caught:
        download(remote(server), tmp_path)
    message = str(caught.value)
    for part in ("set.bin", MD5, server.url, str(tmp_path / "set.bin")):
        assert part in message
    assert len(message.splitlines()) == 1


def test_offline(tmp_path: Path) -> None:
    with serving() as gone:
        pass  # its port refuses from now on
    with pytest.raises(DataError, match=r"can't be downloaded \(.*refused\)") as caught:
        download(remote(gone), tmp_path)
    assert MD5 in str(caught.value)
    assert str(tmp_path / "set.bin") in str(caught.value)


@pytest.mark.parametrize("length", [8, 20, 64])
def test_a_sha256_or_its_first_digits(server: Server, tmp_path: Path, length: int) -> None:
    one = RemoteFile("set.bin", server.url, f"sha256:{SHA256[:length]}")
    assert download(one, tmp_path).read_bytes() == CONTENT
    assert one.checksum_text == f"SHA-256 {'' if length == 64 else 'beginning with '}{SHA256[:length]}"


def test_a_wrong_beginning_of_a_sha256(server: Server, tmp_path: Path) -> None:
    wrong = "f" * 8 if not SHA256.startswith("ffffffff") else "0" * 8
    with pytest.raises(DataError, match=f"expected SHA-256 beginning with {wrong}, got {SHA256}"):
        download(RemoteFile("set.bin", server.url, f"sha256:{wrong}"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "checksum",
    ["", MD5, "md5:", "md5:1234567", "sha1:12345678", f"md5:{MD5}0", "sha256:1234567G", "md5:ABCDEF12"],
)
def test_checksums_that_could_not_be_compared(checksum: str) -> None:
    with pytest.raises(UsageError, match="expected a checksum like"):
        RemoteFile("set.bin", "http://localhost/set.bin", checksum)


def test_the_announced_sha256_is_read_before_the_redirect_to_another_site(server: Server) -> None:
    store = {"Location": "http://127.0.0.1:1/never-asked"}
    server.heads["/set.bin"] = store | {"X-Linked-ETag": f'"{SHA256}"', "ETag": '"0123"'}
    assert announced_sha256(server.url) == SHA256
    server.heads["/set.bin"] = store | {"ETag": f'W/"{SHA256.upper()}"'}
    assert announced_sha256(server.url) == SHA256


def test_redirects_within_the_site_are_followed_for_the_announced_sha256(server: Server) -> None:
    server.heads["/set.bin"] = {"Location": "/renamed.bin"}
    server.heads["/renamed.bin"] = {"X-Linked-ETag": SHA256}
    assert announced_sha256(server.url) == SHA256
    assert server.asked == ["/set.bin", "/renamed.bin"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": '"686897696a7c876b7e"'},
        {"Location": "http://127.0.0.1:1/elsewhere"},
        {"Location": "/set.bin"},
    ],
)
def test_no_announced_sha256(server: Server, headers: dict[str, str]) -> None:
    server.heads["/set.bin"] = headers
    with pytest.raises(DataError, match="expected the server to name the file's SHA-256"):
        announced_sha256(server.url)


def test_a_file_that_is_not_there_has_no_announced_sha256(server: Server) -> None:
    with pytest.raises(OSError, match="404"):
        announced_sha256(server.url)
