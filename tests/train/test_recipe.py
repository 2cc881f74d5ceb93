import itertools
import math
import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.train.recipe import ModelPath, ModelSizes, Recipe, bundled, load_recipe

MINIMAL = """
name = "mine"
stage = 2
sequences_per_step = 4
micro_batch = 2
learning_rate = 1e-3
warmup_steps = 0
steps = 10
[model]
hidden_size = 32
layers = 2
heads = 4
kv_heads = 2
intermediate_size = 64
"""


def _file(directory: Path, text: str) -> Path:
    path = directory / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("stage", "sequences", "rate", "warmup", "steps"),
    [(1, 128, 3e-5, 500, 40_000), (2, 64, 2.2e-5, 200, 6_000), (3, 32, 1.5e-5, 100, 2_000)],
)
def test_the_papers_stages_have_the_papers_numbers(
    stage: int, sequences: int, rate: float, warmup: int, steps: int
) -> None:
    recipe = load_recipe(f"paper-stage{stage}")
    assert (recipe.stage, recipe.sequences_per_step, recipe.learning_rate) == (stage, sequences, rate)
    assert (recipe.warmup_steps, recipe.steps) == (warmup, steps)
    assert recipe.model == ModelPath("meta-llama/Meta-Llama-3-8B")


# What the hardware decides, and not the method.
HARDWARE = {"name", "micro_batch", "activation_checkpointing"}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_on_more_gpus_the_papers_stages_are_the_same_training(stage: int) -> None:
    few, many = (load_recipe(f"{name}-stage{stage}").as_dict() for name in ("paper", "paper128"))
    assert {key for key in few if few[key] != many[key]} == HARDWARE


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_1b_stages_take_a_tenth_of_the_papers_steps(stage: int) -> None:
    small, paper = (load_recipe(f"{name}-stage{stage}") for name in ("llama-1b", "paper"))
    assert (small.steps * 10, small.warmup_steps * 10) == (paper.steps, paper.warmup_steps)
    assert (small.learning_rate, small.sequences_per_step) == (paper.learning_rate, paper.sequences_per_step)


def test_every_bundled_recipe_is_valid_and_carries_its_name() -> None:
    families = ("demo", "llama-1b", "paper", "paper128")
    assert bundled() == [f"{family}-stage{n}" for family in families for n in (1, 2, 3)]
    assert [load_recipe(name).name for name in bundled()] == bundled()


def test_the_demo_stages_share_one_model() -> None:
    assert len({load_recipe(f"demo-stage{stage}").model for stage in (1, 2, 3)}) == 1


def test_a_recipe_file_is_read_with_defaults(tmp_path: Path) -> None:
    recipe = load_recipe(_file(tmp_path, MINIMAL))
    assert recipe.model == ModelSizes(32, 2, 4, 2, 64)
    assert (recipe.dtype, recipe.betas, recipe.clip) == ("auto", (0.9, 0.95), 1.0)
    assert (recipe.optimizer_dtype, recipe.compile, recipe.activation_checkpointing) == ("float32", False, False)
    assert (recipe.valid_every, recipe.valid_sequences, recipe.sample_chunks) == (500, 64, 0)


def test_the_guide_has_every_key_and_its_default() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    table, _, _ = guide.partition("| key | default | meaning |\n|---|---|---|\n")[2].partition("\n\n")
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, re.MULTILINE)
    told = {key: tomllib.loads(f"is = {default}")["is"] if default.strip() else None for key, default in rows}
    recipe = load_recipe("paper-stage1").as_dict()
    given = {entry.name: entry.default for entry in fields(Recipe) if entry.default is not MISSING}
    expected = Recipe(**{**recipe, **given}).as_dict()
    assert told == {name: expected[name] if name in given else None for name in expected}


