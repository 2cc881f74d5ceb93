"""What every speech engine does: utterances in, mono speech at 16 kHz out, one result for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from duologue.formats.rejects import Unusable

SAMPLE_RATE = 16_000

_MARGIN = SAMPLE_RATE // 100
_THRESHOLD = 1e-3


@dataclass(frozen=True)
class Utterance:
    """One sentence to speak.

    Attributes:
        text: its spoken form: English words and punctuation, no digits.
        voice: one of the engine's `voices`.
        seed: decides whatever the engine draws at random.
    """

    text: str
    voice: str
    seed: int


class Engine(Protocol):
    """A speech engine. Use it as a context manager, or call `close` when done.

    Attributes:
        name: what `--engine` calls it.
        licence: SPDX identifier of the engine or its model, for the card.
        voices: names of the voices, at least two, in a fixed order.
    """

    name: str
    licence: str
    voices: Sequence[str]

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever the audio depends on: engine, version and voices, as JSON values."""
        ...

    def synthesize(self, utterances: Sequence[Utterance]) -> list[np.ndarray | Unusable]:
        """Speak many utterances, as large a list as the caller has: engines with batches make their own.

        Returns:
            In the same order, mono float32 `[samples]` at `SAMPLE_RATE` within -1 to 1, without silence at the
            ends (see `trim`), or why there is none. Each depends on its utterance alone, not on its
            neighbours.
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds: processes, memory of a device."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def trim(audio: np.ndarray) -> np.ndarray:
    """Cut the silence off both ends, so that the timeline alone decides the pauses.

    Args:
        audio: float32 `[samples]` at `SAMPLE_RATE`. Silence is what stays under -60 dB of full scale.

    Returns:
        float32 `[samples]` from 10 ms before the first to 10 ms after the last audible sample, as far as
        there is audio.

    Raises:
        Unusable: nothing is audible, or a sample is not a finite number.
    """
    if not np.isfinite(audio).all():
        raise Unusable("silent", "the engine gave samples that are not finite numbers")
    audible = np.flatnonzero(np.abs(audio) >= _THRESHOLD)
    if audible.size == 0:
        raise Unusable("silent", "the engine gave no audible sound")
    return audio[max(int(audible[0]) - _MARGIN, 0) : int(audible[-1]) + 1 + _MARGIN]
