"""Looking into an artefact: what it is, and its samples as people write them."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats import sync
from duologue.formats.card import Card, read_card
from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import read_shard
from duologue.formats.turntaking import per_minute
from duologue.formats.units import UnitSample, unit_sample
from duologue.formats.vocabulary import Vocabulary
from duologue.manifests.manifest import Manifest

_CHUNK_MS = 160


def describe(directory: Path) -> dict[str, Any]:
    """Return what an artefact says of itself, shortest first.

    Raises:
        UserError: it has no card, or one that cannot be read.
    """
    card = read_card(directory)
    totals = dict(card.totals)
    if checks := totals.pop("checks", None):
        # The sums themselves are for the report; this is what can be read at a glance.
        events = per_minute(checks["turn_taking"])
        totals["events_a_minute"] = {name: round(event["count"], 2) for name, event in events.items()}
    return {
        "kind": card.kind,
        "fingerprint": card.fingerprint,
        "parents": [f"{parent['kind']} {parent['fingerprint']}" for parent in card.parents],
        "shards": len(card.shards),
        **totals,
        "rejects": dict(card.rejects),
        "licences": list(card.licences),
        "tokenizer": card.tokenizer,
        "vocabulary": card.vocabulary,
        "config": dict(card.config),
    }


def show(directory: Path, sample: int) -> str:
    """Write one sample out.

    A manifest's row comes as JSON; a dialogue of a unit set with its sentences and its synchronous stream at 160 ms;
    a sequence document by document, `[S0][75][S1][89]` with the text in between.

    Args:
        directory: the artefact.
        sample: number of the sample, from 0.

    Raises:
        UserError: there is no such sample, or the artefact is damaged.
    """
    card = read_card(directory)
    total = int(card.totals["samples"])
    if not 0 <= sample < total:
        raise UserError(
            f"there is no sample {sample}", where=directory, hint=f"Its samples are numbered 0 to {total - 1}"
        )
    try:
        if card.kind == "sequences":
            return _sequence(SequenceSet(directory), sample)
        if card.kind == "units":
            return _dialogue(directory, card, sample)
        row = next(iter(Manifest(directory).rows(sample, sample + 1)))
        return json.dumps(asdict(row), indent=2, ensure_ascii=False)
    except (ValueError, IndexError, StopIteration) as error:
        raise UserError(
            f"sample {sample} is damaged or missing{f' ({error})' if str(error) else ''}",
            where=directory,
            hint="`duologue verify` says what is wrong with the directory",
        ) from error


def _dialogue(directory: Path, card: Card, number: int) -> str:
    for shard in card.sample_shards:
        if number < shard["samples"]:
            raw = next(itertools.islice(read_shard(directory / shard["name"]), number, None))
            return _written(unit_sample(raw.members), card)
        number -= shard["samples"]
    raise ValueError("the shards have fewer samples than the totals say")


def _written(dialogue: UnitSample, card: Card) -> str:
    tokenizer = card.tokenizer or {}
    vocabulary = Vocabulary.byte_level(int(tokenizer["vocabulary"]))
    stream = sync.encode(dialogue.units, sync.frames_per_chunk(_CHUNK_MS, int(tokenizer["rate"])))
    rate = int(tokenizer["rate"])
    lines = [
        f"id {dialogue.id}, source {dialogue.source}, split {dialogue.split}, licence {dialogue.licence}",
        f"{dialogue.duration_s:.2f} s, {dialogue.units.shape[1]} frames, speakers {' and '.join(dialogue.speakers)}",
    ]
    for sentence in dialogue.sentences:
        begin, end = sentence.first_frame / rate, (sentence.first_frame + sentence.frames) / rate
        lines.append(f"{begin:8.2f} {end:8.2f}  S{sentence.channel}  {sentence.text}")
    return "\n".join([*lines, vocabulary.show(vocabulary.from_stream(stream))])


def _sequence(sequences: SequenceSet, number: int) -> str:
    sequence = sequences[number]
    lines = []
    for document in sequence.documents:
        asked = (
            ""
            if document.asked is None
            else f", share of speech asked {document.asked:.2f}, got {document.share:.2f}"
        )
        goes_on = f", goes on from its token {document.start}" if document.start else ""
        lines.append(f"# {document.id}: {document.length} tokens{goes_on}{asked}")
        tokens = sequence.tokens[document.offset : document.offset + document.length]
        lines.append(sequences.vocabulary.show(tokens))
    used = sum(document.length for document in sequence.documents)
    lines.append(f"# {len(sequence.tokens) - used} tokens of padding")
    return "\n".join(lines)
