"""Engines whose model speaks one sentence at a time, drawing from torch's own generators."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import soxr
import torch

from duologue.errors import UserError, is_out_of_memory
from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE, Engine, Speech, Utterance, trimmed


class SequentialEngine(Engine, ABC):
    """An engine that speaks one sentence after the other, each with its own seed: neighbours cannot matter.

    Implements `Engine`; a model adds `speak`, `identity`, and the attributes that `Engine` names.

    Args:
        model: the network, on `device`; `close` lets go of it.
        device: "cpu" or a CUDA device.
    """

    name: str
    licence: str
    voices: Sequence[str]
    draws = True

    def __init__(self, model: Any, device: str) -> None:
        self.model: Any = model
        self.device = torch.device(device)
        self._lock = Lock()

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Whatever the audio depends on, as JSON values."""

    @abstractmethod
    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        """Speak a sentence, drawing from torch's generators.

        Returns:
            Mono float32 `[samples]`, and their rate in Hz.

        Raises:
            Unusable: the model cannot speak it.
        """

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        """Speak each utterance. See `Engine.synthesize`; there are no words, the models give no times.

        Reasons of an `Unusable`: `silent`; `too_long_for_model`: the model does not read so much text at once;
        `unfinished`: the model came to the end of what it can say at once, so that the end of the speech is missing.

        Raises:
            UserError: the device has not enough memory for a single sentence.
        """
        # Bundles of one worker may come at once, and torch's generators are the process's.
        with self._lock:
            return [self._result(utterance) for utterance in utterances]

    def _result(self, utterance: Utterance) -> Speech | Unusable:
        cuda = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices=cuda), torch.inference_mode():
                torch.manual_seed(utterance.seed)
                audio, rate = self.speak(utterance.text, utterance.voice)
            return trimmed(np.clip(soxr.resample(audio, rate, SAMPLE_RATE), -1.0, 1.0))
        except Unusable as unusable:
            return unusable
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise UserError(
                "the memory of the device is too small for one sentence",
                where=str(self.device),
                hint="Choose --precision float16, another device, or end what else runs there",
            ) from error

    def close(self) -> None:
        """Give the model's memory back."""
        self.model = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
