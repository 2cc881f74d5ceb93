import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import duologue.train.export
from duologue.errors import UserError
from duologue.formats.temporary import temporary_name
from duologue.train.checkpoint import checkpoints, load_checkpoint_model
from duologue.train.export import export_hf


def test_others_load_the_model_and_its_tokenizer(stage2_run: Path, tmp_path: Path) -> None:
    about = export_hf(stage2_run, tmp_path / "model", dtype="float32")
    assert (about["checkpoint"], about["step"], about["dtype"]) == ("checkpoint-000020", 20, "float32")
    ours = load_checkpoint_model(checkpoints(stage2_run)[-1])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("<|S0|><|unit_7|><|S1|><|unit_19|>hi")["input_ids"]
    assert ids == [257, 266, 258, 278, *b"hi"]
    tokens = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens).logits)
    assert about["parameters"] == sum(weight.numel() for weight in ours.parameters())
    assert about["bytes"] == sum(path.stat().st_size for path in (tmp_path / "model").iterdir())


def test_bfloat16_halves_the_weights(stage2_run: Path, tmp_path: Path) -> None:
    export_hf(checkpoints(stage2_run)[0], tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"


def test_big_models_are_cut_into_files(stage2_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duologue.train.export, "_SHARD", "50KB")
    export_hf(stage2_run, tmp_path / "cut", dtype="float32")
    assert len(list((tmp_path / "cut").glob("model-*-of-*.safetensors"))) > 1
    cut = AutoModelForCausalLM.from_pretrained(tmp_path / "cut").state_dict()
    whole = load_checkpoint_model(checkpoints(stage2_run)[-1]).state_dict()
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)


def test_the_same_checkpoint_gives_the_same_bytes(stage2_run: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        export_hf(stage2_run, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()
        assert path.stat().st_mode & 0o444 == 0o444


def test_an_export_given_again_after_its_end_changes_nothing(stage2_run: Path, tmp_path: Path) -> None:
    about = export_hf(stage2_run, tmp_path / "model")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    assert export_hf(stage2_run, tmp_path / "model") == about
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == before


def test_another_model_that_is_there_is_not_written_over(stage2_run: Path, tmp_path: Path) -> None:
    export_hf(stage2_run, tmp_path / "model")
    before = {path: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with pytest.raises(UserError, match="not empty"):
        export_hf(stage2_run, tmp_path / "model", dtype="float32")
    with pytest.raises(UserError, match="not empty"):
        export_hf(checkpoints(stage2_run)[0], tmp_path / "model")
    assert {path: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    (tmp_path / "model" / "duologue.json").write_text("[]")
    with pytest.raises(UserError, match="not empty"):
        export_hf(stage2_run, tmp_path / "model")


def test_what_killed_exports_left_beside_a_model_is_deleted(stage2_run: Path, tmp_path: Path) -> None:
    ours, others = temporary_name("model"), [temporary_name("my-model"), ".tmp-model"]
    for name in (ours, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    export_hf(stage2_run, tmp_path / "model")
    assert {path.name for path in tmp_path.iterdir()} == {"model", *others}


def test_a_directory_that_holds_something_is_left_alone(stage2_run: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("important")
    with pytest.raises(UserError, match=r"not empty: it holds thesis\.tex"):
        export_hf(stage2_run, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "thesis.tex"]


def test_what_is_no_run_is_refused(stage2_run: Path, stage2_set: Path, tmp_path: Path) -> None:
    for wrong, message in ((tmp_path / "none", "no such directory"), (stage2_set, "neither a run nor a checkpoint")):
        with pytest.raises(UserError, match=message):
            export_hf(wrong, tmp_path / "model")
    (tmp_path / "begun").mkdir()
    shutil.copy(stage2_run / "run.json", tmp_path / "begun")
    with pytest.raises(UserError, match="no checkpoint yet"):
        export_hf(tmp_path / "begun", tmp_path / "model")
    with pytest.raises(UserError, match="no dtype float16"):
        export_hf(stage2_run, tmp_path / "model", dtype="float16")  # type: ignore[arg-type]
    assert not (tmp_path / "model").exists()


def test_a_damaged_checkpoint_leaves_nothing_behind(stage2_run: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(checkpoints(stage2_run)[-1], tmp_path / "checkpoint-000020"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        export_hf(broken, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000020"]
