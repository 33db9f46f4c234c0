"""What the service answers when it is asked properly."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from running_service import encoded

from striate.data.find import Item
from striate.serve.http.service import Service
from striate.serve.predict import predict
from striate.weights.open import OpenNetwork


@pytest.fixture
def service(small_engine, small_bundle):
    made = Service(small_engine, small_bundle[1], threads=2)
    yield made
    made.close()


def by_hand(net, data):
    """The logits of a picture of 40 x 40, without striate's decoding and preprocessing."""
    grey = torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("L")))[None, None]
    small = torch.nn.functional.interpolate(grey, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        return net((small / 255 - 0.2) / 0.5)[0].double().numpy()


def test_answers_are_those_of_predict(service, small_engine, small_bundle, ask):
    files = {
        "a.png": encoded(1),
        "b.jpg": encoded(2, (300, 500), "jpeg"),
        "c.webp": encoded(3, (50, 20), "webp"),
        "d.gif": encoded(4, (33, 90), "gif"),
        "e.bmp": encoded(5, (32, 32), "bmp"),
        "torn.jpg": encoded(6, (64, 64), "jpeg")[:300],
        "notes.txt": b"no image",
    }
    items = [Item(name, lambda data=data: data) for name, data in files.items()]
    net, bundle = small_bundle
    network = OpenNetwork(net=net, bundle=bundle, name="small")
    expected = list(predict(network, items, engine=small_engine))
    answer = ask(service, "POST", "/predict", files=[("image", one) for one in files.items()])
    assert answer.status_code == 200
    found = answer.json()["images"]
    assert [one["file"] for one in found] == list(files)
    assert [one["error"] for one in found] == [one.error for one in expected]
    for one, right in zip(found, expected, strict=True):
        assert [entry["class"] for entry in one["predictions"]] == [name for name, _ in right.ranked]
        for entry, (_, probability) in zip(one["predictions"], right.ranked, strict=True):
            assert entry["probability"] == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("kind", ["image/png", "image/x-anything", "application/octet-stream"])
def test_one_image_as_the_body(service, small_bundle, ask, kind):
    answer = ask(service, "POST", "/predict", content=encoded(1), headers={"Content-Type": kind})
    [image] = answer.json()["images"]
    powers = np.exp(by_hand(small_bundle[0], encoded(1)))
    expected = powers / powers.sum()
    assert (answer.status_code, image["file"], image["error"]) == (200, "image", None)
    assert [entry["class"] for entry in image["predictions"]] == ["xyz"[k] for k in np.argsort(-expected)]
    found = [entry["probability"] for entry in image["predictions"]]
    np.testing.assert_allclose(found, np.sort(expected)[::-1], rtol=1e-4)


def test_temperature_and_independent_classes(small_engine, small_bundle, ask):
    net, bundle = small_bundle
    logits = by_hand(net, encoded(7))
    warm = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum()
    own = 1 / (1 + np.exp(-logits / 2.5))
    for multi_label, expected in ((False, warm), (True, own)):
        service = Service(
            small_engine, replace(bundle, temperature=2.5, multi_label=multi_label), top=1, threads=1
        )
        answer = ask(service, "POST", "/predict?topk=9", files={"image": encoded(7)})
        found = {e["class"]: e["probability"] for e in answer.json()["images"][0]["predictions"]}
        assert found == pytest.approx(dict(zip("xyz", expected, strict=True)), rel=1e-4)
        answer = ask(service, "POST", "/predict", files={"image": encoded(7)})
        assert len(answer.json()["images"][0]["predictions"]) == 1
        service.close()


def test_numbers_that_are_none_are_an_error_of_the_image(gated, small_bundle, ask):
    gated.gate.set()
    gated.logits = lambda pixels: np.full((len(pixels), 3), np.nan, np.float32)
    service = Service(gated, small_bundle[1])
    answer = ask(service, "POST", "/predict", files={"image": encoded()})
    assert answer.status_code == 422
    assert answer.json()["images"][0]["error"] == "the network gave no finite numbers"
    service.close()


def test_a_failing_engine_is_a_500_and_the_service_goes_on(gated, small_bundle, ask):
    gated.gate.set()
    gated.error = RuntimeError("out of luck")
    service = Service(gated, small_bundle[1])
    answer = ask(service, "POST", "/predict", files={"image": encoded()})
    assert (answer.status_code, list(answer.json())) == (500, ["error"])
    gated.error = None
    assert ask(service, "POST", "/predict", files={"image": encoded()}).status_code == 200
    assert service.active == 0
    service.close()


# -- The other pages -----------------------------------------------------------------------------------------


def test_health_and_info(service, small_bundle, ask):
    assert ask(service, "GET", "/health").json() == {"live": True, "ready": True, "stopping": False}
    info = ask(service, "GET", "/info").json()
    assert (info["net"], info["classes"], info["engine"]) == ("lenet5_modern", ["x", "y", "z"], "torch")
    assert info["preprocessing"]["mean"] == [0.2]
    assert set(info["versions"]) == {"striate", "torch", "numpy", "pillow"}
    service.stop()
    stopping = ask(service, "GET", "/health")
    assert (stopping.status_code, stopping.json()["ready"]) == (503, False)
    refused = ask(service, "POST", "/predict", files={"image": encoded()})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_measures_are_prometheus_text(service, ask):
    ask(service, "POST", "/predict", files=[("image", encoded(k)) for k in range(3)])
    ask(service, "POST", "/predict", files=[("image", b"no image")])
    ask(service, "POST", "/predict", content=b"?")
    ask(service, "GET", "/../etc/passwd")
    answer = ask(service, "GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert samples["striate_requests_total", "/predict", "200"] == 1
    assert samples["striate_requests_total", "/predict", "422"] == 1
    assert samples["striate_requests_total", "/predict", "415"] == 1
    assert samples["striate_requests_total", "404", "other"] == 1
    assert samples["striate_refusals_total", "type"] == 1
    assert samples["striate_images_total", "answered"] == 3
    assert samples["striate_images_total", "broken"] == 1
    assert samples["striate_batch_images_sum",] == 3
    assert samples["striate_request_seconds_count",] == 2
    assert samples["striate_request_seconds_bucket", "+Inf"] == 2
    assert samples["striate_images_waiting",] == 0
    assert samples["striate_held_bytes",] == 0


class _Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.ids = set(), [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        self.links += [values[k] for k in ("href", "src", "action", "data") if k in values]
        self.ids.add(values.get("id"))


@pytest.mark.parametrize("page", ["/", "/docs"])
def test_pages_load_nothing_and_their_links_lead_somewhere(service, ask, page):
    answer = ask(service, "GET", page)
    links = _Links()
    links.feed(answer.text)
    assert answer.status_code == 200
    assert not links.tags & {"script", "link", "img", "iframe", "object"}
    assert links.links
    for link in links.links:
        if link.startswith("#"):
            assert link[1:] in links.ids
        elif link != "/predict":
            assert ask(service, "GET", link).status_code == 200
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert ask(service, "GET", "/redoc").status_code == 404


def test_a_hostile_address_does_not_get_into_the_page(service, ask):
    answer = ask(service, "GET", "/", headers={"Host": 'x"><script>alert(1)</script>'})
    assert "<script" not in answer.text


def test_wrong_method(service, ask):
    answer = ask(service, "GET", "/predict")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert ask(service, "DELETE", "/health").status_code == 405
