"""The tokenizer interface, and loading one from its directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from duologue.errors import UserError, explained

EMBEDDED = "embedded"
ABOUT = "tokenizer.json"
# Beside it where units can be made audible again: tensor `log_magnitude`, float `[vocabulary, 257]`.
VOCODER = "vocoder.safetensors"


class Tokenizer(Protocol):
    """Turns speech into units. Unit k stands for samples k * hop to (k + 1) * hop - 1, hop = sample_rate / rate.

    Attributes:
        sample_rate: of the audio it takes, in Hz.
        rate: units a second, in Hz.
        vocabulary: number of different units.
        identity: everything its units depend on; data of two identities is never mixed.
    """

    sample_rate: int
    rate: int
    vocabulary: int
    identity: Mapping[str, Any]

    def encode(self, channels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode channels of any lengths in one batch; the units of each depend on it alone.

        Args:
            channels: float32 `[samples]` each, at `sample_rate`, finite.

        Returns:
            int16 `[ceil(samples / hop)]` for each.
        """
        ...


def directory_of(name: str | Path) -> Path:
    """Return the directory of a tokenizer: of the one in the package for "embedded", else the path itself."""
    return Path(__file__).parent / EMBEDDED if str(name) == EMBEDDED else Path(name)


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Load a tokenizer.

    Args:
        name: a tokenizer's directory, or "embedded".

    Raises:
        UserError: there is none, its files are damaged, or it is of a kind this Duologue does not know.
    """
    directory = directory_of(name)
    path = directory / ABOUT
    try:
        with explained(path, "reading"):
            about = json.loads(path.read_bytes())
        kind = about["kind"]
    except FileNotFoundError as error:
        raise UserError(
            f"there is no tokenizer: no {ABOUT}",
            where=directory,
            hint="Name a directory made by `duologue tokenizer fit`, or `embedded`",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the tokenizer is damaged ({error!r})", where=path, hint="Make it again") from error
    if kind not in _LOADERS:
        raise UserError(
            f"this Duologue does not know tokenizers of kind {kind!r}, only {', '.join(_LOADERS)}",
            where=path,
            hint="Upgrade Duologue",
        )
    return _LOADERS[kind](directory, about)


def _load_mfcc(directory: Path, about: Mapping[str, Any]) -> Tokenizer:
    from duologue.tokenize.mfcc import MfccTokenizer

    return MfccTokenizer.load(directory, about)


_LOADERS: dict[str, Callable[[Path, Mapping[str, Any]], Tokenizer]] = {"mfcc-kmeans": _load_mfcc}
