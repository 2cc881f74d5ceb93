"""How well a recogniser understands the speech of an engine: word error rate of each voice.

The recogniser is pocketsphinx with the English acoustic model that it carries, told the words that occur in the
sentences but not their order: every word is as likely after every other. So the rate measures the sound alone. It
compares engines and voices; with a language model, or another recogniser, it would be another number.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pocketsphinx import Decoder

from duologue import bundled
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance
from duologue.synth.engines import ENGINES, EngineChoice, load_engine
from duologue.synth.speakable import speakable

_WORDS = (6, 12)
# It takes a moment of quiet to know the level of what is not speech; digital silence has none.
_MARGIN = round(0.3 * SAMPLE_RATE)
_QUIET = 3e-4


def words_of(text: str) -> list[str]:
    """Return the words of a sentence as the recogniser's dictionary has them."""
    return re.findall(r"[a-z']+", text.lower())


def sentences(count: int) -> list[str]:
    """Return real sentences of 6 to 12 words in spoken form, from the dialogues that ship with the package."""
    known = Decoder(lm=None, loglevel="FATAL")
    path = bundled.directory() / "dialogues" / "taskmaster4" / "data_00.json"
    turns = [turn["text"] for dialogue in json.loads(path.read_text()) for turn in dialogue["utterances"]]
    spoken = dict.fromkeys(sentence.spoken for turn in turns for sentence in speakable(turn))
    usable = [
        text
        for text in spoken
        if _WORDS[0] <= len(words_of(text)) <= _WORDS[1] and all(map(known.lookup_word, words_of(text)))
    ]
    return usable[:count]


class Recognizer:
    """pocketsphinx, listening for the words of some sentences in any order."""

    def __init__(self, texts: Sequence[str]) -> None:
        vocabulary = sorted({word for text in texts for word in words_of(text)})
        chance = -math.log10(len(vocabulary) + 1)
        rows = ["-99 <s>", *(f"{chance:.4f} {word}" for word in ["</s>", *vocabulary])]
        with tempfile.TemporaryDirectory() as directory:
            model = Path(directory) / "words.arpa"
            model.write_text("\n".join(["\\data\\", f"ngram 1={len(rows)}", "\n\\1-grams:", *rows, "\n\\end\\\n"]))
            # The first pass alone: the others go over its result, at twice the time, and change little here.
            self._decoder = Decoder(
                samprate=SAMPLE_RATE, lm=str(model), fwdflat=False, bestpath=False, loglevel="FATAL"
            )

    def heard(self, audio: np.ndarray) -> list[str]:
        """Return the words heard in float32 `[samples]` at `SAMPLE_RATE`."""
        quiet = np.random.default_rng(0).normal(0, _QUIET, len(audio) + 2 * _MARGIN)
        samples = np.clip(quiet + np.pad(audio, _MARGIN), -1, 1)
        self._decoder.start_utt()
        self._decoder.process_raw((samples * 32_767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return words_of(re.sub(r"\(\d+\)", "", hypothesis.hypstr)) if hypothesis else []


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """Return how many words to put in, take out or exchange (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(said, 1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


def word_error_rate(texts: Sequence[str], audio: Sequence[np.ndarray], recognizer: Recognizer) -> float:
    """Return the edits in all sentences over their words."""
    wrong = sum(edits(words_of(text), recognizer.heard(speech)) for text, speech in zip(texts, audio, strict=True))
    return wrong / sum(len(words_of(text)) for text in texts)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=ENGINES, default="espeak")
    parser.add_argument("--model", help="of the engine")
    parser.add_argument("--model-config", help="of the model, where it lies elsewhere")
    parser.add_argument("--licence", help="of the model, where its files do not say")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--voices", nargs="*", help="all of the engine's, if none is named")
    parser.add_argument("--sentences", type=int, default=30)
    options = parser.parse_args()
    texts = sentences(options.sentences)
    recognizer = Recognizer(texts)
    rates = []
    choice = EngineChoice(options.engine, options.model, options.model_config, options.licence)
    with load_engine(choice, options.device) as engine:
        for voice in options.voices or engine.voices:
            spoken = engine.synthesize([Utterance(text, voice, number) for number, text in enumerate(texts)])
            said = [(text, one.audio) for text, one in zip(texts, spoken, strict=True) if isinstance(one, Speech)]
            rates.append(word_error_rate([text for text, _ in said], [audio for _, audio in said], recognizer))
            print(f"{voice:>20} {rates[-1]:6.1%} of the words wrong in {len(said)} sentences", flush=True)
    print(f"{'all':>20} {np.mean(rates):6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
