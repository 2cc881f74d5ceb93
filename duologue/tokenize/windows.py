"""The clock: how a channel of any length is cut into windows of a few lengths, and which frames of each count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# A window is about as long as what HuBERT was trained on (15.6 s), so that attention costs little. Convolutions and
# positions see beyond it; what attention misses is felt most by the frames nearest its edges, and these are taken
# from its neighbours instead.
WINDOW_S = 20
CONTEXT_S = 1.28
# Normalisations over time look as far as fairseq's pieces do. A side of a call can be silent for longer than a
# window: by the window's own level its noise would be made as loud as speech.
SPAN_S = 100
_HALVINGS = 4

POLICY: dict[str, Any] = {
    "window_s": WINDOW_S,
    "context_s": CONTEXT_S,
    "span_s": SPAN_S,
    "positions": "see the frames beside the window",
    "short": "one window, padded to the next halving of a window, 4 at most; padding is masked",
    "end": "frames that the convolutions do not reach repeat the last one",
}


def units_of(samples: int, hop: int) -> int:
    """Return how many units a channel of so many samples has: ceil(samples / hop)."""
    return -(-samples // hop)


def window_frames(rate: int, window_s: int = WINDOW_S) -> int:
    """Return how many frames a window has at so many frames a second."""
    return window_s * rate


def window_step(rate: int, window_s: int = WINDOW_S) -> int:
    """Return how many frames after a window the next one starts: the context is on both sides."""
    return window_frames(rate, window_s) - 2 * round(CONTEXT_S * rate)


def short_frames(frames: int, rate: int, window_s: int = WINDOW_S) -> int:
    """Return the length, in frames, of the window for a recording of so few frames that it fits one."""
    longest = window_frames(rate, window_s)
    return min(length for i in range(_HALVINGS + 1) if (length := -(-longest // 2**i)) >= frames)


def starts(frames: int, length: int, step: int) -> list[int]:
    """Return the first frame of each of the pieces of one length over so many frames. The last ends with them."""
    last = frames - length
    return [0] if last <= 0 else [*range(0, last, step), last]


def window_starts(frames: int, rate: int, window_s: int = WINDOW_S) -> list[int]:
    """Return the first frame of each window over so many frames."""
    return starts(frames, window_frames(rate, window_s), window_step(rate, window_s))


def joined(starts: Sequence[int], windows: Sequence[np.ndarray]) -> np.ndarray:
    """Join what windows gave, `[frames of the window, ...]` each: from window to window in the middle of the overlap.

    Args:
        starts: the first frame of each window, rising.
        windows: for each, one row a frame.

    Returns:
        One row for each frame.
    """
    ends = [start + len(window) for start, window in zip(starts, windows, strict=True)]
    borders = [0, *((start + end) // 2 for start, end in zip(starts[1:], ends, strict=False)), ends[-1]]
    return np.concatenate(
        [
            window[begin - start : end - start]
            for start, window, begin, end in zip(starts, windows, borders, borders[1:], strict=False)
        ]
    )
