"""Two-channel audio of any origin becomes a manifest of recordings."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.audio import MAX_LENGTH_DIFFERENCE_S, AudioInfo, probe
from duologue.formats.card import Card
from duologue.formats.fingerprint import fingerprint
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.schema import AudioChannel, Recording, write_manifest
from duologue.manifests.sources import files_below, shown
from duologue.manifests.splits import Splits, split_of

_DECODED = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".aiff", ".aif", ".au", ".w64", ".rf64", ".caf")
# Audio that is not decoded here is listed all the same, so that it shows up among the rejects.
SUFFIXES = frozenset([*_DECODED, ".m4a", ".aac", ".wma", ".amr"])
# How the names of two files say which side they are: channel 0, channel 1.
MARKERS = (
    ("agent", "caller"),
    ("agent", "customer"),
    ("agent", "client"),
    ("agent", "user"),
    ("assistant", "user"),
    ("model", "user"),
    ("A", "B"),
    ("L", "R"),
    ("left", "right"),
    ("0", "1"),
    ("1", "2"),
    ("ch0", "ch1"),
    ("ch1", "ch2"),
    ("channel0", "channel1"),
    ("channel1", "channel2"),
    ("spk0", "spk1"),
    ("spk1", "spk2"),
    ("speaker0", "speaker1"),
    ("speaker1", "speaker2"),
)
_PAIRS = {(first.lower(), second.lower()) for first, second in MARKERS}
_MARKED = re.compile(
    rf"(?:(?P<call>.*)[_\-. ])?(?P<side>{'|'.join(sorted({side for pair in _PAIRS for side in pair}))})",
    re.IGNORECASE | re.DOTALL,
)
_HEAD = 64 * 1024


def write_recordings(
    sources: Sequence[str],
    out: Path,
    *,
    licence: str = "unknown",
    source: str | None = None,
    splits: Splits | None = None,
) -> Card:
    """Write a manifest of the two-channel recordings in the sources.

    A file with two channels is a recording. Two files with one channel are one if they lie in one directory and
    their names differ only in a marker of the side at the end (`MARKERS`).

    Args:
        sources: audio files, and directories of them (recursive).
        out: the directory to write.
        licence: of the recordings, as an SPDX identifier.
        source: name of the corpus; the name of the directory that all sources lie in if None.
        splits: shares of train, valid and test; 98:1:1 if None.

    Raises:
        UserError: a source is missing or holds no audio file, or no recording can be used.
    """
    splits = splits or Splits()
    files = _find(sources)
    root = Path(os.path.commonpath([path.parent for path in files]))
    source = source or shown(root.name) or "recordings"
    config = {"licence": licence, "source": source, "splits": str(splits), "audio": _identity(files, root)}

    def read() -> Iterator[Recording | Reject]:
        for call, group in _grouped(files, root):
            for id, outcome in _recordings(call, group, root):
                if isinstance(outcome, Unusable):
                    yield Reject(id, "manifest", outcome.reason, outcome.message)
                    continue
                audio, duration_s = outcome
                speakers = (f"{id}:0", f"{id}:1")
                yield Recording(id, source, split_of(id, splits), licence, duration_s, audio, speakers)

    return write_manifest(out, "recordings", config, read, root=root)


def _find(sources: Sequence[str]) -> list[Path]:
    files: set[Path] = set()
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found = [file for file in files_below(path.resolve()) if file.suffix.lower() in SUFFIXES]
            if not found:
                raise UserError(
                    "the directory holds no audio file",
                    where=path,
                    hint=f"Audio files end in one of {', '.join(sorted(SUFFIXES))}",
                )
            files.update(found)
        elif path.is_file():
            files.add(path.parent.resolve() / path.name)
        else:
            raise UserError("there is no such file or directory", where=path, hint="Check the path")
    if not files:
        raise UserError("no source was named", hint="Name audio files or directories of them")
    return sorted(files)


def _identity(files: Sequence[Path], root: Path) -> dict[str, Any]:
    # Hashing whole corpora of audio would mean reading them: name, size and beginning tell files apart.
    total = 0
    heads = []
    for path in files:
        with explained(path, "reading"):
            size = path.stat().st_size
            with path.open("rb") as file:
                heads.append([_name(path, root), size, hashlib.sha256(file.read(_HEAD)).hexdigest()])
        total += size
    return {"files": len(files), "bytes": total, "sha256_of_heads": fingerprint(heads)}


def _grouped(files: Sequence[Path], root: Path) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    # The files that may be sides of one call: the same directory and name, but for the marker at its end.
    def call_of(path: Path) -> tuple[str, str, bool]:
        match = _MARKED.fullmatch(path.stem)
        return str(path.parent), (match["call"] or "") if match else path.stem, bool(match)

    def side_of(path: Path) -> str:
        match = _MARKED.fullmatch(path.stem)
        return match["side"].lower() if match else ""

    ordered = sorted(files, key=lambda path: (call_of(path), path))
    for (parent, call, _), group in itertools.groupby(ordered, call_of):
        yield _name(Path(parent, call), root), [(path, side_of(path)) for path in group]


_Outcome = tuple[tuple[AudioChannel, AudioChannel], float] | Unusable


def _recordings(call: str, group: Sequence[tuple[Path, str]], root: Path) -> Iterator[tuple[str, _Outcome]]:
    mono: list[tuple[Path, str, AudioInfo]] = []
    for path, side in group:
        info = _probed(path, root)
        if isinstance(info, Unusable):
            yield _id(path, root), info
        elif info.channels == 1:
            mono.append((path, side, info))
        else:
            name = path.relative_to(root).as_posix()
            yield _id(path, root), ((AudioChannel(name, 0), AudioChannel(name, 1)), info.duration_s)
    sides = tuple(side for _, side, _ in mono)
    if sides in _PAIRS or sides[::-1] in _PAIRS:
        first, second = mono if sides in _PAIRS else mono[::-1]
        yield call, _paired(first, second, root)
        return
    for path, _, _ in mono:
        others = ", ".join(other.name for other, _, _ in mono if other != path)
        why = f"its other side may be any of {others}" if others else "no usable file is its other side"
        yield _id(path, root), Unusable("mono", f"{path.name} has one channel, and {why}")


def _probed(path: Path, root: Path) -> AudioInfo | Unusable:
    try:
        str(path.relative_to(root)).encode()
        info = probe(path)
    except UnicodeEncodeError:
        return Unusable("bad_name", f"the name {shown(path.name)} is not UTF-8")
    except Unusable as error:
        return error
    if info.channels > 2:
        return Unusable("too_many_channels", f"{path.name} has {info.channels} channels; a recording has two")
    return info


def _paired(first: tuple[Path, str, AudioInfo], second: tuple[Path, str, AudioInfo], root: Path) -> _Outcome:
    (path0, _, info0), (path1, _, info1) = first, second
    if info0.sample_rate != info1.sample_rate:
        return Unusable(
            "rate_mismatch",
            f"{path0.name} has {info0.sample_rate} Hz and {path1.name} has {info1.sample_rate} Hz",
        )
    if abs(info0.duration_s - info1.duration_s) > MAX_LENGTH_DIFFERENCE_S:
        return Unusable(
            "length_mismatch",
            f"{path0.name} lasts {info0.duration_s:.2f} s and {path1.name} {info1.duration_s:.2f} s",
        )
    audio = (
        AudioChannel(path0.relative_to(root).as_posix(), 0),
        AudioChannel(path1.relative_to(root).as_posix(), 0),
    )
    return audio, max(info0.duration_s, info1.duration_s)


def _id(path: Path, root: Path) -> str:
    return _name(path.with_suffix(""), root)


def _name(path: Path, root: Path) -> str:
    relative = path.relative_to(root).as_posix()
    return shown(root.name if relative == "." else relative)
