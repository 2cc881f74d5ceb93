import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from duologue.errors import UserError
from duologue.formats.sequences import SequenceSet
from duologue.formats.vocabulary import Vocabulary
from duologue.train.checkpoint import checkpoints, load_checkpoint_model, read_trainer, restore_optimizer
from duologue.train.loop import train
from duologue.train.optimizer import adamw
from duologue.train.parallel import World
from duologue.train.recipe import ModelSizes
from duologue.train.sharding import Weights
from tests.train.processes import train_on_a_small_disk
from tests.train.toy import build_model, recipe


def _names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run)]


def test_the_last_checkpoints_are_kept(stage2_run: Path) -> None:
    assert _names(stage2_run) == ["checkpoint-000016", "checkpoint-000020"]
    assert not list(stage2_run.glob(".tmp-*"))


def test_checkpoints_are_in_order_beyond_a_million_steps(tmp_path: Path) -> None:
    for name in ("checkpoint-1000000", "checkpoint-999999", "checkpoint-000001", ".tmp-1", "checkpoint-7"):
        (tmp_path / name).mkdir()
    assert _names(tmp_path) == ["checkpoint-000001", "checkpoint-999999", "checkpoint-1000000"]


def test_transformers_loads_model_and_tokenizer(stage2_run: Path, stage2_set: Path) -> None:
    path = checkpoints(stage2_run)[-1]
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    vocabulary = Vocabulary.load(path)
    assert vocabulary.identity == SequenceSet(stage2_set).vocabulary.identity
    assert tokenizer.convert_tokens_to_ids(["<|S0|>", "<|unit_3|>"]) == [257, 262]
    # It has learned: after a tag and two units comes a tag.
    stream = [0, 7, 8, 1, 8, 9, 0, 9, 10]
    scores = model(torch.tensor([vocabulary.from_stream(stream).astype("int64").tolist()])).logits[0, -1]
    assert scores.argmax() in (257, 258)
    generated = model.generate(torch.tensor([[257, 264]]), max_new_tokens=20, do_sample=False)
    assert generated.shape == (1, 22)


def test_padding_rows_are_trained_to_nothing(stage2_run: Path) -> None:
    model = load_checkpoint_model(checkpoints(stage2_run)[-1])
    likely = model(torch.tensor([[257, 264, 265]])).logits[0, -1].softmax(-1)
    assert likely[279:].sum() < 0.05


def test_the_next_start_sweeps_what_a_killed_one_left(stage2_run: Path, stage2_set: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    (run / ".tmp-abc").mkdir()
    (run / ".tmp-abc" / "model.safetensors").write_bytes(b"half")
    (run / ".tmp-run.json").write_bytes(b"half")
    assert train(recipe(), stage2_set, run)["finished_before"]
    assert not list(run.glob(".tmp-*"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer.json", "config.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_goes_on(
    name: str, stage2_run: Path, stage2_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    # As if the run had been stopped after step 20 of more.
    last = checkpoints(run)[-1]
    before = (run / "metrics.jsonl").read_text()
    shutil.rmtree(last)
    last = checkpoints(run)[-1]
    harmed = last / name
    whole = harmed.read_bytes()
    harmed.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="the checkpoint is damaged") as caught:
        train(recipe(), stage2_set, run)
    assert "checkpoint-000016" in str(caught.value) and "Delete it" in str(caught.value)
    harmed.unlink()
    with pytest.raises(UserError, match="the checkpoint is damaged"):
        train(recipe(), stage2_set, run)
    assert (run / "metrics.jsonl").read_text() == before
    harmed.write_bytes(whole)
    assert train(recipe(), stage2_set, run)["step"] == 20


def test_a_checkpoint_that_lost_bytes_of_any_file_gives_no_model(stage2_run: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(checkpoints(stage2_run)[-1], tmp_path / "checkpoint"))
    whole = (checkpoint / "optimizer.safetensors").read_bytes()
    (checkpoint / "optimizer.safetensors").write_bytes(whole[:-1])
    message = rf"optimizer\.safetensors has {len(whole) - 1:,} bytes instead of {len(whole):,}"
    with pytest.raises(UserError, match=message):
        load_checkpoint_model(checkpoint)


def test_what_the_system_refuses_to_read_of_a_checkpoint_is_told_as_it_is(stage2_run: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copytree(checkpoints(stage2_run)[-1], tmp_path / "checkpoint"))
    (checkpoint / "trainer.json").unlink()
    (checkpoint / "trainer.json").symlink_to(checkpoint / "trainer.json")
    with pytest.raises(UserError, match=r"^a link leads back to itself"):
        read_trainer(checkpoint)


SPEECH = {"fingerprint": "0", "stage": 2, "chunk_ms": 160, "tokenizer": None}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "20"),
        ("tokens", None),
        ("run", 3),
        ("files", []),
        ("data", {}),
        ("data", "x"),
        ("data", {**SPEECH, "tokenizer": "x"}),
        ("data", {name: value for name, value in SPEECH.items() if name != "stage"}),
    ],
)
def test_a_trainer_json_of_another_shape_is_damage(
    key: str, value: object, stage2_run: Path, stage2_set: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(stage2_run, run)
    path = checkpoints(run)[-1] / "trainer.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))
    with pytest.raises(UserError, match=r"the checkpoint is damaged \(trainer.json: "):
        train(recipe(), stage2_set, run)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"step": 20}'])
