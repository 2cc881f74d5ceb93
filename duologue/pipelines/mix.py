"""Unit sets -> a sequence set: the curriculum-mixing job, the one all-to-all of the road.

Pointers and lengths are gathered and ordered; payloads go straight from the unit shards into the sequence shards.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.card import MANIFESTS, Card, read_card
from duologue.formats.interleave import AtomicTokens
from duologue.formats.locks import locked
from duologue.formats.places import at_hand, listing
from duologue.formats.pointers import PointedSamples, Pointer
from duologue.formats.publish import make_directory, publishing
from duologue.formats.rejects import Reject
from duologue.formats.sequences import VOCABULARY, Document, PackedSequence
from duologue.formats.units import UnitSample, dialogue_of
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.commit import Output
from duologue.pipelines.engine import for_each
from duologue.pipelines.local_workers import kept
from duologue.pipelines.measures import Measures
from duologue.pipelines.mix_index import STATION, UnitShard, WriteIndex, vocabulary_of, write_as_tokens
from duologue.pipelines.mix_plan import INDEX, PLAN, Plan, pieces_between, plan
from duologue.pipelines.mix_settings import MixSettings, check
from duologue.pipelines.partitions import RunOptions, prepare, run
from duologue.pipelines.sidecars import Partition, partitions
from duologue.progress import Watch, watched

_PROGRESS_BINS = 10


def _unit_shards(settings: MixSettings) -> list[UnitShard]:
    shards: list[UnitShard] = []
    voicings: Counter[str] = Counter()
    for number, source in enumerate(settings.sources):
        card = read_card(source.directory, "units")
        manifests = [parent["fingerprint"] for parent in card.parents if parent["kind"] in MANIFESTS]
        voicing = max((voicings[manifest] for manifest in manifests), default=0)
        voicings.update(manifests)
        shards += [
            UnitShard(number, place, source.directory / shard["name"], shard["sha256"], voicing)
            for place, shard in enumerate(card.sample_shards)
        ]
    return shards


@lru_cache(maxsize=1)
def _pieces_of(path: Path) -> np.ndarray:
    # Mapped, it stays there when the file is gone: what is fetched of a store is fetched once for a process. The path
    # has the mix's fingerprint in it.
    with at_hand(path) as here:
        return np.load(here, mmap_mode="r")


@dataclass(frozen=True)
class Mix:
    """The station: sequences of a plan, each put together from its pieces."""

    settings: MixSettings
    shards: tuple[UnitShard, ...]
    directory: Path
    plan: Path
    f: int
    name: str = "mix"
    unit: str = "sequences"

    @property
    def stems(self) -> Sequence[str]:
        """The one kind of shard it writes, called after the split."""
        return (self.settings.split,)

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield the sequences of a shard."""
        vocabulary = vocabulary_of(self.directory / VOCABULARY, self.settings)
        pieces = pieces_between(_pieces_of(self.plan), partition.start, partition.stop)
        bounds = np.searchsorted(pieces["sequence"], np.arange(partition.start, partition.stop + 1))
        with PointedSamples() as samples:
            dialogues = self._dialogues(pieces, samples, vocabulary)
            numbers = range(partition.start, partition.stop)
            for sequence, first, last in zip(numbers, bounds[:-1], bounds[1:], strict=True):
                tokens = np.full(self.settings.sequence_length, vocabulary.pad_id, np.uint32)
                documents, licences = [], set()
                for piece, (dialogue, written) in zip(pieces[first:last], dialogues, strict=False):
                    body = _cut(written, piece, vocabulary)
                    document = _document(dialogue, piece, len(body))
                    tokens[document.offset : document.offset + document.length] = body
                    documents.append(document)
                    licences.add(dialogue.licence)
                packed = PackedSequence(tokens, tuple(documents))
                amounts = {"tokens": sum(d.length for d in documents), "documents": len(documents)}
                yield Output(f"{sequence:09d}", {self.settings.split: packed.members()}, amounts, sorted(licences))

    def _dialogues(
        self, pieces: np.ndarray, samples: PointedSamples, vocabulary: Vocabulary
    ) -> Iterator[tuple[UnitSample, AtomicTokens]]:
        """Yield the dialogue that each piece is of, and its tokens; one that goes on is read and written once."""
        visits = pieces[["source", "shard", "offset", "epoch", "copy"]]
        is_new = np.ones(len(pieces), bool)
        is_new[1:] = visits[1:] != visits[:-1]
        by_number = {(shard.source, shard.shard): shard for shard in self.shards}
        new = pieces[is_new]
        shards = [by_number[int(piece["source"]), int(piece["shard"])] for piece in new]
        pointers = [
            Pointer(shard.path, int(piece["offset"]), int(piece["size"]))
            for shard, piece in zip(shards, new, strict=True)
        ]
        read = zip(new, shards, samples.read(pointers), strict=True)
        for is_next in is_new:
            if is_next:
                piece, shard, sample = next(read)
                dialogue = dialogue_of(sample, shard.path, turns=False, sentences=not self.settings.synchronous)
                visit = int(piece["epoch"]), int(piece["copy"])
                asked = float(piece["asked"])
                tokens, _ = write_as_tokens(
                    dialogue, shard.name_of(dialogue), visit, asked, self.settings, vocabulary, self.f
                )
            yield dialogue, tokens


