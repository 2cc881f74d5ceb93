import errno
import fcntl
import json
import math
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from duologue.errors import UserError
from duologue.formats.metrics import read_lines
from duologue.formats.temporary import temporary_name
from duologue.train import loop
from duologue.train.checkpoint import checkpoints
from duologue.train.loop import train
from duologue.train.run import held
from tests.train.toy import recipe, write_set


def test_the_loss_falls(stage2_run: Path) -> None:
    lines = read_lines(stage2_run)
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert lines[-1]["loss_tags"] < 0.6 * lines[0]["loss_tags"]


def test_a_line_has_every_number(stage2_run: Path) -> None:
    for number, line in enumerate(read_lines(stage2_run), start=1):
        assert (line["step"], line["stage"], line["loss_text"]) == (number, 2, None)
        assert 0 < line["data_share"] < 1 and line["tokens_per_s"] > 0 and line["memory_gb"] > 0.01
        assert line["tokens"] == 127 * number
        assert line["sequences"] == [2 * number - 2, 2 * number - 1]
        assert line["learning_rate"] == 1e-2 * min(1, number / 2)
        assert line["grad_norm"] > 0


def test_the_loss_is_the_mean_of_its_kinds(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", stage=1, sequences=2)
    train(recipe(stage=1), data, tmp_path / "run")
    (line,) = read_lines(tmp_path / "run")
    kinds = [line[f"loss_{kind}"] for kind in ("text", "units", "tags")]
    assert min(kinds) < line["loss"] < max(kinds)
    assert all(math.isfinite(kind) for kind in kinds)


def test_tensorboard_has_the_same_losses(stage2_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(steps=3), stage2_set, run, boards=["tensorboard"])
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    shown = [event.value for event in events.Scalars("loss")]
    assert shown == pytest.approx([line["loss"] for line in read_lines(run)])


def test_micro_batches_do_not_change_the_losses(stage2_set: Path, tmp_path: Path) -> None:
    settings = {"sequences_per_step": 8}
    train(recipe(**settings, micro_batch=8), stage2_set, tmp_path / "whole")
    train(recipe(**settings, micro_batch=1), stage2_set, tmp_path / "cut")
    whole, cut = (read_lines(tmp_path / name) for name in ("whole", "cut"))
    assert [line["loss"] for line in cut] == pytest.approx([line["loss"] for line in whole], abs=1e-4)


def test_the_same_run_twice_gives_the_same_bytes(stage2_set: Path, stage2_run: Path, tmp_path: Path) -> None:
    train(recipe(), stage2_set, tmp_path / "again")
    for name in ("run.json", "checkpoint-000020/model.safetensors", "checkpoint-000020/trainer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (stage2_run / name).read_bytes()


def test_bfloat16_computes_while_the_weights_stay_float32(stage2_set: Path, tmp_path: Path) -> None:
    train(recipe(dtype="bfloat16", steps=10), stage2_set, tmp_path / "run")
    lines = read_lines(tmp_path / "run")
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    weights = load_file(checkpoints(tmp_path / "run")[-1] / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_run_ends_with_its_steps_or_with_the_data(
    stage2_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(recipe(steps=3), stage2_set, tmp_path / "few")["step"] == 3
    settings = {"sequences_per_step": 16, "steps": 7}
    assert train(recipe(**settings), stage2_set, tmp_path / "all")["step"] == 2
    assert "the data gives 2 of the recipe's 7 steps" in capsys.readouterr().err
    assert train(recipe(**settings), stage2_set, tmp_path / "all")["finished_before"]


def test_too_little_data_and_the_wrong_stage_are_refused(stage2_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="40 sequences, fewer than the 64 of a step"):
        train(recipe(sequences_per_step=64), stage2_set, tmp_path / "run")
    with pytest.raises(UserError, match="for stage 3, the sequences are of stage 2"):
        train(recipe(stage=3), stage2_set, tmp_path / "run")
    with pytest.raises(UserError, match="no such directory"):
        train(recipe(), tmp_path / "none", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_directory_with_another_run_is_refused_with_both_named(stage2_set: Path, stage2_run: Path) -> None:
    there = json.loads((stage2_run / "run.json").read_bytes())["fingerprint"][:12]
    with pytest.raises(UserError, match=f"another run: toy {there}, this would be other .*steps 0 there, 9 here"):
        train(recipe(name="other", steps=9), stage2_set, stage2_run)


def test_a_directory_with_another_set_is_refused(stage2_run: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", sequences=8)
    with pytest.raises(UserError, match=r"another run: .*data\.fingerprint \w{12} there, \w{12} here"):
        train(recipe(), data, stage2_run)


def test_a_directory_with_other_files_is_left_alone(stage2_set: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    (tmp_path / ".tmp-draft").mkdir()
    (tmp_path / ".tmp-draft" / "a").write_text("important too")
    with pytest.raises(UserError, match=r"not empty: it holds \.tmp-draft, thesis\.tex"):
        train(recipe(), stage2_set, tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".tmp-draft", "a", "thesis.tex"]


def test_a_run_killed_before_it_had_a_name_leaves_nothing_in_the_way(stage2_set: Path, tmp_path: Path) -> None:
    (tmp_path / temporary_name("run.json")).write_bytes(b"half")
    assert train(recipe(steps=1), stage2_set, tmp_path)["step"] == 1
    assert not list(tmp_path.glob(".tmp-*"))


def test_run_json_names_no_place_and_no_time(stage2_run: Path, stage2_set: Path) -> None:
    text = (stage2_run / "run.json").read_text()
    assert str(stage2_set.parent) not in text and str(stage2_run.parent) not in text
    content = json.loads(text)
    assert (content["kind"], content["format"], content["stage"]) == ("run", 1, 2)
    assert content["recipe"]["model"]["hidden_size"] == 32
    assert content["data"]["vocabulary"]["units"] == 20


def test_a_changed_run_json_is_refused(stage2_run: Path, stage2_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    path = run / "run.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="changed by hand"):
        train(recipe(), stage2_set, run)


def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoint(
    stage2_run: Path, stage2_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    shutil.rmtree(checkpoints(run)[-1])
    path = checkpoints(run)[-1] / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"][3] = math.nan
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the loss of step 17 is nan.*sequences 32 to 33"):
        train(recipe(), stage2_set, run)
    assert [path.name for path in checkpoints(run)] == ["checkpoint-000016"]
    assert len(read_lines(run)) == 16


@pytest.mark.parametrize("settings", [{"activation_checkpointing": True}, {"sequences_per_step": 3}])
def test_what_is_a_matter_of_memory_changes_no_loss(
    settings: dict[str, object], stage2_set: Path, tmp_path: Path
) -> None:
    plain = {**settings, "activation_checkpointing": False, "micro_batch": 3}
    train(recipe(**plain, steps=4), stage2_set, tmp_path / "plain")
    train(recipe(**{**plain, **settings, "micro_batch": 2}, steps=4), stage2_set, tmp_path / "other")
    losses = [[line["loss"] for line in read_lines(tmp_path / name)] for name in ("plain", "other")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_run_goes_on_with_another_micro_batch_but_not_with_another_step(
    stage2_run: Path, stage2_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    shutil.rmtree(checkpoints(run)[-1])
    assert train(recipe(micro_batch=1, keep_checkpoints=1), stage2_set, run)["step"] == 20
    assert [path.name for path in checkpoints(run)] == ["checkpoint-000020"]
    with pytest.raises(UserError, match=r"another run: .*recipe\.sequences_per_step 2 there, 4 here"):
        train(recipe(sequences_per_step=4), stage2_set, run)


def test_a_state_in_bfloat16_learns_as_well(stage2_set: Path, stage2_run: Path, tmp_path: Path) -> None:
    train(recipe(optimizer_dtype="bfloat16"), stage2_set, tmp_path / "run")
    state = load_file(checkpoints(tmp_path / "run")[-1] / "optimizer.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    ours, theirs = (read_lines(run)[-1]["loss"] for run in (tmp_path / "run", stage2_run))
    assert ours == pytest.approx(theirs, rel=0.1)


def test_a_second_trainer_in_one_directory_is_refused(stage2_run: Path, stage2_set: Path) -> None:
    with held(stage2_run), pytest.raises(UserError, match="another run is writing here"):
        train(recipe(), stage2_set, stage2_run)


def test_a_directory_that_cannot_be_locked_is_trained_in_all_the_same(
    stage2_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(recipe(steps=1), stage2_set, tmp_path / "run")["step"] == 1
    assert capsys.readouterr().err.count("run cannot be locked ([Errno 95] Operation not supported)") == 1


def test_a_shard_with_a_changed_byte_stops_the_run_before_it_is_read(stage2_set: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(stage2_set, data)
    shard = data / "train-00002.tar"
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match="the shard is damaged: its sha256 is") as caught:
        train(recipe(), data, tmp_path / "run")
    assert "train-00002" in str(caught.value)
    # Sequences 12 to 17 are in it.
    assert len(read_lines(tmp_path / "run")) == 6
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-000004"]
    shutil.copy(stage2_set / shard.name, shard)
    assert train(recipe(), data, tmp_path / "run")["step"] == 20


@pytest.mark.parametrize("said", ["CUDA out of memory. Tried to allocate 2 GiB", "GET was unable to find an engine"])
def test_a_memory_that_does_not_suffice_is_the_users_to_mend(
    stage2_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError(f"{said}\nmore")

    monkeypatch.setattr(loop, "_run", full)
    with pytest.raises(UserError, match="memory of the GPU does not suffice") as caught:
        train(recipe(), stage2_set, tmp_path)
    assert f"({said})" in str(caught.value)


def test_another_error_of_torch_is_not_taken_for_it(
    stage2_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object) -> None:
        raise RuntimeError("misaligned address")

    monkeypatch.setattr(loop, "_run", wrong)
    with pytest.raises(RuntimeError, match="misaligned address"):
        train(recipe(), stage2_set, tmp_path)
