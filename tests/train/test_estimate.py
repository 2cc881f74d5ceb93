import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from duologue.errors import UserError
from duologue.train.estimate import estimate, parameter_count
from duologue.train.flops import GPUS, flops_per_token, peak_flops
from duologue.train.llama import config_of
from duologue.train.recipe import load_recipe
from tests.train.toy import SIZES, build_model, recipe, write_set

GUIDE = Path(__file__).parents[2] / "docs" / "fisher.md"


@pytest.mark.parametrize(
    ("name", "published", "width", "tables"),
    [("paper-stage1", 8_030_261_248, 4096, 2), ("llama-1b-stage1", 1_235_814_400, 2048, 1)],
)
def test_parameters_are_the_published_ones_and_the_new_rows(
    name: str, published: int, width: int, tables: int
) -> None:
    expected = estimate(load_recipe(name))
    assert expected.rows == 128_768
    assert expected.parameters == published + tables * (128_768 - 128_256) * width


def test_parameters_are_those_of_the_model_that_is_made(stage2_set: Path) -> None:
    expected = estimate(recipe(), stage2_set)
    model = build_model(SIZES, expected.rows, 257, seed=0)
    assert expected.parameters == sum(weight.numel() for weight in model.parameters())


def test_data_that_the_run_would_refuse_is_refused(stage2_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 sequences, fewer than the 2 of a step"):
        estimate(recipe(), write_set(tmp_path / "empty", sequences=0))
    with pytest.raises(UserError, match="40 sequences, fewer than the 64 of a step"):
        estimate(recipe(sequences_per_step=64), stage2_set)
    with pytest.raises(UserError, match="for stage 3, the sequences are of stage 2"):
        estimate(recipe(stage=3), stage2_set)


def _kept_bytes(config: LlamaConfig, length: int) -> int:
    """Bytes that a model in bfloat16 keeps of a sequence for the way back, its weights left out."""
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept, alive = {}, []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            # So that no other tensor comes to lie in its place.
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(torch.zeros(1, length, dtype=torch.long))
    return sum(kept.values())


def test_activations_are_those_that_torch_keeps() -> None:
    length = 64
    # A difference of two depths, as what lies outside of the layers is not among them.
    deep, flat = (_kept_bytes(config_of(SIZES_OF[layers], 768), length) for layers in (6, 2))
    memory = estimate(
        load_recipe("demo-stage1", {"model": _table(4), "dtype": "bfloat16", "micro_batch": 1})
    ).memory_gb
    per_token = memory["activations"] * 1e9 / 8192
    assert (deep - flat) / length == pytest.approx(per_token, rel=0.02)


def _table(layers: int) -> dict[str, int]:
    return {"hidden_size": 256, "layers": layers, "heads": 8, "kv_heads": 2, "intermediate_size": 896}


SIZES_OF = {layers: load_recipe("demo-stage1", {"model": _table(layers)}).model for layers in (2, 6)}


# As wide as the residual stream in all heads together, and wider.
@pytest.mark.parametrize("head", [8, 24])
def test_the_flops_of_a_token_are_six_for_each_weight_it_meets_and_attention(head: int) -> None:
    config = LlamaConfig(**{**config_of(SIZES, 768).to_dict(), "head_dim": head})
    model = LlamaForCausalLM(config)
    met = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Linear))
    attended = 10.0
    # Scores and mixing, two operations for each number, three times: forward, and backward to both sides.
    attention = 3 * 2 * 2 * SIZES.layers * SIZES.heads * head * attended
    assert flops_per_token(config, attended) == 6 * met + attention


