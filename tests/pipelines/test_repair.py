from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from duologue import progress
from duologue.errors import UserError
from duologue.formats.card import CARD, read_card
from duologue.formats.locks import locked
from duologue.formats.rejects import REJECTS
from duologue.pipelines.fit import fit_tokenizer
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.recall import command_of
from duologue.pipelines.repair import Repair, repair
from duologue.pipelines.synthesize import Settings, synthesize
from duologue.pipelines.verify import verify
from duologue.tokenize.thresholds import Thresholds
from tests.pipelines.comparing import contents
from tests.pipelines.effort import calls, unit_set
from tests.pipelines.test_verify import agree, members, replace_shard

KEPT = Settings(keep_audio=True)
Damage = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, dialogues: Path, recordings: Path) -> Path:
    """A manifest, units of it with one dialogue a shard, those of another tokenizer, and a mix."""
    place = tmp_path_factory.mktemp("lab")
    (place / "manifests").mkdir()
    shutil.copytree(dialogues, place / "manifests" / "talks")
    fit_tokenizer(recordings, place / "tokenizer", units=8)
    for name, tokenizer in (("talks", "embedded"), ("foreign", str(place / "tokenizer"))):
        settings = Settings(keep_audio=True, tokenizer=tokenizer)
        synthesize(place / "manifests" / "talks", place / "units" / name, settings, rows_per_shard=1)
    mixed(place, place / "sequences" / "stage2")
    return place


def mixed(lab: Path, out: Path) -> None:
    source = UnitSource(lab / "units" / "talks", 1.5)
    mix(MixSettings(stage=2, sources=(source,), sequence_length=128, sequences_per_shard=3, epochs=2), out)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def doubled(directory: Path, _: Path) -> None:
    content = members(directory / "units-00003.tar")
    replace_shard(directory, "units-00003.tar", [*content, *content])


def foreign_tokenizer(directory: Path, lab: Path) -> None:
    for suffix in ("tar", "json"):
        shutil.copy(lab / "units" / "foreign" / f"units-00003.{suffix}", directory)


def foreign_tokenizer_with_a_card_that_agrees(directory: Path, lab: Path) -> None:
    foreign_tokenizer(directory, lab)
    agree(directory, "units-00003.tar")


DAMAGES: dict[str, tuple[Damage, list[int]]] = {
    "a bit flip": (lambda out, _: flip(out / "units-00003.tar"), [3]),
    "a bit flip in the audio": (lambda out, _: flip(out / "audio-00001.tar"), [1]),
    "a truncated tar": (lambda out, _: cut(out / "units-00000.tar"), [0]),
    "a missing tar": (lambda out, _: (out / "units-00004.tar").unlink(), [4]),
    "a missing sidecar": (lambda out, _: (out / "units-00003.json").unlink(), [3]),
    "a missing sidecar of a partition without a shard": (lambda out, _: (out / "units-00002.json").unlink(), [2]),
    "a damaged sidecar": (lambda out, _: cut(out / "units-00001.json"), [1]),
    "a duplicate key": (doubled, [3]),
    "a foreign tokenizer": (foreign_tokenizer, [3]),
    "a foreign tokenizer, well hidden": (foreign_tokenizer_with_a_card_that_agrees, [3]),
    "lost rejects": (lambda out, _: (out / REJECTS).unlink(), []),
    "all of it": (lambda out, lab: [damage(out, lab) for damage in (doubled, _two)], [0, 1, 3]),
}


def _two(directory: Path, _: Path) -> None:
    flip(directory / "units-00000.tar")
    (directory / "units-00001.json").unlink()


@pytest.fixture
def copy(lab: Path, tmp_path: Path) -> Callable[[str], Path]:
    def copied(name: str) -> Path:
        return Path(shutil.copytree(lab / name, tmp_path / Path(name).name))

    return copied


