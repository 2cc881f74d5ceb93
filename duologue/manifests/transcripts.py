"""Transcripts beside recordings, in JSON, CSV, STM or RTTM: who said what, and when."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import explained
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Turn
from duologue.manifests.sides import channels_of
from duologue.manifests.stm import words_of
from duologue.manifests.turn_rows import read_turn_rows

# In the order they are looked for: those with words first.
SUFFIXES = (".json", ".csv", ".stm", ".rttm")
# Times are approximate: a turn may reach so far before or behind the audio and is cut there.
MAX_OUTSIDE_S = 1.0
_MOST_BYTES = 64 << 20
_SHOWN = 60
# What NIST's scoring tools write into an STM where nobody is to be scored.
_NOT_SPEECH = {"ignore_time_segment_in_scoring", "inter_segment_gap"}


@dataclass(frozen=True)
class Said:
    """A row of a transcript as it stands there.

    Attributes:
        number: of the row, from 0.
        channel, speaker: what it says of who speaks; "" where it says nothing.
        start, end: in seconds, unchecked.
        text: the words; "" where the format has none.
        events: see `Turn`.
    """

    number: int
    channel: str
    speaker: str
    start: Any
    end: Any
    text: str
    events: tuple[str, ...] = ()


Row = Said | tuple[int, Unusable]


def read_turns(
    path: Path, id: str, duration_s: float, *, speakers: Sequence[str] = (), channel: int | None = None
) -> tuple[tuple[Turn, ...], list[Reject]]:
    """Read the transcript of a recording.

    A row's channel is, by the first of these rules that says one: `channel`; its speaker, if `speakers` names it; its
    label of a channel; its label of a speaker (`sides.channels_of`). Labels of channels are passed over where all
    rows have the same one and differ in their speakers.

    Turns that reach before or behind the audio by up to `MAX_OUTSIDE_S` are cut to it.

    Args:
        path: a file with one of `SUFFIXES`.
        id: of the recording.
        duration_s: of its audio, in seconds.
        speakers: the names of the speakers on channel 0 and 1, where they are known.
        channel: of all turns, if the transcript is that of one side.

    Returns:
        The turns by start; and a reject for each row that is not among them (`malformed`, `bad_times`,
        `outside_audio`, `unknown_speaker`, `not_speech`, `other_recording`), or one for all if the transcript as a
        whole is of no use (`bad_transcript`, `unknown_speaker`).
    """
    try:
        rows = list(_rows(path, id))
        placed = {}
        if channel is None:
            placed = _placed([row for row in rows if isinstance(row, Said)], speakers, path.suffix.lower())
    except Unusable as error:
        return (), [Reject(id, "manifest", error.reason, f"{path.name}: {error.message}", 0)]
    return turns_of(rows, id, duration_s, lambda said: placed.get(said.number, channel))


def turns_of(
    rows: Iterable[Row], id: str, duration_s: float, channel_of: Callable[[Said], int | None]
) -> tuple[tuple[Turn, ...], list[Reject]]:
    """Return the rows of a transcript as turns by start, and a reject for each one that is none.

    Args:
        rows: of the transcript; with a row that could not be read, why.
        id: of the recording.
        duration_s: of its audio, in seconds.
        channel_of: returns the channel of a row, None where it is not known.
    """
    turns: list[Turn] = []
    rejects: list[Reject] = []
    for row in rows:
        try:
            if not isinstance(row, Said):
                raise row[1]
            turns.append(_turn(row, channel_of(row), duration_s))
        except Unusable as error:
            number = row.number if isinstance(row, Said) else row[0]
            rejects.append(error.reject(id, "manifest", number))
    return by_start(turns), rejects


def by_start(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Return turns in order of their start."""
    return tuple(sorted(turns, key=lambda turn: (turn.start_s, turn.end_s, turn.channel)))


def is_outside(start: float, end: float, duration_s: float) -> bool:
    """Say whether a turn reaches further out of the audio than it may, or has nothing in it; all in seconds."""
    return start < -MAX_OUTSIDE_S or end > duration_s + MAX_OUTSIDE_S or end <= 0 or start >= duration_s


def _turn(said: Said, channel: int | None, duration_s: float) -> Turn:
    if said.text.strip().lower() in _NOT_SPEECH:
        raise Unusable("not_speech", "the row says that nobody is to be heard")
    start, end = _seconds(said.start), _seconds(said.end)
    if not start < end:
        raise Unusable("bad_times", f"from {_shown(said.start)} to {_shown(said.end)} is no time of a turn")
    if is_outside(start, end, duration_s):
        raise Unusable(
            "outside_audio", f"it goes from {start:.2f} s to {end:.2f} s; the audio has {duration_s:.2f} s"
        )
    if channel is None:
        label = said.channel or said.speaker
        raise Unusable("unknown_speaker", f"the label {label[:_SHOWN]!r} doesn't say which channel it is")
    return Turn(channel, max(start, 0.0), min(end, duration_s), _written(said.text), said.events)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return math.nan
    return seconds if math.isfinite(seconds) else math.nan


def _shown(value: Any) -> str:
    return ascii(value)[:_SHOWN] if isinstance(value, int | float | str) else f"a {type(value).__name__}"


