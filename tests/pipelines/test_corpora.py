"""Corpora as they lie on the disk, all the way to sequences of stage 3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.card import Card, read_card
from duologue.formats.rejects import read_rejects
from duologue.formats.sequences import SequenceSet
from duologue.manifests.candor import write_candor
from duologue.manifests.fisher import write_fisher
from duologue.manifests.splits import Splits
from duologue.manifests.stereo import write_recordings
from duologue.pipelines.inspect import describe
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.tokenize import tokenize
from duologue.pipelines.verify import verify
from duologue.tokenize.thresholds import Thresholds
from tests.manifests import candor_corpus, fisher_corpus
from tests.pipelines.comparing import samples

SPHERE = Path(__file__).parent.parent / "data" / "sphere"
ALL = Splits((1, 0, 0))
# The test signals are tones, codes and noise: none of them is refused for how it sounds.
ANYTHING = Thresholds(loudest_dbfs=None, correlation=None, swapped_share=None)


def stage3(units: Path, out: Path) -> set[str]:
    """Mix a unit set, check both, and return the ids that are in the sequences."""
    mix(MixSettings(stage=3, sources=(UnitSource(units, 1.0),), sequence_length=512), out)
    assert verify(units) == verify(out) == []
    return {document.id for sequence in SequenceSet(out) for document in sequence.documents}


def test_fisher_becomes_sequences_of_stage_three(tmp_path: Path) -> None:
    fisher_corpus.look_alike(tmp_path / "corpus")
    card = write_fisher([str(tmp_path / "corpus")], tmp_path / "manifest", splits=ALL)
    made = tokenize(tmp_path / "manifest", tmp_path / "units", thresholds=ANYTHING)
    assert made.totals["inputs"] == card.totals["samples"] == made.totals["samples"] + made.totals["rejects"]
    names = stage3(tmp_path / "units", tmp_path / "sequences")
    assert names == {sample.id for sample in samples(tmp_path / "units")}
    (call,) = (sample for sample in samples(tmp_path / "units") if sample.id == "fe_03_00001")
    assert call.units.shape == (2, 750)
    assert call.speakers == ("fisher:2602", "fisher:2790")
    assert call.about["topic"] == "ENG01"
    assert call.turns[2].events == ("laughter", "noise")


def test_candor_becomes_sequences_of_stage_three(tmp_path: Path) -> None:
    rows = [
        candor_corpus.HEADER,
        '0,u1,0.5,1.5,"None",,1.0,0,False,False,1',
        "1,u2,1.6,2.5,hi there,0.1,0.9,0,False,False,2",
    ]
    for name, channels in (("one", 2), ("two", 2), ("mono", 1)):
        candor_corpus.write_conversation(
            tmp_path / "candor", name, channels=channels, transcripts={"cliffhanger": rows}
        )
    card = write_candor(str(tmp_path / "candor"), tmp_path / "manifest", splits=ALL)
    assert card.rejects == {"mono": 1}
    tokenize(tmp_path / "manifest", tmp_path / "units", thresholds=ANYTHING)
    assert stage3(tmp_path / "units", tmp_path / "sequences") == {"one", "two"}
    assert [sentence.text for sentence in samples(tmp_path / "units")[0].sentences] == ["None", "hi there"]


def test_every_coding_of_sphere_and_shorten_goes_through(tmp_path: Path) -> None:
    files = [path for path in sorted(SPHERE.rglob("*")) if path.suffix in (".sph", ".shn", ".wav", ".ulaw")]
    both = {path for path in files if "stereo" in path.name or "2ch" in path.name}
    # A signal of one channel gets the second channel of the same file beside it.
    partner = str(SPHERE / "pcm16be_stereo.sph")
    rows: list[dict[str, Any]] = [
        {"id": path.name, "path": str(path)}
        if path in both
        else {"id": path.name, "path_0": str(path), "path_1": partner, "channel_1": 1}
        for path in files
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    write_recordings([str(tmp_path / "table.jsonl")], tmp_path / "manifest", splits=ALL, raw_rate=16_000)
    card = tokenize(tmp_path / "manifest", tmp_path / "units", thresholds=ANYTHING)
    # It declares shorten and holds none.
    (gate,) = read_rejects(tmp_path / "units")
    assert (gate.id, gate.reason) == ("shorten_gate.sph", "undecodable")
    assert (card.totals["inputs"], card.totals["rejects"]) == (len(files), 1)
    names = {path.name for path in files} - {"shorten_gate.sph"}
    assert len(names) == 20
    assert stage3(tmp_path / "units", tmp_path / "sequences") == names
    units = {sample.id: sample.units.tolist() for sample in samples(tmp_path / "units")}
    assert units["call30s_2ch_ulaw_shorten.sph"] == units["call30s_2ch_ulaw_plain.sph"]
    assert units["ulaw_bitshift.shn"] == units["ulaw_bitshift.ulaw"]
    for name in ("qlpc_ar2", "qlpc_ar2_stereo", "qlpc_hi"):
        assert units[f"{name}.shn"] == units[f"{name}.wav"]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    """The unit set of the bundled call, checked."""
    directory = tmp_path_factory.mktemp("call")
    shutil.copytree(bundled.directory() / "call", directory / "audio")
    write_recordings([str(directory / "audio")], directory / "manifest", splits=ALL)
    return directory / "units", tokenize(directory / "manifest", directory / "units")


def test_the_real_call_becomes_sequences_of_stage_three(call: tuple[Path, Card], tmp_path: Path) -> None:
    assert len(stage3(call[0], tmp_path / "sequences")) == 1


def test_checks_of_each_recording_stand_in_the_set_and_their_sums_in_its_card(call: tuple[Path, Card]) -> None:
    (sample,) = samples(call[0])
    checks: dict[str, Any] = dict(sample.checks)
    assert checks["seconds"] == 59.0
    assert [len(stretches) > 5 for stretches in checks["activity"]] == [True, True]
    sums = call[1].totals["checks"]
    assert sums == read_card(call[0]).totals["checks"]
    assert sums["turn_taking"]["seconds"] == checks["turn_taking"]["seconds"]
    assert sums["speech_seconds"] == [channel["speech_s"] for channel in checks["channels"]]
    assert sum(sums["turn_taking"]["histograms"]["transfers"]) == sums["turn_taking"]["transfers"]["count"] > 5
    assert describe(call[0])["events_a_minute"]["turns"] == pytest.approx(
        sums["turn_taking"]["turns"]["count"], rel=0.05
    )
    assert call[1].config["checks"]["activity"]["package"] == "silero-vad"


def test_a_recording_beyond_a_threshold_is_rejected_with_its_reason(call: tuple[Path, Card], tmp_path: Path) -> None:
    manifest = call[0].parent / "manifest"
    with pytest.raises(UserError, match="1 no_speech"):
        tokenize(manifest, tmp_path / "units", thresholds=Thresholds(speech_s=10_000))


def test_two_channels_of_one_signal_are_rejected(tmp_path: Path) -> None:
    original = bundled.directory() / "call" / "auto_repairs.flac"
    shutil.copy(original, tmp_path / "copy.flac")
    rows = [
        {"id": "same", "path_0": str(original), "channel_0": 0, "path_1": "copy.flac", "channel_1": 0},
        {"id": "call", "path": str(original)},
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    write_recordings([str(tmp_path / "table.jsonl")], tmp_path / "manifest", splits=ALL)
    tokenize(tmp_path / "manifest", tmp_path / "units")
    assert [(reject.id, reject.reason) for reject in read_rejects(tmp_path / "units")] == [("same", "same_channels")]


def test_without_checks_nothing_is_measured(tmp_path: Path, call: tuple[Path, Card]) -> None:
    card = tokenize(call[0].parent / "manifest", tmp_path / "units", thresholds=None)
    assert "checks" not in card.totals
    assert card.config["checks"] is None
    assert samples(tmp_path / "units")[0].checks == {}
    assert card.fingerprint != call[1].fingerprint
