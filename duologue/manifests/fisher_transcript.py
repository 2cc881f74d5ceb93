"""Transcripts of Fisher English: a row a turn, with doubtful marks and events kept as structure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from duologue.formats.rejects import Unusable
from duologue.formats.units import Turn
from duologue.manifests.fisher_known import SIDES, known_rows
from duologue.manifests.transcripts import by_start, is_outside

# The largest real transcripts have some tens of kilobytes.
MAX_BYTES = 1 << 20
_TIME = r"(-?[0-9]{1,5}(?:\.[0-9]{1,6})?)"
_ROW = re.compile(rf"{_TIME}\s+{_TIME}\s+([AB])\s*:(.*)", re.DOTALL)
_TRANSCRIBER = re.compile(r"#\s*Transcribed\s+(?:at|by)\s+(?:the\s+)?(\S+)\s*")
_MARK = re.compile(r"(?P<open>\(\()|(?P<close>\)\))|\[\[(?P<skip>[\w-]+)\]\]|\[(?P<event>[\w-]+)\]")


@dataclass(frozen=True)
class Transcript:
    """What a transcript says.

    Attributes:
        turns: by start.
        rejects: the rows that are not among the turns: the row's number, from 0, comments and blank lines not
            counted, and why.
        transcriber: who made it, "LDC" or "BBN/WordWave"; "" if it does not say.
    """

    turns: tuple[Turn, ...]
    rejects: tuple[tuple[int, Unusable], ...]
    transcriber: str


def read_transcript(data: bytes, call: str, duration_s: float) -> Transcript:
    """Read a transcript: rows of `start end A|B: text`, blank lines, and comments after `#`.

    Turns that reach before or behind the audio by up to `transcripts.MAX_OUTSIDE_S` are cut to it. Known wrong rows
    are mended.

    Args:
        data: the file: UTF-8, or else Latin-1; lines end in LF or CRLF.
        call: its number of five digits.
        duration_s: of the audio, in seconds.
    """
    if len(data) > MAX_BYTES:
        size = f"the file has more than {MAX_BYTES:,} bytes: it is no transcript of a call"
        return Transcript((), ((0, Unusable("malformed", size)),), "")
    rows, transcriber = _rows(data)
    turns: dict[Turn, None] = {}
    rejects: list[tuple[int, Unusable]] = []
    for number, row in enumerate(rows):
        try:
            turn = _turn(row, call, duration_s)
            if turn in turns:
                raise Unusable("duplicate_turn", f"the row came before: {row[:60]!r}")
            turns[turn] = None
        except Unusable as error:
            rejects.append((number, error))
    if len(rows) > 1 and len(rejects) == len(rows) and {error.reason for _, error in rejects} == {"malformed"}:
        # A file of something else: one reject says as much as one for each of its lines.
        rejects = [(0, Unusable("malformed", f"none of its {len(rows)} lines is a row of a transcript"))]
    # A mended row may stand in the wrong place.
    return Transcript(by_start(turns), tuple(rejects), transcriber)


def parse_text(text: str) -> tuple[str, tuple[str, ...], bool]:
    """Part the spoken words of a row from its marks.

    `(( ))` stands around words that the transcriber was not sure of, or around none where nothing could be made out;
    BBN's transcripts have it around whole rows whose alignment failed. `[laughter]` and the like are events.

    Returns:
        The words (cut words such as `an-` and spelled letters such as `t._v.` as they are written), the events in
        order, and whether any of it is doubtful.

    Raises:
        Unusable: `malformed`: a mark that is not closed or not opened, or a character that cannot be printed.
    """
    words: list[str] = []
    events: list[str] = []
    doubtful = inside = False
    end = 0
    # Most of the two million rows have no mark, and are not looked through for one.
    for mark in _MARK.finditer(text) if "[" in text or "((" in text or "))" in text else ():
        words += text[end : mark.start()].split()
        end = mark.end()
        if event := mark["event"] or mark["skip"]:
            events.append(event.lower())
        elif inside == bool(mark["open"]):
            raise Unusable("malformed", f"a doubtful mark is not opened or not closed: {text.strip()[:60]!r}")
        else:
            inside = bool(mark["open"])
            doubtful = True
    words += text[end:].split()
    said = " ".join(words)
    if inside or "[" in said or "]" in said:
        raise Unusable("malformed", f"a mark is not closed: {text.strip()[:60]!r}")
    if not said.isprintable():
        raise Unusable("malformed", f"characters that cannot be printed: {text.strip()[:60]!r}")
    return said, tuple(events), doubtful


def _rows(data: bytes) -> tuple[list[str], str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    rows: list[str] = []
    transcriber = ""
    # Not splitlines: it takes characters of Latin-1 for ends of lines.
    for line in (line.strip() for line in text.split("\n")):
        if line.startswith("#"):
            said = _TRANSCRIBER.fullmatch(line)
            transcriber = said[1] if said and not transcriber and said[1].isprintable() else transcriber
        elif line:
            rows.append(line)
    return rows, transcriber


def _turn(row: str, call: str, duration_s: float) -> Turn:
    match = _ROW.fullmatch(row)
    if not match:
        raise Unusable("malformed", f"not `start end A|B: text`: {row[:60]!r}")
    start, end, channel, text = float(match[1]), float(match[2]), SIDES[match[3]], match[4]
    known = known_rows().get((call, channel, start, end))
    if known and known.unusable:
        raise Unusable("known_bad", f"{row[:60]!r}: {known.unusable}")
    if known:
        start = start if known.start_s is None else known.start_s
        text = text if known.text is None else known.text
    words, events, doubtful = parse_text(text)
    if not words and not events and not doubtful:
        raise Unusable("empty_turn", f"the row has no text: {row[:60]!r}")
    if end <= start:
        raise Unusable("bad_times", f"it ends at {end} s, and starts at {start} s")
    if is_outside(start, end, duration_s):
        raise Unusable("outside_audio", f"it goes from {start} s to {end} s; the audio has {duration_s:.2f} s")
    return Turn(channel, max(start, 0.0), min(end, duration_s), words, events, doubtful)
