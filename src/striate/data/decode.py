"""Decoding one image file: bytes in, an upright 8-bit image out, or one line that says why not.

Every choice that changes pixels is made here, once:

- *orientation*: EXIF, XMP, TIFF and PNG orientation tags are applied; a damaged tag means upright.
- *colour*: CMYK, Lab, YCbCr and palettes become RGB; an embedded ICC profile is converted to sRGB, and a
  broken profile is ignored.
- *grey* stays one channel (mode ``"L"``) when the file itself is grey; a colour file that happens to look
  grey stays RGB.
- *more than 8 bits*: grey is brought from the range of its type to 0..255 and rounded: 16 bits are divided
  by 257, 12 bits by 4095 / 255. Where the file says its range (a TIFF's MaxSampleValue) or the
  caller does (``levels``), that range becomes 0..255 and values beyond it are clipped. 32-bit integers within
  0..65535 are treated as 16 bits; floats within 0..1 are multiplied by 255, within 0..255 rounded, within
  0..65535 divided by 257; anything else is stretched so that its minimum becomes 0 and its maximum 255. A
  TIFF whose zero is white is inverted. Signed 8-bit samples are refused: their meaning can't be told.
- *transparency* is laid over white.
- *several frames or pages*: the first.
"""

import hashlib
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins register themselves when they are imported
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    IcoImagePlugin,  # noqa: F401
    Image,
    ImageCms,
    ImageFile,
    Jpeg2KImagePlugin,  # noqa: F401
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401
    PcxImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    QoiImagePlugin,  # noqa: F401
    SgiImagePlugin,  # noqa: F401
    TgaImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from striate.core.errors import BrokenImageError
from striate.data.file_format import image_format, why_not_an_image
from striate.data.grey_levels import deep_grey, unsupported_samples
from striate.data.jpeg import decode_jpeg, jpeg_scale
from striate.data.libtiff import silence_libtiff
from striate.data.pixels import STRIP_PIXELS, as_image, as_pixels, strips

silence_libtiff()

MAX_PIXELS: Final = 90_000_000
"""The default limit on the decoded pixels of one image, checked against its header."""

DECODE_BYTES: Final = 480 * 2**20
"""The most memory that decoding takes at a time, in all threads together."""

_IN_PILLOW = {"1": 1, "L": 1, "P": 1, "LA": 4, "I;16": 2, "I;16B": 2}  # bytes a pixel; 4 in all other modes
_GREY_MODES = frozenset({"1", "L", "I", "F", "I;16", "I;16B"})
_IN_DECODER = {"WEBP": 10, "AVIF": 4, "GIF": 4, "JPEG2000": 8}  # bytes a pixel, measured

_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})


class _Memory:
    """Memory that threads take in turn: a large image waits until others are done, small ones pass."""

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes
        self._changed = threading.Condition()

    @contextmanager
    def reserved(self, wanted: int) -> Iterator[None]:
        """Hold some bytes, at most all there are, for the length of the block."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


_memory = _Memory(DECODE_BYTES)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image and the size that its file gives.

    Attributes:
        pixels: ``H x W x C`` uint8, upright, C being 3 (RGB) or 1 (grey).
        full_height_px: height of the upright image before any scaled decoding.
        full_width_px: width of the upright image before any scaled decoding.
        levels: smallest and largest value in the file, of grey with more than 8 bits; else None.
    """

    pixels: NDArray[np.uint8]
    full_height_px: int
    full_width_px: int
    levels: tuple[float, float] | None = None


