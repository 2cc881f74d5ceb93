"""XTTS (Coqui), with the studio voices of its checkpoint: one sentence at a time, in English."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.utils import logging as transformers_logging
from TTS.tts.configs.xtts_config import XttsConfig
from TTS.tts.layers.xtts.tokenizer import VoiceBpeTokenizer
from TTS.tts.models.xtts import Xtts

from duologue.errors import UserError
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.foreign import foreign
from duologue.formats.rejects import Unusable
from duologue.synth.sequential import SequentialEngine

transformers_logging.set_verbosity_error()
# It warns of long sentences; those whose end is missing are refused below.
logging.getLogger("TTS.tts.layers.xtts.tokenizer").setLevel(logging.ERROR)

_WEIGHTS, _VOCABULARY, _VOICES = "model.pth", "vocab.json", "speakers_xtts.pth"
_HINT = f"It takes a directory with {_WEIGHTS}, {_VOCABULARY} and {_VOICES}, as coqui publishes XTTS v2"
_LANGUAGE = "en"


class _Ignored:
    """Stands where the published checkpoint holds coqui's own classes: its configuration, which nobody needs."""


# The classes that XTTS's checkpoints name, at the places where they lived then and live now.
_CLASSES: list[Callable | tuple[Callable, str]] = [
    (_Ignored, f"TTS.{name}")
    for name in (
        "tts.configs.xtts_config.XttsConfig",
        "tts.configs.xtts_config.XttsArgs",
        "tts.configs.xtts_config.XttsAudioConfig",
        "tts.models.xtts.XttsArgs",
        "tts.models.xtts.XttsAudioConfig",
        "config.shared_configs.BaseDatasetConfig",
    )
]


class XttsEngine(SequentialEngine):
    """XTTS v1.1 or v2: a GPT that draws audio codes, and a decoder.

    Args:
        checkpoint: the weights, such as `model.pth`; `vocab.json` and `speakers_xtts.pth` lie beside it.
        config: coqui's `config.json`; sampling (temperature, top k and p, penalties) is as it says.
        licence: of the weights.
        precision: of the GPT: "float32", "bfloat16" or "float16"; the decoder stays in float32.
        device: "cpu" or a CUDA device.

    Raises:
        UserError: a file is missing or damaged, does not fit the configuration, or asks for code.
    """

    name = "coqui"

    def __init__(self, checkpoint: Path, config: Path, *, licence: str, precision: str, device: str) -> None:
        self.licence = licence
        beside = {name: checkpoint.with_name(name) for name in (_VOCABULARY, _VOICES)}
        self._files = {_WEIGHTS: checkpoint, **beside, "config": config}
        self._precision, self._dtype = precision, getattr(torch, precision)
        settings = XttsConfig()
        with foreign(config):
            settings.load_json(str(config))
        self._sampling = {
            name: getattr(settings, name)
            for name in ("temperature", "top_k", "top_p", "length_penalty", "repetition_penalty")
        }
        tokenizer = _tokenizer(self._files[_VOCABULARY])
        voices = _voices(self._files[_VOICES], settings)
        state = _state(self._files[_WEIGHTS])
        with foreign(config):
            model = Xtts(settings)
            model.tokenizer = tokenizer
            # Once more: the sizes of the GPT come from the tokenizer.
            model.init_models()
        _fill(model, state, self._files[_WEIGHTS])
        self._voices = {
            voice: (latents.to(device), embedding.to(device)) for voice, (latents, embedding) in voices.items()
        }
        self.voices = tuple(self._voices)
        # coqui's `eval` also makes the part of the GPT that generates.
        model.to(device).eval()
        super().__init__(model, device)

    @property
    def identity(self) -> dict[str, Any]:
        """The hash of the files that the model was read from, and what computes with them."""
        return {
            "engine": "xtts",
            "model": fingerprint({name: sha256_file(path) for name, path in self._files.items()}),
            "precision": self._precision,
            "coqui-tts": version("coqui-tts"),
            "transformers": transformers.__version__,
            "voices": list(self.voices),
        }

    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        """Speak a sentence. See `SequentialEngine.speak`."""
        gpt, most = self.model.gpt, self.model.args.gpt_max_text_tokens
        tokens = torch.tensor([self.model.tokenizer.encode(text.strip().lower(), lang=_LANGUAGE)], device=self.device)
        if tokens.shape[1] >= most:
            raise Unusable("too_long_for_model", f"it has {tokens.shape[1]} tokens; XTTS reads {most - 1} at once")
        latents, embedding = self._voices[voice]
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            codes = gpt.generate(
                cond_latents=latents,
                text_inputs=tokens,
                do_sample=True,
                num_beams=1,
                num_return_sequences=1,
                output_attentions=False,
                **self._sampling,
            )
            if codes[0, -1] != gpt.stop_audio_token:
                seconds = codes.shape[1] * gpt.code_stride_len / self.model.args.input_sample_rate
                raise Unusable("unfinished", f"XTTS says {seconds:.0f} s at once, and had not come to the end")
            hidden = gpt(
                tokens,
                torch.tensor([tokens.shape[1]], device=self.device),
                codes,
                torch.tensor([codes.shape[1] * gpt.code_stride_len], device=self.device),
                cond_latents=latents,
                return_latent=True,
            )
        audio = self.model.hifigan_decoder(hidden.float(), g=embedding)
        return audio.flatten().cpu().numpy(), self.model.args.output_sample_rate


