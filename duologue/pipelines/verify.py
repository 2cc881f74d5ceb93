"""Checking an artefact again: checksums, counts, and what must hold in every sample of its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.card import CARD, Card, read_card
from duologue.formats.fingerprint import sha256_file
from duologue.formats.rejects import OF_TURNS, REJECTS, count_by_reason, read_rejects
from duologue.formats.sequences import VOCABULARY, Document, PackedSequence, packed_sequence
from duologue.formats.shards import Sample, key_of
from duologue.formats.sync import FIRST_UNIT, S0, S1
from duologue.formats.units import UnitSample, unit_sample
from duologue.formats.vocabulary import Vocabulary
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue
from duologue.manifests.splits import NAMES
from duologue.pipelines.commits import Problem, commit_problems
from duologue.pipelines.looking import each_sample
from duologue.progress import Watch

# Without these, what is in samples cannot be checked. `read_card` asks for what every card has.
_NEEDED = {
    "units": ("tokenizer", {"rate", "sample_rate", "vocabulary"}),
    "sequences": ("config", {"split", "sequence_length"}),
}


def verify(directory: Path) -> list[str]:
    """Check an artefact.

    Returns:
        What is wrong, a sentence each with the file or sample concerned; empty if all is well.

    Raises:
        UserError: it has no card, or one that cannot be read.
    """
    return [str(problem) for problem in find_problems(directory)]


def find_problems(directory: Path) -> list[Problem]:
    """Check an artefact, as `verify`, and return what is wrong by the file concerned.

    Raises:
        UserError: it has no card, or one that cannot be read.
    """
    card = read_card(directory)
    part, needed = _NEEDED.get(card.kind, ("config", set()))
    if missing := sorted(needed - (getattr(card, part) or {}).keys()):
        return [Problem(directory / CARD, f"its {part} lacks {', '.join(missing)}")]
    problems = [*_files(directory, card), *_rejects(directory, card)]
    # Content is looked into only where the bytes are right: the rest would be noise.
    if not problems:
        problems += {"units": _units, "sequences": _sequences}.get(card.kind, _manifest)(directory, card)
    return [*problems, *(commit_problems(directory, card) if card.kind in ("units", "sequences") else ())]


def _told(error: UserError, directory: Path) -> Problem:
    return Problem(Path(error.where or directory), error.what)


def _files(directory: Path, card: Card) -> Iterator[Problem]:
    named = set()
    with Watch("verify: checksums", len(card.shards), "shards", quiet=True) as watch:
        for shard in card.shards:
            path = directory / shard["name"]
            named.add(path.name)
            if not path.is_file():
                yield Problem(path, "the shard is missing")
            elif path.stat().st_size != shard["bytes"]:
                yield Problem(path, f"it has {path.stat().st_size:,} bytes, the card says {shard['bytes']:,}")
            elif sha256_file(path) != shard["sha256"]:
                yield Problem(path, "its checksum is not the card's: its bytes were changed")
            watch.advance()
    for path in sorted([*directory.glob("*.tar"), *directory.glob("*-[0-9]*.parquet")]):
        if path.name not in named:
            yield Problem(path, "the card does not know this shard")
    samples = sum(shard["samples"] for shard in card.sample_shards)
    if samples != card.totals["samples"]:
        yield Problem(
            directory, f"the shards have {samples:,} samples together, the totals say {card.totals['samples']:,}"
        )


def _rejects(directory: Path, card: Card) -> Iterator[Problem]:
    try:
        counts = count_by_reason(read_rejects(directory))
    except (OSError, ValueError) as error:  # pyarrow's own are both
        yield Problem(directory / REJECTS, f"it cannot be read: {error}")
        return
    whole = sum(count for reason, count in counts.items() if not reason.startswith(OF_TURNS))
    if whole != card.totals["rejects"]:
        yield Problem(directory, f"{whole:,} inputs are in the rejects, the totals say {card.totals['rejects']:,}")
    if counts != card.rejects:
        yield Problem(directory, "the rejects are not those that the card counts by reason")
    if card.kind != "sequences" and card.totals["inputs"] != card.totals["samples"] + card.totals["rejects"]:
        yield Problem(directory, "the inputs are not the samples and the rejects together")


def _manifest(directory: Path, card: Card) -> Iterator[Problem]:
    manifest = Manifest(directory)
    if card.kind == "recordings":
        try:
            _ = manifest.root
        except UserError as error:
            yield _told(error, directory)
    seen: set[str] = set()
    with Watch("verify: content", len(manifest), "rows", quiet=True) as watch:
        for row in manifest.rows():
            if row.id in seen:
                yield Problem(directory, f"the id {row.id} comes twice")
            seen.add(row.id)
            if row.split not in NAMES:
                yield Problem(directory, f"{row.id} is in a split {row.split!r}")
            sides = {turn.speaker for turn in row.turns} if isinstance(row, Dialogue) else set()
            if not sides <= {0, 1}:
                yield Problem(directory, f"{row.id} has speakers {sorted(sides)}")
            watch.advance()


def _samples(directory: Path, card: Card, stem: str) -> Iterator[tuple[Path, Sample]]:
    paths = [directory / shard["name"] for shard in card.shards if shard["name"].startswith(f"{stem}-")]
    return each_sample(paths, f"verify: content of {stem}")


def _units(directory: Path, card: Card) -> Iterator[Problem]:
    tokenizer = card.tokenizer or {}
    seen: set[str] = set()
    try:
        for path, sample in _samples(directory, card, "units"):
            try:
                dialogue = unit_sample(sample.members)
            except ValueError as error:
                yield Problem(path, f"{sample.key}: {error}")
                continue
            if dialogue.id in seen:
                yield Problem(path, f"{sample.key}: the id {dialogue.id} comes twice")
            seen.add(dialogue.id)
            if sample.key != key_of(dialogue.id):
                yield Problem(path, f"{sample.key}: the key is not that of the id {dialogue.id}")
            yield from (Problem(path, f"{sample.key}: {problem}") for problem in _unit_problems(dialogue, tokenizer))
        for path, sample in _samples(directory, card, "audio"):
            if set(sample.members) != {"flac"}:
                yield Problem(path, f"{sample.key}: it holds {sorted(sample.members)}, not one FLAC")
    except UserError as error:
        yield _told(error, directory)


def _unit_problems(dialogue: UnitSample, tokenizer: Mapping[str, Any]) -> Iterator[str]:
    frames = dialogue.units.shape[1]
    samples = round(dialogue.duration_s * tokenizer["sample_rate"])
    expected = -(-samples * tokenizer["rate"] // tokenizer["sample_rate"])
    if frames != expected:
        yield f"{frames} frames for {dialogue.duration_s} s, the clock asks for {expected}"
    if frames and not 0 <= dialogue.units.min() <= dialogue.units.max() < tokenizer["vocabulary"]:
        yield f"units {dialogue.units.min()} to {dialogue.units.max()}, outside 0 to {tokenizer['vocabulary'] - 1}"
    for sentence in dialogue.sentences:
        inside = sentence.first_frame >= 0 and sentence.first_frame + sentence.frames <= frames
        if not inside or sentence.channel not in (0, 1) or not 0 <= sentence.turn < len(dialogue.turns):
            yield f"the sentence {sentence.text[:30]!r} stands outside the dialogue"


def _sequences(directory: Path, card: Card) -> Iterator[Problem]:
    try:
        vocabulary = Vocabulary.load(directory / VOCABULARY)
        if vocabulary.identity != card.vocabulary:
            yield Problem(directory / VOCABULARY, "it is not the vocabulary that the card names")
        number = tokens = 0
        latest = 0.0
        for path, sample in _samples(directory, card, card.config["split"]):
            try:
                sequence = packed_sequence(sample.members)
            except ValueError as error:
                yield Problem(path, f"{sample.key}: {error}")
                continue
            if sample.key != f"{number:09d}":
                yield Problem(path, f"{sample.key}: sequence {number:09d} should stand here")
            number += 1
            tokens += sum(document.length for document in sequence.documents)
            yield from (
                Problem(path, f"{sample.key}: {problem}")
                for problem in _sequence_problems(sequence, card, vocabulary)
            )
            for document in sequence.documents:
                if document.progress < latest:
                    yield Problem(path, f"{sample.key}: {document.id} comes after what it should come before")
                latest = document.progress
        if tokens != card.totals["tokens"]:
            yield Problem(
                directory, f"the documents have {tokens:,} tokens, the totals say {card.totals['tokens']:,}"
            )
    except UserError as error:
        yield _told(error, directory)


def _sequence_problems(sequence: PackedSequence, card: Card, vocabulary: Vocabulary) -> Iterator[str]:
    tokens = sequence.tokens
    if len(tokens) != card.config["sequence_length"]:
        yield f"{len(tokens)} tokens, the card says {card.config['sequence_length']}"
    if len(tokens) and tokens.max() >= vocabulary.size:
        yield f"the token {tokens.max()} is not in the vocabulary of {vocabulary.size}"
    end = 0
    for document in sequence.documents:
        if document.offset != end or document.length < 1:
            yield f"{document.id} stands at {document.offset}, the one before ends at {end}"
        end = document.offset + document.length
        stream = vocabulary.to_stream(tokens[document.offset : end])
        yield from _stream_problems(document, stream, card)
    if (tokens[end:] != vocabulary.pad_id).any():
        yield f"behind token {end} there is something else than padding"


def _stream_problems(document: Document, stream: np.ndarray, card: Card) -> Iterator[str]:
    f = card.config.get("frames_per_chunk")
    if not len(stream) or stream[0] not in (S0, S1):
        yield f"{document.id} does not begin with a speaker's tag"
        return
    if f is None:
        return
    if stream.min() < 0 or stream[0] != S0:
        yield f"{document.id} is no synchronous stream: it has text, or does not begin with S0"
        return
    chunk = np.cumsum(stream == S0) - 1
    second = np.bincount(chunk[stream == S1], minlength=chunk[-1] + 1)
    units = np.bincount(chunk[stream >= FIRST_UNIT], minlength=chunk[-1] + 1)
    if second.max() > 1 or units.max() > 2 * f:
        yield f"{document.id} has a chunk with {second.max()} S1 tags and {units.max()} units"
