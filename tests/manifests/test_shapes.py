from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue import bundled
from duologue.formats.rejects import Unusable
from duologue.manifests.fields import Fields, NoSuchField, lookup
from duologue.manifests.schema import DialogueTurn
from duologue.manifests.shapes import SHAPES, detect, layout_of_fields, read_dialogue

TASKMASTER_1 = Path(__file__).parent.parent / "data" / "taskmaster1" / "sample.json"
DIALOGUES = bundled.directory() / "dialogues"


def turns(*said: tuple[int, str]) -> tuple[DialogueTurn, ...]:
    return tuple(DialogueTurn(speaker, text) for speaker, text in said)


def chat(*said: tuple[str, object]) -> dict:
    return {"id": "c1", "messages": [{"role": role, "content": content} for role, content in said]}


def read(record, shape=None, layout=None, key=None):
    return read_dialogue(record, shape or detect(record) or "messages", layout, key)


def reason(record, shape=None, layout=None) -> str:
    with pytest.raises(Unusable) as caught:
        read(record, shape, layout)
    return caught.value.reason


def test_messages_put_the_assistant_on_speaker_0_whoever_begins():
    record = chat(("user", " Hello? "), ("assistant", "Hi."), ("user", "Bye."))
    assert detect(record) == "messages"
    id, said, rejects = read(record)
    assert id == "c1"
    assert said == turns((1, "Hello?"), (0, "Hi."), (1, "Bye."))
    assert rejects == []


def test_messages_may_be_json_text_in_a_table_or_stand_under_conversations():
    record = chat(("user", "Hello?"), ("assistant", "Hi."))
    assert read({**record, "messages": json.dumps(record["messages"])})[1] == read(record)[1]
    assert read({"id": "c1", "conversations": record["messages"]})[1] == read(record)[1]


def test_system_tool_and_empty_turns_are_left_out_and_named():
    record = chat(
        ("system", "Be kind."),
        ("user", "Hello?"),
        ("assistant", None),
        ("tool", "42"),
        ("assistant", "Hi."),
        ("user", " "),
    )
    record["messages"][2]["tool_calls"] = [{"id": "1"}]
    _, said, rejects = read(record)
    assert said == turns((1, "Hello?"), (0, "Hi."))
    assert [(reject.turn, reject.reason) for reject in rejects] == [
        (0, "system_turn"),
        (2, "tool_turn"),
        (3, "tool_turn"),
        (5, "empty_turn"),
    ]
    assert {reject.id for reject in rejects} == {"c1"}


def test_parts_of_a_content_are_joined_and_pictures_left_out():
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": "x"},
        {"type": "text", "text": "here."},
    ]
    assert read(chat(("user", parts), ("assistant", "Nice.")))[1][0].text == "Look  here."


def test_sharegpt_is_read():
    record = {
        "conversations": [
            {"from": "system", "value": "Be kind."},
            {"from": "human", "value": "Hello?"},
            {"from": "gpt", "value": "Hi."},
        ]
    }
    assert detect(record) == "sharegpt"
    id, said, rejects = read(record)
    assert said == turns((1, "Hello?"), (0, "Hi."))
    assert [reject.reason for reject in rejects] == ["system_turn"]
    assert id == read(record)[0]
    assert id != read({"conversations": [*record["conversations"], {"from": "human", "value": "Bye."}]})[0]


def test_both_taskmasters_are_read():
    first = json.loads(TASKMASTER_1.read_text())
    assert detect(first) == "taskmaster"
    id, said, _ = read(first)
    assert id == first["conversation_id"]
    assert [turn.text for turn in said] == [u["text"].strip() for u in first["utterances"]]
    assert [turn.speaker for turn in said] == [int(u["speaker"] == "USER") for u in first["utterances"]]
    fourth = json.loads((DIALOGUES / "taskmaster4" / "data_00.json").read_text())
    for record in fourth:
        id, said, rejects = read(record)
        assert id == record["conversation_id"]
        assert [turn.speaker for turn in said] == [int(u["speaker"] == "user") for u in record["utterances"]]
        assert rejects == []


def test_old_taskmaster_ids_are_read():
    record = {
        "conversationId": "dlg-1",
        "utterances": [{"speaker": "USER", "text": "a"}, {"speaker": "ASSISTANT", "text": "b"}],
    }
    assert read(record)[0] == "dlg-1"


def test_topical_chat_goes_by_the_key_of_its_object():
    corpus = json.loads((DIALOGUES / "topical_chat" / "valid_freq.json").read_text())
    for key, record in corpus.items():
        assert detect(record) == "topical-chat"
        id, said, _ = read(record, key=key)
        assert id == key
        assert [turn.speaker for turn in said] == [int(turn["agent"] == "agent_2") for turn in record["content"]]


