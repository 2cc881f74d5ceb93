"""The vocoder that belongs to a tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from duologue.errors import UserError, explained
from duologue.generate.resynthesis import SpectralVocoder
from duologue.tokenize.mfcc import BINS
from duologue.tokenize.tokenizer import VOCODER

_SPECTRA = "log_magnitude"


def load_vocoder(directory: Path) -> SpectralVocoder:
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


def resynthesize_dialogue(units: np.ndarray, vocoder: SpectralVocoder) -> np.ndarray:
    """Make both channels of a dialogue audible: int `[2, frames]` to float32 `[2, samples]`.

    Raises:
        ValueError: a unit is not one of the vocoder's.
    """
    return np.stack([vocoder.decode(channel) for channel in units])
