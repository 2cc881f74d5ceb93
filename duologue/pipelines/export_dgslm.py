"""Unit set -> the text files that dGSLM is trained on (Nguyen et al. 2022, "Generative Spoken Dialogue Language
Modeling"; fairseq, examples/textless_nlp/dgslm), so that the baseline can have the same data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from duologue.formats.card import Card, read_card
from duologue.formats.publish import publishing, write_bytes
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.shards import key_of, read_shard
from duologue.formats.units import UnitSample, dialogue_of
from duologue.manifests.splits import NAMES
from duologue.pipelines.export import STATION, Export
from duologue.progress import Watch

CHANNELS = ("unitA", "unitB")
_DICTIONARIES = tuple(f"dict.{channel}.txt" for channel in CHANNELS)
_SUFFIXES = (*CHANNELS, "code", "ids")


class _Split:
    """The files of one split, open until its stack closes. A dialogue has the same line number in all of them."""

    def __init__(self, out: Path, split: str, stack: ExitStack) -> None:
        self._files = {suffix: stack.enter_context(publishing(out / f"{split}.{suffix}")) for suffix in _SUFFIXES}
        self.lines = 0
        self.frames = 0

    def add(self, dialogue: UnitSample, units: tuple[str, str]) -> None:
        lines = dict(zip(CHANNELS, units, strict=True))
        # fairseq's scripts name audio files after this, without what follows a slash or a dot in it.
        code = {"audio": key_of(dialogue.id), **lines}
        for suffix, line in {**lines, "code": ascii(code), "ids": dialogue.id}.items():
            self._files[suffix].write(f"{line}\n".encode())
        self.lines += 1
        self.frames += dialogue.units.shape[1]


def export_dgslm(units: Path, out: Path) -> dict[str, Any]:
    """Write a unit set as dGSLM reads it, in memory that does not grow with the set.

    For every split that has dialogues, with one line for each dialogue, in the order of the set:

    - `SPLIT.unitA`, `SPLIT.unitB`: all units of channel 0 and of channel 1, at the tokenizer's rate, repeated units
      included, with a space between;
    - `SPLIT.code`: the literal of a Python dict, `{'audio': key, 'unitA': '7 7 ...', 'unitB': '0 3 ...'}`;
    - `SPLIT.ids`: the dialogue's id.

    `dict.unitA.txt` and `dict.unitB.txt` are equal: a line for each unit of the tokenizer, with its count over both
    channels of the split "train"; in the order of fairseq's own, the frequent ones first. `export.json`, written
    last, declares the export finished.

    Args:
        units: the unit set.
        out: the export's directory.

    Returns:
        What `export.json` says.

    Raises:
        UserError: the unit set is missing, of another kind or damaged, nothing in it can be exported, or `out` holds
            something else or cannot be written.
    """
    card = read_card(units, "units")
    identity = card.tokenizer or {}
    names = [*_DICTIONARIES, *(f"{split}.{suffix}" for split in NAMES for suffix in _SUFFIXES)]
    export = Export("dgslm", out, card, names, {})
    finished = export.begin()
    if finished is not None:
        return finished
    words = [str(unit) for unit in range(int(identity["vocabulary"]))]
    counts = np.zeros(len(words), np.int64)
    splits: dict[str, _Split] = {}
    rejects: list[Reject] = []
    with ExitStack() as stack, Watch("export dgslm", int(card.totals["samples"]), "dialogues") as watch:
        for dialogue in _dialogues(units, card):
            try:
                _check(dialogue, len(words))
            except Unusable as refusal:
                rejects.append(refusal.reject(dialogue.id, STATION))
            else:
                if dialogue.split not in splits:
                    splits[dialogue.split] = _Split(out, dialogue.split, stack)
                first, second = (" ".join([words[unit] for unit in side]) for side in dialogue.units.tolist())
                splits[dialogue.split].add(dialogue, (first, second))
                if dialogue.split == "train":
                    counts += np.bincount(dialogue.units.ravel(), minlength=len(words))
            watch.advance()
    dictionary = "".join(f"{words[unit]} {counts[unit]}\n" for unit in _in_order(counts)).encode()
    for name in _DICTIONARIES:
        write_bytes(out / name, dictionary)
    made = {name: splits[name] for name in NAMES if name in splits}
    about = {
        "rate": identity["rate"],
        "vocabulary": len(words),
        "tokenizer": dict(identity),
        "splits": {name: {"lines": split.lines, "frames": split.frames} for name, split in made.items()},
    }
    totals = {"frames": sum(split.frames for split in made.values())}
    return export.finish(sum(split.lines for split in made.values()), rejects, about, totals)


def _dialogues(units: Path, card: Card) -> Iterator[UnitSample]:
    for shard in card.sample_shards:
        path = units / shard["name"]
        for sample in read_shard(path, shard["sha256"]):
            yield dialogue_of(sample, path, turns=False)


def _check(dialogue: UnitSample, vocabulary: int) -> None:
    if dialogue.split not in NAMES:
        raise Unusable("bad_split", f"it is in a split {dialogue.split!r}, not in {', '.join(NAMES)}")
    if not dialogue.id.isprintable():
        raise Unusable("bad_id", "the id has characters that cannot be printed, and would break the list of ids")
    if not dialogue.units.size:
        raise Unusable("empty", "it has no units, and would be an empty line")
    low, high = int(dialogue.units.min()), int(dialogue.units.max())
    if low < 0 or high >= vocabulary:
        raise Unusable("bad_units", f"its units are {low} to {high}; the tokenizer's are 0 to {vocabulary - 1}")


def _in_order(counts: np.ndarray) -> list[int]:
    """Return the units as fairseq-preprocess orders them: by count, equal ones as text."""
    return sorted(range(len(counts)), key=lambda unit: (-counts[unit], str(unit)))
