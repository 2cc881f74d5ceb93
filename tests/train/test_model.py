import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from duologue.errors import UserError
from duologue.formats.vocabulary import Vocabulary
from duologue.train.data import Batch, collate
from duologue.train.llama import PackedLlama
from duologue.train.model import kind_masks, next_logits, token_losses
from duologue.train.recipe import ModelPath, ModelSizes
from duologue.train.weights import StoredWeights, whole_model
from tests.train.toy import LENGTH, SIZES, UNITS, build_model, pack

VOCABULARY = Vocabulary.byte_level(units=UNITS)
ROWS = VOCABULARY.padded_size()


def _toy_model(seed: int = 0, sizes: ModelSizes = SIZES) -> LlamaForCausalLM:
    return build_model(sizes, ROWS, VOCABULARY.base_size, seed).eval()


def _load_model(path: Path) -> LlamaForCausalLM:
    return whole_model(StoredWeights(path), path)


def _pretrained(tied: bool = False, rows: int = 260) -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config).eval()


def _logits(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Logits of every token of a batch of one sequence, each as the last one of what is before it."""
    parts = (batch.tokens, batch.positions, batch.segments)
    places = range(1, batch.tokens.shape[1] + 1)
    return torch.stack([next_logits(model, *(part[:, :end] for part in parts)) for end in places])


@torch.no_grad()
def test_the_logits_of_a_packed_document_are_those_of_it_alone() -> None:
    model = _toy_model()
    # Wide weights, so that attention is far from even and a leak would show.
    for weight in model.parameters():
        weight.mul_(5 if weight.dim() == 2 else 1)
    packed = pack(VOCABULARY, 1, "d", [17, 1, 30, 9])
    alone = [
        model(input_ids=torch.from_numpy(packed.tokens[d.offset : d.offset + d.length].astype("int64"))[None]).logits
        for d in packed.documents
    ]
    together = _logits(model, collate([packed]))
    for document, expected in zip(packed.documents, alone, strict=True):
        inside = together[document.offset : document.offset + document.length]
        torch.testing.assert_close(inside, expected[0], atol=1e-5, rtol=0)
    losses = token_losses(model, collate([pack(VOCABULARY, 2, "other", [LENGTH]), packed]))[1]
    tokens = collate([packed]).targets[0].long()
    expected_losses = functional.cross_entropy(together, tokens, ignore_index=-100, reduction="none")
    torch.testing.assert_close(losses, expected_losses, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_borders_they_would_differ() -> None:
    model = _toy_model()
    batch = collate([pack(VOCABULARY, 2, "d", [30, 34])])
    joined = replace(batch, segments=torch.ones_like(batch.segments))
    apart, together = (token_losses(model, one)[0, 30:] for one in (batch, joined))
    assert (apart - together).abs().max() > 1e-4


def test_packing_leaves_the_model_as_transformers_knows_it() -> None:
    model = _toy_model()
    tokens = torch.arange(40)[None]
    before = model(tokens).logits
    PackedLlama(model)
    torch.testing.assert_close(model(tokens).logits, before, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        model(tokens, attention_mask=torch.ones_like(tokens)).logits, before, atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_padding_has_no_loss_and_changes_none() -> None:
    model = _toy_model()
    batch = collate([pack(VOCABULARY, 2, "d", [20, 10])])
    noisy = replace(batch, tokens=torch.where(batch.segments == 0, 5, batch.tokens))
    losses = token_losses(model, batch)
    assert torch.equal(losses, token_losses(model, noisy))
    assert torch.equal(losses > 0, batch.targets >= 0)
    assert losses.isfinite().all()


def test_targets_fall_into_text_units_and_tags() -> None:
    targets = torch.tensor([0, 256, 257, 258, 259, 278, -100])
    expected = [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0], [0, 0, 1, 1, 0, 0, 0]]
    assert kind_masks(targets, 257).int().tolist() == expected


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(1)
    one = _toy_model().state_dict()
    torch.manual_seed(2)
    again, other = _toy_model().state_dict(), _toy_model(seed=1).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


def test_weights_from_nothing_are_normal_no_two_alike_and_norms_are_one() -> None:
    weights = _toy_model().state_dict()
    matrices = [weight.flatten() for name, weight in weights.items() if "norm" not in name]
    assert all(torch.equal(weight, torch.ones(32)) for name, weight in weights.items() if "norm" in name)
    for number, weight in enumerate(matrices):
        # Llama's deviation; the bounds are five deviations of what so many draws give.
        assert abs(weight.mean()) < 5 * 0.02 / len(weight) ** 0.5
        assert abs(weight.std() / 0.02 - 1) < 5 / (2 * len(weight)) ** 0.5
        for other in matrices[:number]:
            both = min(len(weight), len(other))
            assert abs(torch.corrcoef(torch.stack([weight[:both], other[:both]]))[0, 1]) < 5 / both**0.5


def test_making_a_model_leaves_the_callers_random_state_alone() -> None:
    state = torch.get_rng_state()
    _toy_model()
    assert torch.equal(state, torch.get_rng_state())


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_widening_keeps_old_rows_and_their_logits_and_fills_new_ones_with_the_mean(
    tied: bool, tmp_path: Path
) -> None:
    plain = _pretrained(tied)
    plain.save_pretrained(tmp_path)
    tokens = torch.arange(257)[None]
    model = build_model(ModelPath(str(tmp_path)), ROWS, 257, seed=0).eval()
    for get in (LlamaForCausalLM.get_input_embeddings, LlamaForCausalLM.get_output_embeddings):
        weight, old = get(model).weight, get(plain).weight
        assert weight.shape == (ROWS, 32)
        assert torch.equal(weight[:257], old[:257])
        torch.testing.assert_close(weight[257:], old[:257].mean(0).expand(ROWS - 257, 32))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    assert model.config.vocab_size == ROWS
    torch.testing.assert_close(model(tokens).logits[..., :257], plain(tokens).logits[..., :257], atol=1e-6, rtol=0)


def test_a_model_in_several_files_is_the_same(tmp_path: Path) -> None:
    model = _pretrained()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20kB")
    assert len(list((tmp_path / "many").glob("model-*"))) > 2
    one, many = (_load_model(tmp_path / name).state_dict() for name in ("one", "many"))
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    next((tmp_path / "many").glob("model-*")).unlink()
    with pytest.raises(UserError, match="parts of model"):
        _load_model(tmp_path / "many")


def test_a_model_in_half_precision_is_read_in_float32(tmp_path: Path) -> None:
    model = _pretrained()
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = _load_model(tmp_path)
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight.float())


def test_a_pretrained_model_is_widened_when_loaded(tmp_path: Path) -> None:
    _pretrained().save_pretrained(tmp_path)
    model = build_model(ModelPath(str(tmp_path)), ROWS, VOCABULARY.base_size, seed=0)
    assert model.get_output_embeddings().weight.shape[0] == ROWS
    assert model.dtype == torch.float32


def test_a_model_that_knows_fewer_tokens_than_the_text_tokenizer_is_refused(tmp_path: Path) -> None:
    _pretrained(rows=200).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="knows 200 tokens, the data's text tokenizer has 257"):
        build_model(ModelPath(str(tmp_path)), ROWS, VOCABULARY.base_size, seed=0)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "wide"},
        {"hidden_size": 33},
        {"hidden_act": "unheard"},
        {"num_attention_heads": 0},
        {"rope_parameters": {"rope_type": "unheard"}},
        {"vocab_size": -5},
    ],
)
def test_a_configuration_that_fits_no_llama_is_one_message(change: dict[str, Any], tmp_path: Path) -> None:
    _pretrained().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=r"could not be loaded \(its config.json does not fit"):
        _load_model(tmp_path)


def test_a_broken_or_foreign_model_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be loaded"):
        _load_model(tmp_path)
    whole = tmp_path / "whole"
    _pretrained().save_pretrained(whole)
    messages = {
        "truncated": "could not be loaded",
        "json": "could not be loaded",
        "type": "of type bert, not a Llama",
        "tensor": "could not be loaded",
    }
    for harm in messages:
        broken = tmp_path / harm
        shutil.copytree(whole, broken)
        weights, config = broken / "model.safetensors", broken / "config.json"
        if harm == "truncated":
            weights.write_bytes(weights.read_bytes()[:1000])
        elif harm == "json":
            config.write_text(config.read_text()[:30])
        elif harm == "type":
            config.write_text(config.read_text().replace('"model_type": "llama"', '"model_type": "bert"'))
        else:
            config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
        with pytest.raises(UserError, match=messages[harm]):
            _load_model(broken)
