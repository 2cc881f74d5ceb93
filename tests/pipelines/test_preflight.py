from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.places import place
from duologue.formats.units import Turn
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import AudioChannel, Dialogue, DialogueTurn, Recording
from duologue.pipelines.census import take_census
from duologue.pipelines.mix import plan_mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.preflight import UnitsPlan, before_units
from duologue.pipelines.preflight_mix import before_mix
from duologue.pipelines.reckoning import ASSUMED
from duologue.pipelines.synthesize import Settings, synthesize
from duologue.synth.voices import ESPEAK_VOICES, choose_voices
from tests.evaluate.making import dialogue, unit_set

SAID = (
    "I wanted to ask whether the table by the window is still free tonight.",
    "Let me have a look. It is, from eight o'clock. How many of you will come?",
    "There are four of us, and one is in a wheelchair. Is that all right?",
    "Of course. There is a ramp at the side door, and we will keep some room.",
)


def write_chats(out: Path, splits: list[str]) -> Path:
    turns = tuple(DialogueTurn((place + 1) % 2, text) for place, text in enumerate(SAID))
    rows = [Dialogue(f"chat {number}", "chats", split, "CC0-1.0", turns) for number, split in enumerate(splits)]
    write_manifest(out, "dialogues", {"made": "for tests"}, lambda: rows)
    return out


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 dialogues: 90 to train on, 7 valid, 3 to test."""
    out = tmp_path_factory.mktemp("chats") / "manifest"
    return write_chats(out, ["train"] * 90 + ["valid"] * 7 + ["test"] * 3)


def write_calls(out: Path, seconds: float) -> Path:
    def rows() -> list[Recording]:
        sides = (AudioChannel("a.wav", 0), AudioChannel("a.wav", 1))
        turns = (Turn(0, 0.0, 2.0, "hello there"),)
        names = [f"call {number}" for number in range(50)]
        return [Recording(name, "calls", "train", "LDC", seconds, sides, ("a", "b"), turns) for name in names]

    write_manifest(out, "recordings", {"made": "for tests"}, rows, root=out.parent)
    return out


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 calls of six minutes, whose audio nobody looks at."""
    return write_calls(tmp_path_factory.mktemp("calls") / "manifest", 360.0)


def plan(manifest: Path, **changes: object) -> UnitsPlan:
    spoken = UnitsPlan("synthesize", manifest, None, "embedded", 10, 4, False, 0, "espeak", tuple(ESPEAK_VOICES))
    return replace(spoken, **changes)  # type: ignore[arg-type]


def said(about: dict[str, object], words: str) -> bool:
    return any(words in warning for warning in about["warnings"])  # type: ignore[attr-defined]


def test_dialogues_are_counted_by_split_and_voice(chats: Path) -> None:
    about = before_units(plan(chats), readers=8)
    hours = 100 * sum(map(len, SAID)) / ASSUMED["characters_per_s"] / 3600
    assert (about["inputs"], about["partitions"], about["shards"]) == (100, 10, 10)
    assert about["hours"] == pytest.approx(hours, abs=1e-3)
    assert [part["dialogues"] for part in about["splits"].values()] == [3, 90, 7]
    assert sum(about["voices"].values()) == 200
    first = [choose_voices(tuple(ESPEAK_VOICES), 0, f"chat {number}") for number in range(100)]
    assert about["voices"]["rp-man"] == sum("rp-man" in pair for pair in first)
    assert about["work_hours"].keys() == {"speech", "units"} and about["gpu_hours"] == 0


