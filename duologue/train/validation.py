"""Validation: the loss on sequences that are not trained on, by kind, set and source, and a sample of dialogue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duologue.errors import UserError
from duologue.formats.sequences import SequenceSet, describe
from duologue.progress import say
from duologue.train.data import Batch, nothing, read_rows
from duologue.train.fit import check_speech, check_vocabulary
from duologue.train.model import KINDS, kind_masks, token_losses
from duologue.train.parallel import World
from duologue.train.reader import share_of
from duologue.train.recipe import Recipe
from duologue.train.sampling import first_prompt, sample

_UNNAMED = "unnamed"
_MIX_AGAIN = "Mix the valid set with the options of the training set, and `--split valid`"


def open_valid(data: SequenceSet, directories: Sequence[Path]) -> list[SequenceSet]:
    """Open the sets that a run is validated on.

    Args:
        data: what the run trains on.
        directories: of finished sequence sets, of any stage; `duologue mix --split valid` makes them.

    Raises:
        UserError: a set is unfinished or damaged, is named like another, is the one that is trained on, or has
            another vocabulary, tokenizer or (in stages 2 and 3) chunk than it.
    """
    sets = []
    ours = describe(data.card)
    for directory in directories:
        opened = SequenceSet(directory)
        theirs = describe(opened.card)
        if theirs["fingerprint"] == ours["fingerprint"]:
            raise UserError(
                "the valid set is the one that is trained on",
                where=directory,
                hint="Make one with `duologue mix --split valid`",
            )
        side: dict[str, Any] = {"whose": "the valid set", "where": directory, "hint": _MIX_AGAIN}
        check_vocabulary(theirs["vocabulary"], ours["vocabulary"], **side)
        check_speech(theirs, ours, **side)
        sets.append(opened)
    names = [opened.directory.resolve().name for opened in sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"two valid sets are called {twice[0]}: their losses could not be told apart",
            where=twice[0],
            hint="Rename one of the directories",
        )
    return sets


class Validation:
    """What a run is validated on.

    Every set gives its first sequences. They are dealt out in contiguous pieces, read once, and every process puts
    the same number of batches through the model, some of them empty: under sharding all processes have to compute in
    step. The sums are over all processes, so the result does not depend on how many there are.

    Args:
        recipe: of the run.
        sets: valid sets (`open_valid`); none for a run without validation.
        world: the processes of the run.

    Raises:
        UserError: a set is damaged.
    """

    def __init__(self, recipe: Recipe, sets: Sequence[SequenceSet], world: World) -> None:
        self._recipe, self._sets, self._world = recipe, sets, world
        for opened in sets if world.first else ():
            if opened.card.config.get("split") == "train":
                say(f"{opened.directory} is of the train split: what the loss on it says is not validation")
        counts = [min(len(opened), recipe.valid_sequences) for opened in sets]
        for opened, count in zip(sets, counts, strict=True):
            for shard in range(opened.shard_of(count - 1) + 1):
                opened.check(shard)
        # Everybody looks at all documents: the processes have to agree on what sources there are.
        sources = [
            [[document.source or _UNNAMED for document in opened[index].documents] for index in range(count)]
            for opened, count in zip(sets, counts, strict=True)
        ]
        self._sources = sorted({source for of_set in sources for of_row in of_set for source in of_row})
        self._batches = [list(self._share(opened, of_set)) for opened, of_set in zip(sets, sources, strict=True)]
        self._prompt = None
        if recipe.sample_chunks:
            alike = (pair for pair in zip(sets, counts, strict=True) if pair[0].card.config["stage"] == recipe.stage)
            found = (first_prompt(opened, count, recipe.sample_chunks) for opened, count in alike)
            self._prompt = next((prompt for prompt in found if prompt is not None), None)
            if self._prompt is None and sets and world.first:
                say(
                    f"no valid set of stage {recipe.stage} has a dialogue long enough for sample_chunks = "
                    f"{recipe.sample_chunks}: nothing will be sampled"
                )

    def due(self, step: int, last: bool) -> bool:
        """Say whether to validate after `step` steps; `last` is whether the run ends with it."""
        every = self._recipe.valid_every
        return bool(self._sets) and bool(every) and (last or step % every == 0)

    @torch.no_grad()
    def run(self, model: nn.Module, step: int) -> dict[str, Any]:
        """Validate; every process calls it.

        Args:
            model: in training.
            step: steps taken; with the recipe's seed, it decides the sample.

        Returns:
            `loss`, `loss_text`, `loss_units`, `loss_tags` over all sets, in nats a target (None where there are
            none), and `targets`; under `sets` and `sources` the same for each set (with its `stage`) and source; and
            what `sampling.sample` returns, where the recipe asks for a sample and a set of the run's stage has a
            dialogue long enough. The same on every process.
        """
        # Of each set and source the sum of the losses and the number of targets, by kind.
        sums = torch.zeros(len(self._sets), len(self._sources), 2, len(KINDS), dtype=torch.float64)
        for number, batches in enumerate(self._batches):
            for batch, source in batches:
                sums[number] += self._by_source(batch, source, token_losses(model, batch).cpu())
        sums = self._world.sum(sums)
        result: dict[str, Any] = _losses(sums.sum(dim=(0, 1)))
        result["sets"] = {
            opened.directory.resolve().name: {
                "stage": opened.card.config["stage"],
                **_losses(sums[number].sum(dim=0)),
            }
            for number, opened in enumerate(self._sets)
        }
        result["sources"] = {name: _losses(sums[:, number].sum(dim=0)) for number, name in enumerate(self._sources)}
        if self._prompt is not None:
            result |= sample(model, self._prompt, self._world, self._recipe.seed, step)
        return result

    def _share(self, opened: SequenceSet, sources: Sequence[Sequence[str]]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield this process's batches of a set, each with the source of every token, -1 in padding."""
        share, size = share_of(0, len(sources), self._world), self._recipe.micro_batch
        largest = -(-len(sources) // self._world.size)
        for begin in range(share.start, share.start + largest, size):
            rows = range(begin, min(begin + size, share.stop))
            batch = read_rows(opened, rows) if rows else nothing(opened.sequence_length)
            source = torch.full_like(batch.segments, -1)
            for place, row in enumerate(rows):
                numbers = [self._sources.index(name) for name in sources[row]]
                source[place] = torch.tensor([-1, *numbers])[batch.segments[place]]
            yield batch, source

    def _by_source(self, batch: Batch, source: Tensor, losses: Tensor) -> Tensor:
        """Return the sums of a batch, float64 `[sources, 2, kinds]`."""
        kinds = kind_masks(batch.targets, self._sets[0].vocabulary.base_size).double()
        both = torch.stack([kinds * losses.double(), kinds])
        return torch.stack([(both * (source == number)).sum(dim=(2, 3)) for number in range(len(self._sources))])


def _losses(sums: Tensor) -> dict[str, Any]:
    """Return the losses of sums and numbers of targets, `[2, kinds]`."""
    total, count = (row.tolist() for row in sums)
    losses: dict[str, Any] = {"loss": sum(total) / sum(count) if sum(count) else None}
    for kind, part, number in zip(KINDS, total, count, strict=True):
        losses[f"loss_{kind}"] = part / number if number else None
    return {**losses, "targets": int(sum(count))}
