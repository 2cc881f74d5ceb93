"""What a manifest or a unit set holds, counted without reading any speech."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from duologue.formats.card import MANIFESTS, read_card
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Dialogue
from duologue.pipelines.reckoning import ASSUMED
from duologue.synth.voices import choose_voices


@dataclass(frozen=True)
class Part:
    """Dialogues or recordings: how many, how long together in seconds, and the characters of their text."""

    dialogues: int = 0
    seconds: float = 0.0
    characters: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(
            self.dialogues + other.dialogues, self.seconds + other.seconds, self.characters + other.characters
        )


@dataclass(frozen=True)
class Census:
    """What a manifest or a unit set holds.

    Attributes:
        kind: "dialogues", "recordings" or "units".
        splits: by split; of a unit set, whose card does not tell splits apart, all of it under "".
        voices: dialogues that each voice will speak in; empty where the voices are not asked for.
    """

    kind: str
    splits: dict[str, Part]
    voices: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> Part:
        """All splits together."""
        return sum(self.splits.values(), Part())

    def of(self, split: str) -> Part:
        """Return a split; of a unit set, all of it."""
        return self.whole if self.kind == "units" else self.splits.get(split, Part())


def take_census(directory: Path, voices: Sequence[str] = (), seed: int = 0) -> Census:
    """Count what is in a manifest or a unit set. Text is spoken at the assumed `characters_per_s`.

    Args:
        directory: the artefact.
        voices: of a manifest of dialogues, those that may speak.
        seed: of the synthesis, which chooses among them.

    Raises:
        UserError: it is missing, damaged, or a sequence set.
    """
    card = read_card(directory, *MANIFESTS, "units")
    if card.kind == "units":
        characters = round(float(card.totals["seconds"]) * ASSUMED["characters_per_s"])
        return Census("units", {"": Part(card.totals["samples"], card.totals["seconds"], characters)})
    splits: dict[str, Part] = {}
    spoken: Counter[str] = Counter({voice: 0 for voice in voices})
    for row in Manifest(directory).rows():
        characters = sum(len(turn.text) for turn in row.turns)
        if isinstance(row, Dialogue):
            seconds = characters / ASSUMED["characters_per_s"]
            if voices:
                spoken.update(choose_voices(voices, seed, row.id))
        else:
            seconds = row.duration_s
        splits[row.split] = splits.get(row.split, Part()) + Part(1, seconds, characters)
    return Census(card.kind, dict(sorted(splits.items())), dict(spoken))
