import io
import re
import sys
import threading

import pytest

from duologue import progress
from duologue.progress import Watch, said_alone, say, watched


@pytest.fixture
def every_line(monkeypatch):
    """Says every step, however little time has passed."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


def without_rates(text: str) -> list[str]:
    return [re.sub(r"[\d,.]+/s", "R/s", re.sub(r", [\d,]+ s left", ", T left", line)) for line in text.splitlines()]


def test_lines_go_to_standard_error(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_what_is_said_is_heard_where_libraries_are_not(capsys):
    with said_alone():
        print("a library's", file=sys.stderr)
        say("ours")
    say("ours again")
    assert capsys.readouterr() == ("", "ours\nours again\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_a_worker_says_takes_the_place_of_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with said_alone():
        say("ours")
    say("ours again")
    assert terminal.getvalue() == "\r\x1b[Kours\nours again\n"


def test_work_is_told_in_plain_lines_where_there_is_no_terminal(capsys, every_line):
    with Watch("synthesize", 2000, "dialogues", done=500) as watch:
        watch.advance(500)
        watch.reach(2000)
    assert without_rates(capsys.readouterr().err) == [
        "synthesize: 500 of 2,000 dialogues were done before",
        "synthesize: 1,000 of 2,000 dialogues, R/s, T left",
        "synthesize: 2,000 of 2,000 dialogues, R/s",
        "synthesize: 2,000 of 2,000 dialogues, R/s",
    ]


def test_short_work_is_told_once_at_its_end(capsys):
    with Watch("mix", 3, "sequences") as watch:
        for _ in range(3):
            watch.advance()
    assert without_rates(capsys.readouterr().err) == ["mix: 3 of 3 sequences, R/s"]


def test_work_of_unknown_size_is_told_without_an_end(capsys, every_line):
    with Watch("manifest dialogues", None, "dialogues") as watch:
        watch.advance(1500)
    assert without_rates(capsys.readouterr().err) == ["manifest dialogues: 1,500 dialogues, R/s"] * 2


def test_quiet_work_is_told_only_where_it_takes_long(capsys, monkeypatch):
    def work() -> list[str]:
        with Watch("verify", 3, "shards", quiet=True) as watch:
            watch.reach(3)
        return without_rates(capsys.readouterr().err)

    assert work() == []
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    assert work() == ["verify: 3 of 3 shards, R/s"] * 2


def test_work_that_fails_does_not_claim_its_end(capsys):
    with pytest.raises(RuntimeError), Watch("mix", 3, "sequences"):
        raise RuntimeError
    assert capsys.readouterr().err == ""


def test_terminal_gets_a_bar_with_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with Watch("mix", 3000, "sequences") as watch:
        watch.reach(3000)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "3,000 of 3,000 sequences" in shown
    assert "/s" in shown
    assert "0:00:00" in shown


def test_terminal_gets_a_bar_for_work_of_unknown_size(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with Watch("manifest dialogues", None, "dialogues") as watch:
        watch.advance(1500)
    assert "1,500 dialogues, " in re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err)


def test_work_of_others_is_counted_while_it_goes_on_and_at_its_end(capsys, every_line):
    asked = threading.Event()

    def count() -> int:
        asked.set()
        return 2

    with watched(Watch("tokenize", 2, "recordings"), count):
        assert asked.wait(30)
    assert without_rates(capsys.readouterr().err)[-1] == "tokenize: 2 of 2 recordings, R/s"


def test_nobody_asks_any_more_when_the_work_has_failed():
    before = threading.active_count()
    with pytest.raises(RuntimeError), watched(Watch("tokenize", 2, "recordings"), lambda: 1):
        raise RuntimeError
    assert threading.active_count() == before
