"""Audio without a header: bare samples, whose coding the suffix says, and shorten streams.

Bare samples say nothing of themselves: their rate has to be given, and they have one channel. A shorten stream says
how many channels it has; its rate stands in the header of the WAV file that it was made of, if it was made of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import desphere_native

from duologue.formats.places import seekable
from duologue.formats.rejects import Unusable

SHORTEN = "shorten"
SHORTEN_SUFFIX = ".shn"
# Codings as libsndfile calls them; 16 bit samples are little-endian.
CODINGS = {".ulaw": "ULAW", ".ul": "ULAW", ".alaw": "ALAW", ".al": "ALAW", ".raw": "PCM_16"}
# The largest that libsndfile takes.
MAX_RATE = 2**31 - 1
_SHORTEN = b"ajkg"
# A file that begins with one of these has a header after all, whatever its suffix.
_HEADERS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"riff", b"NIST_1A")
# The first command of a shorten stream that was made of a file with a header gives that header as it was.
_VERBATIM = 9
_MOST_VERBATIM = 512


@dataclass(frozen=True)
class Stream:
    """A decoded shorten stream.

    Attributes:
        samples: 16 bits each, little-endian, the channels in turn.
        channels: how many.
        sample_rate: in Hz, where the stream says it.
    """

    samples: bytes
    channels: int
    sample_rate: int | None


def coding_of(path: Path) -> str | None:
    """Return `SHORTEN`, or the coding of bare samples as libsndfile calls it; None where the file has a header.

    Raises:
        OSError: it cannot be opened.
    """
    with seekable(path) as file:
        head = file.read(8)
    if head.startswith(_SHORTEN):
        return SHORTEN
    return None if head.startswith(_HEADERS) else CODINGS.get(path.suffix.lower())


def read_stream(path: Path) -> Stream:
    """Decode a shorten stream whole, version 2: 16 bit samples or mu-law.

    Raises:
        Unusable: `undecodable`.
    """
    data = path.read_bytes()
    try:
        channels, _, samples = desphere_native.shorten_to_pcm(data)
    except Exception as error:  # damaged bits lead the decoder anywhere
        raise Unusable("undecodable", f"{path.name} cannot be decoded: {error}") from error
    return Stream(samples, channels, _rate_of(_verbatim(data)))


def _verbatim(data: bytes) -> bytes:
    """Return the header of the file that a shorten stream was made of, empty where there is none."""
    # Robinson 1994, "SHORTEN", CUED/F-INFENG/TR.156: a number is a run of zeros, a one, and so many low bits.
    bits = "".join(f"{byte:08b}" for byte in data[5 : 5 + 4 * _MOST_VERBATIM])
    place = 0

    def number(low_bits: int) -> int:
        nonlocal place
        one = bits.index("1", place)
        high, place = one - place, one + 1 + low_bits
        return high << low_bits | int("0" + bits[one + 1 : place], 2)

    try:
        # Type, channels, block size, order of prediction, means, bytes to skip: each behind its own width.
        *_, skipped = [number(number(2)) for _ in range(6)]
        if skipped or number(2) != _VERBATIM:
            return b""
        return bytes(number(8) for _ in range(min(number(5), _MOST_VERBATIM)))
    except ValueError:  # it ends, or goes on beyond a byte
        return b""


def _rate_of(header: bytes) -> int | None:
    place = header.find(b"fmt ")
    if not header.startswith(b"RIFF") or place < 0 or len(header) < place + 16:
        return None
    rate = int.from_bytes(header[place + 12 : place + 16], "little")
    return rate if 0 < rate <= MAX_RATE else None
