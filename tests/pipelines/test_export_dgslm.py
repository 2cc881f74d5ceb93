from __future__ import annotations

import ast
import gc
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.card import CARD
from duologue.formats.rejects import Reject, read_rejects
from duologue.formats.shards import ShardWriter, key_of
from duologue.formats.temporary import temporary_name
from duologue.formats.units import UnitSample
from duologue.pipelines import export_dgslm as exporting
from duologue.pipelines.export_dgslm import export_dgslm
from tests.evaluate.making import IDENTITY, RATE, UNITS, dialogue, unit_set
from tests.pipelines.comparing import contents

SPLITS = ("train", "valid", "train", "test", "train")
NAMES = ("it's", "fisher.00001", "a/b", "gespräch 4", "plain")


def talks() -> list[UnitSample]:
    made = []
    for number, (split, name) in enumerate(zip(SPLITS, NAMES, strict=True)):
        made.append(replace(dialogue(number, seconds=4.0 + number), id=name, split=split))
    return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dgslm")
    unit_set(root / "units", talks(), audio=True)
    export_dgslm(root / "units", root / "out")
    return root / "out"


def units_of(path: Path) -> list[list[int]]:
    return [[int(word) for word in line.split(" ")] for line in path.read_text("ascii").splitlines()]


def counts_of(path: Path) -> dict[str, int]:
    return {unit: int(count) for unit, count in (line.split(" ") for line in path.read_text("ascii").splitlines())}


def test_every_dialogue_is_in_the_lines_of_its_split(exported: Path) -> None:
    found = {}
    for split in ("train", "valid", "test"):
        ids = (exported / f"{split}.ids").read_text("utf-8").splitlines()
        first, second = (units_of(exported / f"{split}.{channel}") for channel in ("unitA", "unitB"))
        for name, *sides in zip(ids, first, second, strict=True):
            found[name] = split, np.array(sides)
    assert list(found) == ["it's", "a/b", "plain", "fisher.00001", "gespräch 4"]
    for sample in talks():
        split, units = found[sample.id]
        assert split == sample.split
        np.testing.assert_array_equal(units, sample.units)


def test_the_code_file_is_read_as_dgslm_reads_it(exported: Path) -> None:
    # examples/textless_nlp/dgslm/sample_speech_dlm.py, load_data
    with (exported / "train.code").open(encoding="ascii") as file:
        codes = [ast.literal_eval(line.strip()) for line in file]
    assert [code["audio"] for code in codes] == [key_of("it's"), key_of("a/b"), "plain"]
    for channel in ("unitA", "unitB"):
        lines = (exported / f"train.{channel}").read_text("ascii").splitlines()
        assert [code[channel] for code in codes] == lines


def test_names_in_the_code_file_survive_as_names_of_audio_files(exported: Path) -> None:
    # generate_stereo_waveform.py writes Path(audio).stem + ".wav", of what sampling has called audio + "-generated".
    named = [ast.literal_eval(line)["audio"] for path in exported.glob("*.code") for line in path.open()]
    assert len({Path(f"{name}-generated").stem for name in named}) == len(NAMES)
    assert all(Path(f"{name}-generated").stem == f"{name}-generated" for name in named)


def test_dictionaries_are_equal_and_count_both_channels_of_the_split_train(exported: Path) -> None:
    expected: Counter[str] = Counter({str(unit): 0 for unit in range(UNITS)})
    for sample in talks():
        if sample.split == "train":
            expected.update(str(unit) for unit in sample.units.ravel())
    assert counts_of(exported / "dict.unitA.txt") == expected
    assert (exported / "dict.unitA.txt").read_bytes() == (exported / "dict.unitB.txt").read_bytes()


def test_units_that_never_occur_are_in_the_dictionary(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [replace(dialogue(0), units=np.full((2, 350), 7, np.int16))], audio=False)
    export_dgslm(tmp_path / "units", tmp_path / "out")
    counts = counts_of(tmp_path / "out/dict.unitA.txt")
    assert counts.pop("7") == 700
    assert set(counts) == {str(unit) for unit in range(UNITS)} - {"7"} and not any(counts.values())


def test_a_split_without_dialogues_has_no_files(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [replace(dialogue(0), split="test")], audio=False)
    export_dgslm(tmp_path / "units", tmp_path / "out")
    names = {"dict.unitA.txt", "dict.unitB.txt", "export.json", *(f"test.{suffix}" for suffix in exporting._SUFFIXES)}
    assert set(contents(tmp_path / "out")) == names
    assert not any(counts_of(tmp_path / "out/dict.unitA.txt").values())


