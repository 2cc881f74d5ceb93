"""What a synthesis would take, from a sample of the manifest that is spoken and tokenized here."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from duologue.errors import UserError
from duologue.formats import sync
from duologue.formats.audio import flac_bytes
from duologue.formats.rejects import Unusable
from duologue.formats.seeds import generator, integer
from duologue.formats.shards import stored_bytes
from duologue.manifests.schema import Dialogue
from duologue.pipelines.synthesize import (
    DEFAULTS,
    Settings,
    dialogues_of,
    engine_of,
    settled,
    spoken_audio,
    spoken_dialogues,
    unit_sample_of,
)
from duologue.pipelines.units import encoded, tokenizer_of
from duologue.synth.dialogue import Spoken
from duologue.synth.engine import SAMPLE_RATE, Utterance
from duologue.tokenize.devices import own_device
from duologue.tokenize.tokenizer import read_about

DIALOGUES = 20
"""How many are spoken for an estimate."""

T = TypeVar("T")
_CHUNK_MS = 160
_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Estimate:
        """Return it in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def rounded(self) -> dict[str, float]:
        """Return it as JSON holds it, to six significant digits."""
        return {name: float(f"{value:.6g}") for name, value in vars(self).items()}


class _Timed(Iterable[T]):
    """Items, and how long they took to come: `seconds`."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.seconds = 0.0

    def __iter__(self) -> Iterator[T]:
        while True:
            began = time.perf_counter()
            try:
                item = next(self._items)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield item


def estimate(
    manifest: Path, settings: Settings = DEFAULTS, *, overlap_model: Path | None = None, dialogues: int = DIALOGUES
) -> dict[str, Any]:
    """Say what `synthesize` would make of a manifest and how long one worker would work on it here. Writes nothing.

    Dialogues chosen by hash are spoken and tokenized; what they give is scaled up by characters of text. The
    intervals (bootstrap over the dialogues) say how much the choice of dialogues matters, not how busy the machine
    is.

    Args:
        manifest: of dialogues.
        settings: how they sound.
        overlap_model: as for `synthesize`.
        dialogues: how many of them are spoken, at least two.

    Returns:
        `dialogues`, `characters` in the manifest; of them `sampled`, `rejected`; and as `{"value", "low", "high"}`:
        `hours` of two-channel speech, `work_hours` of a worker by station ("speech"; "units", and FLAC with it),
        `bytes` of the shards by kind, `tokens` of the synchronous stream at 160 ms. `devices`: what each station
        computed on.

    Raises:
        UserError: as for `synthesize`; or none of the sampled dialogues can be spoken.
    """
    listed = dialogues_of(manifest)
    settings, _ = settled(settings, overlap_model)
    if dialogues < 2:
        raise UserError("an estimate takes 2 dialogues or more", where="--sample", hint="Correct the option")
    characters = 0

    def rows() -> Iterator[Dialogue]:
        nonlocal characters
        for row in listed.rows():
            assert isinstance(row, Dialogue)
            characters += _characters(row)
            yield row

    chosen = heapq.nsmallest(dialogues, rows(), key=lambda row: integer(settings.seed, "estimate", row.id))
    measured, seconds = _measure(chosen, settings)
    if not measured["hours"].any():
        raise UserError(
            f"none of the {len(chosen)} dialogues of the sample can be spoken",
            where=manifest,
            hint="Run `duologue synthesize`: the rejects say why; or take a larger --sample",
        )
    sizes = np.array([_characters(row) for row in chosen], np.float64)
    scale = _Scale(sizes, characters, 1 - len(chosen) / len(listed), settings.seed)
    sums = {name: scale.up(values) for name, values in measured.items()}
    spoken_s = float(measured["hours"].sum()) * 3600
    return {
        "dialogues": len(listed),
        "characters": characters,
        "sampled": len(chosen),
        "rejected": int((measured["hours"] == 0).sum()),
        "hours": sums["hours"].rounded(),
        "work_hours": {station: sums["hours"].times(took / spoken_s).rounded() for station, took in seconds.items()},
        "devices": _devices(settings),
        "bytes": {kind: sums[kind].rounded() for kind in ("units", "audio") if kind in sums},
        "tokens": sums["tokens"].rounded(),
    }


def _characters(row: Dialogue) -> int:
    return sum(len(turn.text) for turn in row.turns)


def _devices(settings: Settings) -> dict[str, str]:
    device = own_device().split(":")[0]
    embedded = read_about(settings.tokenizer)["kind"] == "mfcc-kmeans"
    return {
        "speech": "cpu" if settings.engine.name == "espeak" else device,
        "units": "cpu" if embedded else device,
    }


def _measure(chosen: list[Dialogue], settings: Settings) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what each dialogue gives, float64 `[dialogues]` by kind, and the seconds of each station."""
    # As in a worker.
    torch.set_num_threads(1)
    engine, tokenizer = engine_of(settings.engine), tokenizer_of(settings.tokenizer)
    # What is only slow the first time is not what the run will be like.
    engine.synthesize([Utterance("Hello.", engine.voices[0], 0)])
    list(tokenizer.encode([[np.zeros((2, SAMPLE_RATE), np.float32)]]))
    kinds = ("hours", "units", "tokens", *(("audio",) if settings.keep_audio else ()))
    measured = {kind: np.zeros(len(chosen)) for kind in kinds}
    f = max(round(tokenizer.rate * _CHUNK_MS / 1000), 1)
    speech = _Timed(spoken_dialogues(chosen, engine, settings))
    began = time.perf_counter()
    for number, ((dialogue, spoken), units) in enumerate(encoded(speech, spoken_audio, tokenizer)):
        if isinstance(units, Unusable):
            continue
        assert isinstance(spoken, Spoken)
        sample = unit_sample_of(spoken, dialogue, units, tokenizer.rate)
        measured["hours"][number] = sample.duration_s / 3600
        measured["units"][number] = _stored(sample.members())
        measured["tokens"][number] = len(sync.encode(units, f))
        if settings.keep_audio:
            measured["audio"][number] = _stored({"flac": flac_bytes(spoken.audio, SAMPLE_RATE)})
    took = time.perf_counter() - began
    return measured, {"speech": speech.seconds, "units": took - speech.seconds}


def _stored(members: Mapping[str, bytes]) -> int:
    return sum(stored_bytes(len(content)) for content in members.values())


class _Scale:
    """Scales what a sample gives up to the whole.

    Args:
        sizes: characters of the sampled dialogues, float64 `[n]`.
        total: characters of all.
        unseen: share of the dialogues that are not in the sample.
        seed: of the bootstrap.
    """

    def __init__(self, sizes: np.ndarray, total: int, unseen: float, seed: int) -> None:
        self._sizes, self._total, self._unseen = sizes, total, unseen
        self._again = generator(seed, "bootstrap").integers(len(sizes), size=(_RESAMPLES, len(sizes)))

    def up(self, values: np.ndarray) -> Estimate:
        """Return the estimate of a sum, from its parts in the sample, float64 `[n]`."""
        value = self._total * float(values.sum() / self._sizes.sum())
        ratios = values[self._again].sum(axis=1) / np.maximum(self._sizes[self._again].sum(axis=1), 1)
        # Of a finite whole, the more that was looked at, the less is left to chance.
        low, high = value + (np.percentile(ratios, [2.5, 97.5]) * self._total - value) * self._unseen**0.5
        return Estimate(value, float(low), float(high))
