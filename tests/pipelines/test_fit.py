from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.manifests.splits import Splits
from duologue.manifests.stereo import write_recordings
from duologue.pipelines.fit import fit_tokenizer
from duologue.pipelines.tokenize import tokenize
from duologue.tokenize.mfcc import QUANTIZER
from duologue.tokenize.tokenizer import ABOUT, load_tokenizer
from tests.pipelines.comparing import contents


@pytest.fixture(scope="module")
def fitted(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    directory = tmp_path_factory.mktemp("fitted") / "tokenizer"
    return directory, fit_tokenizer(recordings, directory, units=10)


def test_the_tokenizer_loads_and_has_the_units_asked_for(fitted: tuple[Path, dict[str, object]]) -> None:
    tokenizer = load_tokenizer(fitted[0])
    assert tokenizer.identity["vocabulary"] == 10
    assert not next(tokenizer.encode([[np.zeros((1, 16_000), np.float32)]])).any()


def test_what_cannot_be_used_is_left_out_and_told(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = fit_tokenizer(recordings, tmp_path / "tokenizer", units=10)
    assert (report["recordings"], report["left_out"]) == (3, 3)
    said = capsys.readouterr().err
    for name in ("missing.wav", "nan.wav", "../secret.wav"):
        assert f"left out: {name}: " in said


def test_the_same_recordings_and_seed_give_the_same_bytes(
    recordings: Path, fitted: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    fit_tokenizer(recordings, tmp_path / "again", units=10)
    fit_tokenizer(recordings, tmp_path / "other", units=10, seed=1)
    assert contents(tmp_path / "again") == contents(fitted[0])
    assert contents(tmp_path / "other")[QUANTIZER] != contents(fitted[0])[QUANTIZER]


def test_units_of_the_fitted_tokenizer_carry_its_identity(
    recordings: Path, fitted: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    tokenize(recordings, tmp_path / "units", tokenizer=str(fitted[0]))
    assert read_card(tmp_path / "units").tokenizer == load_tokenizer(fitted[0]).identity


def test_recordings_of_other_splits_are_not_looked_at(tmp_path: Path, recordings: Path) -> None:
    from tests.pipelines.conftest import write_sound

    write_sound(tmp_path / "call.wav", 1.0)
    write_recordings([str(tmp_path / "call.wav")], tmp_path / "manifest", splits=Splits.parse("0:1:0"))
    with pytest.raises(UserError, match="0 different frames"):
        fit_tokenizer(tmp_path / "manifest", tmp_path / "tokenizer", units=2)


@pytest.mark.parametrize("settings", [{"units": 1}, {"units": 0}, {"frames": 0}, {"seed": -1}, {"seed": 2**32}])
def test_options_out_of_range_are_refused_before_anything_is_made(
    recordings: Path, tmp_path: Path, settings: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="--units is 2 or more"):
        fit_tokenizer(recordings, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_manifest_of_dialogues_is_refused(dialogues: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fitted on recordings"):
        fit_tokenizer(dialogues, tmp_path / "out")


def test_too_little_audio_is_refused(recordings: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer than the 5000 units"):
        fit_tokenizer(recordings, tmp_path / "out", units=5_000)


def test_a_tokenizer_that_is_there_is_not_written_over(
    recordings: Path, fitted: tuple[Path, dict[str, object]]
) -> None:
    before = contents(fitted[0])
    with pytest.raises(UserError, match="holds a tokenizer already"):
        fit_tokenizer(recordings, fitted[0], units=11)
    assert contents(fitted[0]) == before


def test_a_directory_with_other_files_is_refused(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty: it holds thesis\.txt"):
        fit_tokenizer(recordings, tmp_path, units=10)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_an_interrupted_fit_left_is_made_whole(
    recordings: Path, fitted: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    for name, content in contents(fitted[0]).items():
        if name != ABOUT:
            (tmp_path / name).write_bytes(content[:100])
    (tmp_path / f".tmp-0123-{ABOUT}").write_text("{")
    fit_tokenizer(recordings, tmp_path, units=10)
    assert contents(tmp_path) == contents(fitted[0])
