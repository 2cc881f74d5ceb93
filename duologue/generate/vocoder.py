"""The vocoder interface, and finding the one that belongs to a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from duologue.errors import UserError, explained
from duologue.generate.resynthesis import BINS, SpectralVocoder
from duologue.tokenize.tokenizer import VOCODER

_SPECTRA = "log_magnitude"


class Vocoder(Protocol):
    """Turns the units of one tokenizer into speech, one channel at a time."""

    @property
    def rate(self) -> int:
        """Units a second, in Hz."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        ...

    def decode(self, units: np.ndarray) -> np.ndarray:
        """Return the speech of a channel.

        Args:
            units: int `[frames]`.

        Returns:
            float32 `[frames * sample_rate / rate]`, between -1 and 1.

        Raises:
            ValueError: a unit is not one of the tokenizer's.
        """
        ...


def load_vocoder(directory: Path) -> Vocoder:
    """Load the vocoder that stands in a tokenizer's directory.

    Raises:
        UserError: the tokenizer has none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = directory / VOCODER
    try:
        with explained(path, "reading"):
            tensors = load(path.read_bytes())
        spectra = tensors[_SPECTRA].astype(np.float32)
        if spectra.ndim != 2 or spectra.shape[1] != BINS or not np.isfinite(spectra).all():
            raise ValueError(f"{_SPECTRA} is {list(spectra.shape)}, or holds values that are not finite")
    except FileNotFoundError as error:
        raise UserError(
            f"the tokenizer has no vocoder: no {VOCODER}",
            where=directory,
            hint="Name a tokenizer made by `duologue tokenizer fit`, or `embedded`",
        ) from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"the vocoder is damaged ({error})", where=path, hint="Make the tokenizer again") from error
    return SpectralVocoder(spectra)


def resynthesize_dialogue(units: np.ndarray, vocoder: Vocoder) -> np.ndarray:
    """Make both channels of a dialogue audible: int `[2, frames]` to float32 `[2, samples]`.

    Raises:
        ValueError: a unit is not one of the vocoder's.
    """
    return np.stack([vocoder.decode(channel) for channel in units])
