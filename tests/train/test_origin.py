import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from duologue.errors import UserError
from duologue.formats.metrics import read_lines
from duologue.formats.vocabulary import Vocabulary
from duologue.train.checkpoint import checkpoints
from duologue.train.export import export_hf
from duologue.train.loop import train
from duologue.train.recipe import ModelPath, ModelSizes
from tests.train.toy import SIZES, recipe, save_llama, write_set


@pytest.fixture(scope="module")
def stage3_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "stage3", stage=3)


@pytest.fixture(scope="module")
def plain_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of bytes that has not heard of tags and units, with its tokenizer."""
    return save_llama(tmp_path_factory.mktemp("llama") / "base")


def test_a_chained_stage_starts_lower_than_from_nothing(stage2_run: Path, stage3_set: Path, tmp_path: Path) -> None:
    settings = recipe(stage=3, learning_rate=5e-3, sequences_per_step=4)
    train(settings, stage3_set, tmp_path / "chained", init_from=stage2_run)
    train(settings, stage3_set, tmp_path / "nothing")
    chained, nothing = (read_lines(tmp_path / name) for name in ("chained", "nothing"))
    assert chained[0]["loss"] < 0.6 * nothing[0]["loss"]
    assert all(ours["loss"] < theirs["loss"] for ours, theirs in zip(chained, nothing, strict=True))


def test_run_json_names_the_run_it_came_from(stage2_run: Path, stage3_set: Path, tmp_path: Path) -> None:
    train(recipe(stage=3, steps=1), stage3_set, tmp_path / "run", init_from=stage2_run)
    content = json.loads((tmp_path / "run" / "run.json").read_bytes())
    parent = json.loads((stage2_run / "run.json").read_bytes())["fingerprint"]
    assert content["init_from"] == {"kind": "run", "fingerprint": parent, "step": 20}


def test_a_chained_run_goes_on_without_its_parent_but_not_with_another(
    stage2_run: Path, stage3_set: Path, tmp_path: Path
) -> None:
    settings = recipe(stage=3, steps=1)
    train(settings, stage3_set, tmp_path / "run", init_from=stage2_run)
    assert train(settings, stage3_set, tmp_path / "run")["finished_before"]
    assert train(settings, stage3_set, tmp_path / "run", init_from=stage2_run)["finished_before"]
    with pytest.raises(UserError, match=r"another run: .*init_from\.step 20 there, 16 here"):
        train(settings, stage3_set, tmp_path / "run", init_from=checkpoints(stage2_run)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"units": 21}, r"the vocabulary .*, \w{12}, is not that of the data, \w{12}; they differ in units"),
        ({"tokenizer": "other"}, r"the unit tokenizer .*, \w{12}, is not that of the data, \w{12}; .* in name"),
        (
            {"chunk_ms": 200},
            r"the model to start from has chunks of 160 ms \(data \w{12}\), the data has chunks of 200 ms \(\w{12}\)",
        ),
    ],
)
def test_data_that_does_not_fit_the_model_is_refused_with_both_named(
    change: dict[str, object], message: str, stage2_run: Path, tmp_path: Path
) -> None:
    data = write_set(tmp_path / "data", stage=3, sequences=2, **change)  # type: ignore[arg-type]
    export_hf(stage2_run, tmp_path / "model")
    for origin in (stage2_run, tmp_path / "model"):
        with pytest.raises(UserError, match=message):
            train(recipe(stage=3), data, tmp_path / "run", init_from=origin)
    assert not (tmp_path / "run").exists()


def test_an_exported_model_that_lost_its_description_is_pointed_out(
    stage2_run: Path, stage3_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    export_hf(stage2_run, model)
    train(recipe(stage=3, steps=1), stage3_set, tmp_path / "whole", init_from=model)
    assert "does not say" not in capsys.readouterr().err
    about = model / "duologue.json"
    about.write_text("{}")
    with pytest.raises(UserError, match="the model's description is damaged"):
        train(recipe(stage=3, steps=1), stage3_set, tmp_path / "damaged", init_from=model)
    about.unlink()
    train(recipe(stage=3, steps=1), stage3_set, tmp_path / "lost", init_from=model)
    assert "does not say what it was trained on" in capsys.readouterr().err


def test_stage_1_binds_no_chunk_size(stage2_set: Path, tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", stage=1, sequences=2, chunk_ms=240)
    train(recipe(stage=1), data, tmp_path / "one")
    assert train(recipe(steps=1), stage2_set, tmp_path / "two", init_from=tmp_path / "one")["step"] == 1


def test_a_plain_llama_is_widened(plain_llama: Path, stage2_set: Path, tmp_path: Path) -> None:
    # A learning rate too small to move anything: what is left of the old rows is what was there.
    settings = recipe(learning_rate=1e-12, steps=1, model=ModelPath(str(plain_llama)))
    train(settings, stage2_set, tmp_path / "recipe")
    train(recipe(learning_rate=1e-12, steps=1), stage2_set, tmp_path / "init", init_from=plain_llama)
    old = load_file(plain_llama / "model.safetensors")["model.embed_tokens.weight"]
    for name in ("recipe", "init"):
        new = load_file(checkpoints(tmp_path / name)[-1] / "model.safetensors")["model.embed_tokens.weight"]
        torch.testing.assert_close(new[:257], old, atol=1e-6, rtol=0)
        torch.testing.assert_close(new[257:], old.mean(0).expand(384 - 257, 32), atol=1e-6, rtol=0)
        text = (tmp_path / name / "run.json").read_text()
        assert str(plain_llama.parent) not in text
        assert json.loads(text)["init_from"]["kind"] == "model"


def test_a_run_goes_on_without_the_model_it_began_with_but_not_with_another(
    plain_llama: Path, stage2_set: Path, tmp_path: Path
) -> None:
    model, run = tmp_path / "models" / "base", tmp_path / "run"
    shutil.copytree(plain_llama, model)
    settings = recipe(model=ModelPath(str(model)), steps=6)
    train(settings, stage2_set, run)
    shutil.rmtree(checkpoints(run)[-1])
    shutil.rmtree(model)
    assert train(settings, stage2_set, run)["step"] == 6
    with pytest.raises(UserError, match=r"another run: .*recipe\.model"):
        train(recipe(model=ModelPath(str(tmp_path / "other")), steps=6), stage2_set, run)


def test_a_plain_llama_with_another_text_tokenizer_is_refused(
    plain_llama: Path, stage2_set: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(plain_llama, model)
    # Five units more and it is a text tokenizer of another size.
    Vocabulary.byte_level(units=5).save(tmp_path / "tokenizer")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (tmp_path / "tokenizer" / name).read_text()
        (model / name).write_text(text.replace("<|S", "<|T").replace("<|unit_", "<|word_"))
    with pytest.raises(UserError, match=r"the text tokenizer of the model .* differ in base_size, sha256"):
        train(recipe(), stage2_set, tmp_path / "run", init_from=model)


def test_one_tokenizer_under_two_names_is_one_vocabulary(stage2_run: Path, stage3_set: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "checkpoint"
    shutil.copytree(checkpoints(stage2_run)[-1], renamed)
    about = renamed / "vocabulary.json"
    about.write_text(about.read_text().replace('"name": "bytes"', '"name": "octets"'))
    assert "octets" in about.read_text()
    assert train(recipe(stage=3, steps=1), stage3_set, tmp_path / "run", init_from=renamed)["step"] == 1


def test_sizes_that_contradict_the_model_are_refused(
    stage2_run: Path, plain_llama: Path, stage3_set: Path, tmp_path: Path
) -> None:
    sizes = ModelSizes(hidden_size=32, layers=3, heads=4, kv_heads=2, intermediate_size=64)
    assert sizes != SIZES
    for origin in (stage2_run, plain_llama):
        with pytest.raises(UserError, match="has layers 2, the recipe says 3"):
            train(recipe(stage=3, model=sizes), stage3_set, tmp_path / "run", init_from=origin)


def test_a_model_that_does_not_fit_leaves_no_run_in_the_way_of_one_that_does(
    stage2_run: Path, stage3_set: Path, tmp_path: Path
) -> None:
    sizes = ModelSizes(hidden_size=32, layers=3, heads=4, kv_heads=2, intermediate_size=64)
    with pytest.raises(UserError, match="Put the model's sizes into the recipe"):
        train(recipe(stage=3, model=sizes), stage3_set, tmp_path / "run", init_from=stage2_run)
    assert not (tmp_path / "run").exists()
    assert train(recipe(stage=3, steps=1), stage3_set, tmp_path / "run", init_from=stage2_run)["step"] == 1


def test_nothing_to_start_from_is_one_message(stage2_run: Path, stage3_set: Path, tmp_path: Path) -> None:
    settings = recipe(stage=3)
    with pytest.raises(UserError, match="no such directory to start from"):
        train(settings, stage3_set, tmp_path / "run", init_from=tmp_path / "none")
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(stage2_run / "run.json", begun)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        train(settings, stage3_set, tmp_path / "run", init_from=begun)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="could not be loaded"):
        train(settings, stage3_set, tmp_path / "run", init_from=tmp_path / "empty")


@pytest.mark.parametrize("exported", [False, True])
def test_a_model_of_ours_that_lost_its_vocabulary_is_not_taken_for_one_without_units(
    stage2_run: Path, stage2_set: Path, tmp_path: Path, exported: bool
) -> None:
    model = tmp_path / "model"
    if exported:
        export_hf(stage2_run, model)
    else:
        shutil.copytree(checkpoints(stage2_run)[-1], model)
    for name in ("vocabulary.json", "tokenizer.json"):
        (model / name).unlink()
    with pytest.raises(UserError, match="the vocabulary is missing or damaged"):
        train(recipe(steps=2), stage2_set, tmp_path / "run", init_from=model)