def test_self_dialogue_columns_are_put_in_the_order_of_their_numbers():
    with (DIALOGUES / "self_dialogue" / "movies0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name.startswith("Answer.")]
    assert columns[:3] == ["Answer.sentence1", "Answer.sentence10", "Answer.sentence11"]
    for row in rows:
        assert detect(row) == "self-dialogue"
        _, said, rejects = read(row)
        assert [turn.text for turn in said] == [row[f"Answer.sentence{n}"].strip() for n in range(1, 21)]
        assert [turn.speaker for turn in said] == [0, 1] * 10
        assert rejects == []


def sentences(*texts: str, **more: str) -> dict:
    return {**{f"Answer.sentence{n}": text for n, text in enumerate(texts, 1)}, **more}


def test_self_dialogue_answers_left_blank_are_no_turns():
    _, said, rejects = read(sentences("a", "b", "{}", "d", "", "{}"))
    assert said == turns((0, "a"), (1, "b"), (1, "d"))
    assert [(reject.turn, reject.reason) for reject in rejects] == [(2, "empty_turn")]


def test_self_dialogue_rows_marked_as_rejected_are_rejected():
    assert reason(sentences("a", "b", Reject="too short")) == "rejected_by_corpus"
    assert reason(sentences("a", "b", Reject="", AssignmentStatus="Rejected")) == "rejected_by_corpus"
    assert read(sentences("a", "b", Reject="", AssignmentStatus="Approved"))[1] == turns((0, "a"), (1, "b"))


def test_fields_are_found_by_dotted_paths():
    fields = Fields("data.turns", "said.text", "who.name", "meta.id")
    record = {
        "meta": {"id": 17},
        "data": {
            "turns": [
                {"who": {"name": n}, "said": {"text": t}} for n, t in [("Ann", "a"), ("Bob", "b"), ("Ann", "c")]
            ]
        },
    }
    id, said, _ = read(record, "fields", layout_of_fields(fields))
    assert id == "17"
    assert said == turns((0, "a"), (1, "b"), (0, "c"))


def test_speakers_take_turns_where_none_are_named():
    layout = layout_of_fields(Fields(turns_field="lines"))
    assert read({"lines": ["a", "b", "c"]}, "fields", layout)[1] == turns((0, "a"), (1, "b"), (0, "c"))


@pytest.mark.parametrize("path", ["data.turn", "date.turns", "turns"])
def test_field_that_is_not_there_is_named_with_its_neighbours(path):
    with pytest.raises(NoSuchField) as caught:
        read({"data": {"turns": ["a", "b"]}}, "fields", layout_of_fields(Fields(turns_field=path)))
    assert path in str(caught.value)
    assert "The keys seen are" in caught.value.hint


def test_nearest_key_is_suggested():
    with pytest.raises(NoSuchField) as caught:
        lookup({"data": {"turns": [], "topic": ""}}, "data.turn")
    assert caught.value.hint == "Did you mean 'turns'? The keys seen are: turns, topic"


def test_a_key_with_dots_wins_over_a_path():
    assert lookup({"a.b": 1, "a": {"b": 2}}, "a.b") == 1


def test_dialogues_that_are_none_are_told_apart():
    assert reason(chat()) == "empty_dialogue"
    assert reason(chat(("user", ""), ("system", "Be kind."))) == "empty_dialogue"
    assert reason(chat(("user", "a"), ("user", "b"))) == "one_speaker"
    assert reason(chat(("user", "a"), ("assistant", "b"), ("critic", "c"))) == "too_many_speakers"
    assert reason("text") == "malformed"
    assert reason({"messages": "text"}, "messages") == "malformed"
    assert reason(chat(("user", 5), ("assistant", "b"))) == "malformed"
    assert reason(chat(("user", "a\ud800"), ("assistant", "b"))) == "malformed"
    assert reason({"messages": [{"content": "a"}, {"role": "user", "content": "b"}]}) == "malformed"
    assert reason({"messages": ["a", "b"]}, "messages") == "malformed"
    assert reason({**chat(("user", "a"), ("assistant", "b")), "id": [1]}) == "malformed"


def test_unknown_shapes_are_not_guessed():
    for record in ({}, {"text": "a"}, {"messages": "a"}, {"content": "a"}, [], "a", None, {"utterances": [1]}):
        assert detect(record) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
_keys = st.sampled_from(["messages", "conversations", "content", "utterances", "role", "from", "text", "value"]) | (
    st.sampled_from(["speaker", "agent", "message", "id", "Reject", "lines", "Answer.sentence1", "Answer.sentence2"])
)
near_dialogues = st.recursive(
    json_values | st.sampled_from(["user", "assistant", "system", "tool", "hello", "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=5),
    max_leaves=25,
)


chats = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant", "Assistant ", "system", "tool"]) | json_values,
                    "content": st.text(max_size=5) | json_values,
                }
            ),
            max_size=5,
        )
    }
)


@given(record=json_values | near_dialogues | chats, shape=st.sampled_from(SHAPES))
def test_any_value_is_a_dialogue_or_refused_with_a_reason(record, shape):
    layout = layout_of_fields(Fields("lines", "text", "speaker", "id")) if shape == "fields" else None
    try:
        id, said, rejects = read_dialogue(record, detect(record) or shape, layout, None)
    except (Unusable, NoSuchField):
        return
    assert {turn.speaker for turn in said} == {0, 1}
    assert all(turn.text == turn.text.strip() and turn.text for turn in said)
    assert all(reject.turn is not None for reject in rejects)
    assert id == id.strip()