def test_overrides_replace_settings_and_are_checked_like_them() -> None:
    recipe = load_recipe("paper-stage3", {"steps": 7, "model": {"path": "/models/llama"}})
    assert (recipe.steps, recipe.model) == (7, ModelPath("/models/llama"))
    with pytest.raises(UserError, match="steps is -1"):
        load_recipe("paper-stage3", {"steps": -1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 10", "stepz = 10"), "unknown key stepz; the nearest is steps"),
        (("layers = 2", "layer = 2"), "unknown key model.layer; the nearest is layers"),
        (("warmup_steps = 0\n", ""), "lacks the key warmup_steps"),
        (("heads = 4\n", ""), "lacks the key model.heads"),
        (("steps = 10", "steps = 10.5"), "steps is 10.5, not a whole number"),
        (("steps = 10", "steps = true"), "steps is True, not a whole number"),
        (("steps = 10", 'steps = "all"'), "steps is 'all', not a whole number"),
        (("stage = 2", "stage = 4"), "stage is 4, not one of 1, 2, 3"),
        (("stage = 2", "stage = true"), "stage is True, not one of"),
        (("1e-3", "-1e-3"), "learning_rate is -0.001; it has to be at least"),
        (
            ("stage = 2", "stage = 2\nweight_decay = 1.2"),
            "weight_decay is 1.2; it has to be at least 0 and at most 1",
        ),
        (("1e-3", "nan"), "learning_rate is nan"),
        (("micro_batch = 2", "micro_batch = 5"), "micro_batch is 5, more than the sequences_per_step"),
        (("stage = 2", "stage = 2\ncompile = 1"), "compile is 1, not true or false"),
        (("stage = 2", 'stage = 2\noptimizer_dtype = "auto"'), "optimizer_dtype is 'auto', not one of"),
        (("stage = 2", "stage = 2\nvalid_evry = 5"), "unknown key valid_evry; the nearest is valid_every"),
        (("stage = 2", "stage = 2\nvalid_sequences = 0"), "valid_sequences is 0; it has to be"),
        (("stage = 2", "stage = 2\nbetas = [0.9]"), "betas is .*, not a list of 2 numbers"),
        (("stage = 2", "stage = 2\nbetas = [0.9, 1.0]"), "betas is 1; it has to be"),
        (("stage = 2", 'stage = 2\ndtype = "fp8"'), "dtype is 'fp8', not one of"),
        (("heads = 4", "heads = 5"), "model.heads is 5"),
        (("kv_heads = 2", "kv_heads = 3"), "model.kv_heads is 3"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = _file(tmp_path, MINIMAL.replace(*change, 1))
    with pytest.raises(UserError, match=message) as caught:
        load_recipe(path)
    assert caught.value.hint


def test_a_model_whose_path_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.path is .*not UTF-8"):
        load_recipe(_file(tmp_path, MINIMAL), {"model": {"path": "llama-\udcff"}})


def test_no_number_of_a_recipe_may_be_infinite(tmp_path: Path) -> None:
    floats = [
        f"{prefix}{entry.name}"
        for shape, prefix in ((Recipe, ""), (ModelSizes, "model."))
        for entry in fields(shape)
        if float in (hint := get_type_hints(shape)[entry.name], *get_args(hint))
    ]
    assert set(floats) == {"learning_rate", "betas", "clip", "weight_decay", "model.rope_theta"}
    settings = load_recipe(_file(tmp_path, MINIMAL)).as_dict()
    for name, value in itertools.product(floats, (math.inf, -math.inf, math.nan, 10**400)):
        change: dict[str, Any] = {name: [0.9, value] if name == "betas" else value}
        if name.startswith("model."):
            change = {"model": {**settings["model"], name.removeprefix("model."): value}}
        with pytest.raises(UserError, match=f"the recipe's {name} is .*, not a finite number"):
            load_recipe(tmp_path / "recipe.toml", change)


def test_a_recipe_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not TOML"):
        load_recipe(_file(tmp_path, "steps == 3"))
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(UserError, match="UTF-8"):
        load_recipe(tmp_path / "latin.toml")


def test_a_missing_recipe_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the nearest is paper-stage1") as caught:
        load_recipe("paper-stag1")
    assert "demo-stage1" in str(caught.value)
    with pytest.raises(UserError, match="too long"):
        load_recipe("paper" * 100)
    with pytest.raises(UserError, match="no such recipe"):
        load_recipe(tmp_path / "none.toml")


_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text("ab\u00e4 1", max_size=5),
    st.lists(st.floats(), max_size=3),
)


@given(st.dictionaries(st.sampled_from(["steps", "betas", "model", "dtype", "name", "clip", "x"]), _values))
def test_no_value_does_more_than_be_refused(overrides: dict[str, Any]) -> None:
    try:
        recipe = load_recipe("demo-stage1", overrides)
    except UserError:
        return
    assert recipe.as_dict().items() >= {key: value for key, value in overrides.items() if key != "clip"}.items()
