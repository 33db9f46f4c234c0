"""Too many requests, clients that go away, and a stop: every request is answered or refused."""

import asyncio
import socket
import threading

import httpx
import pytest
from running_service import encoded, get, post, wait_until

from striate.core.errors import UsageError
from striate.serve.http import batching
from striate.serve.http.limits import Limits
from striate.serve.http.server import listen
from striate.serve.http.service import Service

QUEUE = 4


def ask_all(live, number):
    """Send requests at once; return the statuses as they come, and the thread that sends."""
    answers = []

    async def one(client, k):
        answers.append(await client.post(f"{live.url}/predict", files={"image": encoded(k)}))

    async def all_of_them():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=60, limits=limits, verify=False) as client:
            await asyncio.gather(*(one(client, k) for k in range(number)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()))
    thread.start()
    return answers, thread


def test_four_times_too_many(start, gated, small_bundle):
    live = start(gated, small_bundle[1], limits=Limits(queue_requests=QUEUE, wait_s=60))
    answers, thread = ask_all(live, 4 * QUEUE)
    wait_until(lambda: len(answers) == 3 * QUEUE)  # nothing is answered before the gate is open
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    gated.gate.set()
    thread.join()
    assert sorted(answer.status_code for answer in answers) == [200] * QUEUE + [503] * 3 * QUEUE
    assert sum(gated.batches) == QUEUE
    answers, thread = ask_all(live, QUEUE)  # it has recovered
    thread.join()
    assert [answer.status_code for answer in answers] == [200] * QUEUE
    assert live.measure("striate_requests_total", page="/predict", status="200") == 2 * QUEUE
    assert live.measure("striate_requests_total", page="/predict", status="503") == 3 * QUEUE
    assert live.measure("striate_refusals_total", reason="queue") == 3 * QUEUE
    assert live.measure("striate_images_total", outcome="answered") == 2 * QUEUE


def test_a_flood_of_large_bodies_is_bounded(start, gated, small_bundle):
    gated.gate.set()
    live = start(gated, small_bundle[1], limits=Limits(request_mb=0.1, held_mb=0.25, upload_s=60))
    heads = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", live.port), timeout=30) for _ in range(3)]
    for connection in slow[:2]:
        connection.sendall(heads + b"\0" * 99_000)
    wait_until(lambda: live.measure("striate_held_bytes") == 198_000)
    slow[2].sendall(heads + b"\0" * 99_000)
    assert slow[2].recv(1000).startswith(b"HTTP/1.1 503")
    assert live.measure("striate_refusals_total", reason="memory") == 1
    for connection in slow:
        connection.close()
    wait_until(lambda: live.measure("striate_held_bytes") == 0)
    assert post(f"{live.url}/predict", files={"image": encoded()}).status_code == 200


def test_an_answer_that_takes_too_long(start, gated, small_bundle):
    live = start(gated, small_bundle[1], limits=Limits(wait_s=0.2))
    answers, thread = ask_all(live, 6)
    thread.join()
    assert [answer.status_code for answer in answers] == [503] * 6
    assert "no answer within 0.2 s" in answers[0].json()["error"]
    gated.gate.set()
    wait_until(lambda: live.service._batcher.waiting_images == 0)
    assert post(f"{live.url}/predict", files={"image": encoded()}).status_code == 200


def test_clients_that_go_away(start, gated, small_bundle, monkeypatch):
    monkeypatch.setattr(batching, "cores", lambda: 1)  # one thread runs the network
    live = start(gated, small_bundle[1])
    blocking = []
    for _ in range(live.service._batcher.batch_images * 8):
        connection = socket.create_connection(("127.0.0.1", live.port), timeout=30)
        picture = encoded()
        head = (
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(picture)}"
        )
        connection.sendall(f"{head}\r\n\r\n".encode() + picture)
        blocking.append(connection)
    wait_until(lambda: live.service._waiting == len(blocking))
    wait_until(lambda: len(gated.batches) == 1)  # and is at the gate
    for connection in blocking:
        connection.close()
    wait_until(lambda: live.service.active == 0)
    assert live.service._held.now == 0
    batcher = live.service._batcher
    wait_until(lambda: all(job.answer.cancelled() for job in batcher._encoded))
    wait_until(lambda: all(job.answer.cancelled() for job, _ in batcher._decoded))
    before = sum(gated.batches)
    gated.gate.set()
    wait_until(lambda: live.service._batcher.waiting_images == 0)
    assert sum(gated.batches) == before < len(blocking)  # those that waited were dropped
    assert live.measure("striate_requests_total", page="/predict", status="499") == len(blocking)
    assert post(f"{live.url}/predict", files={"image": encoded()}).status_code == 200


