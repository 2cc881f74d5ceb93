from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.card import read_card
from duologue.formats.temporary import temporary_name
from duologue.manifests.splits import Splits
from duologue.manifests.stereo import write_recordings
from duologue.pipelines.fit import fit_tokenizer
from duologue.pipelines.tokenize import tokenize
from duologue.tokenize.directory import make_ready
from duologue.tokenize.mfcc import QUANTIZER
from duologue.tokenize.tokenizer import ABOUT, load_tokenizer
from tests.pipelines.comparing import contents
from tests.tokenize.making import hubert, save_hugging_face


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


@pytest.mark.parametrize(
    "settings", [{"units": 1}, {"units": 0}, {"units": 32_769}, {"frames": 0}, {"seed": -1}, {"seed": 2**32}]
)
def test_options_out_of_range_are_refused_before_anything_is_made(
    recordings: Path, tmp_path: Path, settings: dict[str, int]
) -> None:
    with pytest.raises(UserError, match="--units is 2 to 32768"):
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


@pytest.mark.parametrize("of_hubert", [False, True])
def test_a_fit_given_again_after_its_end_says_the_same_and_changes_nothing(
    recordings: Path, checkpoint: str, tmp_path: Path, of_hubert: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tokenizer"
    options: dict[str, Any] = {"units": 8, **({"checkpoint": checkpoint, "layer": 2} if of_hubert else {})}
    report = fit_tokenizer(recordings, out, **options)
    before = contents(out)
    # Nothing is read for it.
    monkeypatch.setattr("duologue.pipelines.fit.Take", None)
    assert fit_tokenizer(recordings, out, **options) == report
    others = [{"seed": 1}, {"frames": 100}, {"units": 9}]
    for other in [*others, {"layer": 1}, {"precision": "bfloat16"}] if of_hubert else others:
        with pytest.raises(UserError, match="holds a tokenizer already"):
            fit_tokenizer(recordings, out, **{**options, **other})
    assert contents(out) == before


def test_a_directory_with_other_files_is_refused(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty: it holds thesis\.txt"):
        fit_tokenizer(recordings, tmp_path, units=10)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_what_an_interrupted_fit_left_is_made_whole(
    recordings: Path, fitted: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    make_ready(tmp_path)
    for name, content in contents(fitted[0]).items():
        if name != ABOUT:
            (tmp_path / name).write_bytes(content[:100])
    (tmp_path / temporary_name(ABOUT)).write_text("{")
    fit_tokenizer(recordings, tmp_path, units=10)
    assert contents(tmp_path) == contents(fitted[0])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_hugging_face(hubert("25 Hz"), tmp_path_factory.mktemp("hubert") / "model"))


def test_units_are_found_among_the_features_of_a_hubert_layer(
    recordings: Path, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = fit_tokenizer(recordings, tmp_path / "tokenizer", checkpoint=checkpoint, layer=2, units=8)
    assert (report["recordings"], report["left_out"]) == (3, 3)
    assert 1 < report["perplexity"] <= report["units_used"] <= 8
    assert "left out: nan.wav: " in capsys.readouterr().err
    about = json.loads((tmp_path / "tokenizer" / ABOUT).read_bytes())
    assert about["origin"] | {"checkpoint_sha256": ""} == {
        "checkpoint": "model",
        "checkpoint_sha256": "",
        "format": "hugging-face",
    }
    assert about["fit"]["perplexity"] == report["perplexity"]
    tokenize(recordings, tmp_path / "units", tokenizer=str(tmp_path / "tokenizer"))
    card = read_card(tmp_path / "units")
    assert card.tokenizer == about["identity"]
    assert (card.tokenizer["layer"], card.tokenizer["rate"], card.tokenizer["vocabulary"]) == (2, 25, 8)
    fit_tokenizer(recordings, tmp_path / "again", checkpoint=checkpoint, layer=2, units=8)
    assert contents(tmp_path / "again") == contents(tmp_path / "tokenizer")


def test_long_recordings_are_looked_at_in_pieces(
    recordings: Path, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duologue.formats.audio.BLOCK_S", 1)
    monkeypatch.setattr("duologue.pipelines.fit._PIECE_S", 1)
    report = fit_tokenizer(recordings, tmp_path / "tokenizer", checkpoint=checkpoint, layer=1, units=3, frames=20)
    assert (report["frames"], report["recordings"]) == (20, 3)


@pytest.mark.parametrize("options", [{"layer": 2}, {"checkpoint": "model"}])
def test_checkpoint_and_layer_go_together(recordings: Path, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="--checkpoint and --layer go together"):
        fit_tokenizer(recordings, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_layer_that_the_model_lacks_is_refused_before_anything_is_made(
    recordings: Path, checkpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="there is no layer 4: the model has 3"):
        fit_tokenizer(recordings, tmp_path / "out", checkpoint=checkpoint, layer=4)
    assert not (tmp_path / "out").exists()
