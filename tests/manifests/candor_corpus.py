"""A corpus that looks like CANDOR on disk, defects included. Its texts and users are made up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

HEADER = "turn_id,speaker,start,stop,utterance,interval,delta,questions,end_question,overlap,n_words"
BACKBITER = HEADER.replace(
    "utterance,",
    "utterance,backchannel,backchannel_count,backchannel_speaker,backchannel_start,backchannel_stop,",
)
SECONDS = 4


def write_conversation(
    root: Path,
    id: str,
    users: tuple[str, str] = ("u1", "u2"),
    *,
    channels: int = 2,
    transcripts: dict[str, Sequence[str]] | None = None,
    survey: str | None = None,
) -> Path:
    """Write the parts of a conversation that are read, in the places where CANDOR has them."""
    directory = root / id
    (directory / "processed").mkdir(parents=True)
    (directory / "transcription").mkdir()
    (directory / "metadata.json").write_text("{}")
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (48_000 * SECONDS, channels))
    soundfile.write(directory / "processed" / f"{id}.mp3", noise, 48_000, format="MP3")
    (directory / "processed" / "channel_map.json").write_text(json.dumps({"L": users[0], "R": users[1]}))
    for name, lines in (transcripts or {}).items():
        path = directory / "transcription" / f"transcript_{name}.csv"
        path.write_text("\n".join(lines) + "\n", "utf-8")
    if survey is not None:
        (directory / "survey.csv").write_text(survey)
    return directory
