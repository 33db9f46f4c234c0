"""Published weights: names, addresses and pictures as their publishers say; fetching from a server."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from striate.core.errors import DataError, UsageError
from striate.data.preprocess import Preprocessing
from striate.weights import published
from striate.weights.imagenet import imagenet_classes
from striate.weights.published import fetch_published, find_published, names_for, recognise

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    ("name", "net", "file", "resize_px"),
    [
        ("torchvision", "alexnet_owt", "alexnet-owt-7be5be79.pth", 256),
        ("torchvision", "vgg16", "vgg16-397923af.pth", 256),
        ("torchvision", "vgg19_bn", "vgg19_bn-c79401a0.pth", 256),
        ("torchvision", "resnet18", "resnet18-f37072fd.pth", 256),
        ("torchvision", "resnet50_v1_5", "resnet50-0676ba61.pth", 256),
        ("torchvision", "resnet50", "resnet50-0676ba61.pth", 256),
        ("torchvision:V1", "resnet50_v1_5", "resnet50-0676ba61.pth", 256),
        ("torchvision:V2", "resnet50_v1_5", "resnet50-11ad3fa6.pth", 232),
        ("torchvision:V2", "resnet152_v1_5", "resnet152-f82ba261.pth", 232),
    ],
)
def test_torchvisions_files(name, net, file, resize_px):
    weights = find_published(name, net)
    assert weights.url == f"https://download.pytorch.org/models/{file}"
    assert weights.checksum == f"sha256:{file.removesuffix('.pth')[-8:]}"
    assert weights.preprocessing(224) == Preprocessing(
        channels=3,
        height_px=224,
        width_px=224,
        resize_px=resize_px,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert recognise(file, net) == weights


def test_googlenets_weights_take_values_from_minus_one_to_one():
    pictures = find_published("torchvision", "googlenet_tv").preprocessing(224)
    assert (pictures.mean, pictures.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "net", "input_px", "resize_px", "interpolation"),
    [
        ("timm:resnet50.a1_in1k", "resnet50_v1_5", 224, 235, "bicubic"),  # 224 / 0.95 = 235.8
        ("timm:resnet50.a1_in1k", "resnet50_v1_5", 288, 288, "bicubic"),
        ("timm:resnet18.a3_in1k", "resnet18", 160, 168, "bicubic"),  # 160 / 0.95 = 168.4
        ("timm:resnet101.tv2_in1k", "resnet101_v1_5", 224, 232, "bilinear"),  # 224 / 0.965 = 232.1
        ("timm:vgg16_bn.tv_in1k", "vgg16_bn", 224, 256, "bilinear"),
        ("timm:vgg16_bn.tv_in1k", "vgg16_bn", 448, 512, "bilinear"),  # the same part of the picture
    ],
)
def test_timms_files(name, net, input_px, resize_px, interpolation):
    weights = find_published(name, net)
    model = name.removeprefix("timm:")
    assert weights.url == f"https://huggingface.co/timm/{model}/resolve/main/model.safetensors"
    assert weights.checksum is None
    pictures = weights.preprocessing(input_px)
    assert (pictures.height_px, pictures.resize_px) == (input_px, resize_px)
    assert pictures.interpolation == interpolation
    assert recognise(f"{model}.safetensors", net) == weights


@pytest.mark.peer
def test_pictures_and_addresses_against_torchvision(torchvision_models):
    for (name, version), file in published.TORCHVISION_FILES.items():
        theirs = torchvision_models.get_model_weights(name)[f"IMAGENET1K_{version}"]
        assert theirs.url == published.TORCHVISION_URL + file
        preset = theirs.transforms()
        weights = find_published(
            "torchvision" if version == "V1" else f"torchvision:{version}",
            {"alexnet": "alexnet_owt", "googlenet": "googlenet_tv"}.get(name, name),
        )
        pictures = weights.preprocessing(224)
        assert [pictures.resize_px] == preset.resize_size
        if name != "googlenet":  # whose network converts its input by itself
            assert (list(pictures.mean), list(pictures.std)) == (preset.mean, preset.std)
        assert list(imagenet_classes()) == theirs.meta["categories"]


@pytest.mark.peer
def test_pictures_against_timm(torchvision_models):
    timm_models = pytest.importorskip("timm.models")
    for tag, (architectures, _) in published.TIMM_TAGS.items():
        for architecture in architectures:
            theirs = timm_models.get_pretrained_cfg(f"{architecture}.{tag}")
            net = architecture + ("_v1_5" if architecture in ("resnet50", "resnet101", "resnet152") else "")
            views = {theirs.input_size[1]: theirs.crop_pct}
            if theirs.test_input_size is not None:
                views[theirs.test_input_size[1]] = theirs.test_crop_pct or theirs.crop_pct
            elif theirs.test_crop_pct is not None:
                views[theirs.input_size[1]] = theirs.test_crop_pct
            weights = find_published(f"timm:{architecture}.{tag}", net)
            for side, fraction in views.items():
                if tag == "tv2_in1k" and side == 176:
                    continue  # its training size; only the test size is published as an accuracy
                pictures = weights.preprocessing(side)
                assert pictures.resize_px == int(side / fraction), (architecture, tag, side)
                assert pictures.interpolation == theirs.interpolation
                assert (pictures.mean, pictures.std) == (theirs.mean, theirs.std)


def test_names():
    assert names_for("resnet152_v1_5")[:3] == ("torchvision", "torchvision:V2", "timm:resnet152.tv_in1k")
    assert names_for("alexnet_owt") == ("torchvision",)
    assert names_for("lenet5") == ()
    with pytest.raises(UsageError, match=r"of resnet18 \(torchvision, timm:.*got 'torchvision:V2'"):
        find_published("torchvision:V2", "resnet18")
    with pytest.raises(UsageError, match=r"expected a network with published weights .* got lenet5"):
        find_published("torchvision", "lenet5")
    with pytest.raises(UsageError, match=r"got 'timm:resnet34\.a1_in1k'"):
        find_published("timm:resnet34.a1_in1k", "resnet18")
    assert recognise("resnet50-0676ba61.pth", "resnet18") is None


def test_imagenets_classes():
    classes = imagenet_classes()
    assert len(classes) == len(set(classes)) == 1000
    # places known from the usual class index
    for index, name in ((0, "tench"), (207, "golden retriever"), (463, "bucket"), (999, "toilet tissue")):
        assert classes[index] == name


# -- fetching ------------------------------------------------------------------------------------------------


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = ""
        self.etag: str | None = f'"{SHA256}"'


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as one:
        yield one


@contextmanager
def serving() -> Iterator[Server]:
    """Answer as a hub does: a redirect that names the checksum, to a store that names another tag."""
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            server.asked.append(f"{self.command} {self.path}")
            if self.path.endswith("/resolve/main/model.safetensors"):
                self.send_response(302)
                self.send_header("Location", f"{server.url}store/blob")
                if server.etag:
                    self.send_header("X-Linked-ETag", server.etag)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("ETag", '"of the store"')
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            if body:
                self.wfile.write(CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("STRIATE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "striate" / "weights"


def test_fetching_from_a_hub_checks_the_announced_sum_and_keeps_the_file(server, cache, monkeypatch):
    monkeypatch.setattr(published, "TIMM_URL", server.url)
    told: list[int] = []
    path = fetch_published(
        "timm:resnet18.a1_in1k", "resnet18", progress=lambda stage, done, total, note="": told.append(done)
    )
    assert path == cache / "resnet18.a1_in1k.safetensors"
    assert path.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    address = "/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert server.asked == [f"HEAD {address}", f"GET {address}", "GET /store/blob"]
    assert fetch_published("timm:resnet18.a1_in1k", "resnet18") == path
    assert len(server.asked) == 3


def test_a_wrong_or_missing_sum_is_refused(server, cache, monkeypatch):
    monkeypatch.setattr(published, "TIMM_URL", server.url)
    server.etag = "0" * 64
    with pytest.raises(DataError, match=r"expected SHA-256 0{64}, got .* or pass the path of a file"):
        fetch_published("timm:resnet18.a1_in1k", "resnet18")
    server.etag = None
    with pytest.raises(DataError, match="expected the server to name the file's SHA-256, got none"):
        fetch_published("timm:resnet18.a1_in1k", "resnet18")
    assert not (cache / "resnet18.a1_in1k.safetensors").exists()


def test_torchvisions_file_name_carries_the_sum(server, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "TORCHVISION_URL", server.url)
    with pytest.raises(DataError, match="expected SHA-256 beginning with f37072fd"):
        fetch_published("torchvision", "resnet18", folder=tmp_path)
    monkeypatch.setitem(published.TORCHVISION_FILES, ("resnet18", "V1"), f"resnet18-{SHA256[:8]}.pth")
    path = fetch_published("torchvision", "resnet18", folder=tmp_path)
    assert path == tmp_path / f"resnet18-{SHA256[:8]}.pth"
    assert path.read_bytes() == CONTENT


def test_a_file_that_was_put_there_by_hand_is_found(cache, tmp_path, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "resnet18-f37072fd.pth").write_bytes(b"x")
    assert fetch_published("torchvision", "resnet18") == cache / "resnet18-f37072fd.pth"
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "weights").mkdir(parents=True)
    (tmp_path / "data" / "weights" / "resnet18-f37072fd.pth").write_bytes(b"y")
    assert fetch_published("torchvision", "resnet18").read_bytes() == b"y"


@pytest.mark.parametrize("name", ["torchvision", "timm:resnet18.a1_in1k"])
def test_offline_in_one_line(name, cache, monkeypatch):
    with serving() as gone:
        pass  # its port refuses from now on
    monkeypatch.setattr(published, "TIMM_URL", gone.url)
    monkeypatch.setattr(published, "TORCHVISION_URL", gone.url)
    with pytest.raises(DataError) as caught:
        fetch_published(name, "resnet18")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    weights = find_published(name, "resnet18")
    for part in ("can't be downloaded", "refused", weights.url, str(cache / weights.file), "pass the path"):
        assert part in message
