from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from duologue import bundled
from duologue.errors import UserError
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import Dialogue, DialogueTurn
from duologue.manifests.splits import Splits
from duologue.pipelines.estimate import estimate
from duologue.pipelines.mix import plan_mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.synthesize import Settings, synthesize
from tests.pipelines.comparing import contents

KEPT = Settings(keep_audio=True)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled Taskmaster dialogues."""
    directory = tmp_path_factory.mktemp("orders") / "manifest"
    source = str(bundled.directory() / "dialogues" / "taskmaster4")
    write_dialogues([source], directory, shape="taskmaster", licence="CC-BY-4.0", splits=Splits((1, 0, 0)))
    return directory


@pytest.fixture(scope="module")
def told(orders: Path) -> dict[str, Any]:
    return estimate(orders, KEPT)


def test_what_an_estimate_says_is_what_a_run_makes(orders: Path, told: dict[str, Any], tmp_path: Path) -> None:
    card = synthesize(orders, tmp_path / "units", KEPT)
    made = {
        stem: sum(shard["bytes"] for shard in card.shards if shard["name"].startswith(stem))
        for stem in ("units", "audio")
    }
    planned = plan_mix(MixSettings(stage=2, sources=(UnitSource(tmp_path / "units", 1.0),)))
    assert told["dialogues"] == card.totals["inputs"] and told["sampled"] == 20
    assert told["hours"]["value"] == pytest.approx(card.totals["seconds"] / 3600, rel=0.15)
    assert told["bytes"]["units"]["value"] == pytest.approx(made["units"], rel=0.15)
    assert told["bytes"]["audio"]["value"] == pytest.approx(made["audio"], rel=0.15)
    assert told["tokens"]["value"] == pytest.approx(planned["tokens"], rel=0.15)


def test_estimates_have_intervals_and_name_what_they_ran_on(told: dict[str, Any]) -> None:
    for value in (told["hours"], told["tokens"], *told["work_hours"].values(), *told["bytes"].values()):
        assert 0 < value["low"] < value["value"] < value["high"] < 2 * value["value"]
    assert told["devices"] == {"speech": "cpu", "units": "cpu"}
    assert set(told["work_hours"]) == {"speech", "units"}


def test_nothing_is_written_and_what_depends_on_no_clock_is_the_same_again(
    orders: Path, told: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(orders.parent)
    monkeypatch.chdir(tmp_path)
    again = estimate(orders, KEPT)
    assert contents(orders.parent) == before and not list(tmp_path.iterdir())
    del again["work_hours"]
    assert again == {name: value for name, value in told.items() if name != "work_hours"}


def test_of_a_manifest_seen_whole_everything_is_certain(dialogues: Path, tmp_path: Path) -> None:
    began = time.perf_counter()
    told = estimate(dialogues)
    took = time.perf_counter() - began
    card = synthesize(dialogues, tmp_path / "out")
    assert (told["sampled"], told["rejected"]) == (5, 1)
    assert told["hours"]["low"] == told["hours"]["value"] == told["hours"]["high"]
    assert told["hours"]["value"] == pytest.approx(card.totals["seconds"] / 3600, rel=1e-5)
    assert "audio" not in told["bytes"]
    # The work is a part of what the estimate itself took.
    assert 0 < 3600 * sum(hours["value"] for hours in told["work_hours"].values()) < took


def test_where_nothing_can_be_spoken_there_is_no_estimate(tmp_path: Path) -> None:
    turns = (DialogueTurn(0, "$$x^2$$"), DialogueTurn(1, ""))
    write_manifest(tmp_path / "m", "dialogues", {}, lambda: [Dialogue("a", "b", "train", "CC0-1.0", turns)])
    with pytest.raises(UserError, match="none of the 1 dialogues"):
        estimate(tmp_path / "m", dialogues=2)
    with pytest.raises(UserError, match="2 dialogues or more"):
        estimate(tmp_path / "m", dialogues=1)


def test_recordings_are_refused(recordings: Path) -> None:
    with pytest.raises(UserError, match="duologue tokenize"):
        estimate(recordings)
