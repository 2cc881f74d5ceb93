"""The pipelines on a real Spark cluster: master, worker, job server, and workers of an external pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.errors import UserError
from duologue.pipelines.engine import for_each
from duologue.pipelines.mix import mix
from duologue.pipelines.run_info import run_info
from duologue.pipelines.synthesize import synthesize
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.units import RunOptions
from tests.clusters import check_that_nothing_is_left
from tests.pipelines.comparing import contents
from tests.pipelines.mixes import small_mix


def test_all_pipelines_make_the_same_bytes_on_a_cluster(
    tmp_path: Path, dialogues: Path, recordings: Path, cluster: list[str]
) -> None:
    synthesize(dialogues, tmp_path / "units", rows_per_shard=2)
    synthesize(dialogues, tmp_path / "far", rows_per_shard=2, options=RunOptions(flags=cluster))
    assert contents(tmp_path / "far") == contents(tmp_path / "units")
    tokenize(recordings, tmp_path / "heard", rows_per_shard=2, thresholds=None)
    tokenize(recordings, tmp_path / "heard far", rows_per_shard=2, thresholds=None, options=RunOptions(flags=cluster))
    assert contents(tmp_path / "heard far") == contents(tmp_path / "heard")
    mix(small_mix(tmp_path / "units", 2), tmp_path / "here")
    mix(small_mix(tmp_path / "units", 2), tmp_path / "there", flags=cluster)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_what_is_wrong_comes_back_from_a_cluster_as_one_message(tmp_path: Path, cluster: list[str]) -> None:
    def stumble(_: int) -> None:
        raise UserError("this cannot be had", where="item 7", hint="Take another")

    with pytest.raises(UserError, match=r"this cannot be had \(item 7\)\. Take another"):
        for_each(stumble, [7], flags=cluster)


def test_nothing_is_missing_where_a_cluster_is_up(cluster: list[str]) -> None:
    assert run_info(flags=cluster)["missing"] == []


def test_a_cluster_that_is_stopped_leaves_nothing() -> None:
    check_that_nothing_is_left("spark")
