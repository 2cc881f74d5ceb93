from __future__ import annotations

import gc
import json
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lhotse import CutSet, RecordingSet, SupervisionSet
from lhotse.audio import get_audio_duration_mismatch_tolerance, set_audio_duration_mismatch_tolerance
from lhotse.qa import validate_recordings_and_supervisions
from lhotse.recipes.utils import read_manifests_if_cached

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.audio import read_channels
from duologue.formats.rejects import read_rejects
from duologue.formats.units import Turn
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.stereo import write_recordings
from duologue.pipelines import export_lhotse as exporting
from duologue.pipelines.export_lhotse import export_lhotse
from tests.pipelines.comparing import contents
from tests.pipelines.conftest import write_sound

TURNS = (
    Turn(0, 0.1, 0.5, "good day"),
    Turn(1, 0.61, 9.0, "grüß dich"),
    Turn(0, -0.2, 0.3, "", ("laughter", "noise"), True),
)


def recording(
    name: str, sides: Sequence[tuple[str, int]], split: str = "train", turns: tuple[Turn, ...] = ()
) -> Recording:
    first, second = (AudioChannel(path, channel) for path, channel in sides)
    return Recording(name, "calls", split, "CC0-1.0", 1.0, (first, second), ("ada", "ben"), turns)


def manifest_of(root: Path, rows: Sequence[Recording], name: str = "manifest") -> Path:
    write_manifest(root / name, "recordings", {"made": name}, lambda: rows, root=root / "audio")
    return root / name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest and its export: a stereo call, one with its sides swapped, two files, and three and two channels."""
    root = tmp_path_factory.mktemp("lhotse")
    audio = root / "audio"
    (audio / "a b").mkdir(parents=True)
    write_sound(audio / "a b" / "stereo.wav", 1.0)
    write_sound(audio / "left.flac", 1.0, channels=1, rate=16_000)
    write_sound(audio / "right.flac", 1.01, channels=1, rate=16_000)
    write_sound(audio / "three.wav", 0.5, channels=3)
    write_sound(audio / "two.wav", 0.5, channels=2)
    rows = [
        recording("stereo", [("a b/stereo.wav", 0), ("a b/stereo.wav", 1)], turns=TURNS),
        recording("swapped", [("a b/stereo.wav", 1), ("a b/stereo.wav", 0)], turns=TURNS[:1]),
        recording("files", [("left.flac", 0), ("right.flac", 0)], "valid", TURNS[:2]),
        recording("many", [("three.wav", 2), ("two.wav", 0)], "test"),
    ]
    export_lhotse(manifest_of(root, rows), root / "out")
    return root


def sides_of(root: Path, *sides: tuple[str, int]) -> np.ndarray:
    rate = soundfile.info(root / "audio" / sides[0][0]).samplerate
    return read_channels([(root / "audio" / path, channel) for path, channel in sides], rate)


def loaded(root: Path, split: str) -> dict[str, Any]:
    return read_manifests_if_cached([split], root / "out")[split]


def test_lhotse_finds_the_splits_by_their_names_and_finds_them_valid(made: Path) -> None:
    parts = read_manifests_if_cached(["train", "valid", "test"], made / "out")
    assert {split: [each.id for each in part["recordings"]] for split, part in parts.items()} == {
        "train": ["stereo", "swapped"],
        "valid": ["files"],
        "test": ["many"],
    }
    for split in ("train", "valid"):
        validate_recordings_and_supervisions(**parts[split], read_data=True)
    # A split without turns has no supervisions.
    assert set(parts["test"]) == {"recordings"}


def test_lhotse_reads_the_sides_as_the_project_does(made: Path) -> None:
    expected = {
        "stereo": sides_of(made, ("a b/stereo.wav", 0), ("a b/stereo.wav", 1)),
        "swapped": sides_of(made, ("a b/stereo.wav", 1), ("a b/stereo.wav", 0)),
        "files": sides_of(made, ("left.flac", 0), ("right.flac", 0)),
        "many": sides_of(made, ("three.wav", 2), ("two.wav", 0)),
    }
    for split in ("train", "valid", "test"):
        for each in loaded(made, split)["recordings"]:
            whole = each.load_audio()
            assert whole.shape == (each.num_channels, each.num_samples)
            for side in (0, 1):
                np.testing.assert_array_equal(whole[each.channel_ids.index(side)], expected[each.id][side])
                # Asked for a shorter file alone, lhotse fills its end with reflected sound: 10 ms here.
                alone = each.load_audio(channels=side)[0][:16_000]
                np.testing.assert_array_equal(alone, expected[each.id][side][:16_000])


def test_lengths_and_rates_are_those_of_the_files(made: Path) -> None:
    (files,) = loaded(made, "valid")["recordings"]
    assert (files.sampling_rate, files.num_samples, files.duration) == (16_000, 16_160, 1.01)
    (many,) = loaded(made, "test")["recordings"]
    assert [source.channels for source in many.sources] == [[2, 3, 0], [1, 4]]
    assert all(Path(source.source).is_absolute() for source in many.sources)


def test_turns_become_supervisions_cut_to_the_recording(made: Path) -> None:
    first, second, third, *_ = loaded(made, "train")["supervisions"]
    assert first.to_dict() == {
        "id": "stereo-0",
        "recording_id": "stereo",
        "start": 0.1,
        "duration": 0.4,
        "channel": 0,
        "text": "good day",
        "speaker": "ada",
        "custom": {"split": "train", "events": [], "doubtful": False},
    }
    assert (second.start, second.end, second.channel, second.speaker) == (0.61, 1.0, 1, "ben")
    assert second.text == "grüß dich"
    assert (third.start, third.duration, third.text) == (0.0, 0.3, "")
    assert third.custom == {"split": "train", "events": ["laughter", "noise"], "doubtful": True}


def test_cuts_of_turns_hold_the_sound_of_their_side(made: Path) -> None:
    cuts = CutSet.from_manifests(**loaded(made, "train")).trim_to_supervisions(keep_overlapping=False)
    found = {cut.supervisions[0].id: cut.load_audio() for cut in cuts}
    stereo = sides_of(made, ("a b/stereo.wav", 0), ("a b/stereo.wav", 1))
    np.testing.assert_array_equal(found["stereo-0"][0], stereo[0, 800:4000])
    np.testing.assert_array_equal(found["stereo-1"][0], stereo[1, 4880:])
    np.testing.assert_array_equal(found["swapped-0"][0], stereo[1, 800:4000])


def test_a_real_call_goes_from_its_folder_to_lhotse(tmp_path: Path) -> None:
    call = bundled.directory() / "call"
    write_recordings([str(call)], tmp_path / "manifest")
    export_lhotse(tmp_path / "manifest", tmp_path / "out")
    (heard,) = RecordingSet.from_file(tmp_path / "out/recordings_train.jsonl.gz")
    path = call / "auto_repairs.flac"
    np.testing.assert_array_equal(
        heard.load_audio(), read_channels([(path, 0), (path, 1)], soundfile.info(path).samplerate)
    )


def test_lhotse_reads_the_lines_lazily_too(made: Path) -> None:
    lazy = RecordingSet.from_jsonl_lazy(made / "out/recordings_train.jsonl.gz")
    assert [each.id for each in lazy] == ["stereo", "swapped"]


def test_the_description_counts_what_is_there_and_names_no_path(made: Path) -> None:
    text = (made / "out/export.json").read_text("utf-8")
    about = json.loads(text)
    assert about["kind"] == "lhotse"
    assert about["splits"]["train"] == {"recordings": 2, "supervisions": 4}
    assert about["totals"] == {"inputs": 4, "samples": 4, "rejects": 0, "supervisions": 6}
    assert str(made) not in text


def test_the_same_manifest_gives_the_same_bytes(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    export_lhotse(made / "manifest", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(made / "out")


def test_an_export_of_audio_at_another_place_is_another_export(made: Path, tmp_path: Path) -> None:
    moved = tmp_path / "manifest"
    moved.mkdir()
    for name, data in contents(made / "manifest").items():
        (moved / name).write_bytes(data)
    (tmp_path / "elsewhere").mkdir()
    (moved / "root.json").write_text(json.dumps({"root": str(tmp_path / "elsewhere")}))
    with pytest.raises(UserError, match="made of other inputs"):
        export_lhotse(moved, made / "out")


def test_what_lhotse_cannot_have_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    write_sound(audio / "good.wav", 1.0)
    write_sound(audio / "fast.wav", 1.0, rate=16_000)
    write_sound(audio / "long.wav", 2.5)
    (audio / "cut.wav").write_bytes((audio / "good.wav").read_bytes()[:9_000])
    (audio / "bare.ulaw").write_bytes(bytes(8_000))
    bad = {
        "no_rate": [("bare.ulaw", 0), ("good.wav", 0)],
        "missing_file": [("good.wav", 0), ("gone.wav", 1)],
        "undecodable": [("cut.wav", 0), ("cut.wav", 1)],
        "outside_root": [("../audio/good.wav", 0), ("../audio/good.wav", 1)],
        "no_such_channel": [("good.wav", 0), ("good.wav", 2)],
        "same_channel": [("good.wav", 0), ("good.wav", 0)],
        "rate_mismatch": [("good.wav", 0), ("fast.wav", 1)],
        "length_mismatch": [("good.wav", 0), ("long.wav", 1)],
    }
    good = [("good.wav", 0), ("good.wav", 1)]
    late = (Turn(0, 1.0, 2.0, "late"), TURNS[0], Turn(1, 0.5, 0.5, "no time"), Turn(1, 0.5, float("nan"), "hm"))
    rows = [recording(reason, sides, turns=TURNS) for reason, sides in bad.items()]
    rows += [recording("good", good, turns=late), recording("bad_split", good, "dev")]
    about = export_lhotse(manifest_of(tmp_path, rows), tmp_path / "out")
    rejects = list(read_rejects(tmp_path / "out"))
    whole = {reject.id: reject.reason for reject in rejects if reject.turn is None}
    assert whole == {reason: reason for reason in [*bad, "bad_split"]}
    assert [(reject.id, reject.reason, reject.turn) for reject in rejects if reject.turn is not None] == [
        ("good", "no_time", 0),
        ("good", "no_time", 2),
        ("good", "no_time", 3),
    ]
    assert about["totals"] == {"inputs": 10, "samples": 1, "rejects": 9, "supervisions": 1}
    assert about["rejects"]["turn:no_time"] == 3
    (kept,) = SupervisionSet.from_file(tmp_path / "out/supervisions_train.jsonl.gz")
    assert kept.id == "good-1"


def test_sides_that_differ_by_less_than_a_second_are_padded_as_the_project_pads_them(tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    write_sound(audio / "left.wav", 1.0, channels=1)
    write_sound(audio / "right.wav", 1.6, channels=1)
    export_lhotse(manifest_of(tmp_path, [recording("call", [("left.wav", 0), ("right.wav", 0)])]), tmp_path / "out")
    (call,) = RecordingSet.from_file(tmp_path / "out/recordings_train.jsonl.gz")
    usual = get_audio_duration_mismatch_tolerance()
    set_audio_duration_mismatch_tolerance(1.0)
    try:
        heard = call.load_audio()
    finally:
        set_audio_duration_mismatch_tolerance(usual)
    np.testing.assert_array_equal(heard, sides_of(tmp_path, ("left.wav", 0), ("right.wav", 0)))


def test_a_manifest_whose_audio_is_gone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    rows = [recording("call", [("gone.wav", 0), ("gone.wav", 1)])]
    with pytest.raises(UserError, match=r"none of the 1 inputs could be exported.*no file gone\.wav"):
        export_lhotse(manifest_of(tmp_path, rows), tmp_path / "out")
    assert "export.json" not in contents(tmp_path / "out")


def test_audio_whose_path_lhotse_cannot_write_is_refused(tmp_path: Path) -> None:
    calls = tmp_path / os.fsdecode(b"r\xe9p")
    calls.mkdir()
    write_sound(tmp_path / "call.wav", 1.0)
    (tmp_path / "call.wav").rename(calls / "call.wav")
    write_recordings([str(calls)], tmp_path / "manifest", licence="none", source="calls")
    with pytest.raises(UserError, match=r"not UTF-8.*r.p.*root\.json"):
        export_lhotse(tmp_path / "manifest", tmp_path / "out")


def test_an_interrupted_export_is_made_whole_by_the_next(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "_supervisions", killed)
        with pytest.raises(KeyboardInterrupt):
            export_lhotse(made / "manifest", tmp_path)
    assert contents(tmp_path) == {"unfinished": b""}
    export_lhotse(made / "manifest", tmp_path)
    assert contents(tmp_path) == contents(made / "out")


def test_a_damaged_description_ends_in_one_message(made: Path, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text('{"kind": "lho')
    with pytest.raises(UserError, match="description of the export is damaged"):
        export_lhotse(made / "manifest", tmp_path)


def test_a_manifest_of_dialogues_is_refused(dialogues: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="manifest of text dialogues"):
        export_lhotse(dialogues, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A row group of the manifest is read at once.
    monkeypatch.setattr("duologue.manifests.manifest.ROWS_PER_GROUP", 4)
    audio = tmp_path / "audio"
    audio.mkdir()
    write_sound(audio / "call.wav", 1.0)
    turns = tuple(Turn(index % 2, 0.1, 0.5, "so it goes on and on") for index in range(200))
    rows = [recording(f"call {number}", [("call.wav", 0), ("call.wav", 1)], turns=turns) for number in range(40)]
    peaks = []
    for name, part in (("warm", rows[:8]), ("few", rows[:8]), ("many", rows)):
        directory = manifest_of(tmp_path, part, name)
        gc.collect()
        tracemalloc.start()
        export_lhotse(directory, tmp_path / f"out-{name}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The 32 recordings more are 1.2 MB of lines, and several times as much as Python's objects.
    assert peaks[2] - peaks[1] < 200_000
