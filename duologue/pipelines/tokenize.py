"""Two-channel recordings -> units, each channel tokenized apart on one clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from duologue.errors import UserError
from duologue.formats.audio import read_channels
from duologue.formats.card import Card
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Sentence, UnitSample
from duologue.manifests.schema import Manifest, Recording
from duologue.pipelines.partitions import Output
from duologue.pipelines.sidecars import Partition
from duologue.pipelines.units import make_units, resolved, tokenizer_of, unit_output
from duologue.tokenize.tokenizer import Tokenizer, load_tokenizer

ROWS_PER_SHARD = 16
# Recordings go to the tokenizer together up to this many seconds of audio: a budget, whatever their lengths.
_BATCH_SECONDS = 1_800.0


def load_recording(recording: Recording, root: Path, sample_rate: int) -> np.ndarray:
    """Read both sides of a recording.

    Args:
        recording: a row of a manifest.
        root: the directory its paths are relative to.
        sample_rate: that is wanted, in Hz.

    Returns:
        float32 `[2, samples]`.

    Raises:
        Unusable: a file cannot be used (`missing_file`, `undecodable`, `nan_audio`, ...), or its path leads out of
            the root (`outside_root`).
    """
    sides = []
    for side in recording.audio:
        path = PurePosixPath(side.path)
        if path.is_absolute() or ".." in path.parts:
            raise Unusable("outside_root", f"{side.path} is not below the manifest's root")
        sides.append((root / path, side.channel))
    return read_channels(sides, sample_rate)


def _sentences(recording: Recording, rate: int, frames: int) -> Iterator[Sentence]:
    """Yield the turns that have words as sentences on the unit clock, cut to the recording."""
    for index, turn in enumerate(recording.turns):
        first = max(int(turn.start_s * rate), 0)
        last = min(int(np.ceil(turn.end_s * rate)), frames)
        if turn.text.strip() and first < last:
            yield Sentence(turn.channel, turn.text.strip(), first, last - first, index)


def _sample(recording: Recording, samples: int, units: Sequence[np.ndarray], tokenizer: Tokenizer) -> UnitSample:
    rows = np.stack(units)
    return UnitSample(
        id=recording.id,
        source=recording.source,
        split=recording.split,
        licence=recording.licence,
        duration_s=samples / tokenizer.sample_rate,
        speakers=recording.speakers,
        turns=recording.turns,
        sentences=tuple(_sentences(recording, tokenizer.rate, rows.shape[1])),
        units=rows,
    )


@dataclass(frozen=True)
class Tokenize:
    """The station: recordings of a manifest, tokenized."""

    manifest: Path
    tokenizer: str
    keep_audio: bool
    name: str = "tokenize"
    unit: str = "recordings"

    @property
    def stems(self) -> Sequence[str]:
        """Kinds of shard it writes."""
        return ("units", "audio") if self.keep_audio else ("units",)

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield what became of each recording."""
        manifest = Manifest(self.manifest)
        batch: list[tuple[Recording, np.ndarray | Unusable]] = []
        seconds = 0.0
        for row in manifest.rows(partition.start, partition.stop):
            assert isinstance(row, Recording)
            if batch and seconds + row.duration_s > _BATCH_SECONDS:
                yield from self._encoded(batch)
                batch, seconds = [], 0.0
            try:
                audio: np.ndarray | Unusable = load_recording(row, manifest.root, self._tokenizer.sample_rate)
            except Unusable as refusal:
                audio = refusal
            batch.append((row, audio))
            seconds += row.duration_s
        yield from self._encoded(batch)

    @property
    def _tokenizer(self) -> Tokenizer:
        return tokenizer_of(self.tokenizer)

    def _encoded(self, batch: Sequence[tuple[Recording, np.ndarray | Unusable]]) -> Iterator[Output | Reject]:
        usable = [audio for _, audio in batch if not isinstance(audio, Unusable)]
        units = iter(self._tokenizer.encode([channel for audio in usable for channel in audio]))
        for recording, audio in batch:
            if isinstance(audio, Unusable):
                yield Reject(recording.id, self.name, audio.reason, audio.message)
                continue
            sample = _sample(recording, audio.shape[1], [next(units), next(units)], self._tokenizer)
            kept = np.round(np.clip(audio, -1, 32767 / 32768) * 32768).astype(np.int16) if self.keep_audio else None
            yield unit_output(sample, kept, self._tokenizer.sample_rate)


def tokenize(
    manifest: Path,
    out: Path,
    *,
    tokenizer: str = "embedded",
    keep_audio: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    flags: Sequence[str] = (),
    max_rejects: float = 1.0,
) -> Card:
    """Make a unit set of a manifest of recordings (stage 3; Veluri et al. 2024, section 4).

    Args:
        manifest: of recordings.
        out: the unit set's directory.
        tokenizer: a tokenizer's directory, or "embedded".
        keep_audio: write the audio too, at the tokenizer's rate, as FLAC in `audio-NNNNN.tar`.
        rows_per_shard: recordings in a shard.
        workers: processes on this machine.
        flags: Beam's own flags.
        max_rejects: share of the recordings that may be rejected.

    Raises:
        UserError: an input is missing or of the wrong kind, or the run cannot go on.
    """
    recordings = Manifest(manifest)
    if recordings.card.kind != "recordings":
        raise UserError(
            "this is a manifest of text dialogues, which have no speech yet",
            where=manifest,
            hint="Use `duologue synthesize` for it",
        )
    return make_units(
        Tokenize(manifest.resolve(), resolved(tokenizer), keep_audio),
        recordings,
        load_tokenizer(tokenizer),
        out,
        {"keep_audio": keep_audio},
        rows_per_shard=rows_per_shard,
        workers=workers,
        flags=flags,
        max_rejects=max_rejects,
    )
