"""Text dialogues -> units in one run: voices, timeline, tokenizer; the audio is kept only where asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.audio import flac_bytes
from duologue.formats.card import Card, read_card
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Sentence, Turn, UnitSample, Word
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue
from duologue.pipelines.commit import Output
from duologue.pipelines.partitions import ALONE, RunOptions
from duologue.pipelines.sidecars import Partition
from duologue.pipelines.units import check_made_by, encoded, make_units, resolved, tokenizer_of, unit_output
from duologue.progress import say
from duologue.synth.backchannels import insert_backchannels
from duologue.synth.dialogue import Spoken, rules, speak
from duologue.synth.engine import SAMPLE_RATE, Engine
from duologue.synth.engines import EngineChoice, load_engine
from duologue.synth.licences import is_non_commercial
from duologue.synth.shape import NATURAL, Shape
from duologue.synth.voices import named_voices
from duologue.tokenize.devices import own_device
from duologue.tokenize.tokenizer import read_about

ROWS_PER_SHARD = 64
# Fewer floor transfers than this say little about how people talk.
_FEW_TRANSFERS = 200


@dataclass(frozen=True)
class Settings:
    """What decides how dialogues sound; picklable.

    Attributes:
        engine: of the speech.
        tokenizer: a tokenizer's directory, or "embedded".
        seed: of voices, gaps and the engine.
        shape: of the conversations.
        keep_audio: write the speech too, as FLAC in `audio-NNNNN.tar`.
    """

    engine: EngineChoice = field(default_factory=EngineChoice)
    tokenizer: str = "embedded"
    seed: int = 0
    shape: Shape = NATURAL
    keep_audio: bool = False


DEFAULTS = Settings()


@lru_cache(maxsize=1)
def engine_of(choice: EngineChoice) -> Engine:
    """Start an engine once for a process, on the process's own device."""
    # espeak needs no GPU, and looking for one takes torch and its time.
    return load_engine(choice, "cpu" if choice.name == "espeak" else own_device())


@lru_cache(maxsize=1)
def _identity_of(choice: EngineChoice) -> dict[str, Any]:
    """Ask an engine what it is once for a process: it hashes its model, which may have gigabytes."""
    return engine_of(choice).identity


def measured_shape(units: Path) -> tuple[Shape, Card]:
    """Return the shape of the conversations in a unit set of recordings, and the set's card.

    Raises:
        UserError: the directory is no unit set, or its turn-taking was not measured.
    """
    card = read_card(units, "units")
    try:
        summary = card.totals["checks"]["turn_taking"]
        shape = Shape.from_summary(summary)
    except (KeyError, TypeError, ValueError) as error:
        because = f": {error}" if isinstance(error, ValueError) else ""
        raise UserError(
            f"the unit set has no measured turn-taking{because}",
            where=units,
            hint="Make it of recordings by `duologue tokenize`, without --no-checks",
        ) from error
    if summary["transfers"]["count"] < _FEW_TRANSFERS:
        say(f"{units}: only {summary['transfers']['count']} changes of speaker were measured; take a larger set")
    return shape, card