def test_a_client_that_goes_away_while_it_sends(start, gated, small_bundle):
    live = start(gated, small_bundle[1])
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=30)
    connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n")
    connection.sendall(b"Content-Length: 1000\r\n\r\n12345")
    wait_until(lambda: live.service.active == 1)
    connection.close()
    wait_until(lambda: live.service.active == 0)
    assert live.service._held.now == 0


def test_too_many_connections(start, gated, small_bundle):
    live = start(gated, small_bundle[1], limits=Limits(connections=3))
    open_ones = [socket.create_connection(("127.0.0.1", live.port), timeout=30) for _ in range(3)]
    wait_until(lambda: len(live.server.server_state.connections) == 3)
    with socket.create_connection(("127.0.0.1", live.port), timeout=30) as fourth:
        assert fourth.recv(1000).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
    for connection in open_ones:
        connection.close()
    wait_until(lambda: not live.server.server_state.connections)
    assert get(f"{live.url}/health").status_code == 200


# -- Stopping ------------------------------------------------------------------------------------------------


def test_a_graceful_stop_answers_what_has_come_in(start, gated, small_bundle):
    live = start(gated, small_bundle[1], limits=Limits(wait_s=60))
    answers, thread = ask_all(live, 3)
    wait_until(lambda: live.service._waiting == 3)
    late = socket.create_connection(("127.0.0.1", live.port), timeout=30)  # is sending when the stop comes
    picture = encoded(9)
    late.sendall(
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        + f"Content-Length: {len(picture)}\r\n\r\n".encode()
        + picture[:100]
    )
    wait_until(lambda: live.service.active == 4)
    live.signal()
    refused = post(f"{live.url}/predict", files={"image": encoded()})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert get(f"{live.url}/health").status_code == 503
    assert answers == []
    late.sendall(picture[100:])
    wait_until(lambda: live.service._waiting == 4)
    gated.gate.set()
    thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert {answer.headers["Connection"] for answer in answers} == {"close"}
    assert late.recv(1000).startswith(b"HTTP/1.1 200")
    late.close()
    live.join()
    with pytest.raises(httpx.ConnectError):
        get(f"{live.url}/health")


def test_a_second_signal_ends_it_at_once(start, gated, small_bundle):
    live = start(gated, small_bundle[1], limits=Limits(wait_s=60))
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=30)
    picture = encoded()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(picture)}"
    connection.sendall(f"{head}\r\n\r\n".encode() + picture)
    wait_until(lambda: live.service._waiting == 1)
    live.signal()
    assert live.thread.is_alive()
    live.signal()
    live.join()  # with the gate still closed
    connection.close()


def test_an_idle_service_stops(start, gated, small_bundle):
    live = start(gated, small_bundle[1])
    with httpx.Client(verify=False) as client:  # its connection stays open
        assert client.get(f"{live.url}/health").status_code == 200
        live.signal()
        live.join()


# -- Limits that make no sense -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("queue_requests", {"queue_requests": 0}),
        ("wait_s", {"wait_s": -1}),
        ("upload_s", {"upload_s": float("nan")}),
        ("request_mb", {"request_mb": float("inf")}),
    ],
)
def test_limits_are_above_zero(name, values):
    with pytest.raises(UsageError, match=f"expected `{name}` above 0"):
        Limits(**values)


def test_what_is_held_is_at_least_one_request(gated, small_bundle):
    with pytest.raises(UsageError, match="expected `held_mb` of at least `request_mb`"):
        Limits(request_mb=300)
    with pytest.raises(UsageError, match="top"):
        Service(gated, small_bundle[1], top=0)


def test_a_port_that_is_taken():
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"can't listen on 127\.0\.0\.1 port {port} .address already in use.: try"
        ):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match=r"can't listen on 192\.0\.2\.1"):  # an address of nobody (RFC 5737)
        listen("192.0.2.1", 0)
    with pytest.raises(UsageError, match=r"can't listen on '' port 8000 .*try another `host`"):
        listen("", 8000)
    with pytest.raises(UsageError, match="expected `port` of 0 to 65535"):
        listen("127.0.0.1", 65536)
