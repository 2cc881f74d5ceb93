"""NIST SPHERE files: known by their first bytes, their header, and the codings that libsndfile lacks."""

from __future__ import annotations

from pathlib import Path

import desphere

from duologue.formats.places import seekable
from duologue.formats.rejects import Unusable

_MAGIC = b"NIST_1A"
_MAX_HEADER = 1 << 20


def is_sphere(path: Path) -> bool:
    """Return whether a file is NIST SPHERE, by its first bytes.

    Raises:
        OSError: it cannot be opened.
    """
    with seekable(path) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def read_header(path: Path) -> desphere.SphereHeader:
    """Read the header of a SPHERE file.

    Raises:
        Unusable: `undecodable`: it is damaged, or the file is shorter than it says.
    """
    try:
        with seekable(path) as file:
            size = int(file.read(16).split(b"\n")[1])
            file.seek(0)
            header = desphere.SphereHeader.parse(file.read(min(max(size, 0), _MAX_HEADER)))
    except (desphere.DesphereError, ValueError, IndexError) as error:
        raise Unusable("undecodable", f"{path.name}: the SPHERE header is damaged: {error}") from error
    held = path.stat().st_size - header.header_size
    if "," not in header.sample_coding and held < header.expected_data_bytes:
        raise Unusable(
            "undecodable",
            f"{path.name} is cut short: it declares {header.expected_data_bytes} bytes of audio and holds {held}",
        )
    return header


def wav_of(path: Path) -> bytes:
    """Decode a SPHERE file of any coding into a WAV file, both of them whole in memory.

    Raises:
        Unusable: `undecodable`.
    """
    try:
        return desphere.transcode_bytes(path.read_bytes())
    except Exception as error:  # damaged bits lead the decoder anywhere
        raise Unusable("undecodable", f"{path.name} cannot be decoded: {error}") from error