def decode(
    data: bytes, *, file: str, min_side_px: int | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Decode one image file.

    Args:
        data: the whole file.
        file: its name, for the error; its extension matters for TGA and PCX alone, which have no
            signature.
        min_side_px: the shorter side that is wanted, at least 1 px. A JPEG may then be decoded at 1/2, 1/4 or
            1/8 of its size, as long as its shorter side stays at least this long. None: full size.
        max_pixels: the largest width x height that is decoded, after a JPEG's scaling. For other formats
            Pillow's own limit, twice ``Image.MAX_IMAGE_PIXELS`` (179 million), stays in force as well, and
            what would take more than ``DECODE_BYTES`` is refused.

    Returns:
        An upright image of mode ``"RGB"`` or ``"L"``, 8 bits a channel (see the module docstring).

    Raises:
        BrokenImageError: the file can't be decoded, whatever the reason.
    """
    return as_image(decode_sized(data, file=file, min_side_px=min_side_px, max_pixels=max_pixels).pixels)


def decode_sized(
    data: bytes,
    *,
    file: str,
    min_side_px: int | None = None,
    max_pixels: int = MAX_PIXELS,
    levels: tuple[float, float] | None = None,
) -> Decoded:
    """Decode one image file as ``decode`` does, to pixels, and return its full size as well.

    Args:
        data: as ``decode``.
        file: as ``decode``.
        min_side_px: as ``decode``.
        max_pixels: as ``decode``.
        levels: values of grey with more than 8 bits that become 0 and 255; None for the file's own range.

    Raises:
        BrokenImageError: the file can't be decoded, whatever the reason.
    """
    try:
        kind = image_format(data, file)
        if kind is None:
            raise BrokenImageError(file, why_not_an_image(data))
        with _Quiet():
            return _decode(data, kind, file, min_side_px, max_pixels, levels)
    except BrokenImageError:
        raise
    except Image.DecompressionBombError as error:
        raise BrokenImageError(file, f"too large to decode safely: {_bomb_size(error)}") from error
    except MemoryError as error:
        raise BrokenImageError(file, "too large: memory ran out while decoding it") from error
    except UnidentifiedImageError as error:
        if kind == "TIFF" and (reason := unsupported_samples(data)):
            raise BrokenImageError(file, reason) from error
        raise BrokenImageError(file, f"damaged header: begins as {kind} but can't be read as one") from error
    except Exception as error:  # a decoder met with damaged bytes may raise anything
        raise BrokenImageError(file, f"damaged {kind}: {_in_plain_words(error)}") from error


def _decode(
    data: bytes,
    kind: str,
    file: str,
    min_side_px: int | None,
    max_pixels: int,
    levels: tuple[float, float] | None,
) -> Decoded:
    with _open(data, kind) as opened:
        width, height = opened.size
        if width < 1 or height < 1:
            raise BrokenImageError(file, f"has no pixels ({width} x {height})")
        scale = jpeg_scale(opened.size, min_side_px) if kind == "JPEG" else 1
        num_pixels = -(-width // scale) * -(-height // scale)
        if num_pixels > max_pixels:
            raise BrokenImageError(
                file, f"too large to decode safely: {width} x {height} pixels, the limit is {max_pixels:,}"
            )
        ours = 3 if opened.mode in _GREY_MODES else 4  # the result, and a strip's copies
        needed = num_pixels * (_IN_PILLOW.get(opened.mode, 4) + _IN_DECODER.get(kind, 0) + ours)
        if needed > DECODE_BYTES:
            raise BrokenImageError(
                file,
                f"too large: decoding {width} x {height} pixels of {kind} takes about {needed >> 20} MiB, the"
                f" limit is {DECODE_BYTES >> 20}: save it smaller, or as JPEG",
            )
        with _memory.reserved(needed):
            return _decode_opened(opened, data, kind, file, min_side_px, levels)


def _decode_opened(
    opened: ImageFile.ImageFile,
    data: bytes,
    kind: str,
    file: str,
    min_side_px: int | None,
    levels: tuple[float, float] | None,
) -> Decoded:
    width, height = opened.size
    scaled = False
    fast = decode_jpeg(data, opened, min_side_px) if kind == "JPEG" else None
    if min_side_px is not None and isinstance(opened, JpegImagePlugin.JpegImageFile):
        scaled = opened.draft(None, (min_side_px, min_side_px)) is not None
    if fast is None:
        opened.load()  # before its tags: reading a PNG's tags would load it too, and hide its damage
    image: Image.Image = opened
    seen: tuple[float, float] | None = None
    if opened.mode[0] in "IF" or kind == "TIFF":
        grey = deep_grey(opened, file, levels)
        if grey is not None:
            image, seen = grey
    orientation = _orientation(opened) if kind != "TIFF" else 1  # Pillow turned a TIFF while it loaded
    if fast is not None and _is_srgb(opened):
        pixels = fast  # not recoloured
    else:
        grey_file = kind == "PNG" and data[25:26] in (b"\0", b"\4")
        pixels = _eight_bits(image if fast is None else _like(opened, fast), grey_file)
    pixels = _upright(pixels, orientation)
    if not scaled:
        height, width = pixels.shape[:2]
    elif orientation in _SIDEWAYS:
        width, height = height, width
    return Decoded(pixels, height, width, seen)


def _open(data: bytes, kind: str) -> ImageFile.ImageFile:
    """Read a file's header. A JPEG may be larger than Pillow opens, for it is decoded at a scale."""
    if kind == "JPEG":
        return JpegImagePlugin.JpegImageFile(BytesIO(data))
    return Image.open(BytesIO(data), formats=(kind,))


def _is_srgb(opened: Image.Image) -> bool:
    """Say whether an RGB or grey JPEG has no colour profile that changes it."""
    profile = opened.info.get("icc_profile")
    return not (isinstance(profile, bytes) and profile) or _transform(profile, opened.mode) is None


def _like(opened: Image.Image, pixels: NDArray[np.uint8]) -> Image.Image:
    """Return pixels as an image that carries the colour profile of its file."""
    image = as_image(pixels)
    image.info = opened.info
    return image


def _orientation(image: Image.Image) -> int:
    """Read the orientation tag, 1 (upright) if there is none or it can't be read."""
    if image.format == "JPEG" and "exif" not in image.info and "xmp" not in image.info:
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a damaged tag block is not a damaged image
        return 1
    return value if isinstance(value, int) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn ``H x W x C`` pixels as their orientation tag (1 to 8) says."""
    if orientation in _SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)  # 5; the others are mirror images of it
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


# -- Colour --------------------------------------------------------------------------------------------------


def _eight_bits(image: Image.Image, grey_file: bool) -> NDArray[np.uint8]:
    """Return an image's pixels, ``H x W x C`` uint8: a large one in strips, for each step takes a copy."""
    if image.width * image.height <= STRIP_PIXELS:
        return as_pixels(_to_eight_bits(image, grey_file=grey_file))
    pixels: NDArray[np.uint8] | None = None
    for top, part in strips(image):
        strip = as_pixels(_to_eight_bits(part, grey_file=grey_file))
        if pixels is None:
            pixels = np.empty((image.height, image.width, strip.shape[2]), np.uint8)
        pixels[top : top + len(strip)] = strip
    assert pixels is not None
    return pixels


def _to_eight_bits(image: Image.Image, *, grey_file: bool) -> Image.Image:
    """Turn any mode that Pillow opens into ``"L"`` or ``"RGB"``, over white, in sRGB."""
    profile = image.info.get("icc_profile")
    mode = image.mode
    if (mode in ("L", "RGB") and "transparency" not in image.info) or mode in ("CMYK", "LAB"):
        colour, alpha = image, None
    elif mode == "1" and "transparency" not in image.info:
        colour, alpha = image.convert("L"), None
    elif image.has_transparency_data:
        with_alpha = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = with_alpha.getchannel("A")
        colour = with_alpha.convert(with_alpha.mode[:-1])
    else:  # P without transparency, YCbCr, HSV, RGBX
        colour, alpha = image.convert("RGB"), None
    colour = _to_srgb(colour, profile if isinstance(profile, bytes) and profile else None)
    if grey_file and colour.mode == "RGB":
        colour = colour.convert("L")
    if alpha is not None and alpha.getextrema() != (255, 255):
        white = Image.new(colour.mode, colour.size, "white")
        white.paste(colour, mask=alpha)
        colour = white
    return colour


_MAX_TRANSFORMS = 64
_transforms: OrderedDict[tuple[bytes, str], ImageCms.ImageCmsTransform | None] = OrderedDict()
_transforms_lock = threading.Lock()


def _to_srgb(colour: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB (or grey with sRGB's tone curve) through the file's own profile, if that is usable."""
    mode = colour.mode
    if profile is None and mode in ("L", "RGB"):
        return colour
    transform = _transform(profile, mode) if profile is not None or mode == "LAB" else None
    if transform is None:
        return colour if mode in ("L", "RGB") else colour.convert("RGB")
    source = colour if transform.input_mode == mode else colour.convert(transform.input_mode)
    converted = transform.apply(source)
    return converted.convert("L") if mode == "L" else converted


def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB, or None if nothing is to do or the profile is of no use."""
    key = (hashlib.blake2b(profile or b"", digest_size=16).digest(), mode)
    with _transforms_lock:
        if key in _transforms:
            _transforms.move_to_end(key)
            return _transforms[key]
    try:
        made = _make_transform(profile, mode)
    except Exception:  # a broken profile is ignored
        made = _make_transform(None, mode) if mode == "LAB" else None
    with _transforms_lock:
        _transforms[key] = made
        while len(_transforms) > _MAX_TRANSFORMS:
            _transforms.popitem(last=False)
    return made


def _make_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    if mode == "LAB":
        source: ImageCms.ImageCmsProfile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        input_mode = "LAB"
    else:
        source = ImageCms.ImageCmsProfile(BytesIO(profile or b""))
        space = source.profile.xcolor_space.strip()
        if mode in ("L", "RGB") and "sRGB" in (source.profile.profile_description or ""):
            return None
        fits = {("RGB", "RGB"), ("L", "GRAY"), ("L", "RGB"), ("CMYK", "CMYK")}
        if (mode, space) not in fits:
            return None
        input_mode = "L" if space == "GRAY" else space
    target = ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(source, target, input_mode, "RGB", ImageCms.Intent.PERCEPTUAL)


# -- Words for what went wrong -------------------------------------------------------------------------------


def _in_plain_words(error: Exception) -> str:
    """Say what a decoder complained of."""
    text = _one_line(error)
    if "truncated" in text.lower():
        return "cut short, the file ends before its image does"
    if "broken data stream" in text or "decoder error" in text or "unrecognized data stream" in text:
        return "its pixel data can't be read"
    return text


def _bomb_size(error: Exception) -> str:
    """Take the number of pixels and the limit out of Pillow's refusal."""
    numbers = [f"{int(digits):,}" for digits in re.findall(r"\d+", str(error))]
    if len(numbers) == 2:
        return f"{numbers[0]} pixels, Pillow's limit is {numbers[1]}"
    return "more pixels than Pillow's limit"


def _one_line(error: BaseException) -> str:
    """Shorten a decoder's message to one printable line."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>", "", text)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 120 else text[:117] + "..."


# -- Quiet, without touching other threads -------------------------------------------------------------------


class _QuietHere:
    """Stands in a warning filter where a message pattern would: matches only in threads that are decoding.

    ``warnings.catch_warnings`` swaps the filters of the whole process, so two threads that use it undo each
    other. A filter that asks which thread it is in needs no swapping and hides no other thread's warnings.
    """

    def __init__(self) -> None:
        self.thread = threading.local()

    def match(self, text: str) -> bool:
        return getattr(self.thread, "depth", 0) > 0


_quiet_here = _QuietHere()
_QUIET_FILTER: Any = ("ignore", _quiet_here, Warning, None, 0)
_filters_lock = threading.Lock()


class _Quiet:
    """Ignore what this thread warns of inside the block (Pillow warns of odd EXIF, palettes and sizes)."""

    __slots__ = ()

    def __enter__(self) -> None:
        filters: list[Any] = warnings.filters  # type: ignore[assignment]
        if not filters or filters[0] is not _QUIET_FILTER:  # first use, or someone put a filter before it
            with _filters_lock:
                filters[:] = [_QUIET_FILTER, *(one for one in filters if one is not _QUIET_FILTER)]
        _quiet_here.thread.depth = getattr(_quiet_here.thread, "depth", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _quiet_here.thread.depth -= 1
