"""Audio files in and out: what a file is, its first bytes say, not its suffix."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import desphere
import numpy as np
import soundfile
import soxr

from duologue.formats.rejects import Unusable

MAX_LENGTH_DIFFERENCE_S = 1.0
_SPHERE = b"NIST_1A"
_MAX_SPHERE_HEADER = 1 << 20
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


def probe(path: Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        Unusable: `missing_file`, `empty_file`, `empty` (no samples), or `undecodable` (no audio format that can
            be read, or the file is shorter than its header says).
    """
    _check_there(path)
    if _is_sphere(path):
        return _sphere_info(path)
    with _sound(path) as sound:
        return _info(sound, path)


def read(path: Path) -> tuple[np.ndarray, int]:
    """Decode a whole audio file.

    soundfile decodes what libsndfile knows; desphere decodes NIST SPHERE in the codings that it does not.

    Returns:
        float32 `[channels, samples]`, full scale at 1, and the sample rate in Hz.

    Raises:
        Unusable: as `probe`, and `nan_audio`: samples that are not numbers, or infinite.
    """
    info = probe(path)
    with _sound(path) as sound:
        try:
            audio = sound.read(dtype="float32", always_2d=True).T
        except soundfile.LibsndfileError as error:
            raise Unusable("undecodable", f"{path.name}: decoding stopped: {_reason(error)}") from error
    if audio.shape[1] < info.samples:
        raise Unusable(
            "undecodable",
            f"{path.name} is cut short: it declares {info.samples} samples and holds {audio.shape[1]}",
        )
    if not np.isfinite(audio).all():
        raise Unusable("nan_audio", f"{path.name} holds samples that are not finite numbers")
    return np.ascontiguousarray(audio), info.sample_rate


def read_channels(sides: Sequence[tuple[Path, int]], rate: int) -> np.ndarray:
    """Read the two sides of a recording at one rate.

    Where two files differ in length by up to one second, the shorter is padded with zeros at its end.

    Args:
        sides: for channel 0 and channel 1, a file and the channel in it. One file may stand in both.
        rate: the sample rate to return, in Hz; other rates are resampled (soxr, HQ).

    Returns:
        float32 `[2, samples]`.

    Raises:
        Unusable: as `read`, `no_such_channel`, or `length_mismatch` (more than one second of difference).
    """
    # dict.fromkeys keeps the order: of two bad files, the first one named is the one reported.
    files = {path: read(path) for path in dict.fromkeys(path for path, _ in sides)}
    channels = []
    for path, channel in sides:
        audio, own_rate = files[path]
        if not 0 <= channel < len(audio):
            raise Unusable("no_such_channel", f"{path.name} has {len(audio)} channel(s), and no channel {channel}")
        samples = audio[channel]
        channels.append(samples if own_rate == rate else soxr.resample(samples, own_rate, rate, quality="HQ"))
    lengths = [len(samples) for samples in channels]
    if max(lengths) - min(lengths) > MAX_LENGTH_DIFFERENCE_S * rate:
        described = " and ".join(
            f"{path.name}: {n / rate:.2f} s" for (path, _), n in zip(sides, lengths, strict=True)
        )
        raise Unusable("length_mismatch", f"the two sides differ in length ({described})")
    result = np.zeros((len(channels), max(lengths)), dtype=np.float32)
    for row, samples in zip(result, channels, strict=True):
        row[: len(samples)] = samples
    return result


def flac_bytes(audio: np.ndarray, rate: int) -> bytes:
    """Encode int16 `[channels, samples]` at `rate` Hz as a 16 bit FLAC file."""
    if audio.dtype != np.int16 or audio.ndim != 2:
        raise ValueError(f"audio is {audio.dtype} {list(audio.shape)}, not int16 [channels, samples]")
    file = io.BytesIO()
    soundfile.write(file, audio.T, rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise Unusable("missing_file", f"there is no file {path.name}")
    if path.stat().st_size == 0:
        raise Unusable("empty_file", f"{path.name} has no bytes")


def _is_sphere(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_SPHERE)) == _SPHERE
    except OSError as error:
        raise Unusable("undecodable", f"{path.name} cannot be opened: {error.strerror}") from error


def _sphere_info(path: Path) -> AudioInfo:
    try:
        with path.open("rb") as file:
            size = int(file.read(16).split(b"\n")[1])
            file.seek(0)
            header = desphere.SphereHeader.parse(file.read(min(max(size, 0), _MAX_SPHERE_HEADER)))
    except (desphere.DesphereError, ValueError, IndexError) as error:
        raise Unusable("undecodable", f"{path.name}: the SPHERE header is damaged: {error}") from error
    held = path.stat().st_size - header.header_size
    if "," not in header.sample_coding and held < header.expected_data_bytes:
        raise Unusable(
            "undecodable",
            f"{path.name} is cut short: it declares {header.expected_data_bytes} bytes of audio and holds {held}",
        )
    return _checked(AudioInfo(header.sample_rate, header.channel_count, header.sample_count), path)


@contextmanager
def _sound(path: Path) -> Iterator[soundfile.SoundFile]:
    # Opened by descriptor: given a name, libsndfile would guess by its suffix where the bytes say nothing.
    with path.open("rb") as file:
        try:
            sound = soundfile.SoundFile(file.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            if not _is_sphere(path):
                raise Unusable("undecodable", f"{path.name} cannot be decoded: {_reason(error)}") from error
            sound = soundfile.SoundFile(io.BytesIO(_wav_of_sphere(path)))
        with sound:
            yield sound


def _wav_of_sphere(path: Path) -> bytes:
    try:
        return desphere.transcode_bytes(path.read_bytes())
    except Exception as error:  # damaged bits lead the decoder anywhere
        raise Unusable("undecodable", f"{path.name} cannot be decoded: {error}") from error


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