def test_a_trainer_json_that_lacks_what_it_has_to_say_is_damage(text: str, tmp_path: Path) -> None:
    (tmp_path / "trainer.json").write_text(text)
    with pytest.raises(UserError, match=r"the checkpoint is damaged \(trainer.json: it lacks one of step, tokens"):
        read_trainer(tmp_path)


def test_a_checkpoint_of_another_run_or_step_is_not_gone_on_from(
    stage2_run: Path, stage2_set: Path, tmp_path: Path
) -> None:
    settings = {"steps": 8, "seed": 1}
    run = tmp_path / "run"
    train(recipe(**settings), stage2_set, run)
    last = checkpoints(run)[-1]
    shutil.rmtree(last)
    shutil.copytree(stage2_run / "checkpoint-000016", run / "checkpoint-000016")
    with pytest.raises(UserError, match="not this run's: it is of step 16") as caught:
        train(recipe(**settings), stage2_set, run)
    assert caught.value.where == str(run / "checkpoint-000016")
    shutil.rmtree(run / "checkpoint-000016")
    (run / "checkpoint-000004").rename(run / "checkpoint-000005")
    with pytest.raises(UserError, match="not this run's: it is of step 4"):
        train(recipe(**settings), stage2_set, run)
    (run / "checkpoint-000005").rename(run / "checkpoint-000004")
    assert train(recipe(**settings), stage2_set, run)["step"] == 8


def test_the_state_of_another_model_is_refused(stage2_run: Path) -> None:
    path = checkpoints(stage2_run)[-1]
    alone = World(0, 1, torch.device("cpu"))
    wider = ModelSizes(hidden_size=32, layers=2, heads=4, kv_heads=2, intermediate_size=128)
    weights = Weights(build_model(wider, 384, 257, seed=0), alone)
    with pytest.raises(UserError, match=r"damaged \(model.layers.0.mlp.gate_proj.weight/exp_avg is \[64, 32\]"):
        restore_optimizer(path, weights, adamw(weights.rows, recipe()))


def test_trainer_json_says_what_the_model_was_trained_on(stage2_run: Path, stage2_set: Path) -> None:
    about = read_trainer(checkpoints(stage2_run)[-1])
    card = SequenceSet(stage2_set).card
    assert about["step"] == 20
    assert about["run"] == json.loads((stage2_run / "run.json").read_bytes())["fingerprint"]
    assert (about["data"]["tokenizer"], about["data"]["chunk_ms"]) == (card.tokenizer, 160)


def test_a_full_disk_is_one_message_and_leaves_the_last_checkpoint(stage2_set: Path, tmp_path: Path) -> None:
    # Room for one checkpoint (540 kB) and a half.
    result = train_on_a_small_disk(stage2_set, tmp_path, size="3m", ballast=2_250_000)
    if result is None:
        pytest.skip("no small file system can be mounted here")
    assert "the disk is full" in result["message"]
    assert (result["kept"], result["left"]) == (["checkpoint-000004"], [])
    assert (result["step"], result["steps"]) == (20, list(range(1, 21)))
