"""What a mix is made of and how: the settings, checked once, and their place in the card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.card import Card, read_card
from duologue.formats.curriculum import Curriculum, curriculum
from duologue.formats.fingerprint import fingerprint
from duologue.formats.interleave import Level
from duologue.formats.places import place
from duologue.formats.sync import frames_per_chunk
from duologue.formats.vocabulary import Vocabulary
from duologue.manifests.splits import NAMES

BYTES = "bytes"
_SHORTEST_SEQUENCE = 64
# A plan holds epochs and copies in 16 bits; sequences and chunks are held whole, and no model takes longer ones.
_MOST_TIMES, _LONGEST_SEQUENCE, _LONGEST_CHUNK_MS = 2**16 - 1, 2**24, 60_000


@dataclass(frozen=True)
class UnitSource:
    """A unit set in a mix: where it is, and how often each of its dialogues comes in an epoch."""

    directory: Path
    weight: float

    @classmethod
    def parse(cls, text: str) -> UnitSource:
        """Read `DIRECTORY` or `DIRECTORY:WEIGHT`.

        Raises:
            UserError: the weight is no positive number.
        """
        directory, colon, weight = text.rpartition(":")
        if not colon or place(text).is_dir():
            return cls(place(text), 1.0)
        try:
            number = float(weight)
        except ValueError:
            # Not the colon of a URL.
            if not weight.startswith("//") and place(directory).is_dir():
                raise UserError(f"the weight {weight!r} is no number", where=text, hint="Write DIR:2") from None
            return cls(place(text), 1.0)
        if not (0 < number < math.inf):
            raise UserError(f"the weight {weight} is not a positive number", where=text, hint="Write DIR:2")
        return cls(place(directory), number)


@dataclass(frozen=True)
class MixSettings:
    """Settings of a mix.

    Attributes:
        stage: 1 (interleaved text and speech), 2 or 3 (synchronous stream).
        sources: unit sets with weights: with weight w, a dialogue comes floor(w) times an epoch, and once more with
            a chance of the rest.
        vocabulary: "bytes", a directory or a hub name of a Hugging Face tokenizer.
        chunk_ms: length of a chunk in stages 2 and 3, in milliseconds.
        sequence_length: in tokens.
        epochs: how often the mix goes through its sources.
        seed: of order, weights and shares.
        curriculum: of the share of speech in stage 1.
        level: stage 1, what is text or speech as a whole: "sentence", or "turn" for the ablation.
        split: which part of the data: "train", "valid" or "test".
        sequences_per_shard: the unit of work and of resume.
    """

    stage: int
    sources: tuple[UnitSource, ...]
    vocabulary: str = BYTES
    chunk_ms: int = 160
    sequence_length: int = 8192
    epochs: int = 1
    seed: int = 0
    curriculum: str = "paper"
    level: Level = "sentence"
    split: str = "train"
    sequences_per_shard: int = 1024

    @property
    def synchronous(self) -> bool:
        """Whether dialogues are written as the synchronous stream."""
        return self.stage > 1

    def shares(self) -> Curriculum:
        """Return the curriculum of a stage-1 mix."""
        return curriculum(self.curriculum)


def check_ranges(settings: MixSettings) -> None:
    """Check the settings by themselves, as far as that goes without the unit sets.

    Raises:
        UserError: an option is out of range.
    """
    limits = [
        (settings.stage in (1, 2, 3), "--stage", "is 1, 2 or 3"),
        (len(settings.sources) > 0, "UNITS", "names at least one unit set"),
        (1 <= settings.epochs <= _MOST_TIMES, "--epochs", f"is 1 to {_MOST_TIMES}"),
        (all(each.weight <= _MOST_TIMES for each in settings.sources), "UNITS:WEIGHT", f"is {_MOST_TIMES} at most"),
        (1 <= settings.chunk_ms <= _LONGEST_CHUNK_MS, "--chunk-ms", f"is 1 to {_LONGEST_CHUNK_MS}"),
        (settings.sequences_per_shard >= 1, "--sequences-per-shard", "is 1 or more"),
        (
            _SHORTEST_SEQUENCE <= settings.sequence_length <= _LONGEST_SEQUENCE,
            "--sequence-length",
            f"is {_SHORTEST_SEQUENCE} to {_LONGEST_SEQUENCE}",
        ),
        (settings.level in ("sentence", "turn"), "--level", "is sentence or turn"),
        (settings.split in NAMES, "--split", "is train, valid or test"),
    ]
    for holds, option, says in limits:
        if not holds:
            raise UserError(f"{option} {says}", hint="Correct the option")


def _refuse_two_tokenizers(sources: Sequence[UnitSource], cards: Sequence[Card]) -> dict[str, Any]:
    first = cards[0].tokenizer or {}
    for source, card in zip(sources, cards, strict=True):
        other = card.tokenizer or {}
        if other != first:
            differ = [name for name in {**first, **other} if first.get(name) != other.get(name)]
            raise UserError(
                f"the units are of two tokenizers: {_label(first)} in {sources[0].directory}, "
                f"{_label(other)} in {source.directory}; they differ in {', '.join(differ)}",
                where=source.directory,
                hint="Tokenize both with the same tokenizer: units of two never mix",
            )
    return dict(first)


def _label(tokenizer: Mapping[str, Any]) -> str:
    return f"{tokenizer.get('kind')} {fingerprint(tokenizer)[:12]}"


def check(settings: MixSettings) -> tuple[Card, Vocabulary]:
    """Check the settings against each other and the unit sets.

    Returns:
        The sequence set's card without shards and totals, and its vocabulary.

    Raises:
        UserError: an option is out of range, a unit set is missing, two were made with different tokenizers, or the
            chunk is no whole number of frames.
    """
    check_ranges(settings)
    cards = [read_card(source.directory, "units") for source in settings.sources]
    tokenizer = _refuse_two_tokenizers(settings.sources, cards)
    units, rate = int(tokenizer["vocabulary"]), int(tokenizer["rate"])
    vocabulary = (
        Vocabulary.byte_level(units)
        if settings.vocabulary == BYTES
        else Vocabulary.from_hugging_face(settings.vocabulary, units)
    )
    config: dict[str, Any] = {
        "stage": settings.stage,
        "weights": [source.weight for source in settings.sources],
        "chunk_ms": settings.chunk_ms if settings.synchronous else None,
        "sequence_length": settings.sequence_length,
        "epochs": settings.epochs,
        "seed": settings.seed,
        "curriculum": None if settings.synchronous else settings.curriculum,
        "level": None if settings.synchronous else settings.level,
        "split": settings.split,
        "sequences_per_shard": settings.sequences_per_shard,
    }
    if settings.synchronous:
        try:
            config["frames_per_chunk"] = frames_per_chunk(settings.chunk_ms, rate)
        except ValueError as error:
            raise UserError(str(error), where="--chunk-ms", hint="The paper uses 160, 200 and 240") from error
    else:
        settings.shares()
    card = Card(
        "sequences",
        config,
        parents=[card.as_parent() for card in cards],
        tokenizer=tokenizer,
        vocabulary=vocabulary.identity,
        licences=sorted({licence for card in cards for licence in card.licences}),
    )
    return card, vocabulary