def test_the_description_says_rate_and_tokenizer_and_counts(exported: Path) -> None:
    about = json.loads((exported / "export.json").read_bytes())
    assert (about["kind"], about["rate"], about["vocabulary"]) == ("dgslm", RATE, UNITS)
    assert about["tokenizer"] == IDENTITY
    assert about["splits"]["train"] == {"lines": 3, "frames": (4 + 6 + 8) * RATE}
    assert about["totals"] == {"inputs": 5, "samples": 5, "rejects": 0, "frames": 30 * RATE}
    assert about["licences"] == ["CC0-1.0"]
    files = {entry["name"]: entry["bytes"] for entry in about["files"]}
    assert files == {name: len(data) for name, data in contents(exported).items() if name != "export.json"}


def test_the_same_units_give_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    export_dgslm(exported.parent / "units", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(exported)


def test_what_is_finished_is_not_made_again(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "read_shard", None)
    before = contents(exported)
    assert export_dgslm(exported.parent / "units", exported) == json.loads(before["export.json"])
    assert contents(exported) == before


def test_another_export_is_refused(exported: Path, tmp_path: Path) -> None:
    before = contents(exported)
    unit_set(tmp_path / "others", talks(), audio=False)
    with pytest.raises(UserError, match="made of other inputs"):
        export_dgslm(tmp_path / "others", exported)
    assert contents(exported) == before


def test_files_of_the_same_names_are_not_written_over(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "train.unitA").write_text("mine")
    with pytest.raises(UserError, match=r"not empty: it holds train\.unitA"):
        export_dgslm(exported.parent / "units", tmp_path)
    assert contents(tmp_path) == {"train.unitA": b"mine"}


def test_an_interrupted_export_is_unfinished_and_is_made_whole_by_the_next(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            export_dgslm(exported.parent / "units", tmp_path)
    assert "export.json" not in contents(tmp_path) and "unfinished" in contents(tmp_path)
    export_dgslm(exported.parent / "units", tmp_path)
    assert contents(tmp_path) == contents(exported)


def test_leftovers_of_an_interrupted_export_of_other_units_do_not_stay(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [replace(dialogue(0), split="test")], audio=False)
    out = tmp_path / "out"
    out.mkdir()
    left = {"unfinished", "train.unitA", temporary_name("train.code")}
    for name in left:
        (out / name).write_text("")
    export_dgslm(tmp_path / "units", out)
    assert not left & set(contents(out))


def test_what_cannot_be_exported_is_rejected_and_the_rest_goes_on(tmp_path: Path) -> None:
    bad = {
        "a": replace(dialogue(1), split="../evil"),
        "b\nc": dialogue(2),
        "d": replace(dialogue(3), units=np.zeros((2, 0), np.int16)),
        "e": replace(dialogue(4), units=np.full((2, 9), UNITS, np.int16)),
        "f": replace(dialogue(5), units=np.full((2, 9), -1, np.int16)),
    }
    samples = [dialogue(0), *(replace(sample, id=name) for name, sample in bad.items())]
    unit_set(tmp_path / "units", samples, audio=False)
    about = export_dgslm(tmp_path / "units", tmp_path / "out")
    reasons = {reject.id: (reject.station, reject.reason) for reject in read_rejects(tmp_path / "out")}
    codes = ("bad_split", "bad_id", "empty", "bad_units", "bad_units")
    assert reasons == {name: ("export", code) for name, code in zip(bad, codes, strict=True)}
    assert about["totals"] == {"inputs": 6, "samples": 1, "rejects": 5, "frames": 350}
    assert about["rejects"]["bad_units"] == 2
    assert (tmp_path / "out/train.ids").read_text() == "talk 0\n"
    assert not (tmp_path / "evil.unitA").exists()


def test_a_set_in_which_nothing_can_be_exported_is_refused(tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [replace(dialogue(0), units=np.zeros((2, 0), np.int16))], audio=False)
    with pytest.raises(UserError, match="none of the 1 inputs could be exported"):
        export_dgslm(tmp_path / "units", tmp_path / "out")
    assert not (tmp_path / "out/export.json").exists()


def test_rejects_of_the_unit_set_are_not_those_of_the_export(tmp_path: Path) -> None:
    refused = [Reject("gone", "tokenize", "empty", "it is empty")]
    unit_set(tmp_path / "units", [dialogue(0)], audio=False, rejects=refused)
    assert export_dgslm(tmp_path / "units", tmp_path / "out")["totals"]["inputs"] == 1


@pytest.mark.parametrize("damage", ["truncated", "missing", "no units", "too few", "other units"])
def test_a_damaged_set_ends_in_one_message_and_gives_no_files(tmp_path: Path, damage: str) -> None:
    units = tmp_path / "units"
    unit_set(units, [dialogue(number) for number in range(3)], audio=False)
    last = units / "units-00001.tar"
    if damage == "truncated":
        last.write_bytes(last.read_bytes()[:700])
    elif damage == "missing":
        last.unlink()
    else:
        with ShardWriter(last) as writer:
            if damage == "no units":
                writer.add("a", {"json": b"{}"})
            elif damage == "other units":
                writer.add("talk-9", dialogue(9).members())
    with pytest.raises(UserError, match=r"damaged|missing"):
        export_dgslm(units, tmp_path / "out")
    assert set(contents(tmp_path / "out")) == {"unfinished"}


def test_an_unfinished_set_and_another_kind_are_refused(dialogues: Path, tmp_path: Path) -> None:
    unit_set(tmp_path / "units", [dialogue(0)], audio=False)
    (tmp_path / "units" / CARD).unlink()
    for directory in (tmp_path / "units", dialogues):
        with pytest.raises(UserError):
            export_dgslm(directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    samples = [replace(dialogue(0, seconds=60.0), id=f"talk-{number}") for number in range(48)]
    peaks = []
    for name, part in (("warm", samples[:6]), ("few", samples[:6]), ("many", samples)):
        unit_set(tmp_path / name, part, audio=False)
        gc.collect()
        tracemalloc.start()
        export_dgslm(tmp_path / name, tmp_path / f"out-{name}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A dialogue of 1,500 frames is some 100 kB as Python's integers and text: 42 more would be megabytes.
    assert peaks[2] - peaks[1] < 200_000


@pytest.fixture(scope="module")
def fairseq() -> ModuleType:
    """fairseq, imported when a test wants it and not before: it takes seconds."""
    return pytest.importorskip("fairseq", reason="the fairseq extra is not installed")


def test_fairseq_makes_the_same_dictionary_of_the_lines(fairseq: ModuleType, exported: Path) -> None:
    from fairseq.data import Dictionary
    from fairseq.tokenizer import tokenize_line

    ours = [Dictionary.load(str(exported / f"dict.{channel}.txt")) for channel in ("unitA", "unitB")]
    theirs = Dictionary()
    for channel in ("unitA", "unitB"):
        Dictionary.add_file_to_dictionary(str(exported / f"train.{channel}"), theirs, tokenize_line, num_workers=1)
    # Its count of ends of lines stands with its special symbols.
    theirs.finalize(padding_factor=1)
    special = theirs.nspecial
    seen = len(theirs) - special
    assert ours[0].symbols == ours[1].symbols and len(ours[0]) == UNITS + special
    assert ours[0].symbols[special : special + seen] == theirs.symbols[special:]
    assert ours[0].count[special : special + seen] == theirs.count[special:]


def test_fairseqs_task_reads_the_export_as_it_lies(fairseq: ModuleType, exported: Path) -> None:
    from fairseq.tasks.speech_dlm_task import SpeechDLMConfig, SpeechDLMTask

    settings = SpeechDLMConfig(data=str(exported), tokens_per_sample=64, seed=1, dataset_impl="raw")
    task = SpeechDLMTask.setup_task(settings)
    assert task.channels == ["unitA", "unitB"]
    for split in ("train", "valid", "test"):
        task.load_dataset(split)
        for number, channel in enumerate(task.channels):
            dataset = task.datasets[split].datasets[channel]
            # The blocks of "none", dGSLM's way to fill a sequence: each predicts what its "target" holds.
            tokens = np.concatenate([dataset[index]["target"].numpy() for index in range(len(dataset))])
            dictionary = task.dicts[channel]
            read = [" " if token == dictionary.eos() else dictionary[token] for token in tokens]
            expected = [[*map(str, sample.units[number]), " "] for sample in talks() if sample.split == split]
            assert read == [word for line in expected for word in line]
