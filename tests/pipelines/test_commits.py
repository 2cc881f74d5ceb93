from __future__ import annotations

from pathlib import Path

from duologue.pipelines.commits import commit_problems
from tests.pipelines.effort import calls, unit_set


def test_sidecars_are_compared_in_time_that_grows_with_the_shards(tmp_path: Path) -> None:
    few, many = unit_set(tmp_path / "few", 40), unit_set(tmp_path / "many", 400)
    assert not list(commit_problems(tmp_path / "many", many))
    cost = calls(lambda: list(commit_problems(tmp_path / "few", few)))
    assert calls(lambda: list(commit_problems(tmp_path / "many", many))) < 12 * cost
