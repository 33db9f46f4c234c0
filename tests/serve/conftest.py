"""A small network and running services for the tests of ``serve.http``."""

import asyncio

import httpx
import pytest
import torch
from running_service import GatedEngine, Live

from striate.core.compute import Compute
from striate.data.preprocess import Preprocessing
from striate.nets import build
from striate.serve.engine import open_engine
from striate.serve.http.service import Service, make_app
from striate.weights.bundle import Bundle
from striate.weights.open import OpenNetwork


@pytest.fixture(scope="session")
def small_bundle():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build("lenet5_modern", num_classes=3).eval()
    preprocessing = Preprocessing(
        channels=1, height_px=32, width_px=32, resize_px=32, mean=(0.2,), std=(0.5,)
    )
    bundle = Bundle(
        net="lenet5_modern", classes=("x", "y", "z"), preprocessing=preprocessing, state=net.state_dict()
    )
    return net, bundle


@pytest.fixture(scope="session")
def small_engine(small_bundle):
    net, bundle = small_bundle
    network = OpenNetwork(net=net, bundle=bundle, name="small")
    engine = open_engine(network, engine="torch", compute=Compute(precision="fp32", device="cpu"))
    yield engine
    engine.close()


@pytest.fixture
def gated():
    engine = GatedEngine()
    yield engine
    engine.gate.set()


@pytest.fixture
def start():
    """Start services behind sockets; they are stopped when the test is over."""
    running = []

    def begin(engine, bundle, **options):
        live = Live(Service(engine, bundle, threads=2, **options))
        running.append((engine, live))
        return live

    yield begin
    for engine, live in running:
        if isinstance(engine, GatedEngine):
            engine.gate.set()
        live.signal()
        live.join()
        live.service.close()


@pytest.fixture
def ask():
    """Ask a service without sockets: ``ask(service, method, path, **what httpx takes)``."""

    def call(service, method, path, **content):
        async def inside():
            transport = httpx.ASGITransport(make_app(service), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, **content)

        return asyncio.run(inside())

    return call
