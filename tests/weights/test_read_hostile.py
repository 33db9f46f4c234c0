"""Files that are cut off, altered, or something else: a StriateError of one line, and nothing else."""

import os
import subprocess
import sys

import pytest
from foreign_files import (
    caffe_current,
    caffe_old,
    onnx_model,
    safetensors_file,
    simple_nn,
    torch_legacy,
    torch_zip,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from striate.core.errors import StriateError
from striate.weights.read import read_weights


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"hello\n", "text"),
        (b'<?xml version="1.0"?><net name="x"><layers/></net>', "an XML document (of OpenVINO?)"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html><html><head>", "a web page"),
        (b"\n  <HTML>404</HTML>", "a web page"),
        (b'<?xml version="1.0"?><!DOCTYPE html><html/>', "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs pointer"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"PK\x03\x04", "no list of members"),
        (bytes(range(256)), "bytes of no known kind"),
        ((2**62).to_bytes(8, "little") + b"{}", "bytes of no known kind"),
        ((1000).to_bytes(8, "little") + b'{"a":', "declares|header of 1,000 bytes"),
        ((2).to_bytes(8, "little") + b"{]", "damaged or foreign"),
        (b"\x93NUMPY\x01\0", "a NumPy array"),
    ],
)
def test_what_it_looks_like_is_said(tmp_path, content, words):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(StriateError) as caught:
        read_weights(path)
    assert any(word in str(caught.value) for word in words.split("|"))
    assert str(caught.value).startswith(f"{path}: expected ")
    assert str(caught.value).isprintable()


def test_folders_and_pipes_and_absent_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "a folder"),
        (tmp_path / "none", "no file of that name"),
        (tmp_path / "pipe", "a device or pipe"),
    ):
        with pytest.raises(StriateError, match=words):
            read_weights(path)


WRITERS = {
    "caffe": lambda folder: caffe_current(),
    "caffe-v1": lambda folder: caffe_old(),
    "caffe-v0": lambda folder: caffe_old(v0=True),
    "onnx": lambda folder: onnx_model(),
    "mat": lambda folder: simple_nn(),
    "mat-compressed": lambda folder: simple_nn(compressed=True),
    "torch": lambda folder: torch_zip({"state_dict": {"a": _small()}, "epoch": 3}),
    "torch-legacy": lambda folder: torch_legacy({"state_dict": {"a": _small()}, "epoch": 3}),
    "safetensors": safetensors_file,
}


def _small():
    import torch

    return torch.arange(6.0).view(2, 3)


def attempt(path):
    line, found = "", None
    try:
        found = read_weights(path)
    except StriateError as error:
        line = str(error)
    assert line.isprintable()
    for tensor in found.tensors.values() if found else ():
        tensor.double().sum().item()  # the memory behind it is there


@pytest.mark.parametrize("kind", WRITERS)
def test_cut_off_or_altered_anywhere(tmp_path, kind):
    whole = WRITERS[kind](tmp_path)
    path = tmp_path / "net.weights"
    path.write_bytes(whole)
    assert read_weights(path).tensors

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.integers(0, len(whole)),
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4),
        st.booleans(),
    )
    def spoil(length, changes, cut):
        content = bytearray(whole)
        for place, value in changes:
            content[place] = value
        path.write_bytes(content[:length] if cut else content)
        attempt(path)

    spoil()


@pytest.mark.parametrize("kind", ["caffe", "onnx", "mat", "torch", "torch-legacy"])
def test_the_structure_cut_and_altered_byte_by_byte(tmp_path, kind):
    """The bytes around every name and length, which random changes in a large file seldom hit."""
    whole = WRITERS[kind](tmp_path)
    path = tmp_path / "net.weights"
    for place in range(0, min(len(whole), 900), 3):
        path.write_bytes(whole[:place])
        attempt(path)
        for value in (0x00, 0x7F, 0xFF):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            attempt(path)


def test_memory_stays_near_the_size_of_the_file(tmp_path):
    """A Caffe and a PyTorch file of 64 MB each, read in a process of their own."""
    program = (
        "import sys, resource, numpy as np, torch\n"
        "from striate.weights.read import read_weights\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n    read_weights(path)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    import numpy as np
    import torch
    from foreign_files import caffe

    net = caffe().NetParameter()
    blob = net.layer.add(name="fc", type="InnerProduct").blobs.add(data=np.zeros(2**24, np.float32))
    blob.shape.dim.extend([2**12, 2**12])
    paths = [tmp_path / "x.caffemodel", tmp_path / "x.pth"]
    paths[0].write_bytes(net.SerializeToString())
    paths[1].write_bytes(torch_zip({"w": torch.zeros(2**24)}))
    run = subprocess.run([sys.executable, "-c", program, *paths], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 2.3 * 2**26 / 1024  # KiB
