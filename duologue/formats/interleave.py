"""The interleaved stream of stage 1: `[S1]<sentence>[S0]<sentence><sentence>...`, each as text or as units.

Veluri et al. 2024, section 4, stage 1; `docs/format.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from duologue.formats.sync import FIRST_UNIT
from duologue.formats.units import Sentence, UnitSample
from duologue.formats.vocabulary import TAGS, Vocabulary

Level = Literal["sentence", "turn"]


@dataclass(frozen=True)
class AtomicTokens:
    """A dialogue's tokens, and where they may be cut.

    Attributes:
        tokens: uint32 `[n]`.
        lengths: int64 `[atoms]`, the tokens of each atom (chunk or sentence); they sum to n.
        channels: int8 `[atoms]`, whose atom it is.
        tagged: bool `[atoms]`, whether the atom begins with its speaker's tag.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    channels: np.ndarray
    tagged: np.ndarray


def novel(units: np.ndarray) -> np.ndarray:
    """Return units (int `[n]`) without those that repeat the one before; the first one stays."""
    differs = np.ones(len(units), bool)
    np.not_equal(units[1:], units[:-1], out=differs[1:])
    return units[differs]


def spoken_sentences(
    sentences: Sequence[Sentence], share: float, level: Level, draw: np.random.Generator
) -> np.ndarray:
    """Choose the sentences that are given as speech.

    The share of the sentences (or turns) is met as nearly as whole ones allow: rounded up or down by chance, so that
    it is right on average. Which ones is chance too.

    Args:
        sentences: of a dialogue, in order.
        share: asked share of speech, 0 to 1.
        level: "sentence" as in the paper, or "turn", its ablation: all sentences of a turn alike.
        draw: where the chance comes from; seeded by whatever the choice is to depend on.

    Returns:
        bool `[sentences]`.
    """
    groups = [index if level == "sentence" else sentence.turn for index, sentence in enumerate(sentences)]
    names = sorted(set(groups))
    count = int(share * len(names) + draw.random())
    chosen = {names[index] for index in np.argsort(draw.random(len(names)), kind="stable")[:count]}
    return np.array([group in chosen for group in groups], bool)


def interleave(sample: UnitSample, speech: np.ndarray, vocabulary: Vocabulary) -> AtomicTokens:
    """Write a dialogue as text and speech sentences in turn.

    A speaker's tag stands where the speaker changes. A speech sentence is the novel units of its frames on its
    channel. Text sentences that follow one another without a tag between are parted by a space.

    Args:
        sample: a dialogue with sentences.
        speech: bool `[sentences]`, which of them are speech.
        vocabulary: numbers text, tags and units.

    Returns:
        The tokens; an atom is a sentence with the tag before it, if there is one.
    """
    sentences = sample.sentences
    changes = [not i or sentence.channel != sentences[i - 1].channel for i, sentence in enumerate(sentences)]
    texts = [
        sentence.text if changes[i] or speech[i - 1] else f" {sentence.text}" for i, sentence in enumerate(sentences)
    ]
    tags, rows = vocabulary.from_stream(np.arange(TAGS)), vocabulary.from_stream(sample.units + np.int64(FIRST_UNIT))
    encoded = iter(vocabulary.encode_text([text for text, spoken in zip(texts, speech, strict=True) if not spoken]))
    atoms = []
    for sentence, change, spoken in zip(sentences, changes, speech, strict=True):
        if spoken:
            frames = slice(sentence.first_frame, sentence.first_frame + sentence.frames)
            body = novel(rows[sentence.channel, frames])
        else:
            body = next(encoded)
        atoms.append(np.concatenate([tags[sentence.channel, None], body]) if change else body)
    return AtomicTokens(
        tokens=np.concatenate(atoms) if atoms else np.zeros(0, np.uint32),
        lengths=np.array([len(atom) for atom in atoms], np.int64),
        channels=np.array([sentence.channel for sentence in sentences], np.int8),
        tagged=np.array(changes, bool),
    )
