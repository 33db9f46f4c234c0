"""The IDX files of MNIST and Fashion-MNIST: a header of sizes, then bytes."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.core.errors import DataError

_MAX_BYTES = 2**30


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or not.

    Args:
        path: the file.

    Returns:
        uint8 array of the shape that the file names, read-only.

    Raises:
        DataError: it is not such a file, or it is damaged.

    Source: "THE IDX FILE FORMAT" on the MNIST page (LeCun, Cortes, Burges): two zero bytes, a type (8 =
        unsigned byte), the number of dimensions, each size as a big-endian 32-bit integer, then the data.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name}: expected a readable IDX file, got {error}: download it again"
        ) from error
    dimensions = content[3] if len(content) >= 4 and content[:3] == b"\0\0\x08" else 0
    data_at = 4 + 4 * dimensions
    shape = tuple(int(size) for size in np.frombuffer(content[4:data_at], ">u4")) if dimensions else ()
    if not 1 <= dimensions <= 4 or len(shape) != dimensions or len(content) != data_at + math.prod(shape):
        raise DataError(
            f"{path.name}: expected an IDX file of unsigned bytes, got {len(content):,} bytes that are not:"
            " download it again"
        )
    return np.frombuffer(content, np.uint8, offset=data_at).reshape(shape)
