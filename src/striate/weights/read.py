"""One door for weights files of any kind; nothing that a file contains is executed.

The kind is decided by content, never by the extension alone. Every length that a file declares is checked
against the bytes that it has, so reading takes about as much memory as the file, and at most about twice as
much (of a compressed file, as its content).
"""

from pathlib import Path
from typing import Final

from striate.core.text import short
from striate.weights import caffemodel, onnx
from striate.weights.bundle import GRAPH_PREFIX, header_of, read_safetensors
from striate.weights.mat5 import is_mat5, refuse_hdf5
from striate.weights.matconvnet import read_matconvnet
from striate.weights.protobuf import LENGTH, VARINT, WireError, fields
from striate.weights.torch_file import LEGACY_MAGIC, read_torch_legacy, read_torch_zip, refuse_pickle
from striate.weights.weight_file import WeightFile, damaged, map_file, refusal

_HEAD_BYTES: Final = 4096
_MAX_HEADER_BYTES: Final = 100_000_000
_KINDS: Final = "a weights file (safetensors, PyTorch, Caffe, MatConvNet or ONNX)"
_ORIGINAL: Final = "name the weights file that it was converted from"

_FOREIGN: Final = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"GGUF", "a GGUF file"),
)


def read_weights(path: Path | str) -> WeightFile:
    """Read a weights file of any supported kind.

    Args:
        path: a striate bundle, a file of ``torch.save`` or safetensors, a ``.caffemodel``, a MatConvNet
            ``.mat`` or an ``.onnx`` file.

    Returns:
        Its tensors under its own names, and what else it says.

    Raises:
        BundleError: it is missing, damaged, hostile, needs code to be read, or is something else.
    """
    path = Path(path)
    content = map_file(path)
    head = bytes(content[:_HEAD_BYTES])
    if head.startswith(b"PK\x03\x04"):
        return read_torch_zip(path, content)
    if head.startswith(LEGACY_MAGIC):
        return read_torch_legacy(path, content)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER_BYTES:
        return _read_safetensors(path, content)
    if is_mat5(head):
        return read_matconvnet(path, content)
    if head.startswith(b"MATLAB 7.3") or head[512:520] == b"\x89HDF\r\n\x1a\n":
        raise refuse_hdf5(path)
    if (foreign := _foreign(head, content)) is not None:
        got, remedy = foreign
        raise refusal(path, expected=_KINDS, got=got, remedy=remedy)
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise refuse_pickle(path, content)
    return _read_message(path, content)


def _read_message(path: Path, content: memoryview) -> WeightFile:
    """Read a file that is one protobuf message; its fields say of which kind."""
    outline: dict[int, set[int]] = {}
    broken = ""
    try:
        for one in fields(content):
            outline.setdefault(one.number, set()).add(one.wire)
    except WireError as error:
        broken = str(error)
    if onnx.looks_like_model(outline) or (broken and path.suffix.lower() == ".onnx"):
        return onnx.read_onnx(path, content)
    if caffemodel.looks_like_network(outline) and (not broken or path.suffix.lower() == ".caffemodel"):
        return caffemodel.read_caffemodel(path, content)
    if path.suffix.lower() == ".caffemodel" and broken:
        raise damaged(path, kind="Caffe", reason=broken)
    got, remedy = "bytes of no known kind", "name a weights file, or copy or download it again"
    if not broken and caffemodel.looks_like_blob(outline):
        got, remedy = "a Caffe mean image", "name the network's .caffemodel"
    elif not broken and outline.get(1) == {VARINT} and outline.get(2) == {LENGTH} and 3 in outline:
        got, remedy = "a Caffe solver state", "name the .caffemodel beside it"
    elif path.suffix.lower() == ".bin":
        got, remedy = "raw numbers without names (of OpenVINO?)", _ORIGINAL
    raise refusal(path, expected=_KINDS, got=got, remedy=remedy)


def _foreign(head: bytes, content: memoryview) -> tuple[str, str] | None:
    """Say what a file is that holds no weights, and what to do."""
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            archive = "archive" in what
            return what, "unpack it and name the weights file in it" if archive else "name the weights file"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file (of Keras or Caffe?)", "convert it to .safetensors where it was made"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it and name the weights file in it (torch.save before 0.2 is too old)"
    if len(head) >= 128 and head[:6] == b"MATLAB":
        return "a MATLAB file with a damaged header", "copy or download it again"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself", "run `git lfs pull` where it was cloned"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")) or b"<html" in text[:1024]:
        return "a web page (a failed download?)", "download the file itself, not the page about it"
    if text.startswith((b"<?xml", b"<net", b"<!doctype")):
        return "an XML document (of OpenVINO?)", _ORIGINAL
    try:
        sample = bytes(content[:_HEAD_BYTES]).decode(
            "utf-8", "strict" if len(content) <= _HEAD_BYTES else "ignore"
        )
    except UnicodeDecodeError:
        return None
    if not all(one.isprintable() or one in "\t\r\n\f" for one in sample):
        return None
    if text.startswith((b"{", b"[")):
        return "JSON text", "name the weights file beside it"
    if b"layer" in text and b"{" in text:
        return "a Caffe network description (.prototxt)", "name the .caffemodel that goes with it"
    return f"text ({short(sample.strip()[:40])!r})", "name the weights file"


def _read_safetensors(path: Path, content: memoryview) -> WeightFile:
    """Read a safetensors file; a striate bundle is one whose metadata says so."""
    size = int.from_bytes(content[:8], "little")
    if size > len(content) - 8:
        reason = f"a header of {size:,} bytes where {len(content) - 8:,} are left"
        raise damaged(path, kind="safetensors", reason=reason)
    metadata, mapped = read_safetensors(path)
    tensors = {name: tensor.clone() for name, tensor in mapped.items()}
    if "striate" not in metadata:
        return WeightFile(path=path, kind="safetensors", tensors=tensors, metadata=metadata)
    header = header_of(path, metadata)
    inside = [name for name in tensors if name.startswith(GRAPH_PREFIX)]
    graphs = {name.removeprefix(GRAPH_PREFIX): tensors.pop(name).nbytes for name in inside}
    mean = tuple(255 * level for level in header.preprocessing.mean)
    return WeightFile(
        path=path,
        kind="striate bundle",
        tensors=tensors,
        metadata=metadata,
        classes=header.classes,
        mean_rgb=(mean[0], mean[1], mean[2]) if len(mean) == 3 else None,
        header=header,
        graphs=graphs,
    )
