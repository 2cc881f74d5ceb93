"""Whether a stream that a model wrote is one that a dialogue could have: chunk by chunk, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from duologue.formats.sync import FIRST_UNIT, S0, S1
from duologue.formats.vocabulary import TAGS, Vocabulary

# What decoding puts in the place of bytes that are no UTF-8.
_UNDECODABLE = "\ufffd"


def chunk_problems(stream: np.ndarray, frames_per_chunk: int, units: int) -> list[str]:
    """Say of each chunk of a synchronous stream what keeps `sync.encode` from having written it.

    A chunk of f frames is well-formed if it is `[S0]`, at most f units of channel 0, and, only if channel 1 has any,
    one `[S1]` and at most f units of it; and if every unit differs from the one before of its channel, in whatever
    chunk that stood. Streams that are well-formed throughout and have units of both channels in their first chunk
    are those with `encode(decode(stream)) == stream`; pieces cut out of such streams are well-formed too.

    Args:
        stream: int stream ids `[n]`; below 0 is text.
        frames_per_chunk: frames in a chunk, f.
        units: number of units of the tokenizer.

    Returns:
        Of each chunk its first problem, "" where it has none. What stands before the first `[S0]` counts as one.
    """
    latest: list[int | None] = [None, None]
    return [_chunk_problem(chunk, latest, frames_per_chunk, units) for chunk in _parts(stream, (S0,))]


def _chunk_problem(chunk: list[int], latest: list[int | None], f: int, units: int) -> str:
    """Return the first problem of a chunk; `latest` has, and gets, the last unit of each channel."""
    problem = "" if chunk[0] == S0 else "does not begin with [S0]"
    channel, counts = 0, [0, 0]
    for token in chunk[1:] if chunk[0] == S0 else chunk:
        wrong = ""
        if token < 0:
            wrong = "text"
        elif token == S1:
            wrong = "two [S1]" if channel else ""
            channel = 1
        elif token >= FIRST_UNIT + units:
            wrong = "no such token"
        else:
            counts[channel] += 1
            if token == latest[channel]:
                wrong = "a unit that is not novel"
            elif counts[channel] > f:
                wrong = f"more than {f} units of a channel"
            latest[channel] = token
        problem = problem or wrong
    if channel and not counts[1]:
        problem = problem or "[S1] without a unit"
    return problem


def turn_problems(tokens: np.ndarray, vocabulary: Vocabulary) -> list[str]:
    """Say of each turn of an interleaved stream what is wrong with it.

    A turn is well-formed if it begins with a tag, the tag is not that of the turn before, there is something behind
    it, and its text is UTF-8.

    Args:
        tokens: int token ids `[n]`.
        vocabulary: the one they are numbered by.

    Returns:
        Of each turn its first problem, "" where it has none. What stands before the first tag counts as one.
    """
    problems = []
    before = None
    for turn in _parts(vocabulary.to_stream(tokens), (S0, S1)):
        tag = turn[0]
        if tag not in (S0, S1):
            problem = "does not begin with a tag"
        elif tag == before:
            problem = f"a second turn of [S{tag}]"
        elif len(turn) == 1:
            problem = "empty"
        elif max(turn) >= TAGS + vocabulary.units:
            problem = "no such token"
        elif _UNDECODABLE in vocabulary.show(np.array(turn) + vocabulary.base_size):
            problem = "text that is not UTF-8"
        else:
            problem = ""
        before = tag
        problems.append(problem)
    return problems


def _parts(stream: np.ndarray, tags: tuple[int, ...]) -> Iterator[list[int]]:
    """Cut a stream before every one of these tags."""
    cuts = np.flatnonzero(np.isin(stream, tags))
    for part in np.split(np.asarray(stream), cuts):
        if len(part):
            yield part.tolist()
