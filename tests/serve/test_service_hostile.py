"""Uploads that mean harm: the right status, nothing written, and the service goes on."""

import itertools
import json
import os
import socket
import struct
import sys
import zlib

import httpx
import pytest
from running_service import encoded, get, post, request

from striate.serve.http.limits import Limits

BOUNDARY = "xxBOUNDARYxx"
LIMITS = Limits(request_mb=0.2, request_images=5, pixels=200_000, held_mb=1, upload_s=0.4)


class _Writes:
    """Notes every file that this process opens for writing; an audit hook can't be taken out again."""

    def __init__(self):
        self.on = False
        self.paths = []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            writing = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writing or (isinstance(mode, str) and set(mode) & set("wax+")):
                self.paths.append(path)
        elif event in ("os.mkdir", "os.rename", "os.link", "os.symlink", "tempfile.mkstemp"):
            self.paths.append((event, arguments))


_writes = _Writes()


@pytest.fixture(scope="module")
def live(small_engine, small_bundle):
    from running_service import Live

    from striate.serve.http.service import Service

    running = Live(Service(small_engine, small_bundle[1], limits=LIMITS, threads=2))
    yield running
    running.signal()
    running.join()
    running.service.close()


@pytest.fixture(autouse=True)
def unharmed(live):
    """After every test: nothing was written, nothing is held, and a good picture is answered."""
    _writes.paths.clear()
    _writes.on = True
    yield
    _writes.on = False
    assert _writes.paths == []
    answer = post(f"{live.url}/predict", files={"image": encoded()})
    assert answer.status_code == 200
    assert (live.service.active, live.service._waiting, live.service._held.now) == (0, 0, 0)


def test_the_watch_for_writing_sees_writing(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert _writes.paths
    _writes.paths.clear()


def raw(live, data, *, more=(), wait_s=20):
    """Send bytes, return everything that comes back until the service closes or 'Connection' stays quiet."""
    with socket.create_connection(("127.0.0.1", live.port), timeout=wait_s) as connection:
        connection.sendall(data)
        try:
            for piece in more:
                connection.sendall(piece)
        except OSError:  # it was told, and the door was closed
            pass
        return read_answer(connection)


def read_answer(connection):
    """Read one answer; return its status and its record."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)  # not a byte of a second answer
        assert piece, f"closed after {head!r}"
        head += piece
    body = b""
    if b"content-length:" in head.lower():
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            piece = connection.recv(length - len(body))
            assert piece, f"closed after {body!r}"
            body += piece
    return int(head.split()[1]), json.loads(body) if b"application/json" in head else body


def head(*lines, kind="image/png"):
    return "\r\n".join(
        ("POST /predict HTTP/1.1", "Host: x", f"Content-Type: {kind}", *lines, "", "")
    ).encode()


def form(*parts, end=True):
    """A multipart body of (disposition, data)."""
    body = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + data + b"\r\n"
        for disposition, data in parts
    )
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def post_form(live, body, boundary=BOUNDARY):
    kind = f"multipart/form-data; boundary={boundary}"
    return post(f"{live.url}/predict", content=body, headers={"Content-Type": kind})


# -- Too much ------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_huge(live):
    status, record = raw(live, head("Content-Length: 10000000000"))
    assert status == 413
    assert "at most 0.2 MB (200,000 bytes)" in record["error"]


def test_a_huge_body_that_does_not_say_so(live):
    piece = b"%x\r\n" % 50_000 + b"\0" * 50_000 + b"\r\n"
    status, _ = raw(live, head("Transfer-Encoding: chunked"), more=[piece] * 5)
    assert status == 413


def test_a_body_without_end_comes_to_an_end(live):
    endless = itertools.repeat(b"\0" * 50_000)
    try:
        status = post(
            f"{live.url}/predict", content=endless, headers={"Content-Type": "image/png"}
        ).status_code
    except httpx.TransportError:
        status = None  # it was answered, and the door was closed while we still sent
    assert status in (413, None)
    assert live.measure("striate_requests_total", page="/predict", status="413") >= 1


def test_a_client_that_asks_first_is_not_told_to_continue(live):
    data = head("Content-Length: 300000", "Expect: 100-continue")
    assert raw(live, data)[0] == 413
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        picture = encoded()
        connection.sendall(head(f"Content-Length: {len(picture)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(picture)
        assert read_answer(connection)[0] == 200


def test_the_limit_is_exact(live):
    picture = encoded()
    full = picture + b"\0" * (200_000 - len(picture))
    address, kind = f"{live.url}/predict", {"Content-Type": "image/png"}
    assert post(address, content=full, headers=kind).status_code == 200
    assert post(address, content=full + b"\0", headers=kind).status_code == 413


def test_many_files(live):
    five = [("image", (f"{k}.png", encoded(k))) for k in range(5)]
    assert post(f"{live.url}/predict", files=five).status_code == 200
    answer = post(f"{live.url}/predict", files=[*five, ("image", ("6.png", encoded()))])
    assert (answer.status_code, "at most 5 images" in answer.json()["error"]) == (413, True)
    empty = [("image", (f"{k}.png", b"")) for k in range(1000)]
    assert post(f"{live.url}/predict", files=empty).status_code == 413


def png(width, height, data):
    """A PNG with any size in its header."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height", "rows"), [(60_000, 60_000, 100), (2**31 - 1, 1, 1), (10_000, 1_000, 1_000)]
)
def test_decompression_bombs(live, width, height, rows):
    bomb = png(width, height, b"\0" * min((width + 1) * rows, 20_000_000))
    answer = post(f"{live.url}/predict", files={"image": bomb})
    assert answer.status_code == 422
    assert "too large to decode safely" in answer.json()["images"][0]["error"]


