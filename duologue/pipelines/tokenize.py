"""Two-channel recordings -> units, each channel tokenized apart on one clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.card import Card
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Sentence, UnitSample
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Recording
from duologue.pipelines.commit import Output
from duologue.pipelines.feeding import ahead, threads
from duologue.pipelines.partitions import ALONE, RunOptions
from duologue.pipelines.sidecars import Partition
from duologue.pipelines.takes import Take
from duologue.pipelines.units import check_made_by, encoded, make_units, resolved, tokenizer_of, unit_output
from duologue.tokenize import activity
from duologue.tokenize.thresholds import DEFAULTS, Thresholds, refusal
from duologue.tokenize.tokenizer import Tokenizer, read_about

ROWS_PER_SHARD = 16


def _sentences(recording: Recording, rate: int, frames: int) -> Iterator[Sentence]:
    """Yield the turns that have words as sentences, with all frames that they reach into, cut to the recording."""
    for index, turn in enumerate(recording.turns):
        # In whole microseconds: as floats, 0.28 s are a hair more than seven frames of 40 ms, and end in the eighth.
        start, end = (round(time_s * 1_000_000) * rate for time_s in (turn.start_s, turn.end_s))
        first, last = max(start // 1_000_000, 0), min(-(-end // 1_000_000), frames)
        if turn.text.strip() and first < last:
            yield Sentence(turn.channel, turn.text.strip(), first, last - first, index)


def _sample(take: Take, units: np.ndarray, tokenizer: Tokenizer) -> UnitSample:
    recording = take.recording
    return UnitSample(
        id=recording.id,
        source=recording.source,
        split=recording.split,
        licence=recording.licence,
        duration_s=take.samples / tokenizer.sample_rate,
        speakers=recording.speakers,
        turns=recording.turns,
        sentences=tuple(_sentences(recording, tokenizer.rate, units.shape[1])),
        units=units,
        about=recording.about,
        checks={} if take.checks is None else take.checks.as_dict(),
    )


@dataclass(frozen=True)
class Tokenize:
    """The station: recordings of a manifest, tokenized.

    Attributes:
        manifest: of the recordings.
        tokenizer: a tokenizer's directory.
        keep_audio: whether the audio is written too.
        thresholds: of the audio checks; None: nothing is checked.
        made_by: what the launcher has to make units by, and every worker must have.
    """

    manifest: Path
    tokenizer: str
    keep_audio: bool
    thresholds: Thresholds | None
    made_by: Mapping[str, Any]
    name: str = "tokenize"
    unit: str = "recordings"

    @property
    def stems(self) -> Sequence[str]:
        """Kinds of shard it writes."""
        return ("units", "audio") if self.keep_audio else ("units",)

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield what became of each recording."""
        tokenizer = tokenizer_of(self.tokenizer)
        check_made_by(self.made_by, {"tokenizer": tokenizer.identity})
        takes = self._takes(partition, tokenizer.sample_rate)
        reading: Iterator[tuple[Take, Iterator[np.ndarray]]] = ahead(takes, threads())
        for (take, _), units in encoded(reading, itemgetter(1), tokenizer):
            refused = units if isinstance(units, Unusable) else self._refused(take)
            if refused is not None:
                yield refused.reject(take.recording.id, self.name)
                continue
            assert isinstance(units, np.ndarray)
            flac = None if take.flac is None else take.flac.finish()
            output = unit_output(_sample(take, units, tokenizer), flac)
            yield output if take.checks is None else replace(output, checks=take.checks.summary())

    def _refused(self, take: Take) -> Unusable | None:
        if take.checks is None or self.thresholds is None:
            return None
        return refusal(take.checks, self.thresholds)

    def _takes(self, partition: Partition, rate: int) -> Iterator[Take]:
        manifest = Manifest(self.manifest)
        root = manifest.audio_root()
        for row in manifest.rows(partition.start, partition.stop):
            assert isinstance(row, Recording)
            yield Take(row, root, rate, keep_audio=self.keep_audio, check=self.thresholds is not None)


def tokenize(
    manifest: Path,
    out: Path,
    *,
    tokenizer: str = "embedded",
    keep_audio: bool = False,
    thresholds: Thresholds | None = DEFAULTS,
    rows_per_shard: int = ROWS_PER_SHARD,
    options: RunOptions = ALONE,
) -> Card:
    """Make a unit set of a manifest of recordings (stage 3; Veluri et al. 2024, section 4).

    Args:
        manifest: of recordings.
        out: the unit set's directory.
        tokenizer: a tokenizer's directory, or "embedded".
        keep_audio: write the audio too, at the tokenizer's rate, as FLAC in `audio-NNNNN.tar`.
        thresholds: of the audio checks, by which recordings are rejected; None: nothing is checked.
        rows_per_shard: recordings in a shard.
        options: how the run goes.

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
    identity = read_about(tokenizer)["identity"]
    checks = None if thresholds is None else {"activity": activity.identity(), "thresholds": asdict(thresholds)}
    if checks and identity["sample_rate"] != activity.SAMPLE_RATE:
        raise UserError(
            f"the tokenizer takes {identity['sample_rate']} Hz, the audio checks {activity.SAMPLE_RATE} Hz",
            where=tokenizer,
            hint="Use a 16 kHz tokenizer, or --no-checks",
        )
    return make_units(
        Tokenize(manifest.resolve(), resolved(tokenizer), keep_audio, thresholds, {"tokenizer": identity}),
        recordings,
        identity,
        out,
        {"keep_audio": keep_audio, "checks": checks},
        rows_per_shard=rows_per_shard,
        options=options,
    )
