"""The first pass of a mix: what each dialogue of each unit shard will take, in each epoch, without its tokens."""

from __future__ import annotations

import fcntl
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from duologue.errors import UserError
from duologue.formats import seeds, sync
from duologue.formats.interleave import AtomicTokens, interleave, spoken_sentences
from duologue.formats.locks import locked
from duologue.formats.places import read_all
from duologue.formats.publish import write_bytes
from duologue.formats.rejects import Reject
from duologue.formats.shards import damaged, read_shard
from duologue.formats.units import UnitSample, dialogue_of
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.mix_settings import MixSettings

STATION = "mix"
# A dialogue in an epoch: where it is, when it comes, and the atoms it can be cut between.
VISIT = np.dtype(
    [
        ("source", "<u2"),
        ("shard", "<u4"),
        ("offset", "<u8"),
        ("size", "<u4"),
        ("epoch", "<u2"),
        ("copy", "<u2"),
        ("progress", "<f8"),
        ("asked", "<f8"),
        ("share", "<f8"),
        ("first_atom", "<u8"),
        ("atoms", "<u4"),
    ]
)


_ARRAYS = ("visits", "lengths", "tagged", "dialogues", "others")


@dataclass(frozen=True)
class UnitShard:
    """A shard of a source of the mix.

    Attributes:
        source, shard: numbers of the source in the mix, and of the shard in the source.
        path: of the file.
        sha256: that the file should have, in hex.
        voicing: how many sources before this one have the same dialogues, such as in other voices.
    """

    source: int
    shard: int
    path: Path
    sha256: str
    voicing: int

    def index_name(self) -> str:
        """Return the name of the file that holds its index."""
        return f"{self.source:03d}-{self.shard:05d}.npz"

    def name_of(self, dialogue: UnitSample) -> tuple[str | int, ...]:
        """Return what random choices for a dialogue of it depend on.

        A dialogue that was spoken twice is two: with the same choices, both would come side by side, or neither.
        """
        return (dialogue.source, dialogue.id, *([self.voicing] if self.voicing else []))


@dataclass(frozen=True)
class ShardIndex:
    """The index of a unit shard.

    Attributes:
        visits: `VISIT` `[n]`, in the shard's order, epoch by epoch within a dialogue.
        lengths: unsigned int `[atoms]`, tokens of all atoms of all visits, one behind the other.
        tagged: bool `[atoms]`, whether each begins with a speaker's tag.
        dialogues: uint64 `[n]`, hashes of the dialogues of the split that is mixed.
        others: uint64 `[n]`, hashes of the dialogues of other splits.
        rejects: dialogues of the split that have nothing to give to this stage.
    """

    visits: np.ndarray
    lengths: np.ndarray
    tagged: np.ndarray
    dialogues: np.ndarray
    others: np.ndarray
    rejects: tuple[Reject, ...]


def _check_numbers(dialogue: UnitSample, units: int, path: Path) -> None:
    """Check what would come out as a token of something else: damage that headers and JSON survive."""
    low, high = (int(bound) for bound in (dialogue.units.min(initial=0), dialogue.units.max(initial=0)))
    if low < 0 or high >= units:
        raise damaged(path, f"{dialogue.id} has units {low} to {high}; the tokenizer's are 0 to {units - 1}")
    for sentence in dialogue.sentences:
        inside = 0 <= sentence.first_frame <= sentence.first_frame + sentence.frames <= dialogue.units.shape[1]
        if not inside or sentence.channel not in (0, 1):
            raise damaged(path, f"{dialogue.id} has a sentence outside of it: {sentence.text[:30]!r}")


def write_as_tokens(
    dialogue: UnitSample,
    name: tuple[str | int, ...],
    visit: tuple[int, int],
    asked: float,
    settings: MixSettings,
    vocabulary: Vocabulary,
    f: int,
) -> tuple[AtomicTokens, float]:
    """Return a dialogue's tokens as the mix's stage writes them, and the share of speech in them.

    Args:
        dialogue: of a unit set.
        name: of the dialogue (`UnitShard.name_of`).
        visit: epoch and copy.
        asked: share of speech that was drawn for the visit; of no account in stages 2 and 3.
        settings: of the mix.
        vocabulary: of the mix.
        f: frames in a chunk; of no account in stage 1.
    """
    if settings.synchronous:
        stream = sync.encode(dialogue.units, f)
        lengths = sync.chunk_lengths(stream)
        atoms = len(lengths)
        return AtomicTokens(
            vocabulary.from_stream(stream), lengths, np.zeros(atoms, np.int8), np.ones(atoms, bool)
        ), 1.0
    draw = seeds.generator(settings.seed, "speech", *visit, *name)
    speech = spoken_sentences(dialogue.sentences, asked, settings.level, draw)
    return interleave(dialogue, speech, vocabulary), float(speech.mean())


def _visits(name: tuple[str | int, ...], weight: float, settings: MixSettings) -> Iterator[tuple[int, int, float]]:
    """Yield (epoch, copy, progress) of each time the mix comes by a dialogue of that name.

    One hash decides both the place in the epoch and the clock of the curriculum.
    """
    for epoch in range(settings.epochs):
        copies = int(weight) + (seeds.uniform("weight", epoch, settings.seed, *name) < weight % 1)
        for copy in range(copies):
            place = seeds.uniform("order", epoch, copy, settings.seed, *name)
            yield epoch, copy, (epoch + place) / settings.epochs


