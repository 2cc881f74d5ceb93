"""A sample of a unit set: one dialogue as two rows of units on the wall clock, with its turns and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from duologue.formats.fingerprint import canonical_json
from duologue.formats.npy import npy_array, npy_bytes
from duologue.formats.shards import Content, Sample, damaged


@dataclass(frozen=True)
class Turn:
    """A turn on the wall clock.

    Attributes:
        channel: 0 or 1.
        start_s, end_s: in seconds.
        text: the spoken words.
        events: what else was heard, such as "laughter", in order.
        doubtful: the transcriber was not sure of all of it, or left a part out.
    """

    channel: int
    start_s: float
    end_s: float
    text: str
    events: tuple[str, ...] = ()
    doubtful: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Turn:
        """Return the turn that a row or a JSON object holds; `events` and `doubtful` may be missing."""
        return cls(**{**values, "events": tuple(values.get("events", ()))})


@dataclass(frozen=True)
class Word:
    """A word as it was spoken, from `start_s` to `end_s` on the wall clock of its dialogue, in seconds."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Sentence:
    """A sentence on the unit clock: frames `first_frame` to `first_frame + frames - 1` of its channel.

    Attributes:
        channel: 0 or 1.
        text: in written form.
        first_frame, frames: where it lies.
        turn: index of the turn it belongs to.
        words: in order, where the speech came with their times; empty elsewhere.
    """

    channel: int
    text: str
    first_frame: int
    frames: int
    turn: int
    words: tuple[Word, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Sentence:
        """Return the sentence that a JSON object holds; `words` may be missing."""
        words = values.get("words")
        return cls(**{**values, "words": tuple(Word(**word) for word in words) if words else ()})


@dataclass(frozen=True)
class UnitSample:
    """One dialogue of a unit set.

    Attributes:
        id, source, split, licence: as in the manifest.
        duration_s: length of the audio, in seconds.
        speakers: who speaks on channel 0 and on channel 1 (voices, where the speech is synthetic).
        turns: in order of their start.
        sentences: in order of their first frame; empty where there is no transcript.
        units: int16 `[2, frames]`, at the tokenizer's rate.
        about: what else the corpus says of it.
        checks: what was measured on its audio; empty where nothing was.
    """

    id: str
    source: str
    split: str
    licence: str
    duration_s: float
    speakers: tuple[str, str]
    turns: tuple[Turn, ...]
    sentences: tuple[Sentence, ...]
    units: np.ndarray
    about: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)

    def members(self) -> dict[str, bytes]:
        """Return the webdataset members of the sample."""
        about: dict[str, Any] = {
            "id": self.id,
            "source": self.source,
            "split": self.split,
            "licence": self.licence,
            "duration_s": self.duration_s,
            "speakers": list(self.speakers),
            "turns": [vars(turn) for turn in self.turns],
            "sentences": [
                {**vars(sentence), "words": [vars(word) for word in sentence.words]} for sentence in self.sentences
            ],
            "about": dict(self.about),
            "checks": dict(self.checks),
        }
        return {"units.npy": npy_bytes(self.units.astype("<i2")), "json": canonical_json(about)}


def unit_sample(members: Mapping[str, Content], *, turns: bool = True, sentences: bool = True) -> UnitSample:
    """Read a sample of a unit set back from its members.

    Args:
        members: of the sample.
        turns: give it its turns; who needs none of them saves half of the time.
        sentences: give it its sentences; the same.

    Raises:
        ValueError: a member is missing or malformed, or the units are not int16 `[2, frames]`.
    """
    try:
        about = orjson.loads(members["json"])
        units = npy_array(members["units.npy"])
        if units.dtype != np.int16 or units.ndim != 2 or units.shape[0] != 2:
            raise ValueError(f"units are {units.dtype} {list(units.shape)}, not int16 [2, frames]")
        return UnitSample(
            id=about["id"],
            source=about["source"],
            split=about["split"],
            licence=about["licence"],
            duration_s=about["duration_s"],
            speakers=(about["speakers"][0], about["speakers"][1]),
            turns=tuple(Turn.of(turn) for turn in about["turns"]) if turns else (),
            sentences=tuple(Sentence.of(sentence) for sentence in about["sentences"]) if sentences else (),
            units=units,
            about=dict(about.get("about", {})),
            checks=about.get("checks", {}),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a sample of a unit set: {error!r}") from error


def dialogue_of(sample: Sample, path: Path, *, turns: bool = True, sentences: bool = True) -> UnitSample:
    """Return the dialogue in a sample of a unit shard.

    Args:
        sample: of the shard.
        path: of the shard, for messages.
        turns: as for `unit_sample`.
        sentences: the same.

    Raises:
        UserError: the sample is damaged.
    """
    try:
        return unit_sample(sample.members, turns=turns, sentences=sentences)
    except ValueError as error:
        raise damaged(path, f"sample {sample.key}: {error}") from error
