from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.duplex import NOTHING, SPEECH, TRANSCRIPT, TurnTaking, said_in, speech_of, turn_taking
from duologue.evaluate.duplex_table import table
from duologue.evaluate.survey import survey_units
from duologue.formats.card import read_card, write_card
from duologue.formats.turntaking import added, events
from duologue.formats.units import Sentence, Turn
from tests.evaluate.making import checks_of, dialogue, unit_set
from tests.formats.frames import events_of

FRAME_S = 0.05


def artefact(directory: Path) -> Artefact:
    return Artefact(directory.name, directory, read_card(directory))


def taken(activity: list[list[tuple[float, float]]], seconds: float) -> TurnTaking:
    spans = [np.array(channel, np.float64).reshape(-1, 2) for channel in activity]
    return TurnTaking("calls", SPEECH, 1, events(spans, seconds).summary())


def cells(*sets: TurnTaking) -> dict[str, dict[str, list[str]]]:
    return {group: dict(rows) for group, rows in table(sets)}


def test_sentences_are_cut_to_their_turns_so_that_gaps_are_not_rounded_to_frames():
    sample = replace(
        dialogue(0),
        # Frames of 40 ms that hold 0.25 to 1.21 s, a pause, 1.70 to 2.33 s; then 2.39 to 3.01 s.
        sentences=(Sentence(0, "One.", 6, 25, 0), Sentence(0, "Two.", 42, 17, 0), Sentence(1, "Three.", 59, 17, 1)),
        turns=(Turn(0, 0.25, 2.33, "One. Two."), Turn(1, 2.39, 3.01, "Three.")),
    )
    said = said_in(sample, 25)
    assert said is not None
    np.testing.assert_allclose(said[0], [[0.25, 1.24], [1.68, 2.33]])
    np.testing.assert_allclose(said[1], [[2.39, 3.01]])
    np.testing.assert_allclose(events(said, 14.0).gaps.duration_s, [0.06])


def test_turns_without_words_count_where_there_are_no_sentences():
    sample = replace(dialogue(0), sentences=(), turns=(Turn(1, 2.0, 3.0, ""), Turn(1, 5.0, 7.5, "")))
    said = said_in(sample, 25)
    assert said is not None
    assert [spans.tolist() for spans in said] == [[], [[2.0, 3.0], [5.0, 7.5]]]


def test_without_transcript_or_checks_nothing_is_known():
    sample = replace(dialogue(0), sentences=(), turns=())
    assert said_in(sample, 25) is None
    assert speech_of(sample) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"sentences": (Sentence(0, "One.", 6, 25, 99),)},
        {"sentences": (Sentence(0, "One.", 6, 25, -1),)},
        {"sentences": (), "turns": (Turn(2, 0.0, 1.0, "One."),)},
    ],
)
def test_a_transcript_that_contradicts_itself_is_refused(wrong):
    with pytest.raises(ValueError, match=r"no turn|no channel"):
        said_in(replace(dialogue(0), **wrong), 25)


@pytest.mark.parametrize(
    "checks", [{"seconds": 3.0}, {"activity": None}, {"activity": [[[0.0, 1.0]]]}, {"activity": 1}]
)
def test_malformed_voice_activity_is_refused(checks):
    with pytest.raises(ValueError):
        speech_of(replace(dialogue(0), checks=checks))


def test_a_sample_with_malformed_voice_activity_is_named(tmp_path: Path):
    unit_set(tmp_path / "calls", [replace(dialogue(0), checks={"activity": [[[0.0]], []]})], audio=False)
    with pytest.raises(UserError, match="damaged") as refusal:
        survey_units(artefact(tmp_path / "calls"), 160, 1)
    assert refusal.value.where == str(tmp_path / "calls" / "units-00000.tar")


def test_turn_taking_comes_from_the_card_where_the_audio_was_checked(tmp_path: Path):
    samples = [dialogue(number) for number in range(3)]
    checks = [checks_of(sample, [[(0.0, 2.0 + n)], [(2.5 + n, 4.5 + n)]]) for n, sample in enumerate(samples)]
    unit_set(tmp_path / "calls", samples, checks=checks, audio=False)
    calls = artefact(tmp_path / "calls")
    survey = survey_units(calls, 160, 0)
    assert survey.transcripts == NOTHING
    found = turn_taking(calls, survey.transcripts)
    assert found is not None
    assert (found.measured, found.samples) == (SPEECH, 3)
    assert found.summary == added(result.events.summary() for result in checks)
    assert found.summary["gaps"] == {"count": 3, "seconds": 1.5}


def test_turn_taking_comes_from_the_transcripts_where_it_was_not(tmp_path: Path):
    untold = replace(dialogue(9), sentences=(), turns=())
    samples = [dialogue(0), untold, dialogue(1)]
    unit_set(tmp_path / "chats", samples, audio=False)
    chats = artefact(tmp_path / "chats")
    found = turn_taking(chats, survey_units(chats, 160, 0).transcripts)
    assert found is not None
    assert (found.measured, found.samples, found.summary["recordings"]) == (TRANSCRIPT, 3, 2)
    # Turns of 2 s that follow each other at once, six in 14 s, of which the last 2 s are silent.
    assert found.summary["talk_seconds"] == [12.0, 12.0]
    assert found.summary["transfers"] == {"count": 10, "seconds": 0.0}
    assert cells(found)["Counted"]["recordings"] == ["2 of 3"]


