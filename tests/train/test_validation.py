import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.errors import UserError
from duologue.formats.card import read_card, write_card
from duologue.formats.metrics import VALID, read_lines
from duologue.formats.sequences import SequenceSet
from duologue.train.checkpoint import checkpoints, load_checkpoint_model
from duologue.train.data import IGNORED, read_rows
from duologue.train.loop import train
from duologue.train.model import KINDS, kind_masks, token_losses
from duologue.train.parallel import World
from duologue.train.validation import Validation, open_valid
from tests.train.toy import recipe, write_set
from tests.train.validating import validate, write_valid

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_valid(tmp_path_factory.mktemp("valid") / "calls", sequences=7)


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_valid(tmp_path_factory.mktemp("valid") / "chats", stage=1, sequences=5)


def run(checkpoint: Path, sets: list[Path], **settings: Any) -> dict[str, Any]:
    validation = Validation(recipe(**settings), [SequenceSet(path) for path in sets], ALONE)
    return validation.run(load_checkpoint_model(checkpoint), step=7)


def _flat(result: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in result.items():
        flat |= _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def test_the_losses_are_the_means_over_all_targets(stage2_run: Path, calls: Path, chats: Path) -> None:
    checkpoint = checkpoints(stage2_run)[-1]
    result = run(checkpoint, [calls, chats], micro_batch=2)
    model = load_checkpoint_model(checkpoint)
    losses, masks = [], []
    with torch.no_grad():
        for path, count in ((calls, 7), (chats, 5)):
            for index in range(count):
                batch = read_rows(SequenceSet(path), range(index, index + 1))
                losses.append(token_losses(model, batch).double())
                masks.append(kind_masks(batch.targets, 257))
    every, kinds = torch.cat(losses), torch.cat(masks, dim=1)
    assert result["targets"] == int(kinds.sum())
    assert result["loss"] == pytest.approx(float(every.sum() / kinds.sum()), abs=1e-6)
    for kind, mask in zip(KINDS, kinds, strict=True):
        assert result[f"loss_{kind}"] == pytest.approx(float((every * mask).sum() / mask.sum()), abs=1e-6)


def test_losses_are_told_by_set_and_by_source(stage2_run: Path, calls: Path, chats: Path) -> None:
    checkpoint = checkpoints(stage2_run)[-1]
    result = run(checkpoint, [calls, chats], micro_batch=2)
    assert {name: one["stage"] for name, one in result["sets"].items()} == {"calls": 2, "chats": 1}
    assert result["sets"]["calls"]["loss_text"] is None and result["sets"]["chats"]["loss_text"] > 0
    # It learnt streams like those of the one, and no text.
    assert result["sets"]["calls"]["loss"] < result["sets"]["chats"]["loss"]
    model = load_checkpoint_model(checkpoint)
    by_set, by_source = defaultdict(list), defaultdict(list)
    for path in (calls, chats):
        for index, sequence in enumerate(SequenceSet(path)):
            batch = read_rows(SequenceSet(path), range(index, index + 1))
            with torch.no_grad():
                losses = token_losses(model, batch)[0].double()
            for document in sequence.documents:
                inside = slice(document.offset, document.offset + document.length)
                wanted = losses[inside][batch.targets[0, inside] != IGNORED].tolist()
                by_set[path.name] += wanted
                by_source[document.source] += wanted
    for parts, expected in ((result["sets"], by_set), (result["sources"], by_source)):
        assert parts.keys() == expected.keys()
        for name, each in expected.items():
            assert parts[name]["targets"] == len(each)
            assert parts[name]["loss"] == pytest.approx(sum(each) / len(each), abs=1e-6)


@pytest.mark.parametrize("processes", [2, 3])
def test_the_result_does_not_depend_on_the_number_of_processes(
    stage2_run: Path, calls: Path, chats: Path, tmp_path: Path, processes: int
) -> None:
    # Of 3 sequences, 3 processes have one each, of 2 one has none: empty batches stand in.
    checkpoint, sets = checkpoints(stage2_run)[-1], [calls, chats]
    settings = {"sample_chunks": 2, "valid_sequences": 2 + processes // 2, "sequences_per_step": 2, "micro_batch": 1}
    alone = _flat(run(checkpoint, sets, **settings))
    results = [_flat(one) for one in validate(processes, tmp_path / "place", settings, checkpoint, sets)]
    assert results == [results[0]] * processes
    assert results[0].keys() == alone.keys()
    for key, value in alone.items():
        assert results[0][key] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), key


def test_only_the_first_sequences_are_read(stage2_run: Path, calls: Path) -> None:
    checkpoint = checkpoints(stage2_run)[-1]
    assert run(checkpoint, [calls], valid_sequences=3)["targets"] < run(checkpoint, [calls])["targets"]


def test_a_shard_with_a_changed_byte_is_refused_if_a_validation_reads_it(tmp_path: Path) -> None:
    valid = write_set(tmp_path / "valid", sequences=8, per_shard=4)
    shard = valid / "train-00001.tar"
    content = bytearray(shard.read_bytes())
    # The lowest bit of a token.
    content[512 + 128] ^= 1
    shard.write_bytes(content)
    Validation(recipe(valid_sequences=4), [SequenceSet(valid)], ALONE)
    with pytest.raises(UserError, match="the shard is damaged: its sha256 is") as caught:
        Validation(recipe(valid_sequences=5), [SequenceSet(valid)], ALONE)
    assert "train-00001" in str(caught.value)


def test_it_is_due_every_so_many_steps_and_at_the_end(calls: Path) -> None:
    sets = [SequenceSet(calls)]
    validation = Validation(recipe(valid_every=4), sets, ALONE)
    assert [step for step in range(1, 11) if validation.due(step, step == 10)] == [4, 8, 10]
    assert not Validation(recipe(valid_every=0), sets, ALONE).due(4, True)
    assert not Validation(recipe(valid_every=4), [], ALONE).due(4, True)


def test_a_run_validates_as_it_goes_and_resumed_it_says_the_same(
    stage2_set: Path, calls: Path, tmp_path: Path
) -> None:
    settings = {"valid_every": 4, "steps": 10, "sample_chunks": 2, "checkpoint_every": 4, "keep_checkpoints": 9}
    out = tmp_path / "run"
    train(recipe(**settings), stage2_set, out, valid=[calls])
    lines = read_lines(out, VALID)
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert lines[-1]["loss"] < lines[0]["loss"]
    for last in checkpoints(out)[-2:]:
        shutil.rmtree(last)
    train(recipe(**settings), stage2_set, out, valid=[calls])
    assert read_lines(out, VALID) == lines


def test_validation_changes_nothing_in_training(stage2_set: Path, calls: Path, tmp_path: Path) -> None:
    settings = {"valid_every": 1, "steps": 4, "sample_chunks": 2}
    train(recipe(**settings), stage2_set, tmp_path / "with", valid=[calls])
    train(recipe(**settings), stage2_set, tmp_path / "without")
    losses = [[line["loss"] for line in read_lines(tmp_path / name)] for name in ("with", "without")]
    assert losses[0] == losses[1]
    assert not (tmp_path / "without" / VALID).exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 30}, r"the vocabulary of the valid set, \w{12}, is not that of the data, \w{12}; .* in units"),
        ({"tokenizer": "other"}, r"the unit tokenizer of the valid set, \w{12}, is not that of the data, \w{12}"),
        ({"chunk_ms": 200}, r"the valid set has chunks of 200 ms \(data \w{12}\), the data has chunks of 160 ms"),
    ],
)
def test_sets_that_do_not_fit_the_data_are_refused(
    stage2_set: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    wrong = write_valid(tmp_path / "wrong", sequences=2, **settings)
    with pytest.raises(UserError, match=message):
        open_valid(SequenceSet(stage2_set), [wrong])


def test_one_text_tokenizer_under_two_names_is_one_vocabulary(stage2_set: Path, tmp_path: Path) -> None:
    renamed = write_valid(tmp_path / "renamed", sequences=2)
    about = renamed / "vocabulary" / "vocabulary.json"
    about.write_text(about.read_text().replace('"name": "bytes"', '"name": "octets"'))
    card = read_card(renamed)
    write_card(renamed, replace(card, vocabulary={**card.vocabulary, "name": "octets"}))
    assert len(open_valid(SequenceSet(stage2_set), [renamed])) == 1


def test_the_training_set_and_sets_of_one_name_are_refused(stage2_set: Path, calls: Path, tmp_path: Path) -> None:
    data = SequenceSet(stage2_set)
    with pytest.raises(UserError, match="is the one that is trained on"):
        open_valid(data, [stage2_set])
    (tmp_path / "other").mkdir()
    twin = shutil.copytree(calls, tmp_path / "other" / "calls")
    with pytest.raises(UserError, match="two valid sets are called calls"):
        open_valid(data, [calls, Path(twin)])
    with pytest.raises(UserError, match="no such directory"):
        open_valid(data, [tmp_path / "none"])


def test_a_stage_one_set_need_not_have_the_chunks_of_the_data(stage2_set: Path, tmp_path: Path) -> None:
    other = write_valid(tmp_path / "stage1", stage=1, chunk_ms=200, sequences=2)
    assert len(open_valid(SequenceSet(stage2_set), [other])) == 1


def test_a_set_of_the_train_split_is_pointed_out_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = write_valid(tmp_path / "twin", sequences=3)
    Validation(recipe(), [SequenceSet(twin)], ALONE)
    assert capsys.readouterr().err == ""
    read = read_card(twin)
    write_card(twin, replace(read, config={**read.config, "split": "train"}))
    for rank in (0, 1):
        Validation(recipe(), [SequenceSet(twin)], World(rank, 2, torch.device("cpu")))
    assert capsys.readouterr().err.count("is of the train split") == 1


def test_valid_sets_without_a_dialogue_long_enough_for_a_sample_are_pointed_out_once(
    calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        Validation(recipe(sample_chunks=1000), [SequenceSet(calls)], World(rank, 2, torch.device("cpu")))
    assert capsys.readouterr().err.count("long enough for sample_chunks = 1000") == 1
    Validation(recipe(sample_chunks=2), [SequenceSet(calls)], ALONE)
    Validation(recipe(sample_chunks=1000), [], ALONE)
    assert capsys.readouterr().err == ""


def test_sets_without_sources_have_one_that_is_unnamed(stage2_run: Path, tmp_path: Path) -> None:
    old = write_set(tmp_path / "old", sequences=3)
    assert list(run(checkpoints(stage2_run)[-1], [old])["sources"]) == ["unnamed"]
