"""Speed of the synchronous stream's encode and decode beside a plain Python loop, on the same dialogues in one run.

    python benchmarks/sync.py
    python benchmarks/sync.py --dialogues 50 --minutes 10 --runs 7 --json

Real time is the length of the dialogues, both channels together: an hour of dialogue that is encoded in 10 ms counts
as 360,000 times real time. One thread; the median of several runs. The loop's result is compared with the library's,
token by token, before anything is timed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from measuring import machine, median_seconds, parser_of, where

from duologue.formats import sync

RATE = 25
UNITS = 500


def dialogue(frames: int, draw: np.random.Generator) -> np.ndarray:
    """Return int16 `[2, frames]` whose units are held for about two frames, as those of speech are.

    One side talks at a time, for some seconds; the other stays on the unit of silence.
    """
    units = draw.integers(1, UNITS, (2, frames)).astype(np.int16)
    for row in units:
        # Each frame keeps the unit before with a chance of a half: held for two frames on average.
        source = np.where(draw.random(frames) < 0.5, 0, np.arange(frames))
        row[:] = row[np.maximum.accumulate(source)]
    turns = np.cumsum(draw.integers(1 * RATE, 8 * RATE, frames // RATE + 1))
    speaker = np.searchsorted(turns, np.arange(frames), side="right") % 2
    units[1 - speaker, np.arange(frames)] = 0
    return units


def loop_encode(units: np.ndarray, f: int) -> list[int]:
    """Encode in plain Python, as one would write it down from the paper."""
    first, second = units.tolist()
    stream = []
    for begin in range(0, len(first), f):
        stream.append(sync.S0)
        for tag, row in ((None, first), (sync.S1, second)):
            for frame in range(begin, min(begin + f, len(row))):
                if frame == 0 or row[frame] != row[frame - 1]:
                    if tag is not None:
                        stream.append(tag)
                        tag = None
                    stream.append(row[frame] + sync.FIRST_UNIT)
    return stream


def loop_decode(stream: Sequence[int], f: int) -> tuple[list[int], list[int]]:
    """Decode in plain Python a stream that `encode` wrote."""
    rows: tuple[list[int], list[int]] = ([], [])
    held = [0, 0]
    position = 0
    while position < len(stream):
        position += 1
        for channel in range(2):
            if channel and position < len(stream) and stream[position] == sync.S1:
                position += 1
            begin = position
            while position < len(stream) and stream[position] >= sync.FIRST_UNIT:
                position += 1
            k = position - begin
            for j in range(k):
                held[channel] = stream[begin + j] - sync.FIRST_UNIT
                rows[channel].extend([held[channel]] * ((j + 1) * f // k - j * f // k))
            if not k:
                rows[channel].extend([held[channel]] * f)
    return rows


def measure(count: int, minutes: float, chunk_ms: int, runs: int) -> dict[str, Any]:
    """Time all four, and return the figures.

    Args:
        count: number of dialogues.
        minutes: length of each.
        chunk_ms: length of a chunk, in milliseconds.
        runs: of each, of which the median counts.
    """
    draw = np.random.default_rng(0)
    f = sync.frames_per_chunk(chunk_ms, RATE)
    dialogues = [dialogue(round(minutes * 60 * RATE), draw) for _ in range(count)]
    streams = sync.encode_many(dialogues, f)
    plain = [stream.tolist() for stream in streams]
    for units, stream, tokens in zip(dialogues, streams, plain, strict=True):
        if loop_encode(units, f) != tokens or [*loop_decode(tokens, f)] != sync.decode(stream, f).tolist():
            raise AssertionError("the loop and the library differ")
    seconds = {
        "encode": median_seconds(lambda: [sync.encode(units, f) for units in dialogues], runs),
        "encode_many": median_seconds(lambda: sync.encode_many(dialogues, f), runs),
        "decode": median_seconds(lambda: [sync.decode(stream, f) for stream in streams], runs),
        "loop_encode": median_seconds(lambda: [loop_encode(units, f) for units in dialogues], runs),
        "loop_decode": median_seconds(lambda: [loop_decode(tokens, f) for tokens in plain], runs),
    }
    audio = sum(units.shape[1] for units in dialogues) / RATE
    tokens = sum(len(stream) for stream in streams)
    loops = {"encode": "loop_encode", "encode_many": "loop_encode", "decode": "loop_decode"}
    return {
        "dialogues": count,
        "hours": round(audio / 3600, 3),
        "chunk_ms": chunk_ms,
        "tokens": tokens,
        "tokens_per_second_of_dialogue": round(tokens / audio, 2),
        "runs": runs,
        "rows": [
            {
                "what": what,
                "seconds": round(median, 6),
                "times_real_time": round(audio / median),
                "tokens_per_second": round(tokens / median),
                "times_the_loop": round(seconds[loops[what]] / median, 1) if what in loops else None,
            }
            for what, median in seconds.items()
        ],
        **machine(),
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--dialogues", type=int, default=20, help="number of dialogues")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of each; Fisher's calls are 10 minutes")
    parser.add_argument("--chunk-ms", type=int, default=160, help="length of a chunk")
    parser.add_argument("--runs", type=int, default=7, help="runs of each, of which the median counts")
    options = parser.parse_args()
    figures = measure(options.dialogues, options.minutes, options.chunk_ms, options.runs)
    if options.json:
        print(json.dumps(figures))
        return 0
    print(
        f"{figures['dialogues']} dialogues, {figures['hours']} h, chunks of {figures['chunk_ms']} ms, "
        f"{figures['tokens']:,} tokens ({figures['tokens_per_second_of_dialogue']} a second of dialogue); "
        f"median of {figures['runs']} runs, one thread"
    )
    print(f"{'':>12} {'seconds':>10} {'x real time':>12} {'tokens/s':>13} {'x the loop':>11}")
    for row in figures["rows"]:
        ratio = "" if row["times_the_loop"] is None else f"{row['times_the_loop']:.1f}"
        print(
            f"{row['what']:>12} {row['seconds']:>10.4f} {row['times_real_time']:>12,} "
            f"{row['tokens_per_second']:>13,} {ratio:>11}"
        )
    print(where(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
