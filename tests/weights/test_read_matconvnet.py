import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from foreign_files import BIAS, FILTERS, cell, simple_nn

from striate.core.errors import BundleError
from striate.weights.read import read_weights


def written(tmp_path, variables, **options):
    content = io.BytesIO()
    scipy.io.savemat(content, variables, **options)
    path = tmp_path / "net.mat"
    path.write_bytes(content.getvalue())
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_simple_nn(tmp_path, compressed):
    path = tmp_path / "imagenet-vgg.mat"
    path.write_bytes(simple_nn(compressed=compressed))
    found = read_weights(path)
    assert found.kind == "matconvnet"
    assert list(found.tensors) == ["conv1_1.0", "conv1_1.1"]
    assert np.array_equal(found.tensors["conv1_1.0"].numpy(), FILTERS)
    assert found.tensors["conv1_1.0"].is_contiguous()
    assert np.array_equal(found.tensors["conv1_1.1"].numpy(), BIAS)
    assert found.layers == ("conv1_1", "relu1_1")
    assert found.mean_rgb == pytest.approx((123.68, 116.779, 103.939))
    assert found.classes == ("tench, Tinca tinca", "goldfish")
    assert found.metadata["classes.name"] == "n01440764 n01443537"
    assert found.metadata["imageSize"] == "224 224 3"
    assert found.metadata["interpolation"] == "bicubic"


def test_old_form_under_one_variable_with_an_average_image(tmp_path):
    image = np.zeros((4, 5, 3))
    image[..., 0], image[..., 1], image[..., 2] = 1, 2, 3
    image[0, 0, 0] = 21  # 20 pixels: the mean rises by one
    layer = {"name": "fc8", "type": "conv", "filters": FILTERS.transpose(2, 3, 1, 0), "biases": BIAS}
    net = {
        "layers": cell(layer),
        "normalization": {"averageImage": image},
        "classes": {"description": cell("a", "b")},
    }
    found = read_weights(written(tmp_path, {"net": net}))
    assert np.array_equal(found.tensors["fc8.0"].numpy(), FILTERS)
    assert np.array_equal(found.tensors["fc8.1"].numpy(), BIAS)
    assert found.mean_rgb == (2, 2, 3)
    assert found.classes == ("a", "b")
    assert "network was under 'net'" in found.notes
    assert any("4 x 5 image" in note for note in found.notes)


def test_axes_of_length_one_that_matlab_drops_come_back(tmp_path):
    filters = np.arange(25, dtype=np.float32).reshape(5, 5)
    layers = cell({"name": "c", "type": "conv", "weights": cell(filters, np.float32(7))})
    found = read_weights(written(tmp_path, {"layers": layers}))
    assert tuple(found.tensors["c.0"].shape) == (1, 1, 5, 5)
    assert np.array_equal(found.tensors["c.0"][0, 0].numpy(), filters)
    assert found.tensors["c.1"].tolist() == [7]


def test_dag_nn(tmp_path):
    def rows(*dicts):
        kinds = [(name, object) for name in dicts[0]]
        return np.array([tuple(one.values()) for one in dicts], dtype=kinds).reshape(1, -1)

    moments = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]], np.float32)
    layers = rows(
        {
            "name": "res2a",
            "type": "dagnn.Conv",
            "block": {"stride": np.array([[1.0, 1.0]]), "hasBias": True},
            "inputs": cell("data"),
            "outputs": cell("res2ax"),
            "params": cell("res2a_filter", "res2a_bias"),
        },
        {
            "name": "bn2a",
            "type": "dagnn.BatchNorm",
            "block": {"epsilon": 1e-5},
            "inputs": cell("res2ax"),
            "outputs": cell("bn2ax"),
            "params": cell("bn2a_mult", "bn2a_bias", "bn2a_moments"),
        },
    )
    params = rows(
        {"name": "res2a_filter", "value": FILTERS.transpose(2, 3, 1, 0)},
        {"name": "res2a_bias", "value": BIAS.reshape(-1, 1)},
        {"name": "bn2a_mult", "value": BIAS.reshape(-1, 1)},
        {"name": "bn2a_bias", "value": BIAS.reshape(-1, 1)},
        {"name": "bn2a_moments", "value": moments},
    )
    found = read_weights(written(tmp_path, {"layers": layers, "params": params}))
    assert np.array_equal(found.tensors["res2a_filter"].numpy(), FILTERS)
    assert np.array_equal(found.tensors["bn2a_mult"].numpy(), BIAS)
    assert np.array_equal(found.tensors["bn2a_moments"].numpy(), moments)
    assert found.layers == ("res2a", "bn2a")


def test_whole_numbers_that_matlab_stores_in_bytes(tmp_path):
    """MATLAB saves doubles that are whole as bytes; SciPy never does, so the element is written here."""
    array = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, 3))
    array = element(14, array + element(1, b"x") + element(2, bytes([1, 2, 3])))
    path = tmp_path / "x.mat"
    path.write_bytes(header() + array)
    expected = scipy.io.loadmat(path)["x"]
    from striate.weights.mat5 import read_mat5

    assert np.array_equal(read_mat5(path, memoryview(path.read_bytes()))["x"], expected)


def header(version=b"\x00\x01IM"):
    return b"MATLAB 5.0 MAT-file".ljust(124) + version


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def refused(tmp_path, content):
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_deep_nesting_is_refused(tmp_path):
    """SciPy ends the process on this file."""
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"")
    heads, size = [], 0
    for _ in range(100_000):
        size += len(head)
        heads.append(struct.pack("<II", 14, size) + head)
        size += 8
    assert "nested more than" in refused(tmp_path, header() + b"".join(reversed(heads)))


def test_bombs_are_refused(tmp_path):
    zeros = zlib.compress(element(14, bytes(300_000_000)), 9)
    assert "declares 300,000,008 bytes" in refused(tmp_path, header() + element(15, zeros)[: 8 + len(zeros)])
    for dims in ((2**31 - 1, 2**31 - 1), (-1, 5), (10**6, 10**6)):
        for kind in (1, 2, 7):
            inside = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *dims))
            inside += element(1, b"layers") + element(5, struct.pack("<i", 8)) + element(1, b"abcdefgh")
            refused(tmp_path, header() + element(14, inside))


def test_other_matlab_files_are_named(tmp_path):
    assert "version 7.3 (HDF5)" in refused(tmp_path, b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    path = written(tmp_path, {"x": np.eye(3)})
    with pytest.raises(BundleError, match="got a MATLAB file with x"):
        read_weights(path)
    path = written(tmp_path, {"layers": cell({"name": "relu", "type": "relu"})})
    with pytest.raises(BundleError, match="1 layers without weights"):
        read_weights(path)