@pytest.mark.parametrize(("name", "gpus"), [("paper", 8), ("paper128", 32), ("llama-1b", 1)])
@pytest.mark.parametrize("gpu", ["a100", "h100", "h200"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bundled_recipes_fit_the_gpus_they_are_for(name: str, gpus: int, gpu: str, stage: int) -> None:
    assert estimate(load_recipe(f"{name}-stage{stage}"), gpus=gpus, gpu=gpu).warnings == []


@pytest.mark.parametrize(
    ("name", "gpus", "gpu"),
    [("paper", (8, 8, 8), "h100"), ("paper128", (128, 64, 32), "a100"), ("llama-1b", (1, 1, 1), "h100")],
)
def test_the_guide_says_what_is_estimated(name: str, gpus: tuple[int, ...], gpu: str) -> None:
    stages = [estimate(load_recipe(f"{name}-stage{n}"), gpus=count, gpu=gpu) for n, count in enumerate(gpus, start=1)]
    few, *_, most = sorted([round(stage.memory_gb["total"]) for stage in stages] * 2)
    speeds = dict.fromkeys(f"{round(stage.tokens_per_s, -3):,.0f}" for stage in stages)
    memory = f"{few} GB" if few == most else f"{few} to {most} GB"
    (row,) = (line for line in GUIDE.read_text("utf-8").splitlines() if line.startswith(f"| `{name}-stage1`"))
    times = [_in_words(stage.days) for stage in stages]
    assert f"| {memory} | {', '.join(speeds)} | {' | '.join(times)} |" in row


def _in_words(days: float | None) -> str:
    assert days is not None
    if days > 1.5:
        return f"{days:.2g} days"
    return f"{days * 24:.2g} hours" if days * 24 >= 1 else f"{days * 24 * 60:.2g} minutes"


def test_8b_with_half_the_state_fits_one_h200() -> None:
    few = {"optimizer_dtype": "bfloat16", "micro_batch": 1}
    expected = estimate(load_recipe("paper-stage3", few), gpus=1, gpu="h200")
    assert expected.warnings == [] and expected.memory_gb["optimizer"] == pytest.approx(4 * 8.034, abs=0.01)
    # Weights in float32, two moments in half of it; whole, they are four bytes each.
    assert expected.checkpoint_gb == pytest.approx((4 + 4) * 8.034, abs=0.01)
    assert estimate(load_recipe("paper-stage3")).checkpoint_gb == pytest.approx((4 + 8) * 8.034, abs=0.01)


def test_what_does_not_fit_is_said_with_ways_out() -> None:
    expected = estimate(load_recipe("paper128-stage1"), gpus=1, gpu="a100")
    assert expected.warnings == [
        'it does not fit: try more GPUs, activation_checkpointing, optimizer_dtype = "bfloat16"'
    ]
    assert expected.memory_gb["total"] > 128
    spared = {"activation_checkpointing": True, "optimizer_dtype": "bfloat16", "micro_batch": 2}
    expected = estimate(load_recipe("paper128-stage1", spared), gpus=1, gpu="a100")
    assert expected.warnings == ["it does not fit: try more GPUs, a smaller micro_batch"]


def test_gpus_without_work_are_counted() -> None:
    assert estimate(load_recipe("paper128-stage2"), gpus=128).warnings == ["a step has 64 sequences: 64 GPUs idle"]
    speeds = [estimate(load_recipe("paper128-stage2"), gpus=gpus).tokens_per_s for gpus in (64, 128)]
    assert speeds[0] == speeds[1]
    for gpus, changes in ((48, {}), (64, {"micro_batch": 2})):
        uneven = estimate(load_recipe("paper128-stage2", changes), gpus=gpus, gpu="h200")
        assert uneven.warnings == ["the sequences of a step do not divide evenly: some GPUs wait for others"]


def test_steps_tokens_and_days_follow_from_recipe_and_data(tmp_path: Path) -> None:
    paper = estimate(load_recipe("paper-stage1"), mfu=0.5)
    assert (paper.steps, paper.tokens) == (40_000, 40_000 * 128 * 8192)
    assert paper.days == pytest.approx(paper.tokens * paper.flops_per_token / (8 * 989e12 * 0.5) / 86_400)
    data = write_set(tmp_path / "data", sequences=9)
    assert estimate(recipe(), data).steps == 4
    assert estimate(recipe(steps=3), data).tokens == 3 * 2 * 64
    assert estimate(recipe(steps=30), data).steps == 4
    open_ended = estimate(recipe())
    assert (open_ended.steps, open_ended.tokens, open_ended.days) == (None, None, None)
    assert json.loads(json.dumps(open_ended.as_dict()))["recipe"] == "toy"


def test_checkpointing_and_sharding_save_what_they_should() -> None:
    few, many = (estimate(load_recipe("paper-stage1"), gpus=gpus).memory_gb for gpus in (8, 16))
    for part in ("weights", "gradients", "optimizer"):
        assert few[part] == pytest.approx(2 * many[part], abs=0.002)
    kept = estimate(load_recipe("paper-stage1", {"activation_checkpointing": False})).memory_gb
    assert kept["activations"] > 10 * few["activations"]
    assert few["total"] == pytest.approx(sum(size for part, size in few.items() if part != "total"), abs=0.01)


def test_a_model_directory_gives_its_own_sizes(tmp_path: Path) -> None:
    config_of(SIZES, 300).save_pretrained(tmp_path)
    expected = estimate(load_recipe("paper-stage3", {"model": {"path": str(tmp_path)}}))
    assert expected.rows == 896 and expected.parameters == parameter_count(config_of(SIZES, 896))


def test_unknown_gpus_and_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no GPU tpu") as caught:
        estimate(load_recipe("paper-stage1"), gpu="tpu")
    assert "h200" in str(caught.value)
    with pytest.raises(UserError, match="could not be loaded"):
        estimate(load_recipe("paper-stage1", {"model": {"path": str(tmp_path)}}))


def test_a_gpu_is_known_by_its_device_name() -> None:
    names = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA H100 PCIe": "h100-pcie", "NVIDIA A100-SXM4-80GB": "a100"}
    names |= {"NVIDIA H200": "h200", "NVIDIA H200 NVL": "h200-nvl", "NVIDIA H100 NVL": "h100-nvl"}
    for name, gpu in names.items():
        assert peak_flops(name) == GPUS[gpu].peak
    assert peak_flops("NVIDIA GeForce RTX 3090") is None
