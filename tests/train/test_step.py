from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from transformers import LlamaForCausalLM

from duologue.formats.metrics import read_lines
from duologue.formats.sequences import SequenceSet
from duologue.formats.vocabulary import TAGS
from duologue.train.checkpoint import checkpoints, load_checkpoint_model
from duologue.train.data import read_rows
from duologue.train.loop import train
from duologue.train.model import KINDS
from duologue.train.parallel import World
from duologue.train.step import content_of
from tests.train.toy import recipe

# Every one of them counts: of the norms some are above the clip, the decay takes whole percents of the weights.
SETTINGS: dict[str, Any] = {
    "sequences_per_step": 3,
    "steps": 6,
    "warmup_steps": 4,
    "weight_decay": 0.9,
    "betas": (0.8, 0.9),
    "clip": 1.3,
}


def plain(model: LlamaForCausalLM, data: SequenceSet) -> list[tuple[float, float]]:
    """Train as torch and transformers do, document by document; return the loss and gradient norm of each step."""
    weights = list(model.parameters())
    matrices, norms = ([weight for weight in weights if (weight.dim() > 1) is wide] for wide in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.9}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.9))
    lines = []
    for step in range(6):
        losses = []
        for index in range(3 * step, 3 * step + 3):
            sequence = data[index]
            for document in sequence.documents:
                inside = slice(document.offset, document.offset + document.length)
                tokens = torch.from_numpy(sequence.tokens[inside].astype("i8"))
                logits = model(tokens[None]).logits[0, :-1]
                losses.append(cross_entropy(logits, tokens[1:], reduction="none"))
        loss = torch.cat(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(weights, 1.3)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 4)
        optimizer.step()
        lines.append((loss.item(), norm.item()))
    return lines


@pytest.mark.parametrize(("dtype", "near"), [("float32", 3e-5), ("bfloat16", 1e-3)])
def test_a_run_takes_the_steps_that_torch_takes_with_the_recipes_settings(
    stage2_set: Path, stage2_run: Path, tmp_path: Path, dtype: str, near: float
) -> None:
    model = load_checkpoint_model(checkpoints(stage2_run)[-1])
    settings = recipe(**SETTINGS, optimizer_dtype=dtype)
    train(settings, stage2_set, tmp_path / "run", init_from=stage2_run)
    expected = plain(model, SequenceSet(stage2_set))
    norms = [norm for _, norm in expected]
    assert min(norms) < 1.3 < max(norms)
    found = [(line["loss"], line["grad_norm"]) for line in read_lines(tmp_path / "run")]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=10 * near)
    trained = load_checkpoint_model(checkpoints(tmp_path / "run")[-1]).state_dict()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(trained[name], weight, atol=near, rtol=0)


def test_what_a_step_holds_is_counted_by_its_documents(stage2_set: Path) -> None:
    data = SequenceSet(stage2_set)
    batches = list(read_rows(data, range(7)).micro(3))
    content = content_of(batches, data.vocabulary.base_size, World(0, 1, torch.device("cpu")), failed=True)
    documents = [
        data.vocabulary.to_stream(sequence.tokens[document.offset : document.offset + document.length])
        for sequence in data.rows(range(7))
        for document in sequence.documents
    ]
    tags = sum(int((stream[1:] < TAGS).sum()) for stream in documents)
    tokens = sum(map(len, documents))
    assert dict(zip(KINDS, content.targets, strict=True)) == {
        "text": 0,
        "units": tokens - len(documents) - tags,
        "tags": tags,
    }
    assert (content.tokens, content.failed) == (tokens, 1)
    assert content.attended == pytest.approx(sum(len(each) * (len(each) + 1) / 2 for each in documents) / tokens)
