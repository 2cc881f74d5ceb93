"""The tokenizer interface, and loading one from its directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from duologue.errors import UserError, explained
from duologue.formats.places import place, tree_at_hand
from duologue.formats.rejects import Unusable

EMBEDDED = "embedded"
ABOUT = "tokenizer.json"
QUANTIZER = "quantizer.safetensors"
MODEL = "model.safetensors"
# Beside it where units can be made audible again: tensor `log_magnitude`, float `[vocabulary, 257]`.
VOCODER = "vocoder.safetensors"
# Of tokenizer.json; it counts up where an older Duologue would read a newer one wrongly.
FORMAT = 1
# Units are int16 everywhere.
MOST_UNITS = 2**15


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

    def encode(self, recordings: Iterable[Iterable[np.ndarray]]) -> Iterator[np.ndarray | Unusable]:
        """Encode recordings of any lengths, several at a time; the units of each depend on it alone.

        Recordings are asked for as there is room for them, so that memory grows with none of their numbers: some
        are read before the units of the first are there.

        Args:
            recordings: each is its audio in blocks of any sizes, float32 `[channels, samples]` at `sample_rate`,
                finite. One that cannot be read to its end raises `Unusable`.

        Returns:
            For each, in order: int16 `[channels, ceil(samples / hop)]`, or the `Unusable` that it raised.
        """
        ...


def directory_of(name: str | Path) -> Path:
    """Return the directory of a tokenizer: of the one in the package for "embedded", else the path itself."""
    return Path(__file__).parent / EMBEDDED if str(name) == EMBEDDED else place(name)


def load_tokenizer(name: str | Path) -> Tokenizer:
    """Load a tokenizer.

    Args:
        name: a tokenizer's directory, or "embedded".

    Raises:
        UserError: there is none, its files are damaged, or it is of a kind this Duologue does not know.
    """
    about = read_about(name)
    with tree_at_hand(directory_of(name)) as directory:
        return _LOADERS[about["kind"]](directory, about)


def read_about(name: str | Path) -> dict[str, Any]:
    """Read a tokenizer's description without loading it: its "kind", its "identity", and where it came from.

    Raises:
        UserError: as for `load_tokenizer`, as far as the description goes.
    """
    directory = directory_of(name)
    path = directory / ABOUT
    try:
        with explained(path, "reading"):
            about = json.loads(path.read_bytes())
        kind = about["kind"]
        if not isinstance(kind, str):
            raise ValueError("its kind is no text")
        if not all(type(about["identity"][name]) is int for name in ("rate", "sample_rate", "vocabulary")):
            raise ValueError("rate, sample_rate and vocabulary are whole numbers")
    except FileNotFoundError as error:
        raise UserError(
            f"there is no tokenizer: no {ABOUT}",
            where=directory,
            hint="Name a directory made by `duologue tokenizer import` or `fit`, or `embedded`",
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"the tokenizer is damaged ({error!r})", where=path, hint="Make it again") from error
    if about.get("format") != FORMAT:
        raise UserError(
            f"the tokenizer has format {ascii(about.get('format'))[:20]}, and this Duologue reads {FORMAT}",
            where=path,
            hint="Upgrade Duologue",
        )
    if kind not in _LOADERS:
        raise UserError(
            f"this Duologue does not know tokenizers of kind {kind!r}, only {', '.join(_LOADERS)}",
            where=path,
            hint="Upgrade Duologue",
        )
    return about


def check_way(identity: Mapping[str, Any], way: Mapping[str, Any], directory: Path) -> None:
    """Refuse a tokenizer whose units would not be computed in the way that its identity says.

    Args:
        identity: of the tokenizer.
        way: what the code decides of it: the clock, resampling, windows.
        directory: of the tokenizer.

    Raises:
        UserError: the identity says something else: another Duologue made it, or it was edited.
    """
    if other := [name for name, value in way.items() if identity.get(name) != value]:
        raise UserError(
            f"its units would not be those of its identity: this Duologue has another {' and '.join(other)}",
            where=directory / ABOUT,
            hint="Make it again, or use it with the Duologue that made it",
        )


def _load_mfcc(directory: Path, about: Mapping[str, Any]) -> Tokenizer:
    from duologue.tokenize.mfcc import MfccTokenizer

    return MfccTokenizer.load(directory, about)


def _load_hubert(directory: Path, about: Mapping[str, Any]) -> Tokenizer:
    from duologue.tokenize.encoder import HubertTokenizer

    return HubertTokenizer.load(directory, about)


_LOADERS: dict[str, Callable[[Path, Mapping[str, Any]], Tokenizer]] = {
    "mfcc-kmeans": _load_mfcc,
    "hubert": _load_hubert,
}
