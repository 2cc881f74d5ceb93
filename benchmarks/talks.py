"""Made-up dialogues for the benchmarks: two speakers who take turns for a minute or so, as units and as sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from duologue.formats import seeds
from duologue.formats.card import Card, write_card
from duologue.formats.packing import pack
from duologue.formats.sequences import Document, PackedSequence
from duologue.formats.shards import ShardInfo
from duologue.formats.sync import encode
from duologue.formats.units import Sentence, Turn, UnitSample
from duologue.formats.vocabulary import Vocabulary

UNITS = 501
HZ, CHUNK_MS = 25, 160
_WORDS = ("so", "and", "the", "you", "know", "what", "we", "went", "there", "yesterday", "good", "well", "maybe")


@dataclass(frozen=True)
class Talk:
    """A dialogue.

    Attributes:
        units: int16 `[2, frames]`; 0 is silence.
        turns: channel, first frame and number of frames of each.
    """

    units: np.ndarray
    turns: tuple[tuple[int, int, int], ...]


def talk(number: int) -> Talk:
    """Return the dialogue of a number, always the same."""
    draw = seeds.generator(0, "dialogue", number)
    frames = round(HZ * float(draw.lognormal(math.log(60), 0.5))) + HZ
    units = np.zeros((2, frames), np.int16)
    turns = []
    begin = channel = 0
    while begin < frames:
        turn = units[channel, begin : begin + 1 + int(draw.gamma(2, 1.5 * HZ))]
        # A unit of speech lasts one to three frames.
        spoken = draw.integers(1, UNITS, len(turn)).repeat(draw.integers(1, 4, len(turn)))
        turn[:] = spoken[: len(turn)]
        turns.append((channel, begin, len(turn)))
        begin, channel = begin + len(turn), 1 - channel
    return Talk(units, tuple(turns))


def unit_sample(number: int) -> UnitSample:
    """Return a dialogue as a sample of a unit set, with some words to each second of its turns."""
    made = talk(number)
    draw = seeds.generator(0, "text", number)
    texts = [
        " ".join(_WORDS[word] for word in draw.integers(len(_WORDS), size=1 + 3 * frames // HZ)) + "."
        for _, _, frames in made.turns
    ]
    turns = [
        Turn(channel, first / HZ, (first + frames) / HZ, text)
        for (channel, first, frames), text in zip(made.turns, texts, strict=True)
    ]
    sentences = [
        Sentence(channel, text, first, frames, place)
        for place, ((channel, first, frames), text) in enumerate(zip(made.turns, texts, strict=True))
    ]
    return UnitSample(
        id=f"talk-{number:06d}",
        source="benchmark",
        split="train",
        licence="CC0-1.0",
        duration_s=made.units.shape[1] / HZ,
        speakers=("ada", "ben"),
        turns=tuple(turns),
        sentences=tuple(sentences),
        units=made.units,
    )


def sequences(vocabulary: Vocabulary, length: int, count: int) -> list[PackedSequence]:
    """Return sequences of stage 2: synchronous streams of dialogues, packed as `duologue mix` packs them."""
    streams: list[np.ndarray] = []
    size = 0
    while size < (count + 1) * length:
        streams.append(encode(talk(len(streams)).units, HZ * CHUNK_MS // 1000))
        size += len(streams[-1])
    # Chunks begin with a tag of the first speaker.
    chunks = [np.diff(np.append(np.flatnonzero(stream == 0), len(stream))) for stream in streams]
    tokens = np.full((count, length), vocabulary.pad_id, np.uint32)
    documents: list[list[Document]] = [[] for _ in range(count)]
    for piece in pack(((of, np.ones(len(of), bool)) for of in chunks), length, cut_atoms=False):
        if piece.sequence == count:
            break
        part = vocabulary.from_stream(streams[piece.dialogue][piece.start : piece.stop])
        tokens[piece.sequence, piece.offset : piece.offset + piece.length] = part
        documents[piece.sequence].append(
            Document(str(piece.dialogue), piece.offset, piece.length, piece.start, 0.0, None, 1.0, "benchmark")
        )
    return [PackedSequence(row, tuple(of)) for row, of in zip(tokens, documents, strict=True)]


def finish(directory: Path, vocabulary: Vocabulary, length: int, shards: Sequence[ShardInfo]) -> None:
    """Make a sequence set of the shards in a directory: with its vocabulary and card, as `duologue mix` leaves it."""
    vocabulary.save(directory / "vocabulary")
    count = sum(shard.samples for shard in shards)
    config = {"stage": 2, "sequence_length": length, "chunk_ms": CHUNK_MS, "sequences": count}
    totals = {"inputs": count, "samples": count, "rejects": 0, "tokens": count * length}
    tokenizer = {"name": "benchmark", "units": UNITS}
    entries = [asdict(shard) for shard in shards]
    write_card(directory, Card("sequences", config, (), tokenizer, vocabulary.identity, entries, totals))
