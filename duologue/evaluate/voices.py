"""A page of voices to choose from: a player for each, its sound in a file beside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from duologue.errors import UserError, explained
from duologue.evaluate.templates import template
from duologue.formats.audio import flac_bytes
from duologue.formats.publish import write_bytes
from duologue.formats.rejects import Unusable
from duologue.formats.shards import key_of

PAGE = "index.html"

# Stands in every page that is written here.
_MARK = b"duologue synthesize --voices"


def refuse_other_page(directory: Path) -> None:
    """Refuse a directory whose page somebody else wrote: many are called so.

    Raises:
        UserError: there is such a page, or it cannot be read.
    """
    page = directory / PAGE
    with explained(page, "reading"):
        if page.exists() and _MARK not in page.read_bytes():
            raise UserError(
                "a page of somebody else's is there, which is not written over",
                where=page,
                hint="Choose another --listen",
            )


def write_voices(
    directory: Path,
    heard: Mapping[str, np.ndarray | Unusable],
    sample_rate: int,
    *,
    engine: str,
    licence: str,
    sentences: Sequence[str],
) -> Path:
    """Write a page with a player for each voice; it works offline, and wherever the directory is moved.

    Args:
        directory: where the page and its sounds go.
        heard: for each voice float32 `[samples]` between -1 and 1, or why there is nothing to hear.
        sample_rate: in Hz.
        engine: what `--engine` calls the engine.
        licence: of the engine or its model.
        sentences: what is said.

    Returns:
        The page's path.

    Raises:
        UserError: the directory cannot be written, or has another page (see `refuse_other_page`).
    """
    refuse_other_page(directory)
    voices = []
    with explained(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for name, audio in heard.items():
            if isinstance(audio, Unusable):
                voices.append({"name": name, "file": "", "problem": audio.message})
                continue
            file = f"{key_of(name)}.flac"
            write_bytes(directory / file, flac_bytes(audio[None], sample_rate))
            voices.append({"name": name, "file": file, "problem": ""})
        page = template("voices.html.jinja").render(
            voices=voices, engine=engine, licence=licence, sentences=sentences
        )
        write_bytes(directory / PAGE, page.encode())
    return directory / PAGE
