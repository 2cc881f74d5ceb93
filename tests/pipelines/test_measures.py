"""What Beam's metrics say of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.pipelines.measures import Measures, counts
from duologue.pipelines.partitions import RunOptions
from duologue.pipelines.tokenize import tokenize


def measured(recordings: Path, out: Path, path: Path) -> list[dict]:
    options = RunOptions(measures=Measures(path, out))
    tokenize(recordings, out, rows_per_shard=2, thresholds=None, options=options)
    return json.loads(path.read_bytes())["pipelines"]


def test_a_run_says_and_keeps_what_it_measured(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pipeline,) = measured(recordings, tmp_path / "out", tmp_path / "metrics.json")
    seconds = pipeline.pop("seconds_per_partition")
    assert pipeline.pop("wall_s") >= seconds["sum"]
    assert pipeline == {
        "name": "tokenize",
        "partitions": 3,
        "frames": 99,
        "inputs": 6,
        "outputs": 3,
        "rejects": 3,
        "audio_s": 3.92,
    }
    assert sorted(seconds) == ["least", "mean", "most", "sum"]
    assert 0 <= seconds["least"] <= seconds["mean"] <= seconds["most"] <= seconds["sum"]
    assert "6 inputs, 3 outputs, 3 rejects" in capsys.readouterr().err


def test_a_run_that_finds_all_done_measures_nothing(recordings: Path, tmp_path: Path) -> None:
    measured(recordings, tmp_path / "out", tmp_path / "metrics.json")
    assert measured(recordings, tmp_path / "out", tmp_path / "metrics.json") == []


def test_metrics_do_not_go_into_the_artefact(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="inside the artefact"):
        Measures(tmp_path / "out" / "metrics.json", tmp_path / "out")


def test_a_place_that_cannot_be_written_shows_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError):
        Measures(tmp_path / "file" / "metrics.json", tmp_path / "out")
    with pytest.raises(UserError, match="no such directory"):
        Measures(tmp_path / "nowhere" / "metrics.json", tmp_path / "out")


def test_counters_are_whole_numbers() -> None:
    assert counts({"seconds": 1.23456, "frames": 31.0}) == {"frames": 31, "audio_ms": 1235}
