"""Sound in the report: units made audible, and tracks that carry their audio with them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from duologue.evaluate.artefacts import Artefact
from duologue.formats.audio import flac_bytes
from duologue.generate.resynthesis import SpectralVocoder
from duologue.generate.vocoder import load_vocoder, resynthesize_dialogue
from duologue.tokenize.tokenizer import VOCODER, read_about

_MOST_BYTES = 6_500_000
_PEAK = 0.7
_SILENCE = 1e-3


def flac(audio: np.ndarray, sample_rate: int) -> str:
    """Return audio, float32 `[2, samples]` between -1 and 1, as the `data:` URI of a stereo FLAC file."""
    return f"data:audio/flac;base64,{base64.b64encode(flac_bytes(audio, sample_rate)).decode()}"


class Sound:
    """The vocoder, the tokenizer it belongs to, and how much sound the page may still take.

    Attributes:
        note: why there is no resynthesis, where there is none.
    """

    def __init__(self, tokenizer: Path | None) -> None:
        self.note = "No tokenizer was named, so units are shown but not heard: add --tokenizer."
        self._vocoder: SpectralVocoder | None = None
        self._identity: dict[str, Any] = {}
        self._left = _MOST_BYTES
        if tokenizer is None:
            return
        self._identity = dict(read_about(tokenizer)["identity"])
        if (tokenizer / VOCODER).exists():
            self._vocoder = load_vocoder(tokenizer)
            self.note = ""
        else:
            self.note = "The tokenizer has no vocoder, so units are shown but not heard."

    def resynthesis(self, artefact: Artefact, units: np.ndarray) -> tuple[np.ndarray, int] | None:
        """Return audio and sample rate of int `[2, frames]`, or None without the set's own vocoder.

        Both channels are raised together to a peak of 0.7.
        """
        if self._vocoder is None:
            return None
        if dict(artefact.card.tokenizer or {}) != self._identity:
            self.note = "Some sets were made with another tokenizer than the one named; their units are not heard."
            return None
        audio = resynthesize_dialogue(units, self._vocoder)
        peak = float(np.abs(audio).max(initial=0.0))
        # Mean spectra are quieter than what they are the mean of; silence has to stay silent.
        if peak > _SILENCE:
            audio *= _PEAK / peak
        return audio, self._vocoder.sample_rate

    def track(self, label: str, audio: np.ndarray, sample_rate: int) -> dict[str, str]:
        """Return what the page needs to play audio, float32 `[2, samples]`, or to say that it has no room."""
        uri = flac(audio, sample_rate)
        if len(uri) > self._left:
            return {"label": f"{label} (left out: the page would become too big)", "uri": ""}
        self._left -= len(uri)
        return {"label": label, "uri": uri}
