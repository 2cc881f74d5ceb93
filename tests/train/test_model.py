import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from duologue.errors import UserError
from duologue.formats.vocabulary import Vocabulary
from duologue.train.data import collate
from duologue.train.model import build_model, kind_masks, load_model, logits, packing_mask, token_losses, widen
from duologue.train.recipe import ModelPath, ModelSizes
from tests.train.toy import LENGTH, SIZES, UNITS, pack

VOCABULARY = Vocabulary.byte_level(units=UNITS)
ROWS = VOCABULARY.padded_size()


def _toy_model(seed: int = 0, sizes: ModelSizes = SIZES) -> LlamaForCausalLM:
    return build_model(sizes, ROWS, VOCABULARY.base_size, seed).eval()


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


@torch.no_grad()
def test_the_logits_of_a_packed_document_are_those_of_it_alone() -> None:
    model = _toy_model()
    # Wide weights, so that attention is far from even and a leak would show.
    for weight in model.parameters():
        weight.mul_(5 if weight.dim() == 2 else 1)
    lengths = [17, 1, 30, 9]
    packed = pack(VOCABULARY, 1, "d", lengths)
    together = logits(model, collate([packed, pack(VOCABULARY, 2, "other", [LENGTH])]))
    for document in packed.documents:
        tokens = packed.tokens[document.offset : document.offset + document.length]
        alone = model(input_ids=torch.from_numpy(tokens.astype("int64"))[None]).logits
        inside = together[:1, document.offset : document.offset + document.length]
        torch.testing.assert_close(inside, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_the_mask_they_would_differ() -> None:
    model = _toy_model()
    batch = collate([pack(VOCABULARY, 2, "d", [30, 34])])
    apart = logits(model, batch)
    joined = logits(model, replace(batch, segments=torch.ones_like(batch.segments)))
    assert (apart - joined)[0, 30:].abs().max() > 1e-4


@torch.no_grad()
def test_padding_has_no_loss_and_changes_none() -> None:
    model = _toy_model()
    batch = collate([pack(VOCABULARY, 2, "d", [20, 10])])
    noisy = replace(batch, tokens=torch.where(batch.segments == 0, 5, batch.tokens))
    losses = token_losses(model, batch)
    assert torch.equal(losses, token_losses(model, noisy))
    assert torch.equal(losses > 0, batch.targets >= 0)
    assert losses.isfinite().all()


def test_the_mask_is_causal_within_a_document_and_empty_between() -> None:
    mask = packing_mask(torch.tensor([[1, 1, 2, 0, 0]]))
    seen = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert mask.shape == (1, 1, 5, 5)
    assert mask[0, 0].int().tolist() == seen


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


def test_making_a_model_leaves_the_callers_random_state_alone() -> None:
    state = torch.get_rng_state()
    _toy_model()
    assert torch.equal(state, torch.get_rng_state())


@torch.no_grad()
@pytest.mark.parametrize("tied", [False, True])
def test_widening_keeps_old_rows_and_their_logits_and_fills_new_ones_with_the_mean(tied: bool) -> None:
    model = _pretrained(tied)
    tokens = torch.arange(257)[None]
    before = model(tokens).logits[..., :257]
    old = [model.get_input_embeddings().weight.clone(), model.get_output_embeddings().weight.clone()]
    widen(model, ROWS, base_size=257)
    for embedding, rows in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert embedding.weight.shape == (ROWS, 32)
        assert torch.equal(embedding.weight[:257], rows[:257])
        torch.testing.assert_close(embedding.weight[257:], rows[:257].mean(0).expand(ROWS - 257, 32))
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    assert model.config.vocab_size == ROWS
    torch.testing.assert_close(model(tokens).logits[..., :257], before, atol=1e-6, rtol=0)


def test_a_pretrained_model_is_widened_when_loaded(tmp_path: Path) -> None:
    _pretrained().save_pretrained(tmp_path)
    model = build_model(ModelPath(str(tmp_path)), ROWS, VOCABULARY.base_size, seed=0)
    assert model.get_output_embeddings().weight.shape[0] == ROWS
    assert model.dtype == torch.float32


def test_a_model_that_knows_fewer_tokens_than_the_text_tokenizer_is_refused(tmp_path: Path) -> None:
    _pretrained(rows=200).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="knows 200 tokens, the data's text tokenizer has 257"):
        build_model(ModelPath(str(tmp_path)), ROWS, VOCABULARY.base_size, seed=0)


def test_a_broken_or_foreign_model_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be loaded"):
        load_model(tmp_path)
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
            load_model(broken)
