"""One reading of a set: what the report's figures and excerpts need of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact, spread_samples
from duologue.evaluate.duplex import NOTHING, has_sums, said_in
from duologue.evaluate.excerpts import SECONDS, Excerpt, excerpt, with_audio
from duologue.evaluate.statistics import token_rates
from duologue.formats.sequences import SequenceSet, packed_sequence
from duologue.formats.shards import damaged
from duologue.formats.sync import frames_per_chunk
from duologue.formats.turntaking import added, events
from duologue.formats.units import unit_sample
from duologue.generate.decode import units_of

_MOST_SAMPLES = 2400
_SHOWN_TOKENS = 90


@dataclass(frozen=True)
class UnitSurvey:
    """What the report shows of a unit set.

    Attributes:
        dialogues: how many were read.
        raw, deduplicated: float64 `[dialogues]`, tokens a second.
        transcripts: the sums of the turn-taking in the transcripts, by `formats.turntaking`; of nothing where the
            set's card has what was measured on the audio.
        excerpts: of the liveliest dialogues read.
    """

    dialogues: int
    raw: np.ndarray
    deduplicated: np.ndarray
    transcripts: Mapping[str, Any]
    excerpts: tuple[Excerpt, ...]


def _of_tokenizer(artefact: Artefact, what: str) -> int:
    assert artefact.card.tokenizer is not None
    return int(artefact.card.tokenizer[what])


def _damaged(artefact: Artefact, shard: str, error: ValueError) -> UserError:
    return damaged(artefact.directory / shard, f"a sample cannot be read ({error})")


def survey_units(artefact: Artefact, chunk_ms: int, excerpts: int) -> UnitSurvey:
    """Read a unit set, or a part of a big one.

    Args:
        artefact: the unit set.
        chunk_ms: chunk of the synchronous stream whose tokens are counted, in milliseconds.
        excerpts: how many excerpts to keep.

    Raises:
        UserError: the set is damaged, or the chunk is no whole number of its frames.
    """
    rate, vocabulary = _of_tokenizer(artefact, "rate"), _of_tokenizer(artefact, "vocabulary")
    try:
        chunk = frames_per_chunk(chunk_ms, rate)
    except ValueError as error:
        raise UserError(
            str(error),
            where=artefact.directory,
            hint="The chunk is that of the first sequence set of stage 2 or 3: report on sets of other rates apart",
        ) from error
    rates: list[tuple[float, float]] = []
    transcripts = NOTHING
    kept: list[tuple[float, str, Excerpt, str, str]] = []
    for read in spread_samples(artefact, _MOST_SAMPLES):
        try:
            sample = unit_sample(read.sample.members)
            if not sample.units.shape[1]:
                continue
            if sample.units.max() >= vocabulary:
                raise ValueError(f"unit {sample.units.max()} of {vocabulary} units")
            rates.append(token_rates(sample.units, rate, chunk))
            said = None if has_sums(artefact) else said_in(sample, rate)
            if said is not None:
                transcripts = added([transcripts, events(said, sample.duration_s).summary()])
            piece, lively = excerpt(sample, rate)
        except ValueError as error:
            raise _damaged(artefact, read.shard, error) from error
        kept.append((-lively, sample.id, piece, read.shard, read.sample.key))
        kept = sorted(kept, key=lambda entry: entry[:2])[:excerpts]
    raw, deduplicated = np.array(rates, np.float64).reshape(-1, 2).T
    pieces = tuple(with_audio(piece, artefact, shard, key) for _, _, piece, shard, key in kept)
    return UnitSurvey(len(rates), raw, deduplicated, transcripts, pieces)


@dataclass(frozen=True)
class ShareSurvey:
    """The shares of speech in a stage-1 set: how many dialogues were read, and of each float64 `[dialogues]`."""

    dialogues: int
    progress: np.ndarray
    asked: np.ndarray
    share: np.ndarray


def survey_shares(artefact: Artefact) -> ShareSurvey:
    """Read the shares of speech in a stage-1 set, or in a part of a big one; each dialogue counts once an epoch.

    Raises:
        UserError: the set is damaged.
    """
    rows = []
    for read in spread_samples(artefact, _MOST_SAMPLES):
        try:
            documents = packed_sequence(read.sample.members).documents
        except ValueError as error:
            raise _damaged(artefact, read.shard, error) from error
        # A dialogue that goes on in the next sequence is counted where it begins.
        rows += [(d.progress, d.asked, d.share) for d in documents if d.start == 0 and d.asked is not None]
    progress, asked, share = np.array(rows, np.float64).reshape(-1, 3).T
    return ShareSurvey(len(rows), progress, asked, share)


@dataclass(frozen=True)
class Opening:
    """How a sequence set begins.

    Attributes:
        id: of the first dialogue.
        text: its first tokens, written as people do.
        excerpt: stages 2 and 3, its stream decoded; None in stage 1, or where the stream has no chunk.
    """

    id: str
    text: str
    excerpt: Excerpt | None


def opening(artefact: Artefact) -> Opening | None:
    """Read the first document of the first sequence; None if there is none.

    Raises:
        UserError: the set is damaged.
    """
    sequences = SequenceSet(artefact.directory)
    try:
        first = sequences[0] if len(sequences) else None
    except ValueError as error:
        raise _damaged(artefact, artefact.card.shards[0]["name"], error) from error
    if first is None or not first.documents:
        return None
    document = first.documents[0]
    tokens = first.tokens[document.offset : document.offset + document.length]
    shown = Opening(document.id, sequences.vocabulary.show(tokens[:_SHOWN_TOKENS]), None)
    if artefact.stage == 1:
        return shown
    rate = _of_tokenizer(artefact, "rate")
    units = units_of(tokens, sequences.vocabulary, frames_per_chunk(artefact.card.config["chunk_ms"], rate))
    units = units[:, : round(SECONDS * rate)]
    if not units.shape[1]:
        return shown
    return replace(shown, excerpt=Excerpt(document.id, artefact.name, ("S0", "S1"), 0.0, rate, units, ()))
