"""Stretches of dialogues worth looking at and listening to: units, audio and words on one clock."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import soundfile as sf

from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.duplex import said_in, speech_of
from duologue.evaluate.statistics import liveliest
from duologue.formats.shards import damaged, read_shard
from duologue.formats.units import UnitSample

SECONDS = 10.0


@dataclass(frozen=True)
class Words:
    """A sentence or turn at its place: channel, start and end in seconds of the dialogue, text."""

    channel: int
    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a dialogue.

    Attributes:
        id, source, speakers: of the dialogue.
        start_s: where the stretch begins in it, in seconds.
        rate: of the units, in Hz.
        units: int `[2, frames]`.
        words: what is said in it, in order.
        speech: voice activity of each channel in it, float64 `[n, 2]` seconds of the dialogue; None where nothing was
            measured.
        audio: float32 `[2, samples]`, or None where none was kept.
        sample_rate: of the audio, in Hz.
    """

    id: str
    source: str
    speakers: tuple[str, str]
    start_s: float
    rate: int
    units: np.ndarray
    words: tuple[Words, ...]
    speech: tuple[np.ndarray, np.ndarray] | None = None
    audio: np.ndarray | None = None
    sample_rate: int = 16_000

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.units.shape[1] / self.rate


def _words(sample: UnitSample, rate: int) -> list[Words]:
    if sample.sentences:
        return [
            Words(
                sentence.channel,
                sentence.first_frame / rate,
                (sentence.first_frame + sentence.frames) / rate,
                sentence.text,
            )
            for sentence in sample.sentences
        ]
    return [Words(turn.channel, turn.start_s, turn.end_s, turn.text) for turn in sample.turns]


def excerpt(sample: UnitSample, rate: int) -> tuple[Excerpt, float]:
    """Cut out the liveliest 10 s: those in which the channel that is heard less is heard most.

    Heard is what voice activity says, or else the transcript, or else where the unit changes.

    Args:
        sample: a dialogue with at least one frame.
        rate: frames a second, in Hz.

    Returns:
        The stretch, without audio, and its liveliness in seconds.

    Raises:
        ValueError: its voice activity or its transcript is malformed.
    """
    frames = sample.units.shape[1]
    speech = speech_of(sample)
    heard = speech or said_in(sample, rate)
    active = np.zeros((2, frames), bool)
    if heard is None:
        active[:, 1:] = sample.units[:, 1:] != sample.units[:, :-1]
    else:
        for channel, spans in enumerate(heard):
            for start, end in np.rint(spans * rate).astype(np.int64).clip(0, frames):
                active[channel, start:end] = True
    first, lively = liveliest(active, round(SECONDS * rate))
    last = min(first + round(SECONDS * rate), frames)
    words = tuple(said for said in _words(sample, rate) if said.start_s * rate < last and said.end_s * rate > first)
    piece = Excerpt(
        sample.id, sample.source, sample.speakers, first / rate, rate, sample.units[:, first:last], words, speech
    )
    return piece, lively / rate


def with_audio(piece: Excerpt, artefact: Artefact, shard: str, key: str) -> Excerpt:
    """Add the audio of an excerpt, if the unit set kept it.

    It stands in `audio-NNNNN.tar` beside `units-NNNNN.tar`, as `<key>.flac`.

    Raises:
        UserError: the audio is damaged.
    """
    path = artefact.directory / shard.replace("units-", "audio-", 1)
    if not path.exists():
        return piece
    for sample in read_shard(path):
        if sample.key == key and "flac" in sample.members:
            break
    else:
        return piece
    try:
        with sf.SoundFile(io.BytesIO(sample.members["flac"])) as file:
            file.seek(min(round(piece.start_s * file.samplerate), file.frames))
            audio = file.read(round(piece.seconds * file.samplerate), dtype="float32", always_2d=True).T
            if audio.shape[0] != 2:
                raise damaged(path, f"the audio of {key} has not two channels")
            return replace(piece, audio=audio, sample_rate=file.samplerate)
    except sf.LibsndfileError as error:
        raise damaged(path, f"the audio of {key} cannot be read ({error})") from error


def runs_of(units: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield first frame, number of frames and unit of every run of equal units in int `[frames]`."""
    if not len(units):
        return
    starts = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
    for first, end in zip(starts, [*starts[1:], len(units)], strict=True):
        yield int(first), int(end - first), int(units[first])