def test_what_is_reckoned_comes_near_what_is_made(tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "manifest", ["train"] * 8)
    about = before_units(plan(chats, rows_per_shard=4), readers=8)
    card = synthesize(chats, tmp_path / "units", Settings(), rows_per_shard=4)
    assert card.totals["seconds"] / 3600 == pytest.approx(about["hours"], rel=0.2)
    assert sum(shard["bytes"] for shard in card.shards) == pytest.approx(about["disk_bytes"]["units"], rel=0.5)
    for stage in (1, 2):
        settings = MixSettings(stage=stage, sources=(UnitSource(chats, 2.0),), sequence_length=512, epochs=3)
        exact = plan_mix(replace(settings, sources=(UnitSource(tmp_path / "units", 2.0),)))
        reckoned = before_mix(settings, None, 1, 1)
        assert (reckoned["inputs"], reckoned["visits"]) == (exact["inputs"], exact["visits"])
        assert reckoned["tokens"] == pytest.approx(exact["tokens"], rel=0.25)
        assert reckoned["sequences"] == pytest.approx(exact["sequences"], rel=0.25)


def test_the_disk_is_reckoned_with_the_times_of_words(tmp_path: Path) -> None:
    talks = tmp_path / "talks"
    write_dialogues([str(bundled.directory() / "dialogues" / "self_dialogue")], talks)
    about = before_units(plan(talks, rows_per_shard=24), 8)
    card = synthesize(talks, tmp_path / "units", Settings(), rows_per_shard=24)
    assert sum(shard["bytes"] for shard in card.shards) == pytest.approx(about["disk_bytes"]["units"], rel=0.1)
    assert before_units(plan(talks, engine="bark"), 8)["disk_bytes"]["units"] < about["disk_bytes"]["units"]


def test_what_text_is_reckoned_with_is_among_what_is_assumed(chats: Path, calls: Path, tmp_path: Path) -> None:
    def assumes(stage: int, source: Path) -> bool:
        return (
            "characters_per_s"
            in before_mix(MixSettings(stage=stage, sources=(UnitSource(source, 1.0),)), None, 1, 1)["assumed"]
        )

    unit_set(tmp_path / "units", [dialogue(number, 4.0) for number in range(6)])
    assert before_units(plan(chats), 8)["assumed"]["characters_per_s"] == 15.2
    assert (
        "characters_per_s" not in before_units(plan(calls, command="tokenize", engine=None, voices=()), 8)["assumed"]
    )
    assert assumes(2, chats) and assumes(1, tmp_path / "units")
    assert not assumes(2, tmp_path / "units") and not assumes(1, calls)


def test_recordings_are_counted_by_their_durations(calls: Path) -> None:
    about = before_units(plan(calls, command="tokenize", engine=None, voices=(), keep_audio=True, checks=True), 8)
    assert (about["hours"], about["partitions"], about["shards"]) == (5.0, 5, 10)
    assert about["disk_bytes"]["audio"] == pytest.approx(5 * 75e6, rel=0.01)
    assert about["work_hours"]["checks"] == pytest.approx(5 / 234, abs=1e-4)


def test_hubert_is_reckoned_with_its_own_time_and_memory(calls: Path, tmp_path: Path) -> None:
    identity = {"rate": 25, "sample_rate": 16_000, "vocabulary": 500}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"kind": "hubert", "format": 1, "identity": identity}))
    embedded = plan(calls, command="tokenize", engine=None, voices=())
    hubert = replace(embedded, tokenizer=str(tmp_path))
    about = before_units(hubert, 5)
    assert about["work_hours"]["units"] == pytest.approx(5 / 1.2, abs=1e-3) and about["gpu_hours"] == 0
    assert (about["memory_bytes"], before_units(embedded, 5)["memory_bytes"]) == (4 * 1.5e9, 4 * 0.9e9)
    assert about["assumed"]["hubert_process_bytes"] == 1.5e9 and "process_bytes" not in about["assumed"]
    assert before_units(replace(hubert, gpus=2), 5)["gpu_hours"] == pytest.approx(5 / 1500, abs=1e-3)


