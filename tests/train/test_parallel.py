import math
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from duologue.errors import UserError
from duologue.formats import seeds
from duologue.formats.metrics import read_lines
from duologue.train.checkpoint import checkpoints, load_checkpoint_model
from duologue.train.loop import train
from duologue.train.parallel import joined
from tests.train.processes import Together
from tests.train.toy import recipe, save_llama, write_set

# Sequences that no number of processes below divides, and small micro batches.
SETTINGS = {"sequences_per_step": 5, "micro_batch": 2, "steps": 8}
KILLS = int(os.environ.get("DUOLOGUE_KILLS", "4"))


@pytest.fixture(scope="module")
def alone(stage2_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    train(recipe(**SETTINGS), stage2_set, out)
    return out


@pytest.fixture(scope="module")
def pair(stage2_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run by two processes."""
    directory = tmp_path_factory.mktemp("pair")
    run = Together(2, SETTINGS, stage2_set, directory / "run", directory / "messages")
    assert run.wait() == [0, 0]
    return directory / "run"


def _numbers(run: Path, *names: str) -> list[list[float]]:
    return [[line[name] for name in names] for line in read_lines(run)]


def _same(ours: Path, theirs: Path) -> None:
    for names, exact in ((("loss", "loss_units", "loss_tags"), 1e-5), (("grad_norm",), 1e-3)):
        for one, other in zip(_numbers(ours, *names), _numbers(theirs, *names), strict=True):
            assert one == pytest.approx(other, abs=exact)
    names = ("step", "sequences", "tokens")
    assert _numbers(ours, *names) == _numbers(theirs, *names)
    one, other = (load_checkpoint_model(checkpoints(run)[-1]).state_dict() for run in (ours, theirs))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-4, rtol=0)


def test_two_processes_take_the_steps_of_one(pair: Path, alone: Path) -> None:
    _same(pair, alone)
    assert (pair / "run.json").read_bytes() == (alone / "run.json").read_bytes()


def test_every_process_writes_its_own_rows(pair: Path, alone: Path) -> None:
    names = [path.name for path in sorted(checkpoints(pair)[-1].glob("*.safetensors"))]
    parts = ("00001-of-00002", "00002-of-00002")
    assert names == [f"{kind}-{part}.safetensors" for kind in ("model", "optimizer") for part in parts]
    halves = [load_file(checkpoints(pair)[-1] / f"model-{part}.safetensors") for part in parts]
    assert [half["lm_head.weight"].shape[0] for half in halves] == [192, 192]
    assert not list(pair.glob(".tmp-*"))


def test_three_processes_with_less_than_a_sequence_each_take_the_steps_of_one(
    stage2_set: Path, tmp_path: Path
) -> None:
    settings = {"sequences_per_step": 2, "micro_batch": 1, "steps": 3, "activation_checkpointing": True}
    train(recipe(**settings), stage2_set, tmp_path / "alone")
    run = Together(3, settings, stage2_set, tmp_path / "run", tmp_path / "messages")
    assert run.wait() == [0, 0, 0]
    _same(tmp_path / "run", tmp_path / "alone")


def test_two_processes_in_bfloat16_widen_a_tied_model_and_validate(
    stage2_set: Path, tied_llama: Path, tmp_path: Path
) -> None:
    valid = write_set(tmp_path / "valid", sequences=3, chunk_ms=160, per_shard=2)
    settings = {**SETTINGS, "dtype": "bfloat16", "optimizer_dtype": "bfloat16", "steps": 4, "valid_every": 2}
    options = {"init_from": tied_llama, "valid": [valid]}
    train(recipe(**settings), stage2_set, tmp_path / "alone", **options)
    run = Together(2, settings, stage2_set, tmp_path / "run", tmp_path / "store", **options)
    assert run.wait() == [0, 0]
    ours, theirs = (_numbers(tmp_path / name, "loss") for name in ("run", "alone"))
    assert [loss for (loss,) in ours] == pytest.approx([loss for (loss,) in theirs], rel=0.02)
    assert ours[-1] < ours[0]
    validated = [read_lines(tmp_path / name, "valid.jsonl")[-1]["loss"] for name in ("run", "alone")]
    assert validated[0] == pytest.approx(validated[1], rel=0.02)
    last = checkpoints(tmp_path / "run")[-1]
    assert "lm_head.weight" not in load_file(next(last.glob("model-00001-*")))
    model = load_checkpoint_model(last)
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.fixture
def tied_llama(tmp_path: Path) -> Path:
    return save_llama(tmp_path / "llama", tied=True)


def test_a_run_killed_again_and_again_goes_on_on_other_numbers_of_processes(stage2_set: Path, tmp_path: Path) -> None:
    # Slow learning: over many steps, rounding grows with the learning rate.
    settings = {"sequences_per_step": 5, "micro_batch": 2, "checkpoint_every": 1, "learning_rate": 2e-3}
    long = write_set(tmp_path / "long", sequences=5 * 12 * KILLS)
    train(recipe(**settings), long, tmp_path / "alone")
    run, kills = tmp_path / "run", 0
    while True:
        size = 1 + kills % 3
        begun = len(read_lines(run))
        together = Together(size, settings, long, run, tmp_path / f"messages-{kills}")
        if kills == KILLS:
            assert together.wait() == [0] * size
            break
        # At least one step further, and then at any moment of a step or a checkpoint.
        until = time.monotonic() + 60
        while len(read_lines(run)) <= begun and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05 * seeds.uniform("moment", kills))
        victim = int(size * seeds.uniform("victim", kills))
        together.kill(victim)
        codes = together.wait()
        assert codes[victim] == -signal.SIGKILL and set(codes) <= {-signal.SIGKILL, 2}
        # One of those that are left says it.
        assert ["was lost" in message for message in together.messages] == [True] * min(1, size - 1)
        kills += 1
    _same(run, tmp_path / "alone")
    assert not list(run.glob(".tmp-*"))


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joins is the first of two processes, of which there is no other."""
    store = dist.HashStore()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    for name in ("init_process_group", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda *_, **__: None)
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: None)


LOST = "[gloo/pair.cc] Connection closed by peer\nframe #0"


def test_a_lost_process_is_named_with_the_reason(two: None) -> None:
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"), joined():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    message = r"was lost \(noticed by process 0 of 2: \[gloo/pair\.cc\] Connection closed by peer\)"
    with pytest.raises(UserError, match=message), joined():
        raise RuntimeError(LOST)


@pytest.mark.parametrize("theirs", [RuntimeError(LOST), UserError("the memory of the GPU does not suffice")])
def test_what_one_process_meets_by_itself_is_one_message_of_all(two: None, theirs: Exception) -> None:
    with pytest.raises(UserError, match="the memory of the GPU does not suffice"), joined():
        raise UserError("the memory of the GPU does not suffice")
    with pytest.raises(SystemExit) as ended, joined():
        raise theirs
    assert ended.value.code == 2


@pytest.mark.parametrize("error", [UserError("no memory"), SystemExit(2), KeyError("a mistake of ours"), None])
def test_who_leaves_with_an_error_waits_for_no_other(
    two: None, error: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = []
    # To destroy it is what all have to do together.
    monkeypatch.setattr(dist, "destroy_process_group", lambda: left.append("destroyed"))
    monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: left.append("aborted"))
    with suppress(UserError, SystemExit, KeyError), joined():
        if error is not None:
            raise error
    assert left == ["destroyed" if error is None else "aborted"]


def test_a_process_alone_loses_no_other() -> None:
    with pytest.raises(RuntimeError, match=r"^gloo"), joined():
        raise RuntimeError("gloo: connection closed")


def test_processes_that_do_not_find_each_other_are_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=r"process 0 of 2 could not join the run .*MASTER_ADDR"), joined():
        pass
    monkeypatch.delenv("WORLD_SIZE")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[gloo] unable to resolve hostname")

    monkeypatch.setattr(dist, "init_process_group", refuse)
    with (
        pytest.raises(UserError, match=r"process 0 of 1 could not join .*resolve hostname.*GLOO_SOCKET_IFNAME"),
        joined(),
    ):
        pass