def unit_sample_of(spoken: Spoken, dialogue: Dialogue, units: np.ndarray, rate: int) -> UnitSample:
    """Return a spoken dialogue in units, int16 `[2, frames]` at `rate` a second.

    A sentence has every frame that a sample of it falls into.
    """
    hop = SAMPLE_RATE // rate
    sentences = []
    for sentence in spoken.sentences:
        first = sentence.start // hop
        frames = -(-(sentence.start + sentence.samples) // hop) - first
        words = tuple(
            Word(word.text, word.start / SAMPLE_RATE, (word.start + word.samples) / SAMPLE_RATE)
            for word in sentence.words
        )
        sentences.append(Sentence(sentence.channel, sentence.text, first, frames, sentence.turn, words))
    turns = [
        Turn(turn.channel, turn.start / SAMPLE_RATE, turn.end / SAMPLE_RATE, turn.text, turn.events)
        for turn in spoken.turns
    ]
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


def spoken_dialogues(
    dialogues: Sequence[Dialogue], engine: Engine, settings: Settings
) -> Iterator[tuple[Dialogue, Spoken | Unusable]]:
    """Yield dialogues with their speech, in order. The engine speaks some 20 minutes before the first comes back."""
    texts = [(row.id, [(turn.speaker, turn.text) for turn in row.turns]) for row in dialogues]
    voices = named_voices(engine.voices, settings.engine.voices)
    speech = speak(texts, engine, settings.seed, settings.shape, voices)
    if settings.shape.backchannels:
        speech = insert_backchannels(speech, engine, settings.seed, settings.shape.backchannels)
    return zip(dialogues, speech, strict=True)


def spoken_audio(spoken: tuple[Dialogue, Spoken | Unusable]) -> Iterator[np.ndarray]:
    """Yield the audio of what `spoken_dialogues` gives as the tokenizer takes it, or raise why there is none."""
    if isinstance(spoken[1], Unusable):
        raise spoken[1]
    yield spoken[1].audio.astype(np.float32) / 32768


@dataclass(frozen=True)
class Synthesize:
    """The station: dialogues of a manifest, spoken and tokenized.

    Attributes:
        manifest: of the dialogues.
        settings: how they sound.
        made_by: what the launcher has to make units by, and every worker must have.
    """

    manifest: Path
    settings: Settings
    made_by: Mapping[str, Any]
    name: str = "synthesize"
    unit: str = "dialogues"

    @property
    def stems(self) -> Sequence[str]:
        """Kinds of shard it writes."""
        return ("units", "audio") if self.settings.keep_audio else ("units",)

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield what became of each dialogue, and of turns that were left out."""
        tokenizer = tokenizer_of(self.settings.tokenizer)
        rows = Manifest(self.manifest).rows(partition.start, partition.stop)
        dialogues = [row for row in rows if isinstance(row, Dialogue)]
        check_made_by(self.made_by, _made_by(_identity_of(self.settings.engine), tokenizer.identity))
        speech = spoken_dialogues(dialogues, engine_of(self.settings.engine), self.settings)
        for (dialogue, spoken), units in encoded(speech, spoken_audio, tokenizer):
            if isinstance(units, Unusable):
                yield units.reject(dialogue.id, self.name)
                continue
            assert isinstance(spoken, Spoken)
            for turn, refused in spoken.refused:
                yield refused.reject(dialogue.id, self.name, turn)
            flac = flac_bytes(spoken.audio, SAMPLE_RATE) if self.settings.keep_audio else None
            yield unit_output(unit_sample_of(spoken, dialogue, units, tokenizer.rate), flac)


def _made_by(engine: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    return {"engine": engine, "rules": rules(), "tokenizer": tokenizer}


def dialogues_of(manifest: Path) -> Manifest:
    """Open a manifest of dialogues.

    Raises:
        UserError: it is another artefact, or none.
    """
    dialogues = Manifest(manifest)
    if dialogues.card.kind != "dialogues":
        raise UserError(
            "this is a manifest of recordings, which have speech already",
            where=manifest,
            hint="Use `duologue tokenize` for it",
        )
    return dialogues


def settled(settings: Settings, overlap_model: Path | None) -> tuple[Settings, list[dict[str, str]]]:
    """Return settings that workers elsewhere understand, and what else than the manifest they come from.

    Args:
        settings: as they were given; paths may be relative.
        overlap_model: a unit set of recordings, whose turn-taking takes the place of the settings' shape.

    Returns:
        The settings, and the parents for the card.

    Raises:
        UserError: the tokenizer or the unit set cannot be used.
    """
    sample_rate = read_about(settings.tokenizer)["identity"]["sample_rate"]
    if sample_rate != SAMPLE_RATE:
        raise UserError(
            f"the tokenizer takes {sample_rate} Hz; synthesis gives {SAMPLE_RATE} Hz",
            where=settings.tokenizer,
            hint="Use a 16 kHz tokenizer",
        )
    settings = replace(settings, engine=settings.engine.resolved(), tokenizer=resolved(settings.tokenizer))
    if overlap_model is None:
        return settings, []
    shape, measured = measured_shape(overlap_model)
    return replace(settings, shape=shape), [measured.as_parent()]


def synthesize(
    manifest: Path,
    out: Path,
    settings: Settings = DEFAULTS,
    *,
    overlap_model: Path | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    options: RunOptions = ALONE,
) -> Card:
    """Make a unit set of a manifest of dialogues (stages 1 and 2; Veluri et al. 2024, section 4).

    Args:
        manifest: of dialogues.
        out: the unit set's directory.
        settings: how they sound.
        overlap_model: a unit set of recordings, whose turn-taking takes the place of the settings' shape.
        rows_per_shard: dialogues in a shard.
        options: how the run goes.

    Raises:
        UserError: an input is missing or of the wrong kind, or the run cannot go on.
    """
    dialogues = dialogues_of(manifest)
    settings, parents = settled(settings, overlap_model)
    choice, tokenizer = settings.engine, read_about(settings.tokenizer)["identity"]
    # On the CPU: here only what the engine is, and which GPU a worker takes is the worker's to say.
    with load_engine(choice) as engine:
        made_by, licence = _made_by(engine.identity, tokenizer), engine.licence
        voices = named_voices(engine.voices, choice.voices)
    if is_non_commercial(licence):
        say(f"the licence of the speech model, {licence}, does not allow commercial use of what it says")
    return make_units(
        Synthesize(manifest.resolve(), settings, made_by),
        dialogues,
        tokenizer,
        out,
        {
            "engine": made_by["engine"],
            "voices": list(voices),
            "shape": settings.shape.identity(),
            "rules": made_by["rules"],
            "seed": settings.seed,
            "keep_audio": settings.keep_audio,
        },
        rows_per_shard=rows_per_shard,
        parents=parents,
        licences=[licence],
        options=options,
    )
