"""The pipelines on a real Flink cluster: job manager, task manager, job server, and workers of an external pool."""

from __future__ import annotations

import os
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from duologue.errors import UserError
from duologue.pipelines.engine import for_each
from duologue.pipelines.measures import Measures
from duologue.pipelines.mix import mix
from duologue.pipelines.run_info import run_info
from duologue.pipelines.synthesize import synthesize
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.units import RunOptions
from tests.clusters import check_that_nothing_is_left, starting
from tests.pipelines.comparing import contents
from tests.pipelines.killing import children, kill
from tests.pipelines.mixes import small_mix


def test_synthesize_and_mix_make_the_same_bytes_on_a_cluster(
    tmp_path: Path, dialogues: Path, cluster: list[str]
) -> None:
    synthesize(dialogues, tmp_path / "units", rows_per_shard=2)
    synthesize(dialogues, tmp_path / "far", rows_per_shard=2, options=RunOptions(flags=cluster))
    assert contents(tmp_path / "far") == contents(tmp_path / "units")
    mix(small_mix(tmp_path / "units", 1), tmp_path / "here")
    mix(small_mix(tmp_path / "units", 1), tmp_path / "there", flags=cluster)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_tokenize_makes_the_same_bytes_on_a_cluster_and_is_measured(
    tmp_path: Path, recordings: Path, cluster: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tokenize(recordings, tmp_path / "here", rows_per_shard=2, thresholds=None)
    said = capsys.readouterr().err.splitlines()[-1]
    options = RunOptions(flags=cluster, measures=Measures())
    tokenize(recordings, tmp_path / "there", rows_per_shard=2, thresholds=None, options=options)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    # The counts are the engine's, the seconds are not the same.
    assert capsys.readouterr().err.splitlines()[-1].split("): ")[1] == said.split("): ")[1]


def test_a_worker_that_is_killed_as_it_starts_is_started_again(
    tmp_path: Path, recordings: Path, running: dict[str, Any]
) -> None:
    killed: list[int] = []

    def kill_first() -> None:
        while not killed:
            killed.extend(kill(children(running["processes"]["worker-pool"])))
            time.sleep(0.02)

    # Before it has called: to import what it needs takes seconds.
    killing = Thread(target=kill_first)
    killing.start()
    tokenize(recordings, tmp_path / "there", thresholds=None, options=RunOptions(flags=running["flags"]))
    killing.join()
    tokenize(recordings, tmp_path / "here", thresholds=None)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_nothing_is_missing_where_a_cluster_is_up(cluster: list[str]) -> None:
    about = run_info(flags=cluster)
    assert (about["missing"], about["workers"]) == ([], 2)


def test_an_unknown_flag_is_refused_by_name_on_a_cluster(cluster: list[str]) -> None:
    with pytest.raises(
        UserError, match="--paralel is no flag of Beam or of the runner; the nearest is --parallelism"
    ):
        for_each(os.getpgid, [0], flags=[*cluster, "--paralel=2"])


def test_a_cluster_that_is_stopped_leaves_nothing() -> None:
    check_that_nothing_is_left("flink")


def test_a_cluster_whose_starter_is_killed_leaves_no_process() -> None:
    process, about = starting("flink")
    process.kill()
    process.wait()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in about["processes"].values()):
        assert time.monotonic() < until
        time.sleep(0.2)
