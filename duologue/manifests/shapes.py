"""The shapes that text dialogues come in: a record of a corpus in, its turns with speakers 0 and 1 out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from duologue.formats.fingerprint import fingerprint
from duologue.formats.rejects import Reject, Unusable
from duologue.manifests.fields import Fields, NoSuchField, lookup
from duologue.manifests.schema import DialogueTurn

_MODEL = {"assistant", "model", "gpt", "chatgpt", "bot", "system", "agent", "agent_1"}
_USER = {"user", "human", "customer", "caller", "agent_2"}
_SYSTEM = {"system", "developer"}
_TOOL = {"tool", "function", "function_call", "function_response", "observation", "ipython"}
_SENTENCE = re.compile(r"Answer\.sentence([0-9]{1,3})")
_ID_DIGITS = 24
GATHERED = "turns"


@dataclass(frozen=True)
class Layout:
    """Where a shape keeps what; of several paths the first that exists counts.

    Attributes:
        turns: paths to the list of turns.
        text: path to the text in a turn; None if the turns are plain strings.
        speaker: path to the speaker in a turn; None if two speakers take turns.
        id: paths to the id; an id made from the content where none exists.
        chat: the turns are a chat's, with system and tool turns among them.
        by_user: the paths were named by the user, so they must exist.
    """

    turns: tuple[str, ...]
    text: str | None
    speaker: str | None
    id: tuple[str, ...] = ()
    chat: bool = False
    by_user: bool = False


_LAYOUTS = {
    "messages": Layout(("messages", "conversations"), "content", "role", ("id", "prompt_id"), chat=True),
    "sharegpt": Layout(("conversations", "conversation"), "value", "from", ("id",), chat=True),
    "taskmaster": Layout(("utterances",), "text", "speaker", ("conversation_id", "conversationId")),
    "topical-chat": Layout(("content",), "message", "agent", ("conversation_id",)),
}
SHAPES = (*_LAYOUTS, "self-dialogue", "fields")


def layout_of_fields(fields: Fields) -> Layout:
    """Return the layout that a user's fields describe.

    Where every record is one turn, it is the layout of the records that `gathered` makes of them.
    """
    return Layout(
        turns=(fields.turns_field or GATHERED,),
        text=fields.text_field,
        speaker=fields.speaker_field,
        id=(fields.id_field,) if fields.id_field and fields.turns_field else (),
        by_user=True,
    )


@dataclass(frozen=True)
class _Said:
    # A turn as the corpus has it. Labels name speakers; `dropped` is the reason code of a turn to leave out.
    place: int
    label: str
    text: str
    dropped: str | None = None


def detect(record: Any) -> str | None:
    """Return the name of the shape that a record has, or None."""
    if not isinstance(record, Mapping):
        return None
    for name, layout in _LAYOUTS.items():
        for path in layout.turns:
            turns = _parsed(record.get(path))
            if not isinstance(turns, list):
                continue
            if not turns and path == layout.turns[0]:
                return name
            if turns and isinstance(turns[0], Mapping) and {layout.text, layout.speaker} & set(turns[0]):
                return name
    if any(isinstance(key, str) and _SENTENCE.fullmatch(key) for key in record):
        return "self-dialogue"
    return None


def fits(record: Any, layout: Layout) -> bool:
    """Say whether a record has a list of turns where the layout has it."""
    try:
        return isinstance(_turns(record, layout), list)
    except (NoSuchField, Unusable):
        return False


def read_dialogue(
    record: Any, shape: str, layout: Layout | None, key: str | None
) -> tuple[str, tuple[DialogueTurn, ...], list[Reject]]:
    """Read a record of a corpus.

    Args:
        record: as JSON, CSV or Parquet gave it.
        shape: one of `SHAPES`.
        layout: of the shape "fields"; the other shapes have their own.
        key: the record's key, where the corpus is an object of dialogues.

    Returns:
        The id, the turns, and a reject for each turn that was left out.

    Raises:
        Unusable: `malformed`, `bad_id`, `empty_dialogue`, `one_speaker`, `too_many_speakers` or `rejected_by_corpus`.
        NoSuchField: the record lacks a list of turns or, with fields named by the user, one of them.
    """
    if not isinstance(record, Mapping):
        raise Unusable("malformed", f"the record is {_kind(record)}, not an object")
    if shape == "self-dialogue":
        said = _self_dialogue(record)
    else:
        known = layout or _LAYOUTS[shape]
        said = [_say(turn, place, known) for place, turn in enumerate(_turns(record, known))]
        if known.by_user:
            for path in known.id:
                lookup(record, path)
    turns = _sides([turn for turn in said if turn.dropped is None])
    id = own_id(record, shape, layout, key) or fingerprint([[turn.speaker, turn.text] for turn in turns])[:_ID_DIGITS]
    if not id.isprintable():
        raise Unusable("bad_id", f"the id {id!a} has characters that cannot be printed")
    rejects = [
        Reject(id, "manifest", turn.dropped, _DROPPED[turn.dropped], turn.place)
        for turn in said
        if turn.dropped is not None
    ]
    return id, turns, rejects


_DROPPED = {
    "system_turn": "a system turn is not spoken",
    "tool_turn": "a tool's turn, or a call of one, is not spoken",
    "empty_turn": "the turn has no text",
}


def _turns(record: Mapping[str, Any], layout: Layout) -> list[Any]:
    for path in layout.turns[:-1]:
        if path in record:
            break
    else:
        path = layout.turns[-1]
    try:
        turns = _parsed(lookup(record, path))
    except NoSuchField as error:
        raise NoSuchField(layout.turns[0], error.keys) from error
    if not isinstance(turns, list):
        raise Unusable("malformed", f"the field {path!r} is {_kind(turns)}, not a list of turns")
    return turns


def _parsed(value: Any) -> Any:
    # Tables keep lists as JSON text: a CSV file has no other way.
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _say(turn: Any, place: int, layout: Layout) -> _Said:
    if layout.text is None:
        text = turn
    elif not isinstance(turn, Mapping):
        raise Unusable("malformed", f"turn {place} is {_kind(turn)}, not an object")
    else:
        text = _value(turn, layout.text, place, layout)
    if layout.speaker is None:
        label = str(place % 2)
    elif isinstance(speaker := _value(turn, layout.speaker, place, layout), str | int) and str(speaker).strip():
        label = str(speaker).strip().casefold()
    else:
        raise Unusable("malformed", f"turn {place} has no speaker")
    if layout.chat:
        if label in _SYSTEM:
            return _Said(place, label, "", "system_turn")
        if label in _TOOL or (not text and any(turn.get(key) for key in ("tool_calls", "function_call"))):
            return _Said(place, label, "", "tool_turn")
        if isinstance(text, list):
            text = " ".join(_part(part, place) for part in text)
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise Unusable("malformed", f"the text of turn {place} is {_kind(text)}")
    text = _checked(text.strip(), place)
    return _Said(place, label, text, None if text else "empty_turn")


def _value(turn: Any, path: str, place: int, layout: Layout) -> Any:
    try:
        return lookup(turn, path)
    except NoSuchField:
        if layout.by_user:
            raise
        if layout.chat and path == layout.text:
            return None
        raise Unusable("malformed", f"turn {place} has no {path!r}") from None


def _part(part: Any, place: int) -> str:
    # Chats with pictures keep a content as parts; those that are not text have nothing to be spoken.
    text = part.get("text") if isinstance(part, Mapping) else part
    if text is None:
        return ""
    if not isinstance(text, str):
        raise Unusable("malformed", f"a part of turn {place} has {_kind(text)} for a text")
    return text


def _checked(text: str, place: int) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unusable("malformed", f"the text of turn {place} is not valid Unicode") from None
    return text


def _self_dialogue(row: Mapping[str, Any]) -> list[_Said]:
    if row.get("Reject") or row.get("AssignmentStatus") == "Rejected":
        raise Unusable("rejected_by_corpus", "the corpus marks the row as rejected work")
    # The columns of the file are sorted as text: 1, 10, 11, ..., 2, 20, 3.
    found = {int(match[1]): row[key] for key in row if (match := _SENTENCE.fullmatch(str(key)))}
    if not found:
        raise NoSuchField("Answer.sentence1", [str(key) for key in row])
    said = []
    for place, number in enumerate(sorted(found)):
        text = found[number]
        if not isinstance(text, str | None):
            raise Unusable("malformed", f"the text of turn {place} is {_kind(text)}")
        text = _checked((text or "").strip(), place)
        blank = text in ("", "{}")
        said.append(_Said(place, str(place % 2), "" if blank else text, "empty_turn" if blank else None))
    # Answers left blank at the end are turns that were never asked for.
    while said and said[-1].dropped:
        said.pop()
    return said


def _sides(said: Sequence[_Said]) -> tuple[DialogueTurn, ...]:
    labels = list(dict.fromkeys(turn.label for turn in said))
    if not labels:
        raise Unusable("empty_dialogue", "the dialogue has no turn with a text")
    if len(labels) == 1:
        raise Unusable("one_speaker", "only one speaker speaks")
    if len(labels) > 2:
        raise Unusable("too_many_speakers", f"{len(labels)} speakers speak; a dialogue has two")
    first, second = labels
    if (second in _MODEL and first not in _MODEL) or (first in _USER and second not in _USER):
        first, second = second, first
    return tuple(DialogueTurn(int(turn.label == second), turn.text) for turn in said)


def own_id(record: Any, shape: str, layout: Layout | None, key: str | None) -> str:
    """Return the id that a record has of itself, as `read_dialogue` reads it; empty where it has none.

    Raises:
        Unusable: `malformed`: the id is no text and no number.
    """
    if key is not None:
        return key.strip()
    for path in ("AssignmentId",) if shape == "self-dialogue" else (layout or _LAYOUTS[shape]).id:
        try:
            value = lookup(record, path)
        except NoSuchField:
            continue
        if isinstance(value, str | int) and not isinstance(value, bool):
            return str(value).strip()
        if value is not None:
            raise Unusable("malformed", f"the id is {_kind(value)}")
    return ""


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "missing"
    return names.get(type(value), "a number" if isinstance(value, int | float) else "no text")
