"""Audio files in and out: what a file is, its first bytes say, not its suffix."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr

from duologue.errors import explained
from duologue.formats.headerless import SHORTEN, coding_of, read_stream
from duologue.formats.places import is_file, is_remote, seekable
from duologue.formats.rejects import Unusable
from duologue.formats.sphere import is_sphere, read_header, wav_of

MAX_LENGTH_DIFFERENCE_S = 1.0
BLOCK_S = 10
# How libsndfile's log says that a file is shorter than its header: "data : 32000 (should be 15978)".
_SHORTER = re.compile(r"(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)")
# Programs that write to a pipe leave the largest number they have as the length: the length is then unknown.
_UNKNOWN_LENGTH = 0x7FFF0000


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    Attributes:
        sample_rate: in Hz.
        channels: how many.
        samples: per channel.
    """

    sample_rate: int
    channels: int
    samples: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.samples / self.sample_rate


def probe(path: Path, raw_rate: int | None = None) -> AudioInfo:
    """Read the header of an audio file.

    Args:
        path: the file. A shorten stream says nothing of its length, and is decoded for it.
        raw_rate: sample rate in Hz of a file that doesn't say it (`formats.headerless`).

    Raises:
        Unusable: `missing_file`, `empty_file`, `empty` (no samples), `no_rate` (neither the file nor `raw_rate` says
            it), or `undecodable` (no audio format that can be read, or the file is shorter than its header says).
        UserError: the system refuses to read the file.
    """
    _check_there(path)
    if _is_sphere(path):
        header = read_header(path)
        return _checked(AudioInfo(header.sample_rate, header.channel_count, header.sample_count), path)
    with _sound(path, raw_rate) as sound:
        return _info(sound, path)


def probe_sides(sides: Sequence[tuple[Path, int]], raw_rate: int | None = None) -> dict[Path, AudioInfo]:
    """Read the headers of the files that the sides of a recording are in, each once, in the order of the sides.

    Args:
        sides: for channel 0 and channel 1, a file and the channel in it.
        raw_rate: as for `probe`.

    Raises:
        Unusable: as `probe`, `no_such_channel`, or `length_mismatch` (more than one second of difference).
    """
    # dict.fromkeys keeps the order: of two bad files, the first one named is the one reported.
    infos = {path: probe(path, raw_rate) for path in dict.fromkeys(path for path, _ in sides)}
    for path, channel in sides:
        check_channel(infos[path], path, channel)
    lengths = [info.duration_s for info in infos.values()]
    if max(lengths) - min(lengths) > MAX_LENGTH_DIFFERENCE_S:
        described = " and ".join(f"{path.name}: {info.duration_s:.2f} s" for path, info in infos.items())
        raise Unusable("length_mismatch", f"the two sides differ in length ({described})")
    return infos


def check_channel(info: AudioInfo, path: Path, channel: int) -> None:
    """Refuse a channel that a file does not have.

    Raises:
        Unusable: `no_such_channel`.
    """
    if not 0 <= channel < info.channels:
        raise Unusable("no_such_channel", f"{path.name} has {info.channels} channel(s), and no channel {channel}")


def blocks(path: Path, info: AudioInfo) -> Iterator[np.ndarray]:
    """Decode an audio file block by block, in memory that does not grow with its length.

    soundfile decodes what libsndfile knows; desphere decodes shorten streams, and NIST SPHERE in the codings that
    libsndfile lacks, and these alone are held whole.

    Args:
        path: the file.
        info: what `probe` says of it.

    Yields:
        float32 `[channels, samples]`, full scale at 1, `BLOCK_S` seconds at most.

    Raises:
        Unusable: as `probe`, and `nan_audio`: samples that are not numbers, or infinite.
    """
    left = info.samples
    with _sound(path, info.sample_rate) as sound:
        while left:
            try:
                block = sound.read(min(left, BLOCK_S * info.sample_rate), dtype="float32", always_2d=True).T
            except soundfile.LibsndfileError as error:
                raise Unusable("undecodable", f"{path.name}: decoding stopped: {_reason(error)}") from error
            if not block.size:
                raise Unusable(
                    "undecodable",
                    f"{path.name} is cut short: it declares {info.samples} samples and holds {info.samples - left}",
                )
            if not np.isfinite(block).all():
                raise Unusable("nan_audio", f"{path.name} holds samples that are not finite numbers")
            left -= block.shape[1]
            yield np.ascontiguousarray(block)


def channel_blocks(sides: Sequence[tuple[Path, int]], rate: int, raw_rate: int | None = None) -> Iterator[np.ndarray]:
    """Read the sides of a recording at one rate, block by block.

    Where two files differ in length by up to one second, the shorter is padded with zeros at its end.

    Args:
        sides: for channel 0 and channel 1, a file and the channel in it. One file may stand in both.
        rate: the sample rate to return, in Hz; other rates are resampled (soxr, HQ).
        raw_rate: as for `probe`.

    Yields:
        float32 `[2, samples]`, of any number of samples.

    Raises:
        Unusable: as `blocks` and `probe_sides`, or `empty` (nothing is left at this rate).
    """
    infos = probe_sides(sides, raw_rate)
    streams = [_resampled(path, info, rate) for path, info in infos.items()]
    of_file = {path: index for index, path in enumerate(infos)}
    samples = 0
    for files in _aligned(streams):
        samples += files[0].shape[1]
        yield np.stack([files[of_file[path]][channel] for path, channel in sides])
    if not samples:
        raise Unusable("empty", f"{sides[0][0].name} is shorter than one sample at {rate} Hz")