def test_a_mistake_is_one_message_from_the_first_of_all_processes(stage2_set: Path, tmp_path: Path) -> None:
    # The last shard is of the second process alone.
    data = tmp_path / "data"
    shutil.copytree(stage2_set, data)
    shard = data / "train-00001.tar"
    shard.write_bytes(shard.read_bytes()[:-600])
    run = Together(2, {**SETTINGS, "sequences_per_step": 8}, data, tmp_path / "run", tmp_path / "messages")
    assert run.wait() == [2, 2]
    (message,) = run.messages
    assert "train-00001" in message and "in process 1" in message


def test_a_loss_that_is_no_number_is_one_message_too(pair: Path, stage2_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(pair, out)
    shutil.rmtree(checkpoints(out)[-1])
    path = next(checkpoints(out)[-1].glob("model-00002-*"))
    weights = load_file(path)
    weights["lm_head.weight"][3] = math.nan
    save_file(weights, path, metadata={"format": "pt"})
    run = Together(2, SETTINGS, stage2_set, out, tmp_path / "messages")
    assert run.wait() == [2, 2]
    (message,) = run.messages
    assert "the loss of step 5 is nan" in message and "sequences 20 to 24" in message
    assert [path.name for path in checkpoints(out)] == ["checkpoint-000004"]
