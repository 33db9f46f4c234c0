import numpy as np
import pytest
from foreign_files import BIAS, FC, FILTERS, caffe, caffe_current, caffe_old

from striate.core.errors import BundleError
from striate.weights.read import read_weights


def same(tensor, values):
    return tuple(tensor.shape) == values.shape and np.array_equal(tensor.numpy(), values)


def test_current_generation(tmp_path):
    path = tmp_path / "tiny.caffemodel"
    path.write_bytes(caffe_current())
    found = read_weights(str(path))
    assert found.kind == "caffe"
    assert list(found.tensors) == ["conv1/5x5.0", "conv1/5x5.1", "fc.0"]
    assert same(found.tensors["conv1/5x5.0"], FILTERS)
    assert same(found.tensors["conv1/5x5.1"], BIAS)
    assert same(found.tensors["fc.0"], FC.astype(np.float64))
    assert found.notes[0] == "Caffe layers of generation current"
    assert found.mean_rgb == (123, 117, 104)  # the file's are blue, green, red
    assert found.metadata["name"] == "tiny"


@pytest.mark.parametrize(("v0", "generation"), [(False, "V1"), (True, "V0")])
def test_older_generations_with_unpacked_floats_and_four_sizes(tmp_path, v0, generation):
    path = tmp_path / "weights"  # the extension does not matter
    path.write_bytes(caffe_old(v0=v0))
    found = read_weights(path)
    assert found.kind == "caffe"
    assert same(found.tensors["conv1.0"], FILTERS)
    assert same(found.tensors["conv1.1"], BIAS)
    assert same(found.tensors["fc.0"], FC)
    assert found.layers == ("conv1", "fc", "relu")
    assert found.notes[0] == f"Caffe layers of generation {generation}"
    assert found.mean_rgb is None


def test_convolutions_keep_four_axes_and_one_output_stays_one(tmp_path):
    net = caffe().NetParameter()
    layer = net.layers.add(name="score", type=4)
    layer.blobs.add(num=1, channels=3, height=1, width=1, data=[1, 2, 3])
    layer.blobs.add(num=1, channels=1, height=1, width=1, data=[4])
    path = tmp_path / "x.caffemodel"
    path.write_bytes(net.SerializeToString())
    shapes = {name: tuple(one.shape) for name, one in read_weights(path).tensors.items()}
    assert shapes == {"score.0": (1, 3, 1, 1), "score.1": (1,)}


def test_mean_image(tmp_path):
    image = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    blob = caffe().BlobProto(num=1, channels=3, height=4, width=5, data=image.ravel())
    path = tmp_path / "imagenet_mean.binaryproto"
    path.write_bytes(blob.SerializeToString())
    with pytest.raises(BundleError, match="a Caffe mean image"):
        read_weights(path)


def blob_error(tmp_path, **fields):
    net = caffe().NetParameter()
    net.layer.add(name="fc", type="InnerProduct").blobs.add(**fields)
    path = tmp_path / "x.caffemodel"
    path.write_bytes(net.SerializeToString())
    with pytest.raises(BundleError) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_counts_that_do_not_agree(tmp_path):
    assert "declares 1 x 1 x 2 x 3 values where 5" in blob_error(
        tmp_path, num=1, channels=1, height=2, width=3, data=[0] * 5
    )
    huge = {"num": 2**31, "channels": 2**31, "height": 2**31, "width": 1}
    assert "where 1 are there" in blob_error(tmp_path, data=[0], **huge)
    assert "where 1 are there" in blob_error(tmp_path, num=-1, channels=-1, height=1, width=1, data=[0])


def test_other_files_of_caffe_are_named(tmp_path):
    path = tmp_path / "x"
    state = caffe().SolverState(iter=3, learned_net="x.caffemodel")
    state.history.add(data=[1.0])
    path.write_bytes(state.SerializeToString())
    with pytest.raises(BundleError, match="a Caffe solver state"):
        read_weights(path)
    net = caffe().NetParameter(name="bare")
    net.layer.add(name="relu", type="ReLU")
    path.write_bytes(net.SerializeToString())
    with pytest.raises(BundleError, match="1 layers without weights"):
        read_weights(path)
    path.write_text('name: "AlexNet"\nlayer {\n  name: "data"\n}\n')
    with pytest.raises(BundleError, match="prototxt"):
        read_weights(path)