@pytest.mark.parametrize("name", DAMAGES)
def test_just_what_is_damaged_is_made_again_to_the_same_bytes(
    lab: Path, copy: Callable[[str], Path], name: str
) -> None:
    damage, numbers = DAMAGES[name]
    out = copy("units/talks")
    damage(out, lab)
    assert verify(out)
    before = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    names = {path.name for path in out.iterdir()}
    done = repair(out)
    assert done.partitions == numbers and done.problems and not done.left
    assert sorted(done.removed) == sorted(names - {path.name for path in out.iterdir()})
    assert not (out / CARD).exists()
    synthesize(lab / "manifests" / "talks", out, KEPT, rows_per_shard=1)
    assert contents(out) == contents(lab / "units" / "talks")
    sound = [name for name in before if int(name[-9:-4]) not in numbers]
    assert sound and all((out / name).stat().st_ino == before[name] for name in sound)


def test_what_is_sound_is_left_as_it_is(lab: Path, copy: Callable[[str], Path]) -> None:
    out = copy("units/talks")
    done = repair(out)
    assert (done.problems, done.removed, done.again) == ([], (), ())
    assert contents(out) == contents(lab / "units" / "talks")


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_card_is_written_again_from_the_sidecars(
    lab: Path, copy: Callable[[str], Path], damage: Callable[[Path], None]
) -> None:
    out = copy("units/talks")
    damage(out / CARD)
    assert repair(out).partitions == []
    synthesize(lab / "manifests" / "talks", out, KEPT, rows_per_shard=1)
    assert contents(out) == contents(lab / "units" / "talks")


@pytest.mark.parametrize(
    ("damage", "name", "says"),
    [
        (flip, "units-00001.tar", "not its sidecar's"),
        (cut, "audio-00001.tar", "not its sidecar's"),
        (Path.unlink, "units-00001.tar", "the shard is missing"),
        (cut, "units-00001.json", "the sidecar is damaged"),
    ],
)
def test_an_unfinished_run_is_repaired_by_its_sidecars(
    lab: Path, copy: Callable[[str], Path], damage: Callable[[Path], None], name: str, says: str
) -> None:
    out = copy("units/talks")
    for missing in (CARD, REJECTS, "units-00004.json"):
        (out / missing).unlink()
    assert not repair(out).problems
    damage(out / name)
    done = repair(out)
    (problem,) = done.problems
    assert done.partitions == [1] and not done.finished and name in problem and says in problem
    assert not done.again and not done.known
    synthesize(lab / "manifests" / "talks", out, KEPT, rows_per_shard=1)
    assert contents(out) == contents(lab / "units" / "talks")


