"""Two-channel recordings among audio files: stereo files, and pairs of files that a marker in their names parts."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.audio import MAX_LENGTH_DIFFERENCE_S, AudioInfo, probe
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.headerless import CODINGS, SHORTEN_SUFFIX
from duologue.formats.places import is_file, place, seekable, shown, walk
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.schema import AudioChannel
from duologue.manifests.sides import PAIRS
from duologue.manifests.transcripts import SUFFIXES as TRANSCRIPTS
from duologue.progress import Watch

_DECODED = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".aiff", ".aif", ".au", ".w64", ".rf64", ".caf")
# Audio that is not decoded here is listed all the same, so that it shows up among the rejects.
SUFFIXES = frozenset([*_DECODED, *CODINGS, SHORTEN_SUFFIX, ".m4a", ".aac", ".wma", ".amr"])
_MARKED = re.compile(
    rf"(?:(?P<call>.*)[_\-. ])?(?P<side>{'|'.join(sorted({side for pair in PAIRS for side in pair}))})",
    re.IGNORECASE | re.DOTALL,
)
_HEAD = 64 * 1024


@dataclass(frozen=True)
class Call:
    """A recording that was found, before it has a split.

    Attributes:
        id, duration_s, audio: as in `Recording`.
        transcripts: each with the channel of all its turns; None where it is that of both.
        speakers: where they are known.
        split, licence: where a table says them; the split as it is written there.
    """

    id: str
    audio: tuple[AudioChannel, AudioChannel]
    duration_s: float
    transcripts: tuple[tuple[Path, int | None], ...] = ()
    speakers: tuple[str, str] | None = None
    split: str | None = None
    licence: str | None = None


def find_audio(sources: Iterable[str]) -> list[Path]:
    """Return the audio files among the sources and in the directories below them, sorted by path.

    Raises:
        UserError: a source is missing or holds no audio file.
    """
    files: set[Path] = set()
    for source in sources:
        path = place(source)
        if path.is_dir():
            found = [file for file in walk(path.resolve()) if file.suffix.lower() in SUFFIXES]
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
    return sorted(files)


def head_of(path: Path) -> tuple[int, str]:
    """Return a file's size in bytes, and the sha256 of its first 64 KiB."""
    with seekable(path) as file:
        return path.stat().st_size, hashlib.sha256(file.read(_HEAD)).hexdigest()


def identity(
    audio: Sequence[Path], texts: Iterable[Path], root: Path, texts_root: Path | None = None
) -> dict[str, Any]:
    """Return what tells the files of a corpus from others.

    Hashing whole corpora of audio would mean reading them: name, size and beginning tell audio files apart.

    Args:
        audio: files of which the size and the first 64 KiB count.
        texts: files of which every byte counts.
        root: the directory that their names are relative to.
        texts_root: that of the texts, if it is another; texts outside it go by their names alone.

    Raises:
        UserError: a file cannot be read.
    """
    total = 0
    heads = []
    with Watch("manifest: a look at the audio", len(audio), "files") as watch:
        for path in audio:
            with explained(path, "reading"):
                size, digest = head_of(path)
            heads.append([file_name(path, root), size, digest])
            total += size
            watch.advance()
    texts_root = texts_root or root
    about = {"files": len(audio), "bytes": total, "sha256_of_heads": fingerprint(heads)}
    digests = []
    for path in texts:
        with explained(path, "reading"):
            name = file_name(path, texts_root) if path.is_relative_to(texts_root) else shown(path.name)
            digests.append([name, sha256_file(path)])
    return {**about, "texts": len(digests), "sha256_of_texts": fingerprint(digests)} if digests else about


def calls_of_files(
    files: Sequence[Path], root: Path, transcripts: Path, raw_rate: int | None
) -> Iterator[Call | Reject]:
    """Yield the recordings that audio files make, and a reject for each file or pair that makes none.

    A file with two channels is a recording. Two files with one channel are one if they lie in one directory and their
    names differ only in a marker of the side at the end (`sides.MARKERS`).

    Args:
        files: audio files below the root.
        root: the directory that paths and ids are relative to.
        transcripts: the directory where `<id>` with a transcript's suffix is looked for.
        raw_rate: as for `audio.probe`.
    """
    for call, group in _grouped(files, root):
        mono: list[tuple[Path, str, AudioInfo]] = []
        for path, side in group:
            try:
                info = probed(path, root, raw_rate)
                if info.channels == 1:
                    mono.append((path, side, info))
                    continue
                check_two(info, path)
                name = path.relative_to(root).as_posix()
                audio = (AudioChannel(name, 0), AudioChannel(name, 1))
                id = file_id(path, root)
                yield Call(id, audio, info.duration_s, find_transcripts(id, (), transcripts))
            except Unusable as error:
                yield error.reject(file_id(path, root), "manifest")
        yield from _of_mono(call, mono, root, transcripts)


