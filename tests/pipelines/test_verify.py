from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from duologue import progress
from duologue.errors import UserError
from duologue.formats.card import CARD, read_card, write_card
from duologue.formats.rejects import REJECTS, Reject
from duologue.formats.sequences import VOCABULARY, PackedSequence, packed_sequence
from duologue.formats.shards import read_shard
from duologue.formats.units import UnitSample, unit_sample
from duologue.formats.vocabulary import Vocabulary
from duologue.manifests.manifest import ROOT
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.verify import verify
from tests.evaluate.making import UNITS, dialogue, unit_set

Member = tuple[str, bytes]


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory, dialogues: Path, recordings: Path) -> Path:
    """One artefact of each kind, undamaged."""
    place = tmp_path_factory.mktemp("artefacts")
    shutil.copytree(dialogues, place / "dialogues")
    shutil.copytree(recordings, place / "recordings")
    rejects = [Reject("talk 9", "synthesize", "silent", "no sound")]
    unit_set(place / "units", [dialogue(number, 6.0) for number in range(4)], rejects=rejects)
    for stage in (1, 2):
        settings = MixSettings(
            stage=stage,
            sources=(UnitSource(place / "units", 1.0),),
            sequence_length=128,
            sequences_per_shard=4,
            curriculum="constant:0.5",
        )
        mix(settings, place / f"stage{stage}")
    return place


@pytest.fixture
def copy(artefacts: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(artefacts / name, tmp_path / name))

    return copied


def members(path: Path) -> list[Member]:
    """The members of a shard as they stand in it, by file name."""
    with tarfile.open(path) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def replace_shard(directory: Path, name: str, content: list[Member]) -> None:
    """Put other members into a shard, with a card that agrees: what is wrong is only in the content."""
    path = directory / name
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in content:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    agree(directory, name)


def agree(directory: Path, name: str) -> None:
    """Let the card, and the sidecar if there is one, say of a file what it is now."""
    data = (directory / name).read_bytes()
    card = read_card(directory)
    true = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    sidecar = (directory / name).with_suffix(".json")
    if sidecar.exists():
        content = json.loads(sidecar.read_text())
        content["shards"] = {stem: {**shard, **true} for stem, shard in content["shards"].items()}
        sidecar.write_text(json.dumps(content))
    shards = [{**shard, **true} if shard["name"] == name else shard for shard in card.shards]
    write_card(directory, replace(card, shards=shards))


def change_units(directory: Path, edit: Callable[[UnitSample], UnitSample], number: int = 0) -> None:
    name = "units-00000.tar"
    samples = list(read_shard(directory / name))
    edited = {samples[number].key: edit(unit_sample(samples[number].members)).members()}
    content = [(s.key, edited.get(s.key, s.members)) for s in samples]
    replace_shard(directory, name, [(f"{key}.{ext}", data) for key, each in content for ext, data in each.items()])


def change_sequence(directory: Path, number: int, edit: Callable[[PackedSequence], PackedSequence]) -> None:
    name = "train-00000.tar"
    samples = list(read_shard(directory / name))
    content = []
    for place, sample in enumerate(samples):
        each = edit(packed_sequence(sample.members)).members() if place == number else sample.members
        content += [(f"{sample.key}.{extension}", data) for extension, data in each.items()]
    replace_shard(directory, name, content)


def named(problems: list[str], what: str) -> bool:
    return any(what in problem for problem in problems)


KINDS = ["dialogues", "recordings", "units", "stage1", "stage2"]


