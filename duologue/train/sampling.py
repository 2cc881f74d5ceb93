"""A dialogue that the model in training goes on with, judged for its form: what a loss does not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from duologue.formats import seeds, sync
from duologue.formats.sequences import SequenceSet
from duologue.formats.wellformed import chunk_problems, turn_problems
from duologue.train.model import next_logits
from duologue.train.parallel import World

# Most tokens of a chunk of 160 ms; stage 1, which has no chunks, gets as many for each.
_TOKENS_PER_CHUNK = 10
_MULTIPLE = 128


@dataclass(frozen=True)
class Prompt:
    """The beginning of a dialogue that a model is to go on with.

    Attributes:
        data: the set it is from.
        tokens: int64 `[n]`, token ids.
        most: tokens that may follow it at most.
        chunks: whole chunks that are to follow it; in stage 1, which has no clock, only `most` counts.
    """

    data: SequenceSet
    tokens: np.ndarray
    most: int
    chunks: int

    @property
    def frames_per_chunk(self) -> int:
        """Frames in a chunk; 0 in stage 1."""
        return int(self.data.card.config.get("frames_per_chunk") or 0)


def first_prompt(data: SequenceSet, sequences: int, chunks: int) -> Prompt | None:
    """Return the beginning of the first dialogue in a set that is long enough for a prompt of `chunks` chunks.

    Args:
        data: where to look.
        sequences: how many of its first sequences to look through.
        chunks: length of the prompt, and of what is to follow it.

    Returns:
        The prompt; None if there is no such dialogue.
    """
    for index in range(sequences):
        sequence = data[index]
        for document in sequence.documents:
            if document.start:
                continue
            tokens = sequence.tokens[document.offset : document.offset + document.length].astype(np.int64)
            f = int(data.card.config.get("frames_per_chunk") or 0)
            if not f:
                length = most = chunks * _TOKENS_PER_CHUNK
                if len(tokens) >= length:
                    return Prompt(data, tokens[:length], most, chunks)
                continue
            starts = np.flatnonzero(data.vocabulary.to_stream(tokens) == sync.S0)
            if len(starts) > chunks:
                return Prompt(data, tokens[: starts[chunks]], chunks * (2 + 2 * f), chunks)
    return None


@torch.no_grad()
def sample(model: nn.Module, prompt: Prompt, world: World, seed: int, step: int) -> dict[str, Any]:
    """Let the model go on with a dialogue, at temperature 1, and judge what it wrote.

    Every process calls it; they compute the same, and the first one's draws count. Ids are drawn from the whole
    vocabulary: a model that writes text where units belong, or two `[S1]` in a chunk, is to be seen doing so.

    Args:
        model: in training.
        prompt: what to go on from.
        world: the processes of the run.
        seed: of the run.
        step: steps taken; with the seed, it decides the draws.

    Returns:
        `sample_valid`, the share of chunks (stage 1: turns) that are well-formed (`formats.wellformed`), of those
        that are whole (stage 1: None if no turn is); `sample_tokens_per_s`, tokens a second of dialogue in them
        (stage 1: None); `sample_problem`, what is wrong with the first that is not; `sample`, what was written, as
        people write it.
    """
    vocabulary = prompt.data.vocabulary
    draw = seeds.generator(seed, "sample", step)
    # One shape from the first token to the last, so that nothing is compiled again; what is free stands in front.
    room = -(-(len(prompt.tokens) + prompt.most) // _MULTIPLE) * _MULTIPLE
    tokens = prompt.tokens.tolist()
    clocks = 0
    s0 = vocabulary.base_size + sync.S0
    for _ in range(prompt.most):
        chosen = _draw(next_logits(model, *_padded(tokens, room)), vocabulary.size, draw.random())
        # The first process decides: the last bits of the others' logits may differ.
        tokens.append(int(world.sum(torch.tensor(chosen if world.first else 0))))
        clocks += tokens[-1] == s0
        # The chunk is whole when the next one begins.
        if prompt.frames_per_chunk and clocks > prompt.chunks:
            break
    return judge(prompt, np.array(tokens))


def _padded(tokens: list[int], room: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens, positions and segments, int64 `[1, room]`, with padding in front."""
    free = room - len(tokens)
    padded = torch.tensor([[0] * free + tokens])
    positions = torch.tensor([[*range(free), *range(len(tokens))]])
    segments = torch.tensor([[0] * free + [1] * len(tokens)])
    return padded, positions, segments


def _draw(logits: Tensor, size: int, uniform: float) -> int:
    # In float64 on the CPU, where the same logits give the same choice.
    weights = torch.softmax(logits[:size].double().cpu(), dim=0).cumsum(0)
    return min(int(torch.searchsorted(weights, uniform * weights[-1])), size - 1)


def judge(prompt: Prompt, tokens: np.ndarray) -> dict[str, Any]:
    """Say how well-formed a dialogue is behind its prompt.

    Args:
        prompt: that it began with.
        tokens: int `[n]`, token ids, the prompt's among them.

    Returns:
        As `sample`.
    """
    vocabulary, f = prompt.data.vocabulary, prompt.frames_per_chunk
    begin = len(prompt.tokens)
    stream = vocabulary.to_stream(tokens)
    # What is right depends on what went before, so the prompt is read too. The last chunk or turn was cut off.
    if f:
        problems = chunk_problems(stream, f, vocabulary.units)[:-1]
        own = int((stream[:begin] == sync.S0).sum())
        # Behind whole chunks comes [S0]; what comes instead is the last one's, which then counts.
        problems = problems[own - bool(stream[begin] != sync.S0) :]
        # A synchronous stream without a single clock tick is as wrong as can be.
        problems = problems or ["no whole chunk"]
    else:
        problems = turn_problems(tokens, vocabulary)[:-1]
        problems = problems[len(turn_problems(tokens[:begin], vocabulary)) - 1 :]
    starts = begin + np.flatnonzero(stream[begin:] == sync.S0)
    rate = None
    if f and len(starts) > 1:
        seconds = (len(starts) - 1) * prompt.data.card.config["chunk_ms"] / 1000
        rate = float(starts[-1] - starts[0]) / seconds
    share = sum(not problem for problem in problems) / len(problems) if problems else None
    return {
        "sample_valid": share,
        "sample_tokens_per_s": rate,
        "sample_problem": next((problem for problem in problems if problem), ""),
        "sample": vocabulary.show(tokens[begin:]),
    }
