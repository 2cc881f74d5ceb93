from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.errors import UserError
from duologue.train.fit import check_same, check_speech, speech_of

SPEECH = {"fingerprint": "0" * 64, "stage": 2, "chunk_ms": 160, "tokenizer": {"rate": 25}}
SIDE: dict[str, Any] = {"whose": "the model", "where": Path("model"), "hint": "Take another"}


@pytest.mark.parametrize(
    ("theirs", "ours", "differing"),
    [
        ({"rate": 25, "units": 500}, {"rate": 25, "layer": 11}, "layer, units"),
        (None, {"rate": 25}, "rate"),
        ({"rate": 25}, None, "rate"),
    ],
)
def test_what_differs_is_named_also_where_one_side_has_nothing(
    theirs: dict[str, Any] | None, ours: dict[str, Any] | None, differing: str
) -> None:
    check_same("unit tokenizer", theirs, theirs, **SIDE)
    with pytest.raises(UserError) as caught:
        check_same("unit tokenizer", theirs, ours, **SIDE)
    assert caught.value.what.startswith("the unit tokenizer of the model, ")
    assert caught.value.what.endswith(f"; they differ in {differing}")
    assert (caught.value.where, caught.value.hint) == ("model", "Take another")


@pytest.mark.parametrize("stages", [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)])
def test_chunks_count_where_both_have_them(stages: tuple[int, int]) -> None:
    theirs, ours = ({**SPEECH, "stage": stage, "chunk_ms": 80 * stage} for stage in stages)
    check_speech(theirs, {**ours, "chunk_ms": theirs["chunk_ms"]}, **SIDE)
    other = {**ours, "chunk_ms": 40}
    if 1 in stages:
        check_speech(theirs, other, **SIDE)
    else:
        with pytest.raises(UserError, match=rf"the model has chunks of {theirs['chunk_ms']} ms .* of 40 ms"):
            check_speech(theirs, other, **SIDE)


def test_of_what_a_model_was_trained_on_only_the_speech_is_compared() -> None:
    assert speech_of({**SPEECH, "vocabulary": {}}) == SPEECH
    assert speech_of({**SPEECH, "tokenizer": None})["tokenizer"] is None


@pytest.mark.parametrize("name", SPEECH)
def test_what_it_does_not_say_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"it lacks {name}$"):
        speech_of({key: value for key, value in SPEECH.items() if key != name})


@pytest.mark.parametrize("described", [None, "x", [], {**SPEECH, "tokenizer": "x"}])
def test_what_is_no_description_cannot_be_read(described: object) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        speech_of(described)
