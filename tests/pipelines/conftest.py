"""Small inputs for the pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.formats.seeds import generator
from duologue.formats.units import Turn
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import AudioChannel, Dialogue, DialogueTurn, Recording
from tests.pipelines.campaign import Campaign, Tally, campaigns

TALK = [
    (1, "Hello, do you have a table for two tonight?"),
    (0, "We do. Would eight o'clock suit you?"),
    (1, "Yes. Thank you."),
    (0, "You are welcome. See you then!"),
]


def _dialogues() -> list[Dialogue]:
    rows = []
    for number in range(5):
        turns = tuple(DialogueTurn(speaker, f"{text} It is number {number}.") for speaker, text in TALK)
        rows.append(Dialogue(f"talk {number}", "talks", "train", "CC0-1.0", turns))
    code = DialogueTurn(0, "```python\nprint('hello')\nfor i in range(3):\n    print(i)\n```")
    rows[1] = Dialogue("talk 1", "talks", "train", "CC-BY-4.0", (*rows[1].turns, code))
    rows[2] = Dialogue(
        "talk 2", "talks", "train", "CC0-1.0", (DialogueTurn(1, "### $$x^2$$"), DialogueTurn(0, "Hm?"))
    )
    return rows


@pytest.fixture(scope="session")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of five dialogues: the second has a turn of code, the third too little to be spoken."""
    directory = tmp_path_factory.mktemp("dialogues") / "manifest"
    write_manifest(directory, "dialogues", {"made": "for tests"}, _dialogues)
    return directory


def write_sound(path: Path, seconds: float, channels: int = 2, rate: int = 8_000) -> None:
    """Write seeded noise in bursts, so that units differ."""
    draw = generator("sound", path.name)
    samples = round(seconds * rate)
    bursts = np.repeat(draw.random((samples // 400 + 1, channels)), 400, axis=0)[:samples]
    soundfile.write(path, draw.normal(size=(samples, channels)) * 0.1 * bursts, rate, subtype="PCM_16")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of six recordings: one missing, one with NaN, one outside the root; the first has two turns."""
    root = tmp_path_factory.mktemp("audio")
    for number, seconds in enumerate((1.0, 2.37, 0.55)):
        write_sound(root / f"call{number}.wav", seconds)
    broken = np.full((800, 2), 0.1, np.float32)
    broken[5, 1] = np.nan
    soundfile.write(root / "nan.wav", broken, 8_000, subtype="FLOAT")
    turns = (Turn(0, 0.1, 0.5, "hello"), Turn(1, 0.63, 9.0, "good day"), Turn(0, 0.9, 0.95, " "))

    def rows() -> list[Recording]:
        made = []
        for name in ("call0.wav", "call1.wav", "missing.wav", "nan.wav", "../secret.wav", "call2.wav"):
            sides = (AudioChannel(name, 0), AudioChannel(name, 1))
            said = turns if name == "call0.wav" else ()
            made.append(Recording(name, "calls", "train", "CC0-1.0", 1.0, sides, ("ada", "ben"), said))
        return made

    directory = tmp_path_factory.mktemp("recordings") / "manifest"
    write_manifest(directory, "recordings", {"made": "for tests"}, rows, root=root)
    return directory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Campaign]:
    """The commands that are killed, by name, with their inputs."""
    return campaigns(tmp_path_factory.mktemp("campaign"))


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """What was killed how often; printed at the end."""
    counted = Tally()
    yield counted
    print(f"\n{counted}")
