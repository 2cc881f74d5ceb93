from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from duologue.formats.sequences import PackedSequence, SequenceSet
from duologue.formats.sync import S0, S1, encode
from duologue.train.checkpoint import checkpoints, load_checkpoint_model
from duologue.train.loop import train
from duologue.train.parallel import World
from duologue.train.sampling import Prompt, first_prompt, judge, sample
from tests.train.toy import recipe
from tests.train.validating import write_valid

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> SequenceSet:
    return SequenceSet(write_valid(tmp_path_factory.mktemp("sampling") / "calls", sequences=4))


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> SequenceSet:
    return SequenceSet(write_valid(tmp_path_factory.mktemp("sampling") / "chats", stage=1, sequences=4))


@pytest.fixture(scope="module")
def model(stage2_run: Path) -> nn.Module:
    return load_checkpoint_model(checkpoints(stage2_run)[-1])


class GoingOn(SequenceSet):
    """A set in which every sequence begins with the rest of a dialogue."""

    def __getitem__(self, index: int) -> PackedSequence:
        sequence = super().__getitem__(index)
        first, *others = sequence.documents
        return replace(sequence, documents=(first._replace(start=8), *others))


def test_the_prompt_is_the_first_chunks_of_a_dialogue(calls: SequenceSet) -> None:
    prompt = first_prompt(calls, 4, chunks=2)
    assert prompt is not None and prompt.most == 2 * (2 + 2 * 4)
    document = calls[0].documents[0]
    assert np.array_equal(prompt.tokens, calls[0].tokens[document.offset :][: len(prompt.tokens)])
    stream = calls.vocabulary.to_stream(calls[0].tokens)
    assert (stream[: len(prompt.tokens)] == S0).sum() == 2 and stream[len(prompt.tokens)] == S0


def test_a_dialogue_that_is_too_short_or_goes_on_from_elsewhere_gives_no_prompt(calls: SequenceSet) -> None:
    # The first documents have 20 to 29 tokens, four or five chunks; the second ones up to 44.
    longer = first_prompt(calls, 4, chunks=6)
    assert longer is not None and not np.array_equal(longer.tokens[:4], calls[0].tokens[:4])
    assert first_prompt(calls, 4, chunks=50) is None
    assert first_prompt(calls, 0, chunks=1) is None
    second = calls[0].documents[1]
    prompt = first_prompt(GoingOn(calls.directory), 4, chunks=2)
    assert prompt is not None
    assert np.array_equal(prompt.tokens, calls[0].tokens[second.offset :][: len(prompt.tokens)])


def test_a_sample_is_decided_by_seed_and_step(model: nn.Module, calls: SequenceSet) -> None:
    prompt = first_prompt(calls, 4, chunks=2)
    assert prompt is not None
    first, again, later = (sample(model, prompt, ALONE, seed=0, step=step) for step in (1, 1, 2))
    assert first == again and first["sample"] != later["sample"]
    assert 0 <= first["sample_valid"] <= 1


def test_a_trained_model_writes_well_formed_chunks(stage2_set: Path, calls: SequenceSet, tmp_path: Path) -> None:
    prompt = first_prompt(calls, 4, chunks=3)
    assert prompt is not None
    shares = []
    for steps in (1, 40):
        out = tmp_path / str(steps)
        train(recipe(sequences_per_step=1, micro_batch=1, steps=steps, learning_rate=3e-2), stage2_set, out)
        trained = load_checkpoint_model(checkpoints(out)[-1])
        judged = [sample(trained, prompt, ALONE, seed=0, step=step) for step in range(5)]
        shares.append(np.mean([one["sample_valid"] for one in judged]))
    assert shares[1] > shares[0] + 0.2


def _prompt(data: SequenceSet, stream: np.ndarray) -> Prompt:
    return Prompt(data, data.vocabulary.from_stream(stream).astype(np.int64), most=99, chunks=9)


def test_a_real_dialogue_is_well_formed_and_has_its_rate(calls: SequenceSet) -> None:
    units = np.random.default_rng(0).integers(0, 20, (2, 80))
    stream = encode(units, 4)
    cut = int(np.flatnonzero(stream == S0)[5])
    judged = judge(_prompt(calls, stream[:cut]), calls.vocabulary.from_stream(stream))
    assert (judged["sample_valid"], judged["sample_problem"]) == (1.0, "")
    last = int(np.flatnonzero(stream == S0)[-1])
    assert judged["sample_tokens_per_s"] == pytest.approx((last - cut) / (14 * 0.16))
    assert judged["sample"].startswith("[S0]")


@pytest.mark.parametrize(
    ("written", "valid", "problem"),
    [
        ([S0, 4, S0, 5, S0], 1.0, ""),
        ([S0, 3, S0, 5, S0, 6], 0.5, "a unit that is not novel"),
        ([S0, S1, 5, S1, 6, S0, 4, S0], 0.5, "two [S1]"),
        ([-5, S0, 4, S0], 0.5, "text"),
        ([4, 5, 6, 7], 0.0, "no whole chunk"),
    ],
)
def test_what_is_wrong_behind_the_prompt_counts(
    calls: SequenceSet, written: list[int], valid: float, problem: str
) -> None:
    start = np.array([S0, 2, 3, S1, 2])
    whole = calls.vocabulary.from_stream(np.concatenate([start, written]))
    judged = judge(_prompt(calls, start), whole)
    assert (judged["sample_valid"], judged["sample_problem"]) == (valid, problem)


def test_stage_one_is_judged_by_turns(chats: SequenceSet, model: nn.Module) -> None:
    vocabulary = chats.vocabulary
    tags = vocabulary.from_stream(np.array([S0, S1])).astype(np.int64)
    text = vocabulary.encode_text(["So then."])[0].astype(np.int64)
    prompt = Prompt(chats, np.concatenate([tags[:1], text, tags[1:], text[:3]]), most=99, chunks=9)
    assert prompt.frames_per_chunk == 0
    more = [text[3:], tags[:1], text, tags[:1], text, tags[1:]]
    judged = judge(prompt, np.concatenate([prompt.tokens, *more]))
    assert judged["sample_valid"] == pytest.approx(2 / 3)
    assert judged["sample_problem"] == "a second turn of [S0]" and judged["sample_tokens_per_s"] is None
    assert judge(prompt, np.concatenate([prompt.tokens, text[3:]]))["sample_valid"] is None
    found = first_prompt(chats, 4, chunks=1)
    assert found is not None and len(found.tokens) == found.most == 10
    assert sample(model, found, ALONE, seed=0, step=1)["sample_tokens_per_s"] is None


def test_rows_that_pad_the_embedding_are_never_drawn(model: nn.Module, calls: SequenceSet) -> None:
    prompt = first_prompt(calls, 4, chunks=2)
    assert prompt is not None
    with torch.no_grad():
        head = model.get_output_embeddings().weight  # type: ignore[operator]
        before = head.clone()
        head[calls.vocabulary.size :] = 1e3 * head[calls.vocabulary.base_size]
    assert head.shape[0] > calls.vocabulary.size
    written = sample(model, prompt, ALONE, seed=0, step=3)
    with torch.no_grad():
        head.copy_(before)
    assert written["sample_problem"] != "no such token"
