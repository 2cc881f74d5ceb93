"""Bark's voice presets: what the model says before the sentence, as tokens of its three stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from duologue.errors import UserError

PRESETS = "speaker_embeddings_path.json"
# The paper's ten: English, second version.
_VOICES = tuple(f"v2/en_speaker_{number}" for number in range(10))
_PARTS = ("semantic_prompt", "coarse_prompt", "fine_prompt")
_HINT = f"Copy {PRESETS} and the speaker_embeddings folder from the model again"


@dataclass(frozen=True)
class Sizes:
    """How many tokens the model's stages know, so that a preset with others is noticed before it is used.

    Attributes:
        semantic: number of semantic tokens.
        codes: number of codes in a codebook.
        coarse: number of codebooks of the coarse stage.
        fine: number of codebooks of the fine stage.
    """

    semantic: int
    codes: int
    coarse: int
    fine: int


def preset_files(directory: Path) -> dict[str, dict[str, Path]]:
    """Return the files of each English voice, by part, as the model's list gives them.

    Raises:
        UserError: the list cannot be read, names files outside the model, or fewer than two English voices.
    """
    path = directory / PRESETS
    try:
        listed = json.loads(path.read_text("utf-8"))
        named = {voice: {part: str(listed[voice][part]) for part in _PARTS} for voice in _VOICES if voice in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("the list of voices cannot be read", where=path, hint=_HINT) from error
    if len(named) < 2:
        raise UserError(
            f"the list names {len(named)} of the voices {_VOICES[0]} to {_VOICES[-1]}; a dialogue needs two",
            where=path,
            hint=_HINT,
        )
    for name in (name for files in named.values() for name in files.values()):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"a voice's file lies outside the model: {name}", where=path, hint=_HINT)
    return {voice: {part: directory / name for part, name in files.items()} for voice, files in named.items()}


def read_preset(files: dict[str, Path], sizes: Sizes) -> dict[str, np.ndarray]:
    """Read a voice.

    Returns:
        int64: `semantic_prompt` `[tokens]`, `coarse_prompt` `[sizes.coarse, frames]` and `fine_prompt`
        `[sizes.fine, frames]`.

    Raises:
        UserError: a file is missing or damaged, or holds something else.
    """
    limits = dict(zip(_PARTS, (sizes.semantic, sizes.codes, sizes.codes), strict=True))
    rows = dict(zip(_PARTS, ((), (sizes.coarse,), (sizes.fine,)), strict=True))
    preset = {}
    for part, path in files.items():
        try:
            codes = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError("a voice cannot be read", where=path, hint=_HINT) from error
        whole = isinstance(codes, np.ndarray) and np.issubdtype(codes.dtype, np.integer)
        if not whole or codes.shape[:-1] != rows[part] or not codes.size:
            raise UserError("this is not a voice of this model", where=path, hint=_HINT)
        if codes.min() < 0 or codes.max() >= limits[part]:
            raise UserError(f"a voice has tokens beyond the model's {limits[part]}", where=path, hint=_HINT)
        preset[part] = codes.astype(np.int64)
    return preset