def test_pixels_that_never_come(live):
    answer = post(f"{live.url}/predict", files={"image": png(400, 400, b"\0" * 10)})
    assert answer.status_code == 422


@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "zstd"])
def test_packed_bodies_are_not_unpacked(live, packing):
    packed = zlib.compress(b"\0" * 10_000_000)
    answer = post(
        f"{live.url}/predict",
        content=packed,
        headers={"Content-Type": "image/png", "Content-Encoding": packing},
    )
    assert answer.status_code == 415


# -- Too slow ------------------------------------------------------------------------------------------------


def test_a_slow_body(live):
    status, record = raw(live, head("Content-Length: 1000") + b"\x89PNG")
    assert status == 408
    assert "within 0.4 s" in record["error"]


def test_a_body_that_drips(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(head("Content-Length: 100000"))
        connection.settimeout(0.02)
        for _ in range(1000):  # 20 s, did it not end before
            try:
                connection.sendall(b"x")
                found = connection.recv(100)
                break
            except TimeoutError:
                continue
    assert found.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("begun", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow:"])
def test_a_slow_head(live, begun):
    assert raw(live, begun)[0] == 408


def test_a_connection_that_says_nothing_is_closed(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        data = b""
        while piece := connection.recv(1000):
            data += piece
    assert data.startswith(b"HTTP/1.1 408")


def test_a_body_that_nobody_reads_any_more_is_not_waited_for(live):
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(head("Content-Length: 100000", kind="text/plain"))
        assert read_answer(connection)[0] == 415
        closed = b"not yet"
        connection.settimeout(0.02)
        for _ in range(1000):
            try:
                connection.sendall(b"x")
                closed = connection.recv(100)
                break
            except TimeoutError:
                continue
            except OSError:
                closed = b""
                break
        assert closed == b""


# -- Wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 30, 60, 400])
def test_a_torn_picture(live, cut):
    answer = post(f"{live.url}/predict", files={"image": encoded()[:cut]})
    assert answer.status_code == 422
    assert answer.json()["images"][0]["error"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json", "application/x-www-form-urlencoded", "", "/"]
)
def test_a_wrong_type(live, kind):
    answer = post(f"{live.url}/predict", content=encoded(), headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_nothing_at_all(live):
    for kind in ("image/png", "application/octet-stream"):
        answer = post(f"{live.url}/predict", headers={"Content-Type": kind})
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
    assert post_form(live, form()).status_code == 422
    chosen_none = form(('name="image"; filename=""', b""))
    assert post_form(live, chosen_none).status_code == 422


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("C:\\\\Windows\\\\system.ini", "system.ini"),
        ("..", ".."),
        ("a\tb.png", "a\\tb.png"),
        ("café.png", "café.png"),
        ("x" * 5000 + ".png", "x" * 200),
        ("<script>.png", "<script>.png"),
    ],
)
def test_a_path_in_the_file_name(live, given, shown):
    answer = post_form(live, form((f'name="image"; filename="{given}"', encoded())))
    if len(given) > 4000:  # longer than the head of a part may be
        assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert answer.json()["images"][0]["file"] == shown
    else:
        assert len(given) > 4000


def test_a_damaged_form(live):
    good = form(('name="image"; filename="a.png"', encoded()))
    assert post_form(live, good).status_code == 200
    assert post_form(live, good, boundary="other").status_code == 400
    assert post_form(live, good, boundary="").status_code == 400
    assert post_form(live, good, boundary="y" * 1000).status_code == 400
    assert post_form(live, good[:-8]).status_code == 400
    assert post_form(live, good[:200]).status_code == 400
    assert post_form(live, b"no form at all").status_code == 400
    assert post_form(live, form(('name="topk"', b"3"))).status_code == 400
    assert post_form(live, form(("", b"3"))).status_code == 400
    many_heads = f"--{BOUNDARY}\r\n" + "X-A: b\r\n" * 1000 + "\r\n"
    assert post_form(live, many_heads.encode()).status_code == 400
    bare = post(f"{live.url}/predict", content=good, headers={"Content-Type": "multipart/form-data"})
    assert bare.status_code == 400


@pytest.mark.parametrize("topk", ["0", "-1", "x", "", "1.5", "9" * 30, "%00", "1e3", "NaN"])
def test_a_wrong_parameter(live, topk):
    answer = post(f"{live.url}/predict?topk={topk}", files={"image": encoded()})
    assert answer.status_code in ((200,) if topk == "9" * 30 else (400,))


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\0\1\2\3\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # the beginning of TLS
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_http(live, data):
    assert raw(live, data)[0] == 400


def test_wrong_methods_and_pages(live):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"):
        assert request(method, f"{live.url}/predict").status_code == 405
    for page in ("/nothing", "/%2e%2e/etc/passwd", "/predict%00"):
        assert get(f"{live.url}{page}").status_code in (404, 405)


@pytest.mark.parametrize("page", ["/", "/docs", "/health", "/info", "/openapi.json"])
def test_a_head_is_the_answer_without_its_body(live, page):
    whole, alone = get(live.url + page), request("HEAD", live.url + page)
    assert (alone.status_code, alone.content) == (200, b"")
    assert alone.headers["content-length"] == str(len(whole.content))


def test_a_slash_too_many_is_no_redirect(live):
    answer = post(f"{live.url}/predict/", content=encoded(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 404
    assert "POST /predict" in answer.json()["error"]


def test_two_requests_in_one_packet(live):
    picture = encoded()
    one = head(f"Content-Length: {len(picture)}") + picture
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall(one + b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200
        assert read_answer(connection)[0] == 404
