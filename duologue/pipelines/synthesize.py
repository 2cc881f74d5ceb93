"""Text dialogues -> units in one run: voices, timeline, tokenizer; the audio is kept only where asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from duologue.errors import UserError
from duologue.formats.audio import flac_bytes
from duologue.formats.card import Card
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Sentence, Turn, UnitSample
from duologue.manifests.schema import Dialogue, Manifest, Row
from duologue.pipelines.partitions import Output
from duologue.pipelines.sidecars import Partition
from duologue.pipelines.units import encoded, make_units, resolved, tokenizer_of, unit_output
from duologue.synth.dialogue import RULES, Spoken, speak
from duologue.synth.engine import SAMPLE_RATE, Engine
from duologue.synth.engines import load_engine
from duologue.tokenize.tokenizer import read_about

ROWS_PER_SHARD = 64


@lru_cache(maxsize=1)
def _engine_of(name: str) -> Engine:
    return load_engine(name)


def unit_sample_of(spoken: Spoken, dialogue: Dialogue, units: np.ndarray, rate: int) -> UnitSample:
    """Return a spoken dialogue in units, int16 `[2, frames]` at `rate` a second.

    A sentence has every frame that a sample of it falls into.
    """
    hop = SAMPLE_RATE // rate
    sentences = []
    for sentence in spoken.sentences:
        first = sentence.start // hop
        frames = -(-(sentence.start + sentence.samples) // hop) - first
        sentences.append(Sentence(sentence.channel, sentence.text, first, frames, sentence.turn))
    turns = [Turn(turn.channel, turn.start / SAMPLE_RATE, turn.end / SAMPLE_RATE, turn.text) for turn in spoken.turns]
    return UnitSample(
        id=dialogue.id,
        source=dialogue.source,
        split=dialogue.split,
        licence=dialogue.licence,
        duration_s=spoken.audio.shape[1] / SAMPLE_RATE,
        speakers=spoken.voices,
        turns=tuple(turns),
        sentences=tuple(sentences),
        units=units,
    )


@dataclass(frozen=True)
class Synthesize:
    """The station: dialogues of a manifest, spoken and tokenized."""

    manifest: Path
    engine: str
    tokenizer: str
    seed: int
    keep_audio: bool
    name: str = "synthesize"
    unit: str = "dialogues"

    @property
    def stems(self) -> Sequence[str]:
        """Kinds of shard it writes."""
        return ("units", "audio") if self.keep_audio else ("units",)

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield what became of each dialogue, and of turns that were left out."""
        tokenizer = tokenizer_of(self.tokenizer)
        dialogues = list(Manifest(self.manifest).rows(partition.start, partition.stop))
        texts = [(row.id, [(turn.speaker, turn.text) for turn in row.turns]) for row in dialogues]  # type: ignore[union-attr]
        speech = zip(dialogues, speak(texts, _engine_of(self.engine), self.seed), strict=True)
        for (dialogue, spoken), units in encoded(speech, _audio, tokenizer):
            assert isinstance(dialogue, Dialogue)
            if isinstance(units, Unusable):
                yield Reject(dialogue.id, self.name, units.reason, units.message)
                continue
            assert isinstance(spoken, Spoken)
            for turn, refused in spoken.refused:
                yield Reject(dialogue.id, self.name, refused.reason, refused.message, turn)
            flac = flac_bytes(spoken.audio, SAMPLE_RATE) if self.keep_audio else None
            yield unit_output(unit_sample_of(spoken, dialogue, units, tokenizer.rate), flac)


def _audio(spoken: tuple[Row, Spoken | Unusable]) -> Iterator[np.ndarray]:
    if isinstance(spoken[1], Unusable):
        raise spoken[1]
    yield spoken[1].audio.astype(np.float32) / 32768


def synthesize(
    manifest: Path,
    out: Path,
    *,
    engine: str = "espeak",
    tokenizer: str = "embedded",
    seed: int = 0,
    keep_audio: bool = False,
    rows_per_shard: int = ROWS_PER_SHARD,
    workers: int = 1,
    flags: Sequence[str] = (),
    max_rejects: float = 1.0,
) -> Card:
    """Make a unit set of a manifest of dialogues (stages 1 and 2; Veluri et al. 2024, section 4).

    Args:
        manifest: of dialogues.
        out: the unit set's directory.
        engine: name of the speech engine.
        tokenizer: a tokenizer's directory, or "embedded".
        seed: of voices, gaps and the engine.
        keep_audio: write the speech too, as FLAC in `audio-NNNNN.tar`.
        rows_per_shard: dialogues in a shard.
        workers: processes on this machine.
        flags: Beam's own flags.
        max_rejects: share of the dialogues that may be rejected.

    Raises:
        UserError: an input is missing or of the wrong kind, or the run cannot go on.
    """
    dialogues = Manifest(manifest)
    if dialogues.card.kind != "dialogues":
        raise UserError(
            "this is a manifest of recordings, which have speech already",
            where=manifest,
            hint="Use `duologue tokenize` for it",
        )
    identity = read_about(tokenizer)["identity"]
    if identity["sample_rate"] != SAMPLE_RATE:
        raise UserError(
            f"the tokenizer takes {identity['sample_rate']} Hz; synthesis gives {SAMPLE_RATE} Hz",
            where=tokenizer,
            hint="Use a 16 kHz tokenizer",
        )
    with load_engine(engine) as voice:
        voice_identity, licence = voice.identity, voice.licence
    return make_units(
        Synthesize(manifest.resolve(), engine, resolved(tokenizer), seed, keep_audio),
        dialogues,
        identity,
        out,
        {"engine": voice_identity, "rules": RULES, "seed": seed, "keep_audio": keep_audio},
        rows_per_shard=rows_per_shard,
        licences=[licence],
        workers=workers,
        flags=flags,
        max_rejects=max_rejects,
    )
