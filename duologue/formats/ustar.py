"""The headers of tar members: ours are built and known again here, those of others are left to `tarfile`."""

from __future__ import annotations

import tarfile
from zlib import adler32

BLOCK = tarfile.BLOCKSIZE
_LONGEST_NAME = 100
_LARGEST_SIZE = 8**11 - 1
# Behind the name: mode 0644, user and group 0; behind the size, which comes next: a time of 0.
_MODE_AND_OWNER, _TIME = b"0000644\x000000000\x000000000\x00", b"\x0000000000000\x00"
# Behind the checksum: a regular file, no link; the rest names no user, group, device or prefix.
_END = b"\x00 0" + bytes(100) + b"ustar\x0000" + bytes(BLOCK - 265)
_SIZE, _BEHIND_SIZE, _CHECKSUM, _BEHIND_CHECKSUM = 124, 135, 148, 154
# The checksum is the sum of a header's bytes, with spaces for its own eight; two of these are in `_END`. The lower
# half of an Adler-32 is the sum of bytes, of which there are at most 256, and one more, which is taken off here.
_SUM_OF_END = sum(_END[2:]) + 8 * ord(" ") - 1
_SUM_OF_REST = sum(_MODE_AND_OWNER) + sum(_TIME) + _SUM_OF_END
_SUM_OF_BYTES = 0xFFFF


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
    octal = b"%011o" % size
    checksum = b"%06o" % (_SUM_OF_REST + (adler32(name + octal) & _SUM_OF_BYTES))
    return b"".join((name.ljust(_LONGEST_NAME, b"\x00"), _MODE_AND_OWNER, octal, _TIME, checksum, _END))


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
        size = int(header[_SIZE:_BEHIND_SIZE], 8)
        # Without a call for each condition, since each costs.
        if trusted or (
            size >= 0
            and header[_BEHIND_CHECKSUM:] == _END
            and header[_LONGEST_NAME:_SIZE] == _MODE_AND_OWNER
            and header[_BEHIND_SIZE:_CHECKSUM] == _TIME
            and header[_CHECKSUM:_BEHIND_CHECKSUM]
            == b"%06o" % (_SUM_OF_END + (adler32(header[:_CHECKSUM]) & _SUM_OF_BYTES))
        ):
            return header[:_LONGEST_NAME].partition(b"\x00")[0].decode(), size
    except ValueError:
        pass
    # It is of others, or damaged, and then this says how.
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    if info.size < 0:
        raise tarfile.HeaderError("negative size")
    return info.name, info.size
