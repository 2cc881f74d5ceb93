from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from duologue.errors import UserError
from duologue.evaluate.voices import write_voices
from duologue.formats.rejects import Unusable
from tests.pipelines.comparing import contents

RATE = 16_000
SAID = ("Hello.", "Are you <there>?")


def tone(pitch: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE)).astype(np.float32)


HEARD = {"ada": tone(220), "v2/ben & co": tone(440), "mute": Unusable("silent", "the engine gave no sound")}


def write(directory: Path) -> str:
    path = write_voices(directory, HEARD, RATE, engine="coqui", licence="Apache-2.0", sentences=SAID)
    return path.read_text("utf-8")


def test_every_voice_has_a_player_that_plays_it(tmp_path: Path) -> None:
    page = write(tmp_path / "voices")
    files = re.findall(r'<audio[^>]* src="([^"]+)"', page)
    assert len(files) == 2
    for file, name in zip(files, ("ada", "v2/ben & co"), strict=True):
        audio, rate = soundfile.read(tmp_path / "voices" / file, dtype="float32")
        assert rate == RATE
        np.testing.assert_allclose(audio, HEARD[name], atol=1e-4)
    assert "v2/ben &amp; co" in page and "Are you &lt;there&gt;?" in page
    assert "Nothing to hear: the engine gave no sound" in page and "Apache-2.0" in page


def test_the_page_needs_no_network_and_is_the_same_each_time(tmp_path: Path) -> None:
    page = write(tmp_path / "one")
    assert not re.search(r"https?://|//cdn|@import", page)
    write(tmp_path / "other")
    write(tmp_path / "other")
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_place_that_takes_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file stands where a directory"):
        write(tmp_path / "file")


def test_a_page_of_somebody_elses_is_not_written_over(tmp_path: Path) -> None:
    other = tmp_path / "index.html"
    other.write_text("<title>My home page</title>")
    with pytest.raises(UserError, match="somebody else's"):
        write(tmp_path)
    assert contents(tmp_path) == {"index.html": other.read_bytes()}
