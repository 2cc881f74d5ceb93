"""The headers of tar members: ours are built and known again here, those of others are left to `tarfile`."""

from __future__ import annotations

import tarfile
import zlib

BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = 100
_LARGEST_SIZE = 8**11 - 1
# Behind the name: mode 0644, user and group 0; the size; a time of 0; the checksum.
_ABOUT = b"0000644\x000000000\x000000000\x00%011o\x0000000000000\x00%06o"
# A regular file, no link; the rest names no user, group, device or prefix.
_END = b"\x00 0" + bytes(100) + b"ustar\x0000" + bytes(BLOCK - 265)
# The checksum stands in front of `_END`, and counts its own eight bytes, of which two are there, as spaces.
_CHECKSUM = 148
_SUM = sum(_END[2:]) + 8 * ord(" ")


def header_of(name: bytes, size: int) -> bytes:
    """Return the header block of a file of nobody, from the beginning of time: what `tarfile` writes for USTAR.

    Args:
        name: of the member, in UTF-8, at most 100 bytes.
        size: of its content, in bytes, less than 8 GiB.

    Raises:
        ValueError: USTAR cannot hold the name or the size.
    """
    if len(name) > _LONGEST_NAME or b"\x00" in name:
        raise ValueError(f"the name {name!r} is longer than {_LONGEST_NAME} bytes, or holds a zero")
    if not 0 <= size <= _LARGEST_SIZE:
        raise ValueError(f"{name!r} has {size} bytes, and a tar member less than 8 GiB")
    name = name.ljust(_LONGEST_NAME, b"\x00")
    return name + _ABOUT % (size, _checksum(name + _ABOUT % (size, 0))) + _END


def _checksum(header: bytes) -> int:
    """Return the checksum of a header that ends as ours do, from what stands before it."""
    # The lower half of an Adler-32 is one more than the sum of the bytes, if that is below 65521.
    return _SUM + (zlib.adler32(header[:_CHECKSUM]) & 0xFFFF) - 1


def name_and_size(header: bytes, trusted: bool = False) -> tuple[str, int]:
    """Return the name of a member and the size of its content, in bytes.

    Args:
        header: its block of 512 bytes, or what is left of it in a damaged file.
        trusted: whether it is known to be one of ours as it was written.

    Raises:
        tarfile.HeaderError: it is no header, or its checksum is wrong.
        UnicodeDecodeError: the name is not in UTF-8.
    """
    try:
        size = int(header[124:135], 8)
        # What equals ours but for the name is sound, if its checksum is.
        if trusted or header[_LONGEST_NAME:] == _ABOUT % (size, _checksum(header)) + _END:
            return header[:_LONGEST_NAME].partition(b"\x00")[0].decode(), size
    except ValueError:
        pass
    # It is of others, or damaged, and then this says how.
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    if info.size < 0:
        raise tarfile.HeaderError("negative size")
    return info.name, info.size
