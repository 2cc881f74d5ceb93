"""Whether recipe, model and valid sets fit the data that a run trains on: its stage, tokens and clock."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.fingerprint import fingerprint
from duologue.formats.sequences import SequenceSet
from duologue.train.recipe import Recipe

_SYNCHRONOUS = (2, 3)
_COMPARED = ("fingerprint", "stage", "chunk_ms", "tokenizer")


def steps_of(recipe: Recipe, data: SequenceSet) -> int:
    """Return how many steps a run takes: the recipe's, or as many as the data gives.

    Raises:
        UserError: the data is of another stage, or less than a step.
    """
    stage, size = data.card.config["stage"], recipe.sequences_per_step
    if stage != recipe.stage:
        raise UserError(
            f"the recipe {recipe.name} is for stage {recipe.stage}, the sequences are of stage {stage}",
            where=data.place,
            hint=f"Choose a recipe of stage {stage}, or sequences of `duologue mix --stage {recipe.stage}`",
        )
    held = len(data) // size
    if held == 0:
        raise UserError(
            f"the set has {len(data)} sequences, fewer than the {size} of a step",
            where=data.place,
            hint="Mix more data or more epochs, or lower sequences_per_step in the recipe",
        )
    return min(recipe.steps, held) if recipe.steps else held


def check_same(
    what: str,
    theirs: Mapping[str, Any] | None,
    ours: Mapping[str, Any] | None,
    *,
    whose: str,
    where: Path | str,
    hint: str,
) -> None:
    """Refuse another identity than the data's.

    Args:
        what: is compared, such as "unit tokenizer".
        theirs: its identity.
        ours: that of the data.
        whose: such as "the model to start from".
        where: it lies.
        hint: what to do about it.

    Raises:
        UserError: they differ; it names both fingerprints and what they differ in.
    """
    if theirs == ours:
        return
    keys = sorted({*(theirs or {}), *(ours or {})})
    differing = [key for key in keys if (theirs or {}).get(key) != (ours or {}).get(key)]
    raise UserError(
        f"the {what} of {whose}, {fingerprint(theirs)[:12]}, is not that of the data, {fingerprint(ours)[:12]}; "
        f"they differ in {', '.join(differing)}",
        where=where,
        hint=hint,
    )


def check_vocabulary(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], *, whose: str, where: Path | str, hint: str
) -> None:
    """Refuse another `Vocabulary.identity` than the data's; see `check_same`.

    The name does not count: one text tokenizer is called by a hub name here and by a directory there.
    """
    unnamed = ({key: value for key, value in identity.items() if key != "name"} for identity in (theirs, ours))
    check_same("vocabulary", *unnamed, whose=whose, where=where, hint=hint)


def speech_of(described: Any) -> dict[str, Any]:
    """Return what `check_speech` compares, from what a file says that a model was trained on.

    Raises:
        ValueError: it does not say so.
    """
    if not isinstance(described, dict) or not isinstance(described.get("tokenizer"), dict | None):
        raise ValueError("what it was trained on cannot be read")
    if missing := [name for name in _COMPARED if name not in described]:
        raise ValueError(f"of what it was trained on it lacks {', '.join(missing)}")
    return {name: described[name] for name in _COMPARED}


def check_speech(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, whose: str, where: Path, hint: str) -> None:
    """Refuse another unit tokenizer than the data's, and in stages 2 and 3, which have them, other chunks.

    Args:
        theirs: `formats.sequences.describe` of it, or of what it was trained on.
        ours: that of the data.
        whose, where, hint: as `check_same` takes them.

    Raises:
        UserError: they differ.
    """
    check_same("unit tokenizer", theirs["tokenizer"], ours["tokenizer"], whose=whose, where=where, hint=hint)
    clocked = theirs["stage"] in _SYNCHRONOUS and ours["stage"] in _SYNCHRONOUS
    if clocked and theirs["chunk_ms"] != ours["chunk_ms"]:
        raise UserError(
            f"{whose} has chunks of {theirs['chunk_ms']} ms (data {theirs['fingerprint'][:12]}), "
            f"the data has chunks of {ours['chunk_ms']} ms ({ours['fingerprint'][:12]})",
            where=where,
            hint=hint,
        )
