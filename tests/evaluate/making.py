"""Small artefacts and runs for the report, written by hand with the formats themselves."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile as sf

from duologue.formats import sync
from duologue.formats.card import Card, read_card, write_card
from duologue.formats.interleave import interleave
from duologue.formats.rejects import Reject, count_by_reason, write_rejects
from duologue.formats.sequences import VOCABULARY, Document, PackedSequence
from duologue.formats.shards import ShardInfo, ShardWriter, key_of
from duologue.formats.turntaking import added
from duologue.formats.units import Sentence, Turn, UnitSample
from duologue.formats.vocabulary import Vocabulary
from duologue.tokenize.checks import AudioChecks, ChecksResult

UNITS = 24
RATE = 25
HOP = 640
IDENTITY = {"kind": "test", "rate": RATE, "sample_rate": 16_000, "vocabulary": UNITS}


def dialogue(number: int, seconds: float = 14.0, text: str = "How are you today?") -> UnitSample:
    """A dialogue of two-second turns; the side that listens stays on unit 0."""
    draw = np.random.default_rng(number)
    frames = round(seconds * RATE)
    units = np.zeros((2, frames), np.int16)
    sentences = []
    for turn, first in enumerate(range(0, frames - 50, 50)):
        channel = turn % 2
        # A unit lasts two frames.
        units[channel, first : first + 50] = np.repeat(draw.integers(1, UNITS, 25), 2)
        sentences.append(Sentence(channel, text, first, 50, turn))
    turns = tuple(Turn(s.channel, s.first_frame / RATE, (s.first_frame + 50) / RATE, text) for s in sentences)
    return UnitSample(
        f"talk {number}", "corpus", "train", "CC0-1.0", seconds, ("ada", "ben"), turns, tuple(sentences), units
    )


def _entry(info: ShardInfo | None, **amounts: float) -> dict[str, object]:
    assert info is not None
    return {"name": info.name, "samples": info.samples, "bytes": info.bytes, "sha256": info.sha256, **amounts}


def tone(sample: UnitSample, channel: int) -> np.ndarray:
    """The audio that stands for a channel: a tone as loud as the unit at that moment is high."""
    time = np.arange(sample.units.shape[1] * HOP) / 16_000
    return np.repeat(sample.units[channel] / UNITS, HOP) * 0.5 * np.sin(2 * np.pi * (300 + 200 * channel) * time)


class _Given:
    """Voice activity that is known before."""

    def __init__(self, activity: Sequence[np.ndarray]) -> None:
        self._activity = list(activity)

    def add(self, block: np.ndarray) -> None:
        pass

    def result(self) -> list[np.ndarray]:
        return self._activity


def checks_of(sample: UnitSample, activity: Sequence[Sequence[tuple[float, float]]]) -> ChecksResult:
    """The audio checks of a dialogue whose tones are speech at the times given."""
    checks = AudioChecks(_Given([np.array(spans, np.float64).reshape(-1, 2) for spans in activity]))
    checks.add(np.stack([tone(sample, 0), tone(sample, 1)]).astype(np.float32))
    return checks.result(sample.turns)


def unit_set(
    directory: Path,
    samples: Sequence[UnitSample],
    *,
    checks: Sequence[ChecksResult] = (),
    tokenizer: dict[str, object] | None = None,
    audio: bool = True,
    per_shard: int = 2,
    rejects: Sequence[Reject] = (),
) -> Card:
    """Write a unit set, its audio beside it where it is asked for; `checks` of every sample, or of none."""
    if checks:
        samples = [replace(sample, checks=made.as_dict()) for sample, made in zip(samples, checks, strict=True)]
    directory.mkdir(parents=True)
    shards = []
    for number, first in enumerate(range(0, len(samples), per_shard)):
        part = samples[first : first + per_shard]
        with ShardWriter(directory / f"units-{number:05d}.tar") as writer:
            for sample in part:
                writer.add(key_of(sample.id), sample.members())
        shards.append(_entry(writer.info, seconds=sum(sample.duration_s for sample in part)))
        if audio:
            with ShardWriter(directory / f"audio-{number:05d}.tar") as writer:
                for sample in part:
                    buffer = io.BytesIO()
                    sf.write(buffer, np.stack([tone(sample, 0), tone(sample, 1)]).T, 16_000, format="FLAC")
                    writer.add(key_of(sample.id), {"flac": buffer.getvalue()})
            shards.append(_entry(writer.info))
    write_rejects(directory, rejects)
    totals: dict[str, object] = {
        "inputs": len(samples) + len(rejects),
        "samples": len(samples),
        "rejects": len(rejects),
        "seconds": sum(sample.duration_s for sample in samples),
    }
    if checks:
        totals["checks"] = added(result.summary() for result in checks)
    card = Card(
        "units",
        {"made": directory.name},
        tokenizer=tokenizer or IDENTITY,
        shards=shards,
        totals=totals,
        rejects=count_by_reason(rejects),
        licences=["CC0-1.0"],
    )
    write_card(directory, card)
    return card


def sequence_set(
    directory: Path, stage: int, samples: Sequence[UnitSample], units: Path, chunk_ms: int = 160
) -> Card:
    """Write a sequence set: a dialogue to a sequence, as far as it fits."""
    length = 1024
    parent = read_card(units)
    assert parent.tokenizer is not None
    vocabulary = Vocabulary.byte_level(parent.tokenizer["vocabulary"])
    directory.mkdir(parents=True)
    vocabulary.save(directory / VOCABULARY)
    draw = np.random.default_rng(stage)
    total = 0
    with ShardWriter(directory / "train-00000.tar") as writer:
        for number, sample in enumerate(samples):
            progress = number / len(samples)
            if stage == 1:
                asked = float(draw.uniform())
                speech = draw.random(len(sample.sentences)) < asked
                body, share = interleave(sample, speech, vocabulary).tokens, float(speech.mean())
            else:
                asked, share = None, 1.0
                body = vocabulary.from_stream(sync.encode(sample.units, chunk_ms * RATE // 1000))
            body = body[:length]
            tokens = np.full(length, vocabulary.pad_id, np.uint32)
            tokens[: len(body)] = body
            total += len(body)
            document = Document(sample.id, 0, len(body), 0, progress, asked, share)
            writer.add(f"{number:09d}", PackedSequence(tokens, (document,)).members())
    card = Card(
        "sequences",
        {"stage": stage, "chunk_ms": chunk_ms, "sequence_length": length, "curriculum": "paper"},
        parents=[parent.as_parent()],
        tokenizer=parent.tokenizer,
        vocabulary=vocabulary.identity,
        shards=[_entry(writer.info, tokens=total)],
        totals={"inputs": len(samples), "samples": len(samples), "rejects": 0, "tokens": total},
        licences=["CC0-1.0"],
    )
    write_card(directory, card)
    return card


def training_run(
    directory: Path, stage: int, data: str, init_from: dict[str, object] | None = None, steps: int = 30
) -> str:
    """Write a run of the sequence set with fingerprint `data`; return the run's own fingerprint."""
    directory.mkdir(parents=True)
    own = hashlib.sha256(directory.name.encode()).hexdigest()
    about = {
        "kind": "run",
        "name": f"stage{stage}",
        "stage": stage,
        "recipe": {},
        "data": {"fingerprint": data},
        "init_from": init_from or {"kind": "nothing"},
        "fingerprint": own,
    }
    (directory / "run.json").write_text(json.dumps(about))
    with (directory / "metrics.jsonl").open("w") as file:
        for step in range(1, steps + 1):
            line = {
                "step": step,
                "stage": stage,
                "loss": 6.0 - step / steps,
                "loss_text": 5.0 - step / steps if stage == 1 else None,
                "loss_units": 6.5 - step / steps,
                "loss_tags": 1.0 / step,
                "learning_rate": 1e-3,
                "tokens": step * 2048,
                "tokens_per_s": 1500.0 + step,
                "data_share": 0.01,
                "memory_gb": 1.25,
            }
            file.write(json.dumps(line) + "\n")
    return own
