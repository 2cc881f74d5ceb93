"""From the tokens of stages 2 and 3 back to two rows of units."""

from __future__ import annotations

import numpy as np

from duologue.formats import sync
from duologue.formats.vocabulary import Vocabulary


def units_of(tokens: np.ndarray, vocabulary: Vocabulary, frames_per_chunk: int) -> np.ndarray:
    """Read the units out of a synchronous stream.

    Text has no place in such a stream: text tokens are left out, and so is what stands before the first `[S0]`.
    A model that is not trained well may write both.

    Args:
        tokens: int `[n]`, token ids.
        vocabulary: the one they are numbered by.
        frames_per_chunk: frames in a chunk.

    Returns:
        int32 `[2, chunks * frames_per_chunk]`.
    """
    stream = vocabulary.to_stream(tokens)
    # Ids behind the last unit are rows that pad the model's embedding.
    stream = stream[(stream >= 0) & (stream < sync.FIRST_UNIT + vocabulary.units)]
    clock = np.flatnonzero(stream == sync.S0)
    return sync.decode(stream[clock[0] :] if len(clock) else stream[:0], frames_per_chunk)