def test_few_shards_splits_and_voices_are_warned_of(chats: Path) -> None:
    about = before_units(plan(chats, rows_per_shard=50), readers=8)
    assert said(about, "2 shards for 8 readers: some will have nothing to do; --rows-per-shard 12 gives each one")
    assert said(about, "2 shards for 4 workers")
    assert said(before_units(plan(chats, rows_per_shard=50), readers=101), "2 shards for 101 readers: some will have")
    assert said(before_units(plan(chats, rows_per_shard=50), readers=101), "there are only 100 inputs")
    assert not said(before_units(plan(chats, rows_per_shard=25), readers=4), "nothing to do")
    assert said(about, "the split valid is nearly empty: 7 dialogues")
    assert said(about, "the split test is nearly empty: 3 dialogues")
    assert not said(about, "the split train")
    names = tuple(f"voice {number}" for number in range(1000))
    assert said(before_units(plan(chats, voices=names), 2), "is nearly unheard: it speaks in 0 of 100 dialogues")
    assert not said(about, "unheard")


def test_a_shard_that_would_take_hours_is_warned_of(tmp_path: Path) -> None:
    # Of the embedded tokenizer; HuBERT takes as long for calls of six minutes on a CPU.
    long = plan(write_calls(tmp_path / "long", 113 * 360.0), command="tokenize", engine=None, voices=())
    assert said(before_units(long, 5), "a shard takes a worker about 1.0 hours")
    assert said(before_units(long, 5), "--rows-per-shard 1 takes 6 minutes")
    for rows in (1, 4):
        assert not said(before_units(replace(long, rows_per_shard=rows), 5), "a shard takes")
    # An hour each: a shard cannot have less than one.
    longer = replace(long, manifest=write_calls(tmp_path / "longer", 113 * 3600.0))
    assert said(before_units(longer, 5), "about 10.0 hours, which a crash costs: --rows-per-shard 1 takes 60 minutes")
    assert not said(before_units(replace(longer, rows_per_shard=1), 5), "a shard takes")


def test_a_run_as_it_should_be_warns_of_nothing(calls: Path, tmp_path: Path) -> None:
    settings = MixSettings(stage=3, sources=(UnitSource(calls, 1.0),), sequences_per_shard=4)
    about = before_mix(settings, tmp_path / "out", workers=2, readers=8)
    assert about["warnings"] == [] and about["shards"] > 8
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_warned_of(calls: Path, tmp_path: Path) -> None:
    settings = MixSettings(stage=3, sources=(UnitSource(calls, 5e4),), epochs=50_000)
    about = before_mix(settings, tmp_path / "out", workers=2, readers=8)
    assert said(about, "are free there") and said(about, "of memory, this machine has")
    # What an object store holds, nobody knows.
    stored = before_mix(settings, place("s3://bucket/out"), workers=2, readers=8)
    assert not said(stored, "are free there") and said(stored, "of memory, this machine has")


def test_models_without_a_constant_are_said_to_be_unknown(chats: Path) -> None:
    about = before_units(plan(chats, engine="coqui", voices=(), gpus=1), readers=1)
    assert about["work_hours"]["speech"] is None and about["wall_hours"] is None


def test_a_unit_set_is_counted_whole_and_said_so(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [dialogue(number, 4.0) for number in range(6)])
    assert take_census(tmp_path / "units").whole.dialogues == 6
    settings = MixSettings(stage=2, sources=(UnitSource(tmp_path / "units", 1.0),))
    about = before_mix(settings, None, 1, 1)
    assert about["inputs"] == 6 and said(about, "--plan gives the exact numbers")
    assert said(about, "only 6 dialogues of the split train")


def test_wrong_inputs_are_refused(chats: Path, calls: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes a manifest of dialogues"):
        before_units(plan(calls), 8)
    with pytest.raises(UserError, match="1 or more"):
        before_units(plan(chats, rows_per_shard=0), 8)
    with pytest.raises(UserError, match="no such directory"):
        before_units(plan(tmp_path / "nowhere"), 8)
    with pytest.raises(UserError, match="--epochs"):
        before_mix(MixSettings(stage=2, sources=(UnitSource(chats, 1.0),), epochs=0), None, 1, 1)
    with pytest.raises(UserError, match="--chunk-ms is 1 to"):
        before_mix(MixSettings(stage=2, sources=(UnitSource(chats, 1.0),), chunk_ms=0), None, 1, 1)
