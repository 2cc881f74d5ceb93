from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats import sync
from duologue.formats.card import read_card, write_card
from duologue.formats.curriculum import curriculum
from duologue.formats.interleave import interleave, spoken_sentences
from duologue.formats.rejects import read_rejects
from duologue.formats.sequences import PackedSequence, SequenceSet
from duologue.formats.units import UnitSample
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.measures import Measures
from duologue.pipelines.mix import mix, plan_mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource, check, check_ranges
from tests.evaluate.making import IDENTITY, dialogue, unit_set
from tests.pipelines.comparing import contents

DIALOGUES = 24
SYNC = MixSettings(stage=2, sources=(), sequence_length=256, epochs=2, sequences_per_shard=5)
TEXT = replace(SYNC, stage=1, epochs=3)


@pytest.fixture(scope="module")
def talks() -> list[UnitSample]:
    made = [dialogue(number, 4.0 + number) for number in range(DIALOGUES)]
    made[3] = replace(made[3], split="valid")
    made[5] = replace(made[5], sentences=())
    return made


@pytest.fixture(scope="module")
def units(talks: list[UnitSample], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mix") / "units"
    unit_set(directory, talks, audio=True, per_shard=7)
    return directory


def of(settings: MixSettings, *sources: UnitSource, **changes: object) -> MixSettings:
    return replace(settings, sources=sources, **changes)  # type: ignore[arg-type]


def made(settings: MixSettings, out: Path) -> list[PackedSequence]:
    mix(settings, out)
    return list(SequenceSet(out))


def whole(sequences: list[PackedSequence]) -> dict[tuple[str, float], np.ndarray]:
    """The tokens of every dialogue in every visit, its pieces joined and repeated tags taken off."""
    pieces = defaultdict(list)
    for sequence in sequences:
        for document in sequence.documents:
            key = (document.id, document.progress)
            body = sequence.tokens[document.offset : document.offset + document.length]
            done = sum(map(len, pieces[key]))
            assert document.start == done
            pieces[key].append(body)
    return {key: np.concatenate(parts) for key, parts in pieces.items()}


def test_every_dialogue_stands_whole_in_every_epoch(talks: list[UnitSample], units: Path, tmp_path: Path) -> None:
    sequences = made(of(SYNC, UnitSource(units, 1.0)), tmp_path / "out")
    visits = whole(sequences)
    assert {(d.asked, d.share) for sequence in sequences for d in sequence.documents} == {(None, 1.0)}
    vocabulary = SequenceSet(tmp_path / "out").vocabulary
    assert Counter(name for name, _ in visits) == {talk.id: 2 for talk in talks if talk.split == "train"}
    by_name = {talk.id: talk for talk in talks}
    for (name, _), tokens in visits.items():
        expected = vocabulary.from_stream(sync.encode(by_name[name].units, 4))
        np.testing.assert_array_equal(tokens, expected)


def test_the_order_is_that_of_progress_and_another_one_in_each_epoch(units: Path, tmp_path: Path) -> None:
    sequences = made(of(SYNC, UnitSource(units, 1.0)), tmp_path / "out")
    visits = [(d.progress, d.id) for sequence in sequences for d in sequence.documents if not d.start]
    assert visits == sorted(visits)
    first = [name for progress, name in visits if progress < 0.5]
    second = [name for progress, name in visits if progress >= 0.5]
    assert sorted(first) == sorted(second) and first != second


def test_every_piece_names_its_corpus(talks: list[UnitSample], tmp_path: Path) -> None:
    for name in ("chats", "calls"):
        renamed = [replace(talk, id=f"{name} {talk.id}", source=name) for talk in talks[:4]]
        unit_set(tmp_path / name, renamed, audio=False)
    sources = [UnitSource(tmp_path / name, 1.0) for name in ("chats", "calls")]
    documents = [d for sequence in made(of(SYNC, *sources), tmp_path / "out") for d in sequence.documents]
    assert {d.source for d in documents} == {"chats", "calls"}
    assert all(d.id.startswith(d.source) for d in documents)


def test_weights_say_how_often_a_dialogue_comes(units: Path, tmp_path: Path) -> None:
    visits = whole(made(of(SYNC, UnitSource(units, 2.0), epochs=1), tmp_path / "twice"))
    assert set(Counter(name for name, _ in visits).values()) == {2}
    half = plan_mix(of(SYNC, UnitSource(units, 0.5), epochs=40))
    expected = 0.5 * 40 * (DIALOGUES - 1)
    assert abs(half["visits"] - expected) < 4 * np.sqrt(expected * 0.5)


def digest(*parts: object, size: int = 8) -> int:
    """The hash of section 9 of docs/format.md."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=size).digest(), "big")


def chance(*parts: object) -> float:
    return (digest(*parts) >> 11) / 2**53


def test_every_choice_of_a_visit_is_the_hash_that_the_format_names(talks: list[UnitSample], tmp_path: Path) -> None:
    # A run that goes on in another version has to find the choices that it began with.
    unit_set(tmp_path / "units", talks, audio=False, per_shard=7)
    # One sequence holds it all, so that no dialogue is cut.
    settings = of(TEXT, UnitSource(tmp_path / "units", 1.5), seed=7, sequence_length=2**16)
    sequences = made(settings, tmp_path / "out")
    found = [
        (d.progress, d.id, d.asked, d.share, sequence.tokens[d.offset : d.offset + d.length].tolist())
        for sequence in sequences
        for d in sequence.documents
    ]
    expected = []
    vocabulary = SequenceSet(tmp_path / "out").vocabulary
    for talk in talks:
        about = (talk.source, talk.id)
        for epoch in range(3 if talk.split == "train" and talk.sentences else 0):
            for copy in range(1 + (chance("weight", epoch, 7, *about) < 0.5)):
                progress = (epoch + chance("order", epoch, copy, 7, *about)) / 3
                share = np.array([chance(7, "share", epoch, copy, *about)])
                (asked,) = curriculum("paper").draw(np.array([progress]), share)
                draw = np.random.Generator(np.random.PCG64(digest(7, "speech", epoch, copy, *about, size=16)))
                speech = spoken_sentences(talk.sentences, asked, "sentence", draw)
                tokens = interleave(talk, speech, vocabulary).tokens.tolist()
                expected.append((round(progress, 9), talk.id, round(asked, 9), round(speech.mean(), 9), tokens))
    assert found == sorted(expected)


def test_stage_one_obtains_the_shares_it_asks_for(talks: list[UnitSample], units: Path, tmp_path: Path) -> None:
    settings = of(TEXT, UnitSource(units, 1.0))
    sequences = made(settings, tmp_path / "out")
    sentences = {talk.id: len(talk.sentences) for talk in talks}
    documents = [d for sequence in sequences for d in sequence.documents]
    assert all(abs(d.share - d.asked) <= 1 / sentences[d.id] + 1e-9 for d in documents if d.asked is not None)
    shares = {(d.id, d.progress): (d.asked, d.share) for d in documents}
    asked, got = np.array(list(shares.values()), float).T
    assert abs(asked.mean() - got.mean()) < 0.05
    assert asked[:20].mean() < asked[-20:].mean()


def test_stage_one_rejects_what_has_no_sentences(units: Path, tmp_path: Path) -> None:
    measures = Measures(tmp_path / "metrics.json", tmp_path / "out")
    mix(of(TEXT, UnitSource(units, 1.0)), tmp_path / "out", measures=measures)
    lengths, _ = json.loads((tmp_path / "metrics.json").read_bytes())["pipelines"]
    counted = [lengths[name] for name in ("name", "inputs", "outputs", "rejects")]
    assert counted == ["mix: lengths", DIALOGUES - 1, DIALOGUES - 2, 1]
    assert [(r.id, r.reason) for r in read_rejects(tmp_path / "out")] == [("talk 5", "no_sentences")]
    totals = read_card(tmp_path / "out").totals
    assert (totals["inputs"], totals["rejects"], totals["other_splits"]) == (DIALOGUES - 1, 1, 1)


@pytest.mark.parametrize("settings", [SYNC, TEXT])
def test_padding_is_at_most_two_percent(settings: MixSettings, units: Path, tmp_path: Path) -> None:
    sequences = made(of(settings, UnitSource(units, 1.0), epochs=6), tmp_path / "out")
    used = [sum(document.length for document in sequence.documents) for sequence in sequences]
    assert 1 - sum(used[:-1]) / (256 * len(used[:-1])) <= 0.02


def test_two_workers_make_the_same_bytes_as_one(units: Path, tmp_path: Path) -> None:
    settings = of(TEXT, UnitSource(units, 1.0))
    mix(settings, tmp_path / "one")
    mix(settings, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_finished_mix_is_not_made_again(units: Path, tmp_path: Path) -> None:
    settings, out = of(SYNC, UnitSource(units, 1.0)), tmp_path / "out"
    card = mix(settings, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert mix(settings, out) == card
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_mix_does_without_torch(units: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from duologue.pipelines.mix import mix; "
        "from duologue.pipelines.mix_settings import MixSettings, UnitSource; "
        "units, out = map(Path, sys.argv[1:]); mix(MixSettings(2, (UnitSource(units, 1.0),)), out); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(units), str(tmp_path / "out")], check=True)


def test_a_mix_in_the_place_of_another_has_a_vocabulary_of_its_own(units: Path, tmp_path: Path) -> None:
    # The byte vocabulary with units, taken for a text tokenizer: it puts the stream 26 ids higher than bytes alone.
    Vocabulary.byte_level(24).save(tmp_path / "wide")
    for path in (tmp_path / "wide").glob("*.json"):
        path.write_text(path.read_text().replace("<|unit_", "<|word_").replace("<|S", "<|T"))
    settings, out = of(SYNC, UnitSource(units, 1.0)), tmp_path / "out"
    wide = made(replace(settings, vocabulary=str(tmp_path / "wide")), out)[0].tokens
    shutil.rmtree(out)
    narrow = made(settings, out)[0].tokens
    padding = Vocabulary.byte_level(24).pad_id
    assert np.array_equal(wide, np.where(narrow == padding, padding, narrow + 26))


def test_killed_mixes_are_completed_to_the_same_bytes(units: Path, tmp_path: Path) -> None:
    settings = of(TEXT, UnitSource(units, 1.0), epochs=40)
    mix(settings, tmp_path / "unbroken")
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from duologue.pipelines.mix import mix;"
        "from duologue.pipelines.mix_settings import MixSettings, UnitSource;"
        "mix(MixSettings(1, (UnitSource(Path(sys.argv[1]), 1.0),), sequence_length=256, epochs=40,"
        "sequences_per_shard=5), Path(sys.argv[2]))"
    )
    for wait_for in ("index/*/*.npz", "train-*.tar"):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(units), str(out)], stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not list(out.glob(wait_for)) and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "dataset.json").exists()
    mix(settings, out)
    assert contents(out) == contents(tmp_path / "unbroken")


@pytest.mark.parametrize("settings", [SYNC, TEXT])
def test_the_plan_says_what_the_mix_makes_and_writes_nothing(
    settings: MixSettings, units: Path, tmp_path: Path
) -> None:
    settings = of(settings, UnitSource(units, 1.0))
    before = contents(units)
    plan = plan_mix(settings)
    assert contents(units) == before
    card = mix(settings, tmp_path / "out")
    assert plan["fingerprint"] == card.fingerprint
    assert plan["sequences"] == card.totals["samples"]
    assert plan["shards"] == len(card.shards)
    assert all(plan[name] == card.totals[name] for name in ("tokens", "documents", "padding", "visits", "inputs"))
    sequences = list(SequenceSet(tmp_path / "out"))
    documents = [document for sequence in sequences for document in sequence.documents]
    tokens = sum(document.length for document in documents)
    rejects = len(list(read_rejects(tmp_path / "out")))
    padding = 256 * len(sequences) - tokens
    assert card.totals == {
        "inputs": DIALOGUES - 1,
        "samples": len(sequences),
        "rejects": rejects,
        "unvisited": 0,
        "other_splits": 1,
        "visits": settings.epochs * (DIALOGUES - 1 - rejects),
        "documents": len(documents),
        "tokens": tokens,
        "padding": padding,
        "padding_share": round(padding / (256 * len(sequences)), 6),
    }
    if settings.stage == 1:
        rows = plan["speech_by_progress"]
        assert [(row["from"], row["to"]) for row in rows] == [(n / 10, (n + 1) / 10) for n in range(10)]
        visits = {(d.id, d.progress): (d.asked, d.share) for d in documents}
        for row in rows:
            inside = [pair for (_, progress), pair in visits.items() if row["from"] <= progress < row["to"]]
            assert row["samples"] == len(inside) > 0
            assert [row["asked"], row["obtained"]] == pytest.approx(np.mean(inside, axis=0), abs=1e-4)


def test_numbers_that_damage_has_changed_are_not_mixed(talks: list[UnitSample], tmp_path: Path) -> None:
    first, (said, *_) = talks[0], talks[0].sentences
    stranger, late = replace(said, channel=3), replace(said, first_frame=999)
    negative, large = np.array(first.units), np.array(first.units)
    negative[0, 5], large[0, 5] = -3, 16384
    damages = [
        ("talk 0 has units -3 to", replace(first, units=negative)),
        ("talk 0 has units 0 to 16384", replace(first, units=large)),
        ("talk 0 has a sentence outside of it: 'How are", replace(first, sentences=(stranger,))),
        ("talk 0 has a sentence outside of it: 'How are", replace(first, sentences=(late,))),
    ]
    for number, (message, damaged) in enumerate(damages):
        unit_set(tmp_path / f"units{number}", [damaged, talks[1]])
        settings = of(TEXT, UnitSource(tmp_path / f"units{number}", 1.0))
        with pytest.raises(UserError, match=f"the shard is damaged: {message}"):
            plan_mix(settings)


def test_units_that_are_not_those_the_card_has_the_checksum_of_are_not_mixed(
    talks: list[UnitSample], tmp_path: Path
) -> None:
    unit_set(tmp_path / "units", talks, audio=False)
    shard = tmp_path / "units" / "units-00000.tar"
    flipped = bytearray(shard.read_bytes())
    place = flipped.index(b"\x93NUMPY") + 128
    flipped[place] ^= 1
    shard.write_bytes(flipped)
    with pytest.raises(UserError, match="damaged: its sha256 is"):
        mix(of(SYNC, UnitSource(tmp_path / "units", 1.0)), tmp_path / "out")


def test_two_sets_of_one_tokenizer_mix(talks: list[UnitSample], units: Path, tmp_path: Path) -> None:
    others = [replace(talk, id=f"other {talk.id}", source="others") for talk in talks]
    unit_set(tmp_path / "others", others, audio=False)
    visits = whole(made(of(SYNC, UnitSource(units, 1.0), UnitSource(tmp_path / "others", 1.0)), tmp_path / "out"))
    assert len({name for name, _ in visits}) == 2 * (DIALOGUES - 1)


def test_a_dialogue_in_two_voices_is_two_dialogues(talks: list[UnitSample], tmp_path: Path) -> None:
    for name, manifest in {"espeak": "chats", "vits": "chats", "calls": "calls"}.items():
        card = unit_set(tmp_path / name, talks, audio=False)
        parent = {"kind": "dialogues", "fingerprint": manifest}
        write_card(tmp_path / name, replace(card, parents=[parent]))

    def came(weight: float, *names: str) -> set[tuple[str, float]]:
        """Which dialogues came in a mix, and when."""
        settings = of(TEXT, *(UnitSource(tmp_path / name, weight) for name in names), epochs=1)
        sequences = made(settings, tmp_path / f"{weight} of {names}")
        return {(document.id, document.progress) for sequence in sequences for document in sequence.documents}

    for weight, same in ((1.0, True), (0.5, False)):
        espeak = came(weight, "espeak")
        vits = came(weight, "espeak", "vits") - espeak
        assert ({name for name, _ in vits} == {name for name, _ in espeak}) == same
        assert vits
    # Sets of other manifests have nothing to do with each other.
    assert came(1.0, "espeak", "calls") == came(1.0, "espeak")


def test_a_dialogue_in_two_splits_is_refused(talks: list[UnitSample], units: Path, tmp_path: Path) -> None:
    # The same dialogues, made with other splits: what is validation there would be trained on here.
    turned = {"train": "valid", "valid": "train"}
    unit_set(tmp_path / "turned", [replace(talk, split=turned[talk.split]) for talk in talks], audio=False)
    both = of(SYNC, UnitSource(units, 1.0), UnitSource(tmp_path / "turned", 1.0))
    with pytest.raises(UserError, match=rf"{DIALOGUES} dialogues are in the split 'train' .*\(turned, units\)"):
        mix(both, tmp_path / "out")
    with pytest.raises(UserError, match="in another split of another"):
        plan_mix(both)


def test_units_of_two_tokenizers_are_refused_with_both_named(
    talks: list[UnitSample], units: Path, tmp_path: Path
) -> None:
    foreign = {**IDENTITY, "kind": "foreign", "quantizer_sha256": "f00d"}
    unit_set(tmp_path / "foreign", talks, tokenizer=foreign, audio=False)
    with pytest.raises(UserError, match=r"two tokenizers: test .*foreign .*differ in kind, quantizer_sha256"):
        mix(of(SYNC, UnitSource(units, 1.0), UnitSource(tmp_path / "foreign", 1.0)), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage": 4}, "--stage"),
        ({"epochs": 0}, "--epochs"),
        ({"epochs": 70_000}, "--epochs is 1 to 65535"),
        ({"sequence_length": 8}, "--sequence-length"),
        ({"sequence_length": 10**13}, "--sequence-length"),
        ({"chunk_ms": 10**15}, "--chunk-ms"),
        ({"chunk_ms": 150}, "whole number of frames"),
        ({"split": "dev"}, "--split"),
        ({"split": "test"}, "nothing to mix"),
        ({"chunk_ms": 8000, "sequence_length": 64}, r"64 tokens cannot hold one chunk \(--sequence-length\)"),
        ({"stage": 1, "curriculum": "steep"}, "no curriculum 'steep'"),
        ({"stage": 1, "level": "word"}, "--level"),
        ({"vocabulary": "no/such/directory/here"}, "no tokenizer could be loaded"),
    ],
)
def test_wrong_settings_are_refused(
    changes: dict[str, object], says: str, units: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=says):
        mix(of(SYNC, UnitSource(units, 1.0), **changes), tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("stage", 1, 3),
        ("epochs", 1, 65_535),
        ("chunk_ms", 1, 60_000),
        ("sequence_length", 64, 2**24),
        ("sequences_per_shard", 1, None),
    ],
)
def test_a_setting_may_be_all_that_its_refusal_says(name: str, least: int, most: int | None) -> None:
    source = UnitSource(Path("units"), 65_535.0)
    for good in (least, most or 10**9):
        check_ranges(of(SYNC, source, **{name: good}))
    for bad in (least - 1, *([most + 1] if most else [])):
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} is {least}.*{most or 'or more'}"):
            check_ranges(of(SYNC, source, **{name: bad}))


@pytest.mark.parametrize(
    ("settings", "unused", "used"),
    [
        (TEXT, {"chunk_ms": 240}, {"level": "turn"}),
        (SYNC, {"curriculum": "linear", "level": "turn"}, {"chunk_ms": 240}),
    ],
    ids=["stage 1", "stage 2"],
)
def test_a_setting_that_a_stage_has_no_use_for_makes_no_other_mix(
    settings: MixSettings, unused: dict[str, object], used: dict[str, object], units: Path
) -> None:
    plain, same, other = (check(of(settings, UnitSource(units, 1.0), **changes))[0] for changes in ({}, unused, used))
    assert same.fingerprint == plain.fingerprint != other.fingerprint


def test_a_weight_that_no_mix_could_end_with_is_refused(units: Path) -> None:
    for weight in (70_000.0, 1e300):
        with pytest.raises(UserError, match="UNITS:WEIGHT is 65535 at most"):
            plan_mix(of(SYNC, UnitSource(units, weight)))


def test_weights_are_read_from_the_command_line(tmp_path: Path) -> None:
    assert UnitSource.parse("units/a:0.5") == UnitSource(Path("units/a"), 0.5)
    assert UnitSource.parse("units/a") == UnitSource(Path("units/a"), 1.0)
    assert UnitSource.parse("s3:units") == UnitSource(Path("s3:units"), 1.0)
    (tmp_path / "set:2").mkdir()
    assert UnitSource.parse(f"{tmp_path}/set:2") == UnitSource(tmp_path / "set:2", 1.0)
    for weight in ("-1", "0", "nan", "inf"):
        with pytest.raises(UserError, match="not a positive number"):
            UnitSource.parse(f"units/a:{weight}")
    with pytest.raises(UserError, match="'twice' is no number"):
        UnitSource.parse(f"{tmp_path}/set:2:twice")
    assert UnitSource.parse(f"{tmp_path}/set:2:0.25") == UnitSource(tmp_path / "set:2", 0.25)
