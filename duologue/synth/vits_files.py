"""The files of a VITS model as coqui writes them: read without running any code in them."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from TTS.tts.configs.vits_config import VitsConfig
from TTS.tts.models.vits import Vits
from TTS.tts.utils.text import cleaners

from duologue.errors import UserError
from duologue.formats.foreign import foreign

# The classes that `characters_class` may name: coqui would import whatever stands there.
_CHARACTERS = (
    "TTS.tts.models.vits.VitsCharacters",
    "TTS.tts.utils.text.characters.BaseCharacters",
    "TTS.tts.utils.text.characters.BaseVocabulary",
    "TTS.tts.utils.text.characters.Graphemes",
    "TTS.tts.utils.text.characters.IPAPhonemes",
)
_SPEAKERS = ("speakers.pth", "speaker_ids.pth", "speakers.json", "speaker_ids.json")
# What only training needs.
_UNUSED = ("disc.", "posterior_encoder.", "speaker_encoder.")


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's `config.json`.

    Raises:
        UserError: it is missing, damaged, or no configuration.
    """
    with foreign(path):
        config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or not isinstance(config.get("model"), str):
        raise UserError("this is not the configuration of a model of coqui's", where=path, hint="Check the path")
    return config


def vits_config(about: dict[str, Any], path: Path) -> tuple[VitsConfig, bool]:
    """Return coqui's configuration of a VITS model, and whether it reads phonemes.

    In what is returned, speakers are listed, nothing is to be loaded from elsewhere, and phonemes are off: coqui
    would look for a phonemizer.

    Args:
        about: `config.json`, read.
        path: of it; the speakers' file lies beside it.

    Raises:
        UserError: the model is one that cannot be used here.
    """
    config = VitsConfig()
    with foreign(path):
        config.from_dict(about)
    _check(config, path)
    args = config.model_args
    config.speakers = args.speakers = _speakers(config, path)
    config.use_speaker_embedding = args.use_speaker_embedding = True
    for name in ("speakers_file", "d_vector_file", "language_ids_file"):
        setattr(args, name, None)
    args.speaker_encoder_model_path = args.speaker_encoder_config_path = ""
    args.use_speaker_encoder_as_loss = args.init_discriminator = False
    phonemes, config.use_phonemes = bool(config.use_phonemes), False
    if phonemes:
        # Without a class coqui takes this one for phonemes, and another for letters.
        config.characters.characters_class = (
            config.characters.characters_class or "TTS.tts.utils.text.characters.IPAPhonemes"
        )
    return config, phonemes


def _check(config: VitsConfig, path: Path) -> None:
    """Refuse a model that cannot be used here."""
    args = config.model_args
    for name, what in (
        ("use_d_vector_file", "its speakers are vectors of another model"),
        ("use_language_embedding", "it speaks several languages"),
        ("encoder_sample_rate", "its latents have another rate than its audio"),
    ):
        if getattr(args, name) or getattr(config, name, None):
            raise UserError(f"this model cannot be used: {what}", where=path, hint="Choose another model")
    if not (args.use_speaker_embedding or config.use_speaker_embedding):
        raise UserError(
            "this model has one voice, and a dialogue needs two",
            where=path,
            hint="Choose a model of many speakers, such as tts_models/en/vctk/vits",
        )
    characters = config.characters.characters_class if config.characters else None
    if characters is not None and characters not in _CHARACTERS:
        raise UserError(
            f"characters_class asks for {characters}, which has no place there; nothing of it was run",
            where=path,
            hint="Get the model from those who published it",
        )
    cleaner = config.text_cleaner
    if cleaner is not None and not (cleaner.endswith("_cleaners") and hasattr(cleaners, cleaner)):
        raise UserError(f"coqui has no text cleaner called {cleaner!r}", where=path, hint="Update coqui-tts")
    if config.use_phonemes and config.phonemizer not in (None, "espeak"):
        raise UserError(
            f"this model reads phonemes of {config.phonemizer}, and only those of espeak are known here",
            where=path,
            hint="Choose another model",
        )
    if config.use_phonemes and config.characters is None:
        raise UserError(
            "the configuration does not say which symbols the model reads",
            where=path,
            hint="Copy or download it again",
        )


def load_vits(config: VitsConfig, checkpoint: Path) -> Vits:
    """Load a model for speaking, on the CPU.

    Raises:
        UserError: the checkpoint is missing, damaged, holds code, has weights that are no numbers, or is of another
            model.
    """
    logging.getLogger("TTS").setLevel(logging.ERROR)
    content = _torch_file(checkpoint)
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise UserError("there is no model in this checkpoint", where=checkpoint, hint="Check the path")
    with foreign(checkpoint):
        model = Vits(config)
        model.disc = model.posterior_encoder = None
        model.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith(_UNUSED)})
    if not all(weights.isfinite().all() for weights in model.parameters()):
        raise UserError(
            "some of its weights are no numbers", where=checkpoint, hint="Take an earlier checkpoint of that training"
        )
    return model.eval()


def _speakers(config: VitsConfig, path: Path) -> list[str]:
    """Return the names of the speakers, in the order of their numbers."""
    if config.speakers:
        return list(config.speakers)
    named = config.model_args.speakers_file or config.speakers_file or config.get("speaker_file")
    candidates = [Path(named), path.parent / Path(named).name] if named else []
    candidates += [path.parent / name for name in _SPEAKERS]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise UserError(
            "the file with the speakers' names is missing",
            where=path.parent / (Path(named).name if named else _SPEAKERS[0]),
            hint="Put it beside the configuration",
        )
    with foreign(file):
        numbers = json.loads(file.read_text(encoding="utf-8")) if file.suffix == ".json" else _torch_file(file)
    if not isinstance(numbers, dict) or sorted(numbers.values()) != list(range(len(numbers))):
        raise UserError("this does not number the speakers from 0 on", where=file, hint="Copy or download it again")
    return sorted(numbers, key=numbers.__getitem__)


def _torch_file(path: Path) -> Any:
    with foreign(path):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(
                "the file is no checkpoint, or asks for code, of which nothing was run",
                where=path,
                hint="Get the file from those who published it",
            ) from error