def _cut(written: AtomicTokens, piece: np.void, vocabulary: Vocabulary) -> np.ndarray:
    """Return the tokens of a piece, led by its speaker's tag."""
    start, stop = int(piece["start"]), int(piece["stop"])
    body = written.tokens[start:stop]
    if not piece["tag"]:
        return body
    atom = int(np.searchsorted(np.cumsum(written.lengths), start, side="right"))
    return np.concatenate([vocabulary.from_stream(written.channels[atom : atom + 1]), body])


def _document(dialogue: UnitSample, piece: np.void, length: int) -> Document:
    asked = float(piece["asked"])
    return Document(
        id=dialogue.id,
        offset=int(piece["at"]),
        length=length,
        start=int(piece["start"]),
        progress=round(float(piece["progress"]), 9),
        asked=None if np.isnan(asked) else round(asked, 9),
        share=round(float(piece["share"]), 9),
        source=dialogue.source,
    )


def _indexed(
    shards: Sequence[UnitShard],
    work: WriteIndex,
    settings: MixSettings,
    workers: int,
    flags: Sequence[str],
    measures: Measures | None = None,
) -> Plan:
    def count() -> int:
        # A store that does not answer for a moment is no reason to stop.
        with suppress(UserError):
            return sum(name.endswith(".npz") for name in listing(work.directory))
        return 0

    with watched(Watch("mix: lengths", len(shards), "unit shards", count()), count):
        measured = for_each(work, shards, workers=workers, flags=flags)
    (measures or Measures()).add(f"{STATION}: lengths", measured)
    return plan(shards, work.directory, settings)


def plan_mix(settings: MixSettings, *, workers: int = 1, flags: Sequence[str] = ()) -> dict[str, Any]:
    """Say what a mix would make, without writing it.

    Returns:
        Totals, and for stage 1 under `speech_by_progress` the asked and obtained share of speech in ten bins of
        progress.

    Raises:
        UserError: as `mix`.
    """
    card, vocabulary = check(settings)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        vocabulary.save(scratch / VOCABULARY)
        shards = _unit_shards(settings)
        work = WriteIndex(scratch, settings, scratch / VOCABULARY, card.config.get("frames_per_chunk", 0))
        planned = _indexed(shards, work, settings, workers, flags)
    summary = {
        "fingerprint": card.fingerprint,
        "sequences": planned.sequences,
        "shards": len(partitions(planned.sequences, settings.sequences_per_shard)),
        **_totals(planned, settings),
    }
    if not settings.synchronous:
        summary["speech_by_progress"] = _speech_by_progress(planned.visits)
    return summary


def _totals(planned: Plan, settings: MixSettings) -> dict[str, Any]:
    padding = planned.padding(settings.sequence_length)
    return {
        "inputs": planned.dialogues,
        "rejects": len(planned.rejects),
        "unvisited": planned.unvisited,
        "other_splits": planned.others,
        "visits": len(planned.visits),
        "documents": len(planned.pieces),
        "tokens": planned.tokens,
        "padding": padding,
        "padding_share": round(padding / (padding + planned.tokens), 6),
    }


def _speech_by_progress(visits: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    bins = np.minimum((visits["progress"] * _PROGRESS_BINS).astype(int), _PROGRESS_BINS - 1)
    for number in range(_PROGRESS_BINS):
        inside = visits[bins == number]
        rows.append(
            {
                "from": number / _PROGRESS_BINS,
                "to": (number + 1) / _PROGRESS_BINS,
                "samples": len(inside),
                "asked": round(float(inside["asked"].mean()), 4) if len(inside) else None,
                "obtained": round(float(inside["share"].mean()), 4) if len(inside) else None,
            }
        )
    return rows


@kept()
def mix(
    settings: MixSettings,
    out: Path,
    *,
    workers: int = 1,
    flags: Sequence[str] = (),
    measures: Measures | None = None,
) -> Card:
    """Make a sequence set, in its final training order.

    Args:
        settings: of the mix.
        out: the sequence set's directory.
        workers: processes on this machine.
        flags: Beam's own flags.
        measures: where what Beam's metrics say is kept.

    Raises:
        UserError: an option is wrong, a unit set is missing, damaged or of another tokenizer, there is nothing to
            mix, or `out` holds something else or cannot be written.
    """
    card, vocabulary = check(settings)
    # Settings that name another run's index: its numbers may not be taken for this one's.
    finished = prepare(out, card, (settings.split,), (VOCABULARY, INDEX))
    if finished is not None:
        return finished
    index = out / INDEX / card.fingerprint[:16]
    f = card.config.get("frames_per_chunk", 0)
    absolute = replace(
        settings,
        sources=tuple(replace(source, directory=source.directory.resolve()) for source in settings.sources),
    )
    shards = _unit_shards(absolute)
    work = WriteIndex(index.resolve(), absolute, (out / VOCABULARY).resolve(), f)
    with locked(out, fcntl.LOCK_SH):
        vocabulary.save(out / VOCABULARY)
        make_directory(index)
        planned = _indexed(shards, work, absolute, workers, flags, measures)
        with publishing(work.directory / PLAN) as file:
            np.save(file, planned.pieces)
    return run(
        Mix(absolute, tuple(shards), out.resolve(), work.directory / PLAN, f),
        card,
        partitions(planned.sequences, settings.sequences_per_shard),
        out,
        RunOptions(workers, flags, measures=measures),
        rejects=planned.rejects,
        totals=_totals(planned, settings),
        scratch=[INDEX],
    )