def _tokenizer(path: Path) -> VoiceBpeTokenizer:
    with foreign(path):
        tokenizer = VoiceBpeTokenizer(str(path))
        for token in ("[START]", "[STOP]", f"[{_LANGUAGE}]"):
            if tokenizer.tokenizer.token_to_id(token) is None:
                raise ValueError(f"{token} is missing")
    return tokenizer


def _voices(path: Path, settings: XttsConfig) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Read the voices: what the GPT hears first, `[1, latents, channels]`, and the decoder's `[1, channels, 1]`."""
    channels = (settings.model_args.gpt_n_model_channels, settings.model_args.d_vector_dim)
    voices = {}
    for name, voice in _load(path).items():
        voice = voice if isinstance(voice, Mapping) else {}
        try:
            latents, embedding = (voice[part].float() for part in ("gpt_cond_latent", "speaker_embedding"))
            whole = (latents.shape[0], latents.shape[2], *embedding.shape) == (1, channels[0], 1, channels[1], 1)
        except (KeyError, TypeError, AttributeError, IndexError):
            whole = False
        if not whole or not isinstance(name, str):
            raise UserError(f"{name!r} is not a voice of this model", where=path, hint=_HINT)
        voices[name] = (latents, embedding)
    if len(voices) < 2:
        raise UserError(f"the voices are {len(voices)}; a dialogue needs two", where=path, hint=_HINT)
    return voices


def _state(path: Path) -> dict[str, torch.Tensor]:
    state = _load(path).get("model")
    if not isinstance(state, Mapping):
        raise UserError("this checkpoint holds no model", where=path, hint=_HINT)
    # coqui's trainer saves the model as a part of itself.
    return {str(name).removeprefix("xtts."): value for name, value in state.items()}


def _fill(model: Xtts, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Put the weights into the model. What it has no place for (a trainer's own state) is left out."""
    with foreign(path):
        missing = model.load_state_dict(state, strict=False).missing_keys
    if missing:
        raise UserError(
            f"{len(missing)} weights are missing, such as {missing[0]}",
            where=path,
            hint="Take checkpoint and configuration of the same model",
        )


def _load(path: Path) -> Mapping[Any, Any]:
    """Read what `torch.save` wrote, without running what is in it. coqui's own reader writes into old checkpoints."""
    with foreign(path), torch.serialization.safe_globals(_CLASSES):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise UserError("this is not a file of XTTS", where=path, hint=_HINT)
    return content