def _written(text: str) -> str:
    # Half a surrogate pair, which JSON lets through, cannot be written as UTF-8.
    return text.strip().encode("utf-8", "replace").decode()


def _placed(rows: Sequence[Said], speakers: Sequence[str], suffix: str) -> dict[int, int]:
    """Return the channel of every row that says one, by the row's number.

    Raises:
        Unusable: `unknown_speaker`: no row does.
    """
    named = {speaker: channel for channel, speaker in enumerate(speakers)} if len(set(speakers)) == 2 else {}
    channels = {row.channel for row in rows if row.channel}
    labels = {row.speaker for row in rows if row.speaker}
    # NIST's formats count channels from 1, all others here from 0.
    by_channel = channels_of(channels, lowest=1 if suffix in (".stm", ".rttm") else 0)
    if len(channels) == 1 and len(labels) > 1:
        by_channel = {}
    by_speaker = channels_of(labels)
    placed: dict[int, int] = {}
    for row in rows:
        for place in (named.get(row.speaker), by_channel.get(row.channel), by_speaker.get(row.speaker)):
            if place is not None:
                placed.setdefault(row.number, place)
    if rows and not placed:
        shown = ", ".join(sorted(repr(label[:_SHOWN]) for label in (labels or channels))[:3]) or "no labels"
        raise Unusable("unknown_speaker", f"none of its {len(rows)} rows says on which channel it is: {shown}")
    return placed


def _rows(path: Path, id: str) -> Iterator[Row]:
    """Yield the rows of a transcript.

    Raises:
        Unusable: `bad_transcript`: the file is missing or holds no transcript.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise Unusable("bad_transcript", f"it is none of {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise Unusable("bad_transcript", "there is no such file")
    with explained(path, "reading"), path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise Unusable("bad_transcript", f"it has more than {_MOST_BYTES:,} bytes")
    text = data.decode("utf-8-sig", "replace")
    if not text.strip():
        raise Unusable("bad_transcript", "the file is empty")
    if suffix == ".json":
        return _json(text)
    if suffix == ".csv":
        return _csv(text)
    return _nist(text, id, _stm_row if suffix == ".stm" else _rttm_row)


def _json(text: str) -> Iterator[Row]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable("bad_transcript", f"it is not JSON: {error}") from error
    rows = content.get("segments") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise Unusable("bad_transcript", "it is neither a list of turns nor an object with `segments`")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not isinstance(row.get("text", ""), str):
            yield number, Unusable("malformed", f"not a turn: {_shown(row)}")
            continue
        channel, speaker = _label(row.get("channel")), _label(row.get("speaker"))
        yield Said(number, channel, speaker, row.get("start"), row.get("end"), row.get("text", ""))


def _label(value: Any) -> str:
    known = isinstance(value, str | int) and not isinstance(value, bool)
    return str(value).strip() if known else ""


def _csv(text: str) -> Iterator[Row]:
    try:
        for row in read_turn_rows(text, ("start", "end"), "text"):
            if isinstance(row.values, Unusable):
                yield row.number, row.values
                continue
            values = row.values
            channel, speaker = values.get("channel", "").strip(), values.get("speaker", "").strip()
            yield Said(row.number, channel, speaker, values["start"], values["end"], values.get("text", ""))
    except Unusable as error:
        raise Unusable("bad_transcript", error.message) from error


def _nist(text: str, id: str, row_of: Callable[[int, list[str]], tuple[str, Said] | None]) -> Iterator[Row]:
    lines = [line for line in (line.strip() for line in text.split("\n")) if line and not line.startswith(";;")]
    parsed: list[tuple[str, Row]] = []
    for number, line in enumerate(lines):
        try:
            read = row_of(number, line.split())
        except (ValueError, IndexError):
            parsed.append(("", (number, Unusable("malformed", f"not a row of a turn: {line[:_SHOWN]!r}"))))
        else:
            parsed += [] if read is None else [read]
    if not any(isinstance(row, Said) for _, row in parsed):
        raise Unusable("bad_transcript", "no line of it is a turn")
    # A file of several recordings: only what it says of this one.
    files = {file for file, row in parsed if isinstance(row, Said)}
    name = id.rsplit("/", 1)[-1]
    for file, row in parsed:
        if isinstance(row, Said) and len(files) > 1 and file not in (id, name):
            yield row.number, Unusable("other_recording", f"it is of the recording {file[:_SHOWN]!r}")
        else:
            yield row


def _stm_row(number: int, fields: list[str]) -> tuple[str, Said]:
    # file channel speaker start end [<label>] text
    file, channel, speaker, start, end, *words = fields
    if words and words[0].startswith("<") and words[0].endswith(">"):
        words = words[1:]
    return file, Said(number, channel, speaker, float(start), float(end), *words_of(" ".join(words)))


def _rttm_row(number: int, fields: list[str]) -> tuple[str, Said] | None:
    # SPEAKER file channel start duration <NA> <NA> speaker ...; the other types of line are not turns.
    if fields[0] != "SPEAKER":
        return None
    start = float(fields[3])
    return fields[1], Said(number, fields[2], fields[7], start, start + float(fields[4]), "")
