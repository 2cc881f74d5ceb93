"""What goes through `torch.compile`: seen by a backend that counts its programs and runs them as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from duologue.formats.vocabulary import Vocabulary
from duologue.train import attention, loss
from duologue.train.data import collate
from duologue.train.llama import PackedLlama
from duologue.train.model import token_losses
from duologue.train.optimizer import adamw
from tests.commands import ENVIRONMENT, RECIPE, call_apart, refused
from tests.train.toy import SIZES, UNITS, build_model, pack, recipe, write_set

VOCABULARY = Vocabulary.byte_level(units=UNITS)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """The programs compiled so far."""
    found: list[torch.fx.GraphModule] = []
    compile = torch.compile

    def backend(program: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        found.append(program)
        return program.forward

    monkeypatch.setattr(torch, "compile", lambda *parts, **options: compile(*parts, backend=backend, **options))
    monkeypatch.setattr(loss, "_programs", {})
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def _attend(query: Tensor, key: Tensor, value: Tensor, borders: Tensor, scaling: float | None) -> Tensor:
    """Attention that is one operation to a compiler, as on a GPU: here, all tokens are one document."""
    mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
    return mixed.transpose(1, 2)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_all_layers_are_one_program_whatever_documents_a_batch_has(
    programs: list[torch.fx.GraphModule], monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    monkeypatch.setattr(attention, "_by_document", _attend)
    plain, compiled = (
        PackedLlama(build_model(SIZES, VOCABULARY.padded_size(), VOCABULARY.base_size, 0), **settings).train()
        for settings in ({}, {"compile": True, "checkpointing": checkpointing})
    )
    for lengths in ([60], [20, 30], [9, 9, 9, 9]):
        batch = collate([pack(VOCABULARY, 2, "d", lengths)])
        losses = [token_losses(model, batch) for model in (plain, compiled)]
        torch.testing.assert_close(losses[1], losses[0])
        for each in losses:
            each.sum().backward()
    # One of a layer, one of the loss.
    assert len(programs) == 2
    for one, other in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_validation_and_another_size_of_batch_add_programs_once_each(
    programs: list[torch.fx.GraphModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "_by_document", _attend)
    llama = build_model(SIZES, VOCABULARY.padded_size(), VOCABULARY.base_size, 0)
    model = PackedLlama(llama, compile=True).train()

    def added(sequences: int, gradients: bool) -> int:
        before = len(programs)
        batch = collate([pack(VOCABULARY, 2, "d", [60])] * sequences)
        with torch.set_grad_enabled(gradients):
            token_losses(model, batch)
        return len(programs) - before

    assert [added(2, True), added(2, True)] == [2, 0]
    # The first validation.
    assert [added(2, False), added(2, False)] == [2, 0]
    # What is left of a step, and padding. From the second size on, a program is for any but 1.
    for gradients in (True, False):
        assert [added(size, gradients) for size in (3, 1, 4, 5, 2)] == [2, 2, 0, 0, 0]


def test_adamw_in_half_the_memory_is_one_program_that_gives_the_same(programs: list[torch.fx.GraphModule]) -> None:
    torch.manual_seed(0)
    start = {"matrix": torch.randn(7, 5), "norm": torch.randn(5), "large": torch.randn(90, 30)}
    ends = []
    for compile in (False, True):
        weights = {name: torch.nn.Parameter(value.clone()) for name, value in start.items()}
        optimizer = adamw(weights, recipe(optimizer_dtype="bfloat16", compile=compile))
        for step in range(4):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * (step + 1)
            for name, weight in weights.items():
                weight.grad = start[name].roll(step, 0).clone()
            optimizer.step()
        ends.append(weights)
    for name, value in start.items():
        torch.testing.assert_close(ends[0][name], ends[1][name])
        assert not torch.equal(ends[1][name], value)
    # One each for what has one dimension and what is a view of two.
    assert len(programs) <= 2


def test_where_no_compiler_is_found_one_message_says_how_to_do_without(tmp_path: Path) -> None:
    data, settings = write_set(tmp_path / "data", stage=1), tmp_path / "recipe.toml"
    settings.write_text(RECIPE.replace("[model]", "compile = true\n\n[model]"))
    environment = {**ENVIRONMENT, "PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    environment.pop("CXX", None)
    arguments = ["train", "--recipe", settings, "--data", data, "--out", tmp_path / "run"]
    message = refused(call_apart(environment, *arguments), "compile = false")
    assert message.startswith("duologue: error: torch.compile failed (")
    settings.write_text(RECIPE)
    assert call_apart(environment, *arguments).code == 0