def _of_mono(
    call: str, mono: Sequence[tuple[Path, str, AudioInfo]], root: Path, transcripts: Path
) -> Iterator[Call | Reject]:
    sides = tuple(side for _, side, _ in mono)
    if sides in PAIRS or sides[::-1] in PAIRS:
        (path0, _, info0), (path1, _, info1) = mono if sides in PAIRS else mono[::-1]
        audio = (
            AudioChannel(path0.relative_to(root).as_posix(), 0),
            AudioChannel(path1.relative_to(root).as_posix(), 0),
        )
        try:
            duration_s = paired_duration((path0, info0), (path1, info1))
        except Unusable as error:
            yield error.reject(call, "manifest")
            return
        apart = (file_id(path0, root), file_id(path1, root))
        yield Call(call, audio, duration_s, find_transcripts(call, apart, transcripts))
        return
    for path, _, _ in mono:
        others = ", ".join(other.name for other, _, _ in mono if other != path)
        why = f"its other side may be any of {others}" if others else "no usable file is its other side"
        yield Reject(file_id(path, root), "manifest", "mono", f"{path.name} has one channel, and {why}")


def probed(path: Path, root: Path, raw_rate: int | None = None) -> AudioInfo:
    """Read the header of an audio file below the root; see `audio.probe`.

    Raises:
        Unusable: as `audio.probe`, or `bad_name`: its path is not UTF-8.
    """
    try:
        str(path.relative_to(root)).encode()
    except UnicodeEncodeError as error:
        raise Unusable("bad_name", f"the name {shown(path.name)} is not UTF-8") from error
    return probe(path, raw_rate)


def check_two(info: AudioInfo, path: Path) -> None:
    """Refuse a file that is to have both sides of a call and hasn't two channels.

    Raises:
        Unusable: `mono`, or `too_many_channels`.
    """
    if info.channels == 1:
        raise Unusable("mono", f"{path.name} has one channel")
    if info.channels > 2:
        raise Unusable("too_many_channels", f"{path.name} has {info.channels} channels; a recording has two")


def paired_duration(first: tuple[Path, AudioInfo], second: tuple[Path, AudioInfo]) -> float:
    """Return the duration in seconds of a call whose two sides are in two files.

    Raises:
        Unusable: `rate_mismatch` or `length_mismatch`: they are not sides of one call.
    """
    (path0, info0), (path1, info1) = first, second
    if info0.sample_rate != info1.sample_rate:
        raise Unusable(
            "rate_mismatch",
            f"{path0.name} has {info0.sample_rate} Hz and {path1.name} has {info1.sample_rate} Hz",
        )
    if abs(info0.duration_s - info1.duration_s) > MAX_LENGTH_DIFFERENCE_S:
        raise Unusable(
            "length_mismatch",
            f"{path0.name} lasts {info0.duration_s:.2f} s and {path1.name} {info1.duration_s:.2f} s",
        )
    return max(info0.duration_s, info1.duration_s)


def find_transcripts(id: str, sides: Sequence[str], directory: Path) -> tuple[tuple[Path, int | None], ...]:
    """Return the transcript called after a recording, or else those called after its sides; see `Call`.

    Args:
        id: of the recording.
        sides: names of channel 0 and channel 1, where they are two files.
        directory: where `<id>` with a transcript's suffix is looked for.
    """
    whole = _transcript(id, directory)
    if whole is not None:
        return ((whole, None),)
    found = ((_transcript(side, directory), channel) for channel, side in enumerate(sides))
    return tuple((path, channel) for path, channel in found if path is not None)


def transcripts_of_files(files: Sequence[Path], root: Path, transcripts: Path) -> Iterator[Path]:
    """Yield the transcripts that `calls_of_files` may find, without a look at the audio."""
    for call, group in _grouped(files, root):
        for id in dict.fromkeys([call, *(file_id(path, root) for path, _ in group)]):
            yield from (path for path, _ in find_transcripts(id, (), transcripts))


def file_id(path: Path, root: Path) -> str:
    """Return the id of a recording that is one file: its path below the root, without the suffix."""
    return file_name(path.with_suffix(""), root)


def file_name(path: Path, root: Path) -> str:
    """Return a path relative to the root, as text; the root's own name for the root."""
    relative = path.relative_to(root).as_posix()
    return shown(root.name if relative == "." else relative)


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
        yield file_name(place(parent) / call, root), [(path, side_of(path)) for path in group]


def _transcript(id: str, directory: Path) -> Path | None:
    if Path(id).is_absolute() or ".." in Path(id).parts:
        return None
    paths = (directory / f"{id}{suffix}" for suffix in TRANSCRIPTS)
    return next((path for path in paths if is_file(path)), None)