def read_channels(sides: Sequence[tuple[Path, int]], rate: int, raw_rate: int | None = None) -> np.ndarray:
    """Read the sides of a recording whole: float32 `[2, samples]`; see `channel_blocks`."""
    return np.concatenate(list(channel_blocks(sides, rate, raw_rate)), axis=1)


def _resampled(path: Path, info: AudioInfo, rate: int) -> Iterator[np.ndarray]:
    if info.sample_rate == rate:
        yield from blocks(path, info)
        return
    stream = soxr.ResampleStream(info.sample_rate, rate, info.channels, dtype="float32", quality="HQ")
    for block in blocks(path, info):
        yield _resample(stream, block)
    yield _resample(stream, np.zeros((info.channels, 0), np.float32), last=True)


def _resample(stream: soxr.ResampleStream, block: np.ndarray, last: bool = False) -> np.ndarray:
    return stream.resample_chunk(block.T, last=last).reshape(-1, len(block)).T


def _aligned(streams: Sequence[Iterator[np.ndarray]]) -> Iterator[list[np.ndarray]]:
    """Yield blocks of equal length of several streams; those that end early go on with zeros."""
    if len(streams) == 1:
        yield from ([block] for block in streams[0])
        return
    waiting = [next(stream) for stream in streams]
    ended = [False] * len(streams)
    while not all(ended):
        ready = min(block.shape[1] for block, end in zip(waiting, ended, strict=True) if not end)
        padded = [np.pad(block, ((0, 0), (0, max(ready - block.shape[1], 0)))) for block in waiting]
        yield [block[:, :ready] for block in padded]
        waiting = [block[:, ready:] for block in padded]
        for index, stream in enumerate(streams):
            if not waiting[index].shape[1] and not ended[index]:
                block = next(stream, None)
                ended[index] = block is None
                waiting[index] = waiting[index] if block is None else block
    left = max(block.shape[1] for block in waiting)
    if left:
        yield [np.pad(block, ((0, 0), (0, left - block.shape[1]))) for block in waiting]


class FlacWriter:
    """Encodes audio as a 16 bit FLAC file, block by block.

    Args:
        channels: how many.
        rate: in Hz.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self._file = io.BytesIO()
        self._sound = soundfile.SoundFile(self._file, "w", rate, channels, "PCM_16", format="FLAC")

    def add(self, audio: np.ndarray) -> None:
        """Add int16 `[channels, samples]`, or float of full scale 1, which is rounded and clipped."""
        self._sound.write(audio.T)

    def finish(self) -> bytes:
        """Return the file."""
        self._sound.close()
        return self._file.getvalue()


def flac_bytes(audio: np.ndarray, rate: int) -> bytes:
    """Encode `[channels, samples]` at `rate` Hz, int16 or float, as `FlacWriter` does."""
    writer = FlacWriter(len(audio), rate)
    writer.add(audio)
    return writer.finish()


def _check_there(path: Path) -> None:
    if not is_file(path):
        raise Unusable("missing_file", f"there is no file {path.name}")
    if path.stat().st_size == 0:
        raise Unusable("empty_file", f"{path.name} has no bytes")


def _is_sphere(path: Path) -> bool:
    # What the system refuses is no fault of the recording's: it stops the run, and a rerun reads the file.
    try:
        with explained(path, "reading"):
            return is_sphere(path)
    except OSError as error:
        raise Unusable("undecodable", f"{path.name} cannot be opened: {error.strerror}") from error


@contextmanager
def _sound(path: Path, raw_rate: int | None) -> Iterator[soundfile.SoundFile]:
    with seekable(path) as file:
        try:
            sound = _opened(file, path, raw_rate)
        except soundfile.LibsndfileError as error:
            if not _is_sphere(path):
                raise Unusable("undecodable", f"{path.name} cannot be decoded: {_reason(error)}") from error
            sound = soundfile.SoundFile(io.BytesIO(wav_of(path)))
        with sound:
            yield sound


def _opened(file: IO[bytes], path: Path, raw_rate: int | None) -> soundfile.SoundFile:
    # By descriptor: given a name, libsndfile would guess by its suffix where the bytes say nothing.
    source = file if is_remote(path) else file.fileno()
    coding = coding_of(path)
    if coding is None:
        return soundfile.SoundFile(source, closefd=False)
    stream = read_stream(path) if coding == SHORTEN else None
    rate = raw_rate if stream is None else stream.sample_rate or raw_rate
    if rate is None:
        raise Unusable("no_rate", f"{path.name} has no header that says its sample rate, and none was given")
    if stream is not None:
        samples = io.BytesIO(stream.samples)
        return soundfile.SoundFile(samples, "r", rate, stream.channels, "PCM_16", "LITTLE", "RAW")
    return soundfile.SoundFile(source, "r", rate, 1, coding, "LITTLE", "RAW", closefd=False)


def _info(sound: soundfile.SoundFile, path: Path) -> AudioInfo:
    for declared, held in _SHORTER.findall(sound.extra_info):
        if int(held) < int(declared) < _UNKNOWN_LENGTH:
            raise Unusable(
                "undecodable",
                f"{path.name} is cut short: it declares {declared} bytes of audio and holds {held}",
            )
    return _checked(AudioInfo(sound.samplerate, sound.channels, sound.frames), path)


def _checked(info: AudioInfo, path: Path) -> AudioInfo:
    if info.sample_rate <= 0:
        raise Unusable("undecodable", f"{path.name} declares a sample rate of {info.sample_rate} Hz")
    if info.samples <= 0:
        raise Unusable("empty", f"{path.name} has no samples")
    return info


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).rstrip(".")
