"""Measure the HTTP service beside ``striate predict`` on the same JPEGs in the same run.

    python benchmarks/serve.py PHOTOS.tar --seconds 20 --rounds 3

For each network (random weights, the precision that ``auto`` picks): ``striate predict``'s images a second
from files to classes; then ``striate serve`` in a process of its own, with 8 clients that each post one JPEG
after the other: images a second, its share of predict's, and latency; then an overload, requests at 4 times
that rate whether answered or not: what became of every one; then the 8 clients again. The clients run on the
same cores and take their part of them.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch

from striate.core.environment import describe_machine
from striate.data.find import find_images
from striate.data.preprocess import Preprocessing
from striate.nets import build, find
from striate.weights.bundle import Bundle, save_bundle

CLIENTS = 8
OVERLOAD = 4
MOST_CONNECTIONS = 400  # of the overload; below the service's own limit


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", help="folder or archive of JPEGs")
    parser.add_argument("--networks", default="resnet50_v1_5,lenet5_modern")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of predict and service, in turn")
    parser.add_argument("--images", type=int, default=200, help="different photos")
    parser.add_argument("--per-request", type=int, default=1, help="images in a request")
    parser.add_argument("--serve", default="", help="options of striate serve")
    options = parser.parse_args()
    machine = describe_machine(torch.device("cpu"))
    print(f"{machine['cores']} cores, {machine['processor']}; {CLIENTS} clients, {options.seconds:g} s each")
    bodies = [item.read() for item in islice(find_images([options.photos]), options.images)]
    bodies = [body for body in bodies if body.startswith(b"\xff\xd8\xff")]
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        for number, body in enumerate(bodies):
            (photos / f"{number:04}.jpg").write_bytes(body)
        for name in options.networks.split(","):
            measure(name, photos, bodies, Path(folder) / f"{name}.safetensors", options)


def measure(name, photos, bodies, path, options):
    write_bundle(name, path)
    requests = [as_request(group) for group in groups(bodies, options.per_request)]
    per, seconds = options.per_request, options.seconds
    predicted, served = [], []
    with service(path, options.serve) as (port, what):
        print(f"\n{name}: {what['engine']} {what['precision']}, {per} image(s) in a request")
    for _ in range(options.rounds):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            predicted.append(pool.submit(predict_rate, str(path), str(photos), seconds).result())
        with service(path, options.serve) as (port, _):
            asyncio.run(closed_loop(port, requests, CLIENTS, min(seconds, 3.0)))  # not counted
            served.append(asyncio.run(closed_loop(port, requests, CLIENTS, seconds)))
    rates = [per * one.rate for one in served]
    share = statistics.median(rates) / statistics.median(predicted)
    print(f"  predict     {spread(predicted)} images/s")
    print(f"  service     {spread(rates)} images/s = {share:.0%} of predict")
    p50, p90, p99 = np.percentile([1e3 * s for one in served for s in one.seconds], (50, 90, 99))
    print(f"  latency     p50 {p50:.0f} ms, p90 {p90:.0f} ms, p99 {p99:.0f} ms")
    with service(path, options.serve) as (port, _):
        before = asyncio.run(closed_loop(port, requests, CLIENTS, seconds))
        rate = OVERLOAD * before.rate
        flood = asyncio.run(open_loop(port, requests, rate, seconds))
        after = asyncio.run(closed_loop(port, requests, CLIENTS, seconds))
    counts = ", ".join(f"{status}: {number:,}" for status, number in sorted(flood.statuses.items()))
    answered = [1e3 * s for s in flood.seconds] or [float("nan")]
    print(f"  overload    {flood.sent:,} requests at {flood.sent / seconds:,.0f}/s ({OVERLOAD}x): {counts}")
    print(f"              lost: {flood.lost}; sent again on a new connection: {flood.again}")
    print(f"              answered in p50 {np.percentile(answered, 50):.0f} ms,", end=" ")
    print(f"p99 {np.percentile(answered, 99):.0f} ms; {per * flood.rate:,.0f} images/s answered")
    print(f"  recovery    {after.rate / before.rate:.0%} of the rate before; statuses {dict(after.statuses)}")


def write_bundle(name, path):
    entry = find(name)
    torch.manual_seed(0)
    net = build(entry.reference)
    channels, height, width = entry.input_shape
    preprocessing = Preprocessing(
        channels=channels,
        height_px=height,
        width_px=width,
        resize_px=round(min(height, width) * 256 / 224),
        mean=(0.45,) * channels,
        std=(0.225,) * channels,
    )
    classes = tuple(f"class {k}" for k in range(entry.num_classes))
    bundle = Bundle(net=entry.reference, classes=classes, preprocessing=preprocessing, state=net.state_dict())
    save_bundle(bundle, path)


def predict_rate(path, photos, seconds):
    """Predict the folder again and again, for some seconds, after it was predicted once."""
    from striate.serve.engine import open_engine
    from striate.serve.predict import predict
    from striate.weights.open import open_network

    network = open_network(path)
    engine = open_engine(network)
    items = list(find_images([photos]))
    for _ in predict(network, items, engine=engine):
        pass
    number, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        number += sum(1 for _ in predict(network, items, engine=engine))
    rate = number / (time.perf_counter() - started)
    engine.close()
    return rate


@contextmanager
def service(path, options):
    """Start ``striate serve`` and stop it with SIGTERM."""
    command = [sys.executable, "-m", "striate.cli.main", "serve", str(path), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline()
        if not line:
            sys.exit(process.stderr.read())
        what = json.loads(line)
        yield int(what["url"].rpartition(":")[2]), what
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


# -- Clients -------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What clients saw; ``seconds`` of requests that were answered with 200."""

    sent: int = 0
    lost: int = 0
    again: int = 0
    elapsed_s: float = 0.0
    statuses: Counter = field(default_factory=Counter)
    seconds: list = field(default_factory=list)

    @property
    def rate(self):
        """Requests answered with 200, a second."""
        return self.statuses[200] / self.elapsed_s


