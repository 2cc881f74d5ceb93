"""The command that made an artefact, as far as its card tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from duologue.formats.card import Card
from duologue.formats.vocabulary import Vocabulary
from duologue.pipelines.ancestry import Neighbours
from duologue.synth.shape import NATURAL
from duologue.synth.voices import ESPEAK_VOICES
from duologue.tokenize.thresholds import DEFAULTS
from duologue.tokenize.tokenizer import read_about

# Of a mix, as the card's config and the command line both name them.
_OF_MIX = (
    "chunk_ms",
    "sequence_length",
    "epochs",
    "seed",
    "curriculum",
    "level",
    "split",
    "sequences_per_shard",
)


class Blank(str):
    """A word of a command that nobody knows any more, in capitals."""

    __slots__ = ()


def command_of(directory: Path, card: Card, parents: Sequence[Path] = ()) -> list[str]:
    """Return the words, behind `duologue`, of the command that made a unit set or a sequence set in its directory.

    What the card does not hold is a `Blank`: the paths of models, and of parents that are not near.

    Args:
        directory: where the artefact is.
        card: of the artefact.
        parents: where to look for what it was made of, beside the neighbourhood.
    """
    around = Neighbours(directory, parents)
    found = [(parent["kind"], around.directory_of(parent["fingerprint"])) for parent in card.parents]
    names = [Blank(kind.upper()) if place is None else str(place) for kind, place in found]
    return list(_units(directory, card, names) if card.kind == "units" else _mix(directory, card, names))


def _mix(directory: Path, card: Card, names: Sequence[str]) -> Iterator[str]:
    config = card.config
    sources = zip(names, config["weights"], strict=True)
    # Of a string's own class, so that a blank stays one.
    yield from ("mix", *(name if weight == 1 else type(name)(f"{name}:{weight!r}") for name, weight in sources))
    yield from ("--stage", str(config["stage"]), "--out", str(directory))
    for name in _OF_MIX:
        if config.get(name) is not None:
            yield from (f"--{name.replace('_', '-')}", str(config[name]))
    if card.vocabulary != Vocabulary.byte_level(int((card.tokenizer or {})["vocabulary"])).identity:
        yield from ("--vocabulary", Blank("VOCABULARY"))


def _units(directory: Path, card: Card, names: Sequence[str]) -> Iterator[str]:
    config = card.config
    yield from (config["station"], names[0], "--out", str(directory))
    yield from ("--rows-per-shard", str(config["rows_per_shard"]))
    if config["keep_audio"]:
        yield "--keep-audio"
    if card.tokenizer != read_about("embedded")["identity"]:
        yield from ("--tokenizer", Blank("TOKENIZER"))
    yield from _speech(config, names) if config["station"] == "synthesize" else _checks(config)


def _speech(config: Mapping[str, Any], names: Sequence[str]) -> Iterator[str]:
    yield from ("--seed", str(config["seed"]))
    espeak = config["engine"].get("engine") == "espeak-ng"
    if not espeak:
        yield from ("--engine", Blank("ENGINE"), "--model", Blank("MODEL"))
    if not espeak or config["voices"] != list(ESPEAK_VOICES):
        yield from ("--voices", ",".join(config["voices"]))
    if len(names) > 1:
        yield from ("--overlap-model", names[1])
    elif config["shape"] != NATURAL.identity():
        yield from ("--gaps", Blank("GAPS"))


def _checks(config: Mapping[str, Any]) -> Iterator[str]:
    if config["checks"] is None:
        yield "--no-checks"
        return
    usual = asdict(DEFAULTS)
    for name, value in config["checks"]["thresholds"].items():
        if value != usual.get(name):
            yield from ("--threshold", f"{name}={'off' if value is None else value}")