def test_a_set_without_any_of_both_has_no_turn_taking(tmp_path: Path):
    unit_set(tmp_path / "calls", [replace(dialogue(0), sentences=(), turns=())], audio=False)
    calls = artefact(tmp_path / "calls")
    assert turn_taking(calls, survey_units(calls, 160, 0).transcripts) is None


@pytest.mark.parametrize("damage", ["no turn-taking", "no count", "other bins", "text"])
def test_damaged_sums_in_a_card_are_named(tmp_path: Path, damage):
    checks = [checks_of(dialogue(0), [[(0.0, 2.0)], [(3.0, 4.0)]])]
    card = unit_set(tmp_path / "calls", [dialogue(0)], checks=checks, audio=False)
    sums = card.totals["checks"]["turn_taking"]
    if damage == "no turn-taking":
        del card.totals["checks"]["turn_taking"]
    elif damage == "no count":
        del sums["gaps"]["count"]
    elif damage == "other bins":
        sums["histograms"]["transfers"].pop()
    else:
        sums["seconds"] = "14"
    write_card(tmp_path / "calls", card)
    with pytest.raises(UserError, match="damaged") as refusal:
        turn_taking(artefact(tmp_path / "calls"), NOTHING)
    assert refusal.value.where == str(tmp_path / "calls" / "dataset.json")


@given(rows=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_the_time_divides_into_who_speaks(rows):
    # Pieces of 0.25 s: no silence is short enough to be joined.
    active = np.repeat(np.array(rows).T, 5, axis=1)
    found = TurnTaking("x", SPEECH, 1, events_of(active, FRAME_S).summary())
    first, second = active
    expected = [
        (first & ~second).mean(),
        (first & second).mean(),
        (second & ~first).mean(),
        (~first & ~second).mean(),
    ]
    assert found.shares() == pytest.approx(expected, abs=1e-6)
    assert sum(found.shares()) == pytest.approx(1.0, abs=1e-6)


def test_the_table_says_what_happened():
    # Gaps of 0.5 and 3 s, an overlap of 0.4 s, a pause of 1 s, and an uh-huh within channel 0's last turn.
    found = taken([[(0.0, 2.0), (3.0, 5.0), (8.1, 14.0)], [(5.5, 8.5), (11.0, 11.6), (17.0, 20.0)]], 30.0)
    rows = cells(found)
    assert rows["Counted"] == {"measured on": ["voice activity"], "recordings": ["1"], "length": ["0.01 h"]}
    assert rows["Share of the time"] == {
        "channel 0 talks": ["33.0 %"],
        "channel 1 talks": ["22.0 %"],
        "both at once": ["3.3 %"],
        "silence": ["48.3 %"],
    }
    assert rows["In a minute: number · seconds"] == {
        "IPUs": ["12.0 · 33.0 s"],
        "turns": ["8.0 · 33.8 s"],
        "pauses": ["2.0 · 2.0 s"],
        "gaps": ["4.0 · 7.0 s"],
        "overlaps": ["4.0 · 2.0 s"],
        "backchannels": ["2.0 · 1.2 s"],
    }
    assert rows["Mean duration"] == {"IPU": ["2.75 s"], "turn": ["4.22 s"], "pause": ["1.00 s"], "gap": ["1.75 s"]}
    assert rows["Floor-transfer offset"] == {
        "changes of the floor": ["3"],
        "median": ["0.55 s"],
        "mean": ["1.03 s"],
        "in overlap": ["33.3 %"],
        "below −2 s": ["0.0 %"],
        "2 s and more": ["33.3 %"],
    }


def test_a_set_in_which_nothing_happens_has_no_means():
    rows = cells(taken([[], []], 10.0), taken([[(0.0, 1.0)], [(2.0, 3.0)]], 10.0))
    assert rows["Mean duration"]["gap"] == ["–", "1.00 s"]
    assert rows["Floor-transfer offset"]["median"] == ["–", "1.05 s"]
    assert rows["Floor-transfer offset"]["in overlap"] == ["–", "0.0 %"]
    assert rows["Share of the time"]["silence"] == ["100.0 %", "80.0 %"]


def test_histograms_are_shares_of_all_events_also_of_those_outside():
    found = taken([[(0.0, 2.0), (3.0, 5.0), (8.1, 14.0)], [(5.5, 8.5), (17.0, 20.0)]], 30.0)
    shares = found.histogram("transfers")
    assert shares.sum() == pytest.approx(2 / 3)
    assert {round(-2 + 0.1 * place, 1) for place in np.flatnonzero(shares)} == {-0.4, 0.5}
    assert not taken([[], []], 10.0).histogram("pauses").any()