def groups(bodies, size):
    endless = cycle(bodies)
    return [[next(endless) for _ in range(size)] for _ in range(len(bodies))]


def as_request(images):
    boundary = "striate-benchmark-0123456789"
    if len(images) == 1:
        kind, body = "image/jpeg", images[0]
    else:
        kind = f"multipart/form-data; boundary={boundary}"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        body = b"".join(head.encode() + image + b"\r\n" for image in images) + f"--{boundary}--\r\n".encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def ask(connection, request):
    """Send a request and read its answer; return its status."""
    reader, writer = connection
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])


async def closed_loop(port, requests, clients, seconds):
    """Each client sends its next request when it has the answer to the last."""
    seen, endless = Seen(), cycle(requests)
    started = time.perf_counter()

    async def client():
        connection = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.perf_counter()) < started + seconds:
            seen.sent += 1
            try:
                status = await ask(connection, next(endless))
            except (OSError, asyncio.IncompleteReadError):
                seen.lost += 1
                connection = await asyncio.open_connection("127.0.0.1", port)
                continue
            seen.statuses[status] += 1
            if status == 200:
                seen.seconds.append(time.perf_counter() - begun)
        connection[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    seen.elapsed_s = time.perf_counter() - started
    return seen


async def open_loop(port, requests, rate, seconds):
    """Send requests at a fixed rate, whether the earlier ones were answered or not."""
    seen, endless, idle = Seen(), cycle(requests), []
    room = asyncio.Semaphore(MOST_CONNECTIONS)
    started = time.perf_counter()

    async def one(begun, request):
        async with room:
            # The service closes connections that were idle for a while. As HTTP clients do (RFC 9112, section
            # 9.3.1), a request that meets such a closing goes out again, on a new connection.
            kept = idle.pop() if idle else None
            try:
                try:
                    connection = kept or await asyncio.open_connection("127.0.0.1", port)
                    status = await ask(connection, request)
                except (OSError, asyncio.IncompleteReadError):
                    if kept is None:
                        raise
                    seen.again += 1
                    connection = await asyncio.open_connection("127.0.0.1", port)
                    status = await ask(connection, request)
            except (OSError, asyncio.IncompleteReadError):
                seen.lost += 1
                return
            idle.append(connection)
            seen.statuses[status] += 1
            if status == 200:
                seen.seconds.append(time.perf_counter() - begun)

    tasks = set()
    while (now := time.perf_counter() - started) < seconds:
        while seen.sent < now * rate:
            seen.sent += 1
            tasks.add(asyncio.create_task(one(time.perf_counter(), next(endless))))
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
    seen.elapsed_s = time.perf_counter() - started
    for _, writer in idle:
        writer.close()
    return seen


def spread(values):
    middle = statistics.median(values)
    return f"{middle:,.1f} ({min(values):,.1f} to {max(values):,.1f})"


if __name__ == "__main__":
    main()