def test_a_long_look_at_an_unfinished_run_tells_how_far_it_is(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy("units/talks")
    (out / CARD).unlink()
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    repair(out)
    assert "verify: checksums: 1 of " in capsys.readouterr().err


@pytest.mark.parametrize("stop", [0, 2, 4])
def test_a_repair_that_is_killed_leaves_a_directory_that_is_still_damaged(
    lab: Path, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    out = copy("units/talks")
    flip(out / "units-00001.tar")
    left, unlink = stop, Path.unlink

    def dying(path: Path, missing_ok: bool = False) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", dying)
    with pytest.raises(KeyboardInterrupt):
        repair(out)
    monkeypatch.undo()
    assert verify(out)
    assert repair(out).partitions == [1]
    synthesize(lab / "manifests" / "talks", out, KEPT, rows_per_shard=1)
    assert contents(out) == contents(lab / "units" / "talks")


def _vocabulary(out: Path) -> None:
    flip(out / "vocabulary" / "vocabulary.json")


@pytest.mark.parametrize(
    ("damage", "numbers"), [(lambda out: cut(out / "train-00001.tar"), [1]), (_vocabulary, [])], ids=["cut", "words"]
)
def test_a_mix_is_repaired_and_its_command_named(
    lab: Path, damage: Callable[[Path], None], numbers: list[int]
) -> None:
    out = lab / "sequences" / "copy"
    shutil.copytree(lab / "sequences" / "stage2", out)
    damage(out)
    done = repair(out)
    assert done.partitions == numbers
    assert (out / "vocabulary").exists() == ("vocabulary" not in done.removed) == bool(numbers)
    words = done.again
    assert done.known and words[:4] == ["mix", f"{lab / 'units' / 'talks'}:1.5", "--stage", "2"]
    assert words[words.index("--epochs") + 1] == "2" and "VOCABULARY" not in words
    mixed(lab, out)
    assert contents(out) == contents(lab / "sequences" / "stage2")
    shutil.rmtree(out)


def test_a_mix_that_loses_every_shard_is_made_again_in_its_place(lab: Path) -> None:
    out = lab / "sequences" / "lost"
    shutil.copytree(lab / "sequences" / "stage2", out)
    for path in out.glob("*.tar"):
        flip(path)
    repair(out)
    assert not list(out.glob("train-*")) and (out / "vocabulary").is_dir()
    mixed(lab, out)
    assert contents(out) == contents(lab / "sequences" / "stage2")
    shutil.rmtree(out)


def test_the_command_of_units_names_what_the_card_tells(lab: Path) -> None:
    foreign = lab / "units" / "foreign"
    words = command_of(foreign, read_card(foreign))
    assert words[:2] == ["synthesize", str(lab / "manifests" / "talks")]
    assert {"--keep-audio", "TOKENIZER"} <= {*words} and not {"--voices", "--gaps", "--model"} & {*words}
    card = read_card(foreign)
    config = {**card.config, "voices": ["rp-man", "us-man"], "shape": {}, "engine": {"engine": "vits"}}
    words = command_of(foreign, replace(card, config=config))
    assert {"rp-man,us-man", "GAPS", "MODEL"} <= {*words}
    config = {"station": "tokenize", "rows_per_shard": 2, "keep_audio": False}
    for checks, said in (
        (None, ["--no-checks"]),
        ({"thresholds": asdict(Thresholds(clipped=0.01, correlation=None))}, ["correlation=off", "clipped=0.01"]),
    ):
        made = replace(card, parents=(), config={**config, "checks": checks})
        words = command_of(foreign, replace(made, parents=[{"kind": "recordings", "fingerprint": "?"}]))
        assert words[1] == "RECORDINGS" and {*said} <= {*words}


def test_a_set_without_sidecars_is_sound_but_cannot_be_repaired(copy: Callable[[str], Path]) -> None:
    out = copy("units/talks")
    for path in out.glob("units-*.json"):
        path.unlink()
    assert verify(out) == [] and not repair(out).problems
    flip(out / "units-00001.tar")
    before = contents(out)
    with pytest.raises(UserError, match="no sidecars"):
        repair(out)
    assert contents(out) == before


def test_a_shard_of_nobody_is_left_alone_and_named(copy: Callable[[str], Path]) -> None:
    out = copy("units/talks")
    shutil.copy(out / "units-00000.tar", out / "units-00077.tar")
    done = repair(out)
    assert done.left == done.problems and not done.removed
    assert "units-00077.tar" in done.left[0] and (out / "units-00077.tar").exists() and read_card(out)


def test_a_damaged_manifest_is_not_taken_apart(copy: Callable[[str], Path]) -> None:
    out = copy("manifests/talks")
    flip(out / "dialogues-00000.parquet")
    before = contents(out)
    with pytest.raises(UserError, match="not made of parts"):
        repair(out)
    assert contents(out) == before


def test_a_run_that_is_writing_is_not_disturbed(copy: Callable[[str], Path]) -> None:
    out = copy("units/talks")
    flip(out / "units-00001.tar")
    before = contents(out)
    with locked(out, fcntl.LOCK_SH), pytest.raises(UserError, match="another run is writing"):
        repair(out)
    assert contents(out) == before


def test_other_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match="no artefact of Duologue"):
        repair(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        repair(tmp_path / "nowhere")
    assert (tmp_path / "notes.json").exists()


def test_many_lost_shards_are_taken_back_in_time_that_grows_with_them(tmp_path: Path) -> None:
    unit_set(tmp_path / "few", 20)
    unit_set(tmp_path / "many", 200)
    cost = calls(lambda: repair(tmp_path / "few"))
    found: list[Repair] = []
    assert calls(lambda: found.append(repair(tmp_path / "many"))) < 12 * cost
    assert found[0].partitions == list(range(200))