def index_shard(shard: UnitShard, settings: MixSettings, vocabulary: Vocabulary, f: int) -> ShardIndex:
    """Index a unit shard.

    Args:
        shard: to be read once, in order.
        settings: of the mix.
        vocabulary: of the mix.
        f: frames in a chunk; of no account in stage 1.

    Raises:
        UserError: the shard is missing or damaged.
    """
    visits: list[tuple[float, ...]] = []
    lengths: list[np.ndarray] = []
    tagged: list[np.ndarray] = []
    rejects: list[Reject] = []
    dialogues: list[int] = []
    others: list[int] = []
    atoms = 0
    shares = None if settings.synchronous else settings.shares()
    for sample in read_shard(shard.path, shard.sha256):
        dialogue = dialogue_of(sample, shard.path, turns=False, sentences=not settings.synchronous)
        if dialogue.split != settings.split:
            others.append(seeds.integer(dialogue.source, dialogue.id))
            continue
        _check_numbers(dialogue, vocabulary.units, shard.path)
        dialogues.append(seeds.integer(dialogue.source, dialogue.id))
        if not settings.synchronous and not dialogue.sentences:
            rejects.append(
                Reject(
                    dialogue.id, STATION, "no_sentences", "stage 1 needs sentences; this dialogue has no transcript"
                )
            )
            continue
        written: AtomicTokens | None = None
        name = shard.name_of(dialogue)
        for epoch, copy, progress in _visits(name, settings.sources[shard.source].weight, settings):
            asked, share = np.nan, 1.0
            if shares is not None:
                chance = seeds.uniform(settings.seed, "share", epoch, copy, *name)
                asked = float(shares.draw(np.array([progress]), np.array([chance]))[0])
                written = None
            # The synchronous stream is the same in every epoch; stage 1 draws anew.
            if written is None:
                written, share = write_as_tokens(dialogue, name, (epoch, copy), asked, settings, vocabulary, f)
                lengths.append(written.lengths)
                tagged.append(written.tagged)
                atoms += len(written.lengths)
            count = len(written.lengths)
            first = atoms - count
            where = (shard.source, shard.shard, sample.offset, sample.end - sample.offset)
            visits.append((*where, epoch, copy, progress, asked, share, first, count))
    every = np.concatenate([np.zeros(0, np.int64), *lengths])
    return ShardIndex(
        np.array(visits, VISIT),
        every.astype(np.min_scalar_type(int(every.max(initial=0)))),
        np.concatenate([np.zeros(0, bool), *tagged]),
        np.array(dialogues, np.uint64),
        np.array(others, np.uint64),
        tuple(rejects),
    )


@lru_cache(maxsize=1)
def vocabulary_of(directory: Path, settings: MixSettings) -> Vocabulary:
    """Load the vocabulary of a mix once for a process: a large one takes a second.

    Args:
        directory: where it is.
        settings: of the mix; the next one in the same place may have another vocabulary.
    """
    return Vocabulary.load(directory)


@dataclass(frozen=True)
class WriteIndex:
    """Indexes a unit shard into a file of `directory`, unless it is there."""

    directory: Path
    settings: MixSettings
    vocabulary: Path
    f: int

    def __call__(self, shard: UnitShard) -> dict[str, int]:
        """Index one shard, and count its dialogues."""
        # The vocabulary lies in the `--out`: whoever tidies up there waits until this is written.
        with locked(self.vocabulary.parent, fcntl.LOCK_SH):
            return self._write(shard)

    def _write(self, shard: UnitShard) -> dict[str, int]:
        path = self.directory / shard.index_name()
        if path.exists():
            return {}
        index = index_shard(shard, self.settings, vocabulary_of(self.vocabulary, self.settings), self.f)
        buffer = io.BytesIO()
        rejects = [[reject.id, reject.station, reject.reason, reject.message] for reject in index.rejects]
        np.savez(
            buffer,
            **{name: getattr(index, name) for name in _ARRAYS},
            rejects=np.array(rejects, dtype=str).reshape(-1, 4),
        )
        write_bytes(path, buffer.getvalue())
        inputs = len(index.dialogues)
        return {"inputs": inputs, "outputs": inputs - len(index.rejects), "rejects": len(index.rejects)}


def read_indexes(paths: Sequence[Path]) -> Iterator[ShardIndex]:
    """Yield what `WriteIndex` wrote into files.

    Raises:
        UserError: one of them is missing or damaged.
    """
    for path, data in zip(paths, read_all(paths), strict=True):
        if data is None:
            raise UserError(
                "the lengths of a unit shard did not arrive",
                where=path,
                hint="Run the same command again: it makes what is missing",
            )
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                rejects = tuple(Reject(*row) for row in content["rejects"].tolist())
                index = ShardIndex(**{name: content[name] for name in _ARRAYS}, rejects=rejects)
        except Exception as error:  # damage in an archive comes out as anything
            raise UserError(
                f"the lengths of a unit shard are damaged ({error})",
                where=path,
                hint="Delete this file, and run the same command again",
            ) from error
        yield index
