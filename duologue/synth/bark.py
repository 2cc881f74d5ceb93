"""Bark (Suno), the engine that SyncLLM's data was spoken with: transformers' port, from a directory or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer, BarkModel
from transformers.models.bark.generation_configuration_bark import (
    BarkCoarseGenerationConfig,
    BarkFineGenerationConfig,
    BarkSemanticGenerationConfig,
)
from transformers.utils import logging as transformers_logging

from duologue.errors import UserError, reason_of
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.hub import download, is_hub_name
from duologue.formats.rejects import Unusable
from duologue.synth.bark_voices import PRESETS, Sizes, preset_files, read_preset
from duologue.synth.licences import licence_of, stated_licence
from duologue.synth.sequential import SequentialEngine

transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()

_CONFIGS = ("config.json", "generation_config.json", PRESETS)
_TOKENIZER = ("tokenizer.json", "vocab.txt")
_TOKENIZER_CONFIGS = ("tokenizer_config.json", "special_tokens_map.json")
_SAFE, _PICKLED = "*.safetensors", "pytorch_model*.bin"
_HUB_FILES = (
    *(*_CONFIGS, *_TOKENIZER, *_TOKENIZER_CONFIGS, "README.md"),
    *("speaker_embeddings/v2/en_*.npy", _SAFE, f"{_SAFE}.index.json"),
)
_HINT = "It takes Bark in Hugging Face's layout, as suno/bark has it on the hub; copy its files again"
# The original stops at a probability of the end of 0.2, which transformers leaves to the model's files to say.
_END_PROBABILITY = 0.2


def load_bark(model: str, *, licence: str | None, precision: str, batch: int | None, device: str) -> BarkEngine:
    """Load Bark.

    Args:
        model: a directory in Hugging Face's layout, or a name on the hub such as "suno/bark", which is downloaded.
        licence: of the weights; None where the model says it.
        precision: "float32", "bfloat16" or "float16".
        batch: None or 1: Bark speaks one sentence at a time.
        device: "cpu" or a CUDA device.

    Raises:
        UserError: the model is not there, is incomplete or damaged, or does not say its licence.
    """
    if batch not in (None, 1):
        raise UserError(
            "Bark speaks one sentence at a time", where="--batch", hint="Leave the option out, or use another engine"
        )
    directory = _local(model)
    return BarkEngine(
        directory, licence=licence_of(model, licence, stated_licence(directory)), precision=precision, device=device
    )


class BarkEngine(SequentialEngine):
    """Bark's three transformers and its codec, with the English voice presets `v2/en_speaker_0` to `_9`.

    Args:
        directory: `config.json`, `generation_config.json`, weights, the tokenizer, `speaker_embeddings_path.json` and
            the presets it lists.
        licence: of the weights.
        precision: of the transformers; the codec stays in float32.
        device: "cpu" or a CUDA device.

    Raises:
        UserError: something in the directory is missing or damaged.
    """

    name = "bark"

    def __init__(self, directory: Path, *, licence: str, precision: str, device: str) -> None:
        self.licence = licence
        self._directory, self._precision = directory, precision
        for name in _CONFIGS:
            if not (directory / name).is_file():
                raise _incomplete(directory, f"it has no {name}")
        # Without either, transformers would make up a tokenizer that knows no word.
        if not any((directory / name).is_file() for name in _TOKENIZER):
            raise _incomplete(directory, f"it has no {_TOKENIZER[0]}")
        if not _weights(directory):
            raise _incomplete(directory, f"it has neither {_SAFE} nor {_PICKLED}")
        with _loading(directory):
            self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
            loaded: Any = BarkModel.from_pretrained(
                directory, dtype=getattr(torch, precision), local_files_only=True, output_loading_info=True
            )
            model, report = loaded
            settings = model.generation_config
            self._semantic = BarkSemanticGenerationConfig(**settings.semantic_config)
            self._coarse = BarkCoarseGenerationConfig(**settings.coarse_acoustics_config)
            self._fine = BarkFineGenerationConfig(**settings.fine_acoustics_config)
            self._rate, self._codes = int(settings.sample_rate), int(settings.codebook_size)
        if missing := sorted(report["missing_keys"]):
            raise _incomplete(directory, f"of its weights {len(missing)} are missing, such as {missing[0]}")
        if self._semantic.min_eos_p is None:
            self._semantic.min_eos_p = _END_PROBABILITY
        sizes = Sizes(
            self._semantic.semantic_vocab_size,
            self._codes,
            self._coarse.n_coarse_codebooks,
            self._fine.n_fine_codebooks,
        )
        self._files = preset_files(directory)
        self.voices = tuple(self._files)
        self._presets = {
            voice: {part: torch.from_numpy(codes).to(device) for part, codes in read_preset(files, sizes).items()}
            for voice, files in self._files.items()
        }
        model.codec_model.float()
        super().__init__(model.to(device).eval(), device)

    @property
    def identity(self) -> dict[str, Any]:
        """The hash of the files that the model was read from, presets included, and what computes with them."""
        names = [self._directory / name for name in (*_CONFIGS, *_TOKENIZER, *_TOKENIZER_CONFIGS)]
        presets = [path for files in self._files.values() for path in files.values()]
        read = [path for path in (*names, *_weights(self._directory), *presets) if path.exists()]
        return {
            "engine": self.name,
            "model": fingerprint({str(path.relative_to(self._directory)): sha256_file(path) for path in read}),
            "precision": self._precision,
            "transformers": transformers.__version__,
            "voices": list(self.voices),
        }

    def speak(self, text: str, voice: str) -> tuple[np.ndarray, int]:
        """Speak a sentence. See `SequentialEngine.speak`."""
        most = self._semantic.max_input_semantic_length
        tokens = self._tokenizer(
            text, add_special_tokens=False, padding="max_length", max_length=most, return_tensors="pt"
        )
        if tokens["input_ids"].shape[1] > most:
            raise Unusable(
                "too_long_for_model", f"it has {tokens['input_ids'].shape[1]} tokens; Bark reads {most} at once"
            )
        spoken = {"history_prompt": self._presets[voice], "semantic_generation_config": self._semantic}
        semantic = self.model.semantic.generate(
            tokens["input_ids"].to(self.device), attention_mask=tokens["attention_mask"].to(self.device), **spoken
        )
        if semantic[0, -1] != self._semantic.semantic_pad_token:
            seconds = self._semantic.max_new_tokens / self._semantic.semantic_rate_hz
            raise Unusable("unfinished", f"Bark says {seconds:.0f} s at once, and had not come to the end")
        if semantic.shape[1] == 1:
            raise Unusable("silent", "Bark said nothing")
        acoustic = {**spoken, "coarse_generation_config": self._coarse, "codebook_size": self._codes}
        coarse = self.model.coarse_acoustics.generate(semantic, **acoustic)
        fine = self.model.fine_acoustics.generate(coarse, fine_generation_config=self._fine, **acoustic)
        return self.model.codec_decode(fine)[0].cpu().numpy(), self._rate


def _local(model: str) -> Path:
    """Return the model's directory, downloaded where the model is a name on the hub."""
    path = Path(model)
    if path.exists() or not is_hub_name(model):
        if not path.is_dir():
            raise UserError(
                "there is no such directory",
                where=model,
                hint="Give --model a directory with Bark in Hugging Face's layout, or a name on the hub: suno/bark",
            )
        return path
    return download(model, _HUB_FILES, _SAFE, [_PICKLED, f"{_PICKLED}.index.json"], sought="directory")


def _weights(directory: Path) -> list[Path]:
    return sorted(directory.glob(_SAFE)) or sorted(directory.glob(_PICKLED))


@contextmanager
def _loading(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # transformers passes on what json, safetensors, torch and its own checks raise
        raise UserError(
            f"this model cannot be loaded ({reason_of(error)})",
            where=directory,
            hint=_HINT,
        ) from error


def _incomplete(directory: Path, why: str) -> UserError:
    return UserError(
        f"this is not a whole Bark model: {why}",
        where=directory,
        hint=_HINT,
    )
