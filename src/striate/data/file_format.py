"""What a file is, by its first bytes."""

import re

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"qoif", "QOI"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
    (b"\x01\xda\0", "SGI"),
    (b"\x01\xda\1", "SGI"),
)
_PORTABLE_MAP = re.compile(rb"P[1-6fF]\s")
_BY_EXTENSION = {".tga": "TGA", ".icb": "TGA", ".vda": "TGA", ".vst": "TGA", ".pcx": "PCX"}
_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "PDF is not supported: export its pages as PNG"),
    (b"%!PS", "PostScript is not supported (it is a program): convert to PNG"),
    (b"\xc5\xd0\xd3\xc6", "PostScript is not supported (it is a program): convert to PNG"),
    (b"8BPS", "Photoshop files are not supported: export as PNG"),
    (b"\xff\x0a", "JPEG XL is not supported: convert to PNG or JPEG"),
    (b"\0\0\0\x0cJXL ", "JPEG XL is not supported: convert to PNG or JPEG"),
    (b"PK\x03\x04", "a zip archive, not an image"),
    (b"\x1f\x8b", "gzip data, not an image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the image: run git lfs pull"),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2"})


def image_format(data: bytes, file: str = "") -> str | None:
    """Name the format of a file by its first bytes (64 are enough), or None if it is none that striate reads.

    Args:
        data: the file, or its first bytes.
        file: its name; TGA and PCX have no signature and are known by their extension.

    Returns:
        A Pillow format name such as ``"JPEG"``, or None. PostScript and other formats whose decoders run
        programs are never named.
    """
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and not _brands(data).isdisjoint({b"avif", b"avis"}):
        return "AVIF"
    if _PORTABLE_MAP.match(data):
        return "PPM"
    dot = file.rfind(".")
    return _BY_EXTENSION.get(file[dot:].lower()) if dot >= 0 and data else None


def _brands(data: bytes) -> set[bytes]:
    """List the brands of an ISO media file's ``ftyp`` box."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    return {data[8:12]} | {data[at : at + 4] for at in range(16, end - 3, 4)}


def why_not_an_image(data: bytes) -> str:
    """Say what bytes of no known image format are, and what to do about it."""
    if not data:
        return "empty file"
    for signature, reason in _FOREIGN:
        if data.startswith(signature):
            return reason
    if data[4:8] == b"ftyp":
        if not _brands(data).isdisjoint(_HEIF_BRANDS):
            return "HEIF is not supported: convert to JPEG or PNG"
        return "a video or camera-raw file, not an image: export a JPEG or PNG"
    head = data[:4096].lower()
    if b"<svg" in head:
        return "SVG is not supported (a drawing, not pixels): convert to PNG"
    if b"<html" in head or b"<!doctype html" in head:
        return "a web page, not an image: download it again"
    return "not an image that striate reads: convert to PNG or JPEG"
