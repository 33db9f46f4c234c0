import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from foreign_files import SHARED, state, torch_legacy, torch_zip
from safetensors.torch import save_file
from torch import nn

from striate.core.errors import BundleError
from striate.data.preprocess import Preprocessing
from striate.weights.bundle import Bundle, save_bundle
from striate.weights.read import read_weights
from striate.weights.torch_file import LEGACY_MAGIC


def read(tmp_path, content, name="x.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_weights(path)


def refused(tmp_path, content, name="x.pth"):
    with pytest.raises(BundleError) as caught:
        read(tmp_path, content, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def equal(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("save", [torch_zip, torch_legacy])
def test_state_dicts_of_both_formats(tmp_path, save):
    found = read(tmp_path, save())
    assert found.kind == "torch"
    assert found.notes == ()
    equal(found.tensors, state())


@pytest.mark.parametrize("save", [torch_zip, torch_legacy])
def test_tensors_of_every_kind(tmp_path, save):
    base = torch.arange(12.0)
    tensors = {
        "half": torch.ones(2, dtype=torch.float16),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "part": base[2:6],
        "turned": base.view(3, 4).t(),
        "tied": base,
        "channels_last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    found = read(tmp_path, save(tensors)).tensors
    equal(found, tensors)
    assert found["channels_last"].is_contiguous(memory_format=torch.channels_last)
    found["part"].zero_()  # writable, and not the file's


def test_a_real_network_with_metadata_and_buffers(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    for save in (torch_zip, torch_legacy):
        equal(read(tmp_path, save(net.state_dict())).tensors, dict(net.state_dict()))


@pytest.mark.parametrize("save", [torch_zip, torch_legacy])
@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "net"])
def test_checkpoints_are_unwrapped_and_the_rest_is_named(tmp_path, save, key):
    net = nn.DataParallel(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {key: net.state_dict(), "epoch": 7, "optimizer": optimizer.state_dict(), "arch": "tiny"}
    found = read(tmp_path, save(content))
    equal(found.tensors, net.module.state_dict())
    assert found.notes == (
        f"state dict was under '{key}'",
        "passed over epoch, optimizer, arch",
        "prefix 'module.' removed",
    )
    assert found.metadata == {"epoch": "7", "arch": "tiny"}


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert list(read(tmp_path, torch_zip(tensors)).tensors) == ["module.a", "b"]
    parameters = {"w": nn.Parameter(torch.ones(2))}
    assert type(read(tmp_path, torch_zip(parameters)).tensors["w"]) is torch.Tensor


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/weights is not there")
def test_shared_files():
    files = sorted(SHARED.glob("*.pth"))
    assert len(files) == 5
    for path in files:
        equal(read_weights(path).tensors, torch.load(path, weights_only=True))


def test_safetensors_and_bundles(tmp_path):
    tensors = {"z": torch.ones(2, dtype=torch.bfloat16), "a": torch.arange(3)}
    path = tmp_path / "x.pth"  # the extension does not decide
    save_file(tensors, path, {"author": "me"})
    found = read_weights(path)
    assert (found.kind, found.metadata) == ("safetensors", {"author": "me"})
    assert all(torch.equal(found.tensors[name], one) for name, one in tensors.items())
    pre = Preprocessing(
        channels=3, height_px=8, width_px=8, resize_px=None, mean=(0.2, 0.4, 0.6), std=(1, 1, 1)
    )
    save_bundle(Bundle(net="lenet5", classes=("a", "b"), preprocessing=pre, state=tensors), path)
    found = read_weights(path)
    assert (found.kind, found.classes) == ("striate bundle", ("a", "b"))
    assert found.mean_rgb == pytest.approx((51, 102, 153))


# -- Hostile files -------------------------------------------------------------------------------------------


class Hostile:
    def __reduce__(self):
        return (os.system, ("touch executed",))


@pytest.mark.parametrize("save", [torch_zip, torch_legacy])
def test_a_pickle_that_runs_a_command_is_refused_by_name(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    words = refused(tmp_path, save({"a": torch.ones(1), "b": Hostile()}))
    assert "posix.system" in words or "nt.system" in words
    assert "runs no code" in words
    assert "state dict" in words
    for protocol in range(2, 6):
        assert "system" in refused(tmp_path, pickle.dumps(Hostile(), protocol=protocol))
    for protocol in range(2):
        refused(tmp_path, pickle.dumps(Hostile(), protocol=protocol))
    assert not (tmp_path / "executed").exists()


def test_a_whole_pickled_network_is_refused_by_name(tmp_path):
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path, torch_zip(nn.Linear(2, 2)))
    assert "torch.nn.modules.linear.Linear" in refused(tmp_path, torch_legacy(nn.Linear(2, 2)))
    assert "TorchScript" in refused(tmp_path, scripted())


def scripted():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"net/{name}", b"")
    return buffer.getvalue()


def zip_with(program: bytes, members=(), compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, content in members:
            archive.writestr(f"archive/{name}", content)
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def tensor_program(*, numel=2, offset=0, size=(2,), stride=(1,), then=b""):
    """The pickle of one float tensor, in the instructions that torch.save uses."""

    def number(value):
        return b"\x8a\x08" + struct.pack("<q", value)

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    def row(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + number(numel)
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + b"tQ" + number(offset) + row(size) + row(stride) + b"\x89" + hooks + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02}" + text(b"w") + tensor + b"s" + then + b"."


def test_the_hand_made_file_is_good(tmp_path):
    values = torch.tensor([1.5, -2.0])
    content = zip_with(tensor_program(), [("data/0", values.numpy().tobytes())])
    assert torch.equal(read(tmp_path, content).tensors["w"], values)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"numel": 3}, "a storage of 12 bytes that is not there"),
        ({"numel": 2**40}, "a storage of"),
        ({"numel": 2**62}, "unknown way"),
        ({"numel": -1}, "unknown way"),
        ({"size": (3,)}, "reaches outside"),
        ({"size": (2,), "stride": (2,)}, "reaches outside"),
        ({"offset": 1}, "reaches outside"),
        ({"offset": -1}, "without a storage"),
        ({"size": (2**40,), "stride": (0,)}, "reaches outside"),
        ({"size": (-2,)}, "impossible shape"),
        ({"size": (2, 1)}, "impossible shape"),
        ({"stride": (-1,)}, "impossible shape"),
        ({"then": b"cbuiltins\nbytearray\n\x8a\x05\xff\xff\xff\xff\x7f\x85R0"}, "builtins.bytearray"),
        ({"then": b"ctorch\nTensor\n\x8a\x05\xff\xff\xff\xff\x7f\x85R0"}, "torch.Tensor"),
        ({"then": b"ccollections\nCounter\nN}X\x04\x00\x00\x00evilK\x01s\x86b"}, "alters"),
        ({"then": b"ctorch\nFloatStorage\nN}X\x05\x00\x00\x00dtypeK\x01s\x86b"}, "alters"),
        ({"then": b"r\xff\xff\xff\xff"}, "impossible instruction"),
        ({"then": b"\x8c\x01x0"}, "SHORT_BINUNICODE"),
        ({"then": b"0"}, "the pickle instruction POP"),
        ({"then": b"(((K\x01K\x02\x86tK\x01d"}, "the pickle instruction DICT"),
        ({"then": b"}K\x01K\x02\x86K\x01s"}, "keys are no names"),
    ],
)
def test_pickles_that_lie(tmp_path, change, words):
    content = zip_with(tensor_program(**change), [("data/0", bytes(8))])
    assert words in refused(tmp_path, content)


