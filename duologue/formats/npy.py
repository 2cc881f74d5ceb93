"""Arrays as members of shards hold them: numpy's own format, of which nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=1024)
def _npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, about)
    return buffer.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """Return a numpy array as the bytes of an `.npy` file (format 1.0, never pickled).

    Raises:
        ValueError: the array holds objects.
    """
    if array.dtype.hasobject:
        raise ValueError("an array of objects can only be pickled")
    array = np.ascontiguousarray(array)
    return _npy_header(array.dtype, array.shape) + array.tobytes()


@lru_cache(maxsize=1024)
def _npy_layout(header: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Return type, shape and number of elements of the array behind a header of format 1.0."""
    file = io.BytesIO(header)
    np.lib.format.read_magic(file)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    if fortran_order or dtype.hasobject:
        raise ValueError("not an array as it is written here")
    return dtype, shape, math.prod(shape)


def npy_array(data: bytes | memoryview) -> np.ndarray:
    """Return the array in the bytes of an `.npy` file.

    Raises:
        ValueError: the bytes are no array, or one that would have to be unpickled.
    """
    # To parse a header takes longer than to read a sequence, and sequences have all the same.
    if data[:8] == b"\x93NUMPY\x01\x00":
        begin = 10 + int.from_bytes(data[8:10], "little")
        with suppress(Exception):
            dtype, shape, count = _npy_layout(bytes(data[:begin]))
            return np.frombuffer(data, dtype, count, begin).reshape(shape).copy()
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python: damage comes out as anything from there
        raise ValueError(f"not an array ({error})") from error
