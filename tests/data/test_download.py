"""Downloads from a server on this machine that misbehaves on purpose."""

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from striate.core.errors import DataError
from striate.data.download import RemoteFile, download

CONTENT = random.Random(3).randbytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """What the server does, and what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.cut_after: list[int] = []  # bytes after which each of the next answers breaks off
        self.ranges = True
        self.status = 0
        self.url = ""


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
    return RemoteFile("set.bin", server.url, md5)


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
