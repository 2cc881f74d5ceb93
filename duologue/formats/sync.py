"""The synchronous stream of stages 2 and 3: two rows of units as one clocked token stream, and back.

Stream ids: `S0 = 0`, `S1 = 1`, unit u = `u + 2`. Chunk c of f frames is written `[S0]`, channel 0's novel units,
and, only if channel 1 has novel units in it, `[S1]` and those. A unit is novel where it differs from the frame
before, chunk borders included (Veluri et al. 2024, section 3; `docs/format.md`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

S0, S1 = 0, 1
FIRST_UNIT = 2
# Dialogues are encoded together up to this many frames: more of them no longer fit a processor's cache.
_FRAMES_AT_ONCE = 10_000


def frames_per_chunk(chunk_ms: int, rate: int) -> int:
    """Return the frames in a chunk.

    Args:
        chunk_ms: length of a chunk, in milliseconds; the paper's are 160, 200 and 240.
        rate: frames a second, in Hz.

    Raises:
        ValueError: a chunk would not hold a whole number of frames.
    """
    frames, rest = divmod(chunk_ms * rate, 1000)
    if rest or frames < 1:
        raise ValueError(f"a chunk of {chunk_ms} ms is not a whole number of frames at {rate} Hz")
    return frames


def _check(units: np.ndarray) -> np.ndarray:
    units = np.asarray(units)
    if units.ndim != 2 or units.shape[0] != 2 or not np.issubdtype(units.dtype, np.integer):
        raise ValueError(f"units are {units.dtype} {list(units.shape)}, not int [2, frames]")
    if units.size and units.min() < 0:
        raise ValueError("units are negative")
    return units


def encode(units: np.ndarray, frames_per_chunk: int) -> np.ndarray:
    """Write a dialogue as a synchronous stream.

    Args:
        units: int `[2, T]`, both channels on the same clock; the last chunk may be short.
        frames_per_chunk: frames in a chunk, at least 1.

    Returns:
        int32 stream ids `[n]`; empty for T = 0.

    Raises:
        ValueError: the units are not int `[2, T]`, or negative.
    """
    return encode_many([units], frames_per_chunk)[0]


def encode_many(dialogues: Sequence[np.ndarray], frames_per_chunk: int) -> list[np.ndarray]:
    """Write many dialogues as synchronous streams in one pass; the same as `encode` on each.

    Args:
        dialogues: int `[2, T]` each.
        frames_per_chunk: frames in a chunk, at least 1.

    Returns:
        int32 stream ids `[n]`, one array for each dialogue.

    Raises:
        ValueError: some units are not int `[2, T]`, or negative.
    """
    streams: list[np.ndarray] = []
    group: list[np.ndarray] = []
    frames = 0
    for units in dialogues:
        group.append(_check(units))
        frames += group[-1].shape[1]
        if frames >= _FRAMES_AT_ONCE:
            streams += _encoded(group, frames_per_chunk)
            group, frames = [], 0
    return streams + _encoded(group, frames_per_chunk)


def _encoded(dialogues: Sequence[np.ndarray], f: int) -> list[np.ndarray]:
    if f < 1:
        raise ValueError(f"a chunk has {f} frames; it needs at least 1")
    # The dialogues stand one behind the other, each filled up to whole chunks with frames that are not novel.
    chunks = [-(-units.shape[1] // f) for units in dialogues]
    total = sum(chunks)
    padded = np.zeros((2, total * f), np.int32)
    novel = np.zeros((2, total * f), bool)
    first = 0
    for units, count in zip(dialogues, chunks, strict=True):
        last = first + units.shape[1]
        padded[:, first:last] = units
        novel[:, first : first + 1] = count > 0
        np.not_equal(units[:, 1:], units[:, :-1], out=novel[:, first + 1 : last])
        first += count * f
    frames = [np.flatnonzero(row) for row in novel]
    counts = [np.bincount(row // f, minlength=total) for row in frames]
    ends = np.cumsum(1 + counts[0] + (counts[1] > 0) + counts[1])
    stream = np.empty(int(ends[-1]) if total else 0, np.int32)
    # Where the tags go: a chunk begins where the one before ends.
    s0 = np.concatenate([[0], ends])[:-1]
    s1 = s0 + 1 + counts[0]
    stream[s0] = S0
    stream[s1[counts[1] > 0]] = S1
    for channel, tag in enumerate((s0, s1)):
        # The n-th unit of a chunk goes to its tag + 1 + n.
        shift = tag + 1 - (np.cumsum(counts[channel]) - counts[channel])
        places = np.arange(len(frames[channel])) + shift[frames[channel] // f]
        stream[places] = padded[channel, frames[channel]] + FIRST_UNIT
    cuts = np.concatenate([[0], ends])[list(itertools.accumulate(chunks, initial=0))]
    return [stream[begin:end] for begin, end in itertools.pairwise(cuts.tolist())]


def chunk_lengths(stream: np.ndarray) -> np.ndarray:
    """Return how many tokens each chunk of a synchronous stream has, int64 `[chunks]`; they sum to its length.

    Args:
        stream: int stream ids `[n]`, beginning with S0.
    """
    # Every chunk begins with S0, and nothing else is S0.
    return np.diff(np.flatnonzero(stream == S0), append=len(stream))


def _spread(f: int) -> np.ndarray:
    """Return which of a chunk's k units frame i takes, int `[f + 1, f]` by k and i; -1 (the one before) for k = 0."""
    table = np.full((f + 1, f), -1)
    for k in range(1, f + 1):
        for j in range(k):
            table[k, j * f // k : (j + 1) * f // k] = j
    return table


def decode(stream: np.ndarray, frames_per_chunk: int) -> np.ndarray:
    """Read a synchronous stream back onto the clock; the time of a unit is right to within one chunk.

    In a chunk of f frames with k units of a channel, unit j covers frames floor(j f / k) to
    floor((j + 1) f / k) - 1. Of more than f units the first f count. With k = 0 the channel's last unit goes on; a
    stream that was cut out of a longer one and has no unit of a channel yet takes the channel's first, and a channel
    without any unit takes unit 0. `encode(decode(s)) == s` for every s that `encode` wrote.

    Args:
        stream: int stream ids `[n]`, beginning with S0.
        frames_per_chunk: frames in a chunk, f, at least 1.

    Returns:
        int32 units `[2, chunks * f]`.

    Raises:
        ValueError: an id is negative, or the stream does not begin with S0.
    """
    f = frames_per_chunk
    stream = np.asarray(stream)
    if stream.ndim != 1 or (stream.size and (stream.min() < 0 or stream[0] != S0)):
        raise ValueError("not a synchronous stream: it must be int [n], not negative, and begin with S0")
    place = np.arange(len(stream))
    clock = stream == S0
    chunk = np.cumsum(clock) - 1
    chunks = int(clock.sum())
    last_s0 = np.maximum.accumulate(np.where(clock, place, -1))
    last_s1 = np.maximum.accumulate(np.where(stream == S1, place, -1))
    channel = last_s1 > last_s0
    units = np.zeros((2, chunks * f), np.int32)
    table = _spread(f)
    for row in range(2):
        mine = (stream >= FIRST_UNIT) & (channel == bool(row))
        chunk_of = chunk[mine]
        counts = np.bincount(chunk_of, minlength=chunks)
        rank = np.arange(len(chunk_of)) - (np.cumsum(counts) - counts)[chunk_of]
        kept = stream[mine][rank < f] - FIRST_UNIT
        if not len(kept):
            continue
        k = np.minimum(counts, f)
        before = np.cumsum(k) - k
        units[row] = kept[np.maximum(before[:, None] + table[k], 0)].reshape(-1)
    return units