def test_zip_archives_that_lie(tmp_path):
    program = tensor_program(numel=10**6, size=(10**6,))
    bomb = zip_with(program, [("data/0", bytes(4 * 10**6))], zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    assert "compressed members" in refused(tmp_path, bomb)
    twice = zip_with(tensor_program(), [("data/0", bytes(8)), ("DATA/0", bytes(4))])
    assert "members of one name" in refused(tmp_path, twice)
    larger = bytearray(zip_with(tensor_program(), [("data/0", bytes(8))]))
    at = larger.rindex(b"PK\x01\x02")
    larger[at + 20 : at + 28] = b"\xff\xff\xff\x7f" * 2
    refused(tmp_path, bytes(larger))
    assert "can't be read" in refused(tmp_path, zip_with(tensor_program())[:-5])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"")
    assert ".npz" in refused(tmp_path, buffer.getvalue())


def test_two_readers_can_not_see_two_archives(tmp_path, monkeypatch):
    """Readers that begin at the end and readers that begin at the start find different archives in a row."""
    first, second = (torch_zip({"w": torch.full((2,), value)}) for value in (1.0, 2.0))
    assert "bytes before the archive" in refused(tmp_path, first + second)
    assert "bytes after its end" in refused(tmp_path, first + b"more")
    monkeypatch.setattr("torch.load", None)  # what was checked is what is read
    for save in (torch_zip, torch_legacy):
        equal(read(tmp_path, save()).tensors, state())


def test_one_flipped_bit_in_a_storage_is_noticed(tmp_path):
    content = bytearray(torch_zip({"w": torch.arange(64.0)}))
    content[content.index(torch.arange(64.0).numpy().tobytes()) + 100] ^= 4
    assert "Bad CRC-32" in refused(tmp_path, bytes(content))


def test_a_pickle_of_very_many_instructions_is_refused_before_they_are_executed(tmp_path):
    many = b"\x80\x02" + b"}" * 1_000_001 + b"."
    assert "a pickle far too large" in refused(tmp_path, zip_with(many))
    assert "far too large" in refused(tmp_path, LEGACY_MAGIC + many)


def test_numbers_of_a_machine_with_another_byte_order_are_refused(tmp_path):
    content = zip_with(tensor_program(), [("data/0", bytes(8)), ("byteorder", b"big")])
    assert "byte order of another machine" in refused(tmp_path, content)


def test_legacy_files_that_lie(tmp_path):
    whole = torch_legacy({"w": torch.ones(2)})
    assert read(tmp_path, whole).tensors["w"].tolist() == [1, 1]
    assert "not all there" in refused(tmp_path, whole[:-1])
    # the storage's size is K\x02 in the pickle; a long of 2 ** 40 instead asks for four terabytes
    place = whole.index(b"K\x02", whole.index(b"storage"))
    assert "a storage of" in refused(tmp_path, whole[:place] + b"\x8a\x06\0\0\0\0\0\x01" + whole[place + 2 :])


def test_what_is_no_state_dict(tmp_path):
    assert "a single tensor" in refused(tmp_path, torch_zip(torch.ones(1)))
    assert "a list" in refused(tmp_path, torch_zip([torch.ones(1)]))
    assert "only generator, step" in refused(
        tmp_path, torch_zip({"generator": {"w": torch.ones(1)}, "step": 1})
    )
    assert "only nothing" in refused(tmp_path, torch_zip(OrderedDict()))
