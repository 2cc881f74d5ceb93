"""VITS, a neural engine with many voices: batches of sentences, each as if it were alone, and times of its words."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import soxr
import torch

from duologue.errors import UserError
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE, Engine, Speech, Utterance, Word, trimmed
from duologue.synth.phonemes import Phonemizer
from duologue.synth.vits_batches import Batches
from duologue.synth.vits_files import load_vits, read_config, vits_config
from duologue.synth.vits_network import Line, Prior, VitsNetwork
from duologue.synth.vits_tokens import TokenReader, Tokens

# On a CPU a sentence fills the caches alone, so that its bits don't depend on any other.
_ON_GPU = 32
# A text has a hundredth of the work of its speech, in many small steps.
_TEXTS_ON_GPU = 4 * _ON_GPU
_LONGEST_S = 120
# What of the configuration the speech depends on. coqui's downloader writes paths of the machine into the rest.
_MATTERS = (
    "model_args",
    "audio",
    "characters",
    "text_cleaner",
    "phoneme_language",
    "add_blank",
    "enable_eos_bos_chars",
)


class VitsEngine(Engine):
    """A VITS model of coqui's, of many speakers. See `Engine` for the interface.

    Args:
        checkpoint: the weights, as coqui saves them.
        config: `config.json` of the model; the speakers' file lies beside it.
        licence: of the weights (SPDX).
        precision: of the decoder: "float32", "bfloat16" or "float16".
        batch: sentences that are spoken in a batch; None: 32 on a GPU, 1 on a CPU, which is no slower there.
        device: "cpu", "cuda" or "cuda:N".

    Raises:
        UserError: a file is missing or damaged, or the model is one that cannot be used here.
    """

    name = "coqui"
    draws = True

    def __init__(
        self,
        checkpoint: Path,
        config: Path,
        *,
        licence: str,
        precision: str = "float32",
        batch: int | None = None,
        device: str = "cpu",
    ) -> None:
        where = torch.device(device)
        settings, phonemes = vits_config(read_config(config), config)
        model = load_vits(settings, checkpoint)
        language = settings.phoneme_language or "en"
        # As coqui does: models that say "en" were trained on American English.
        phonemizer = Phonemizer("en-us" if language == "en" else language) if phonemes else None
        self._reader = TokenReader(model.tokenizer, phonemizer, language.split("-")[0])
        self._network: VitsNetwork | None = VitsNetwork(model, where, getattr(torch, precision))
        self._texts, self._batches = (
            Batches(batch or (1 if where.type == "cpu" else most), where) for most in (_TEXTS_ON_GPU, _ON_GPU)
        )
        self._lock = Lock()
        self._rate = int(settings.audio.sample_rate)
        self._longest = settings.model_args.max_inference_len or _LONGEST_S * self._rate // self._network.hop
        # Names may have stray white space: the first speaker of VCTK's model is called "ED\n".
        numbers = {name.strip(): number for number, name in enumerate(settings.speakers)}
        self.licence = licence
        self.voices: Sequence[str] = tuple(sorted(numbers))
        self._numbers = numbers
        if len(numbers) < 2:
            raise UserError("a dialogue needs two voices", where=config, hint="Choose a model of many speakers")
        self._checkpoint = checkpoint
        about = settings.to_dict()
        self._about = {
            "engine": "coqui-vits",
            "config_sha256": fingerprint({name: about[name] for name in _MATTERS}),
            "speakers": list(settings.speakers),
            "precision": precision,
            "batch": batch,
            "coqui_tts": version("coqui-tts"),
            "espeak_ng": phonemizer.version if phonemizer else None,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever the audio depends on: weights, configuration, speakers, precision, and what reads the text."""
        # Hashed where somebody asks, which workers do once.
        return {**self._about, "model_sha256": sha256_file(self._checkpoint)}

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        """Speak each utterance. See `Engine.synthesize`.

        The length of the speech and the times of its words depend on the utterance alone, on every device; its
        samples as well on a CPU, with the batch that it has by default. Larger batches, of another list, may differ
        in the last bits (1e-4 in float32).

        Reasons of an `Unusable`: `no_known_symbol`, `too_long` (over 4,000 tokens, 120 s, or what the model's
        configuration allows), `phonemizer_crash`, `silent`.
        """
        # Bundles of one worker may come at once.
        with self._lock:
            return self._synthesize(utterances)

    def _synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        results: list[Speech | Unusable | None] = [None] * len(utterances)
        lines: dict[int, tuple[Tokens, Line]] = {}
        for index, tokens in enumerate(self._reader.read([utterance.text for utterance in utterances])):
            if isinstance(tokens, Unusable):
                results[index] = tokens
            else:
                utterance = utterances[index]
                lines[index] = tokens, Line(tokens.ids, self._numbers[utterance.voice], utterance.seed)
        for index, speech in zip(lines, self._spoken(list(lines.values())), strict=True):
            results[index] = speech
        return [result for result in results if result is not None]

    def _spoken(self, lines: Sequence[tuple[Tokens, Line]]) -> list[Speech | Unusable]:
        assert self._network is not None, "the engine is closed"
        priors = self._texts.run([line for _, line in lines], lambda line: len(line.ids), self._network.read)
        fit = [
            (tokens, prior)
            for (tokens, _), prior in zip(lines, priors, strict=True)
            if 0 < prior.frames <= self._longest
        ]
        spoken = iter(self._batches.run(fit, lambda one: one[1].frames, self._speeches))
        return [next(spoken) if 0 < prior.frames <= self._longest else self._refused(prior) for prior in priors]

    def _speeches(self, batch: Sequence[tuple[Tokens, Prior]], frames: int) -> list[Speech | Unusable]:
        assert self._network is not None, "the engine is closed"
        made = self._network.speak([prior for _, prior in batch], frames)
        return [self._speech(samples, tokens, prior) for samples, (tokens, prior) in zip(made, batch, strict=True)]

    def _refused(self, prior: Prior) -> Unusable:
        if not prior.frames:
            return Unusable("silent", "the model gives it no time")
        assert self._network is not None
        seconds = self._network.hop / self._rate
        return Unusable(
            "too_long",
            f"the model speaks it in {prior.frames * seconds:,.0f} s; {self._longest * seconds:,.0f} s are allowed",
        )

    def _speech(self, samples: np.ndarray, tokens: Tokens, prior: Prior) -> Speech | Unusable:
        assert self._network is not None
        ends = np.concatenate([[0], np.cumsum(prior.durations.numpy())]) * self._network.hop
        places = np.round(ends * SAMPLE_RATE / self._rate).astype(int)
        words = [
            Word(word.text, int(places[word.first]), int(places[word.last + 1] - places[word.first]))
            for word in tokens.words
        ]
        try:
            return trimmed(np.clip(soxr.resample(samples, self._rate, SAMPLE_RATE), -1.0, 1.0), words)
        except Unusable as unusable:
            return unusable

    def close(self) -> None:
        """Give the memory of the device back."""
        if self._network is not None:
            self._network.close()
        self._network = None
        torch.cuda.empty_cache()
