"""Valid sets with named sources, and validations on several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from duologue.formats.card import read_card, write_card
from duologue.formats.sequences import SequenceSet
from duologue.formats.shards import ShardWriter
from tests.train.toy import recipe, write_set

# The server imports torch and transformers once; its children are forked before any thread has begun.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["duologue.train.loop"])
F = 4


def write_valid(directory: Path, **settings: Any) -> Path:
    """Write a toy set as the mix would: of the valid split, with sources in turn, and with a clock but in stage 1."""
    write_set(directory, **settings)
    card = read_card(directory)
    sequences = list(SequenceSet(directory))
    for shard in card.shards:
        (directory / shard["name"]).unlink()
    with ShardWriter(directory / "valid-00000.tar") as writer:
        for number, sequence in enumerate(sequences):
            names = ("calls", "tasks")
            documents = tuple(
                d._replace(source=names[(number + place) % 2]) for place, d in enumerate(sequence.documents)
            )
            writer.add(f"{number:09d}", replace(sequence, documents=documents).members())
    assert writer.info is not None
    shards = [asdict(writer.info)]
    clock = {} if card.config["stage"] == 1 else {"frames_per_chunk": F}
    write_card(directory, replace(card, config={**card.config, **clock, "split": "valid"}, shards=shards))
    return directory


def _validate(
    rank: int, size: int, place: Path, settings: dict[str, Any], checkpoint: Path, sets: list[Path]
) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    import torch
    import torch.distributed as dist

    from duologue.train.checkpoint import load_checkpoint_model
    from duologue.train.llama import PackedLlama
    from duologue.train.parallel import World
    from duologue.train.sharding import shard
    from duologue.train.validation import Validation

    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(str(place / "store"), size), rank=rank, world_size=size)
    world = World(rank, size, torch.device("cpu"))
    model = PackedLlama(load_checkpoint_model(checkpoint))
    shard(model, world, torch.float32)
    validation = Validation(recipe(**settings), [SequenceSet(path) for path in sets], world)
    (place / f"{rank}.json").write_text(json.dumps(validation.run(model, step=7)))
    dist.destroy_process_group()


def validate(
    processes: int, place: Path, settings: dict[str, Any], checkpoint: Path, sets: list[Path]
) -> list[dict[str, Any]]:
    """Validate a checkpoint on several processes, each with its rows of the model; return the result of each."""
    place.mkdir()
    running = [
        _context.Process(target=_validate, args=(rank, processes, place, settings, checkpoint, sets))
        for rank in range(processes)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * processes
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(processes)]