def first_shard(directory: Path) -> Path:
    return directory / read_card(directory).shards[0]["name"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_undamaged_artefact_has_no_problems(artefacts: Path, kind: str) -> None:
    assert verify(artefacts / kind) == []


@pytest.mark.parametrize(
    ("kind", "content"), [("dialogues", "content"), ("units", "content of units"), ("stage2", "content of train")]
)
def test_verify_tells_how_far_it_is_where_it_takes_long(
    artefacts: Path,
    kind: str,
    content: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verify(artefacts / kind)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    verify(artefacts / kind)
    told = capsys.readouterr().err
    assert "verify: checksums: " in told
    assert f"verify: {content}: " in told


def test_what_has_no_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unfinished"):
        verify(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_named_with_its_shard(copy: Callable[[str], Path], kind: str) -> None:
    path = first_shard(copy(kind))
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    assert verify(path.parent) == [f"{path}: its checksum is not the card's: its bytes were changed"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_shard_is_named(copy: Callable[[str], Path], kind: str) -> None:
    path = first_shard(copy(kind))
    path.write_bytes(path.read_bytes()[:-100])
    (problem,) = verify(path.parent)
    assert str(path) in problem and "bytes, the card says" in problem


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_shard_is_named(copy: Callable[[str], Path], kind: str) -> None:
    path = first_shard(copy(kind))
    path.unlink()
    assert verify(path.parent) == [f"{path}: the shard is missing"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_shard_is_named(copy: Callable[[str], Path], kind: str) -> None:
    path = first_shard(copy(kind))
    foreign = path.with_name(path.name.replace("00000", "00077"))
    shutil.copy(path, foreign)
    assert verify(path.parent) == [f"{foreign}: the card does not know this shard"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_count_is_named(copy: Callable[[str], Path], kind: str) -> None:
    directory = copy(kind)
    card = read_card(directory)
    total = card.totals["samples"] + 1
    write_card(directory, replace(card, totals={**card.totals, "samples": total}))
    assert named(verify(directory), f"the totals say {total}")


def test_rejects_that_went_missing_are_noticed(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    (directory / REJECTS).unlink()
    assert named(verify(directory), "0 inputs are in the rejects, the totals say 1")


def test_rejects_of_other_reasons_are_noticed(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    card = read_card(directory)
    write_card(directory, replace(card, rejects={"crash": 1}))
    assert named(verify(directory), "counts by reason")


def test_damaged_rejects_are_named(copy: Callable[[str], Path]) -> None:
    path = copy("units") / REJECTS
    path.write_bytes(path.read_bytes()[:-20])
    assert named(verify(path.parent), f"{path}: it cannot be read")


def test_rejects_without_a_column_are_named(copy: Callable[[str], Path]) -> None:
    path = copy("units") / REJECTS
    pq.write_table(pq.read_table(path).drop_columns(["message"]), path)
    assert named(verify(path.parent), f"{path}: it cannot be read: it lacks the columns message")


def test_inputs_that_went_nowhere_are_noticed(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    card = read_card(directory)
    write_card(directory, replace(card, totals={**card.totals, "inputs": 100}))
    assert named(verify(directory), "the inputs are not the samples and the rejects together")


@pytest.mark.parametrize(("kind", "part", "key"), [("units", "tokenizer", "rate"), ("stage2", "config", "split")])
def test_a_card_that_lacks_what_its_samples_are_checked_by_is_named(
    copy: Callable[[str], Path], kind: str, part: str, key: str
) -> None:
    directory = copy(kind)
    card = read_card(directory)
    left = {name: value for name, value in getattr(card, part).items() if name != key}
    write_card(directory, replace(card, **{part: left}))
    assert verify(directory) == [f"{directory / CARD}: its {part} lacks {key}"]


@pytest.mark.parametrize(
    ("field", "wrong", "problem"),
    [
        ("id", "talk 0", "the id talk 0 comes twice"),
        ("split", "dev", "is in a split 'dev'"),
        ("turns", [{"speaker": 2, "text": "hi"}, {"speaker": 0, "text": "hi"}], "has speakers [0, 2]"),
    ],
)
def test_a_wrong_row_of_a_manifest_is_named(
    copy: Callable[[str], Path], field: str, wrong: object, problem: str
) -> None:
    path = first_shard(copy("dialogues"))
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[1][field] = wrong
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    agree(path.parent, path.name)
    (only,) = verify(path.parent)
    assert problem in only


def test_recordings_without_a_root_are_noticed(copy: Callable[[str], Path]) -> None:
    directory = copy("recordings")
    (directory / ROOT).unlink()
    assert named(verify(directory), str(directory / ROOT))


def _out_of_range(sample: UnitSample) -> UnitSample:
    units = sample.units.copy()
    units[1, 7] = UNITS
    return replace(sample, units=units)


def _beyond_the_end(sample: UnitSample) -> UnitSample:
    return replace(sample, sentences=(replace(sample.sentences[0], first_frame=140),))


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (_out_of_range, f"units 0 to {UNITS}, outside 0 to {UNITS - 1}"),
        (lambda sample: replace(sample, units=sample.units[:, :-1]), "149 frames for 6.0 s, the clock asks for 150"),
        (lambda sample: replace(sample, duration_s=6.1), "150 frames for 6.1 s, the clock asks for 153"),
        (_beyond_the_end, "stands outside the dialogue"),
        (lambda s: replace(s, sentences=(replace(s.sentences[0], channel=2),)), "stands outside the dialogue"),
        (lambda s: replace(s, sentences=(replace(s.sentences[0], turn=5),)), "stands outside the dialogue"),
        (lambda sample: replace(sample, id="talk 7"), "the key is not that of the id talk 7"),
        (lambda sample: replace(sample, id="talk 1"), "the id talk 1 comes twice"),
        (lambda sample: replace(sample, units=sample.units[0]), "not int16 [2, frames]"),
    ],
)
def test_a_wrong_dialogue_of_a_unit_set_is_named(
    copy: Callable[[str], Path], edit: Callable[[UnitSample], UnitSample], problem: str
) -> None:
    directory = copy("units")
    change_units(directory, edit)
    problems = verify(directory)
    assert named(problems, problem)
    assert all(str(directory / "units-00000.tar") in each for each in problems)


def test_a_sample_without_units_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    content = members(directory / "units-00000.tar")
    replace_shard(directory, "units-00000.tar", content[1:])
    assert named(verify(directory), "not a sample of a unit set")


def test_members_of_a_sample_that_stand_apart_are_named(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    first, *rest = members(directory / "units-00000.tar")
    replace_shard(directory, "units-00000.tar", [*rest, first])
    key = first[0].split(".")[0]
    assert named(verify(directory), f"the key {key} comes twice")


def test_a_repeated_key_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    content = members(directory / "units-00000.tar")
    replace_shard(directory, "units-00000.tar", [*content, *content[:2]])
    assert named(verify(directory), "comes twice")


def test_audio_that_is_no_flac_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("units")
    content = [(name.replace(".flac", ".wav"), data) for name, data in members(directory / "audio-00000.tar")]
    replace_shard(directory, "audio-00000.tar", content)
    assert named(verify(directory), "not one FLAC")


def _longer(sequence: PackedSequence) -> PackedSequence:
    first, *rest = sequence.documents
    return replace(sequence, documents=(first._replace(length=first.length + 1), *rest))


def _token(place: int, token: int) -> Callable[[PackedSequence], PackedSequence]:
    def edit(sequence: PackedSequence) -> PackedSequence:
        tokens = sequence.tokens.copy()
        tokens[place] = token
        return replace(sequence, tokens=tokens)

    return edit


def _early(sequence: PackedSequence) -> PackedSequence:
    *rest, last = sequence.documents
    return replace(sequence, documents=(*rest, last._replace(progress=0.0)))


BASE = Vocabulary.byte_level(UNITS).base_size
SIZE = Vocabulary.byte_level(UNITS).size


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (_token(9, SIZE), f"the token {SIZE} is not in the vocabulary of {SIZE}"),
        (_token(0, 65), "does not begin with a speaker's tag"),
        (_token(0, BASE + 1), "is no synchronous stream"),
        (_token(9, 65), "is no synchronous stream"),
        (lambda s: replace(s, tokens=np.append(s.tokens[:30], [BASE + 5] * 98).astype("u4")), "has a chunk with"),
        (lambda s: replace(s, tokens=s.tokens[:-1]), "127 tokens, the card says 128"),
        (_token(127, 65), "behind token 127 there is something else than padding"),
        (_longer, "talk 1 stands at 80, the one before ends at 81"),
        (_longer, "the documents have 417 tokens, the totals say 416"),
        (_early, "comes after what it should come before"),
    ],
)
def test_a_wrong_sequence_is_named(
    copy: Callable[[str], Path], edit: Callable[[PackedSequence], PackedSequence], problem: str
) -> None:
    directory = copy("stage2")
    change_sequence(directory, 1, edit)
    assert named(verify(directory), problem)


def test_sequences_out_of_order_are_named(copy: Callable[[str], Path]) -> None:
    directory = copy("stage1")
    content = members(directory / "train-00000.tar")
    replace_shard(directory, "train-00000.tar", [*content[2:], *content[:2]])
    problems = verify(directory)
    assert named(problems, "000000001: sequence 000000000 should stand here")
    assert named(problems, "talk 3 comes after what it should come before")


def test_a_sequence_without_tokens_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("stage1")
    content = members(directory / "train-00000.tar")
    replace_shard(directory, "train-00000.tar", content[1:])
    assert named(verify(directory), "000000000: not a sample of a sequence set")


def test_text_is_welcome_in_stage_1_and_not_before_a_tag(copy: Callable[[str], Path]) -> None:
    directory = copy("stage1")
    change_sequence(directory, 0, _token(9, 65))
    assert verify(directory) == []
    change_sequence(directory, 0, _token(44, 65))
    assert named(verify(directory), "talk 0 does not begin with a speaker's tag")


def test_a_foreign_vocabulary_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("stage2")
    Vocabulary.byte_level(UNITS + 1).save(directory / VOCABULARY)
    assert named(verify(directory), f"{directory / VOCABULARY}: it is not the vocabulary that the card names")


def test_a_missing_vocabulary_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("stage2")
    shutil.rmtree(directory / VOCABULARY)
    assert named(verify(directory), str(directory / VOCABULARY))
