"""CANDOR (Reece et al. 2023, Science Advances 9, eadf3197) becomes a manifest of recordings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from duologue.errors import UserError, explained
from duologue.formats.card import Card
from duologue.formats.places import entries, place, shown
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Turn
from duologue.manifests.audio_files import check_two, identity, probed
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import AudioChannel, Recording
from duologue.manifests.splits import SplitPlan, Splits, plan_splits
from duologue.manifests.transcripts import Row, Said, turns_of
from duologue.manifests.turn_rows import read_turn_rows
from duologue.progress import Watch

SOURCE = "candor"
LICENCE = "LicenseRef-CANDOR"
TRANSCRIPTS = ("cliffhanger", "audiophile", "backbiter")
_PARTS = ("processed", "transcription", "metadata.json")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class _Conversation:
    # Where the parts of a conversation are; any may be missing.
    directory: Path
    transcription: str

    @property
    def id(self) -> str:
        return shown(self.directory.name)

    @property
    def audio(self) -> Path:
        return self.directory / "processed" / f"{self.directory.name}.mp3"

    @property
    def channel_map(self) -> Path:
        return self.directory / "processed" / "channel_map.json"

    @property
    def transcript(self) -> Path:
        return self.directory / "transcription" / f"transcript_{self.transcription}.csv"

    @property
    def survey(self) -> Path:
        return self.directory / "survey.csv"


def write_candor(
    root: str,
    out: Path,
    *,
    transcript: str = TRANSCRIPTS[0],
    splits: Splits | None = None,
    split_by: str = "conversation",
) -> Card:
    """Write a manifest of the conversations of CANDOR below a root.

    The left side of `processed/<id>.mp3` is channel 0; `channel_map.json` says who that is. A conversation without
    its transcript is a recording without turns, and a turn reject (`bad_transcript`) says so. Age and sex, as far as
    `survey.csv` has them, are `age_0`, `sex_0`, `age_1`, `sex_1` in `about`.

    The three transcripts cut the same words into turns in three ways. "cliffhanger", where sentences stay whole, is
    the default: sentences are what stage 1 speaks and writes. "audiophile" begins a new turn at every change of the
    speaker. "backbiter" takes backchannels out of the other's turn, which then may run for minutes; they become turns
    of their own with the event "backchannel". Where a turn has several, they are one, from the first to the last.

    The card's totals have the plan's summary under `splits`.

    Args:
        root: the directory that holds the conversations' directories.
        out: the directory to write.
        transcript: one of `TRANSCRIPTS`.
        splits: shares of train, valid and test; 98:1:1 if None.
        split_by: "conversation", "speaker" (by user id), or a list file; see `plan_splits`.

    Raises:
        UserError: the root is missing or holds no conversation, the conversations cannot be split, or none can be
            used.
    """
    if transcript not in TRANSCRIPTS:
        raise UserError(
            f"CANDOR has no transcript {transcript!r}",
            where="--transcript",
            hint=f"Its transcripts are {', '.join(TRANSCRIPTS)}",
        )
    conversations = _find(place(root), transcript)
    top = place(root).resolve()
    speakers = {}
    for each in conversations:
        try:
            speakers[each.id] = _speakers(each.channel_map)
        except Unusable:
            # It comes to light again, and becomes a reject, when the conversation's turn comes.
            continue
    plan = plan_splits(speakers.items(), split_by, splits or Splits())
    config = {
        "source": SOURCE,
        "licence": LICENCE,
        "transcript": transcript,
        "splits": plan.identity,
        "files": identity(
            [each.audio for each in conversations if each.audio.is_file()],
            [
                path
                for each in conversations
                for path in (each.channel_map, each.transcript, each.survey)
                if path.is_file()
            ],
            top,
        ),
    }

    def read() -> Iterator[Recording | Reject]:
        with Watch("manifest candor", len(conversations), "conversations") as watch:
            for each in conversations:
                try:
                    yield from _recording(each, top, plan)
                except Unusable as error:
                    yield error.reject(each.id, "manifest")
                watch.advance()

    return write_manifest(out, "recordings", config, read, root=top, totals={"splits": plan.summary})


def _find(root: Path, transcript: str) -> list[_Conversation]:
    if not root.is_dir():
        raise UserError("there is no such directory", where=root, hint="Name the directory that holds CANDOR")
    with explained(root, "reading"):
        directories = sorted(path for path in entries(root.resolve()) if not path.name.startswith("."))
        found = [path for path in directories if any((path / part).exists() for part in _PARTS)]
    if not found:
        raise UserError(
            "the directory holds no conversation of CANDOR",
            where=root,
            hint=f"Name the directory whose directories have {', '.join(_PARTS)} in them",
        )
    return [_Conversation(path, transcript) for path in found]


def _recording(each: _Conversation, root: Path, plan: SplitPlan) -> Iterator[Recording | Reject]:
    """Yield the recording, and a reject for each row of its transcript that is left out.

    Raises:
        Unusable: the conversation cannot be used.
    """
    info = probed(each.audio, root)
    check_two(info, each.audio)
    name = each.audio.relative_to(root).as_posix()
    speakers = _speakers(each.channel_map)
    split = plan.of(each.id)
    turns, rejects = _turns(each, speakers, info.duration_s)
    yield Recording(
        each.id,
        SOURCE,
        split,
        LICENCE,
        info.duration_s,
        (AudioChannel(name, 0), AudioChannel(name, 1)),
        (f"{SOURCE}:{speakers[0]}", f"{SOURCE}:{speakers[1]}"),
        turns,
        _about(each.survey, speakers),
    )
    yield from rejects


def _speakers(path: Path) -> tuple[str, str]:
    """Return the user ids of the left and the right side.

    Raises:
        Unusable: `bad_channel_map`: the file is missing or doesn't name two users.
    """
    try:
        sides = json.loads(_text(path))
        left, right = (sides[side] for side in ("L", "R"))
        usable = all(isinstance(user, str) and user and user.isprintable() for user in (left, right))
    except Unusable as error:
        raise Unusable("bad_channel_map", error.message) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unusable("bad_channel_map", f"{path.name} doesn't say who is left and right: {error!r}") from error
    if not usable or left == right:
        raise Unusable("bad_channel_map", f"{path.name} doesn't name two users as L and R")
    return left, right


def _turns(
    each: _Conversation, speakers: tuple[str, str], duration_s: float
) -> tuple[tuple[Turn, ...], list[Reject]]:
    try:
        rows = list(_rows(each.transcript))
    except Unusable as error:
        return (), [Reject(each.id, "manifest", "bad_transcript", error.message, 0)]
    channels = {user: channel for channel, user in enumerate(speakers)}
    return turns_of(rows, each.id, duration_s, lambda said: channels.get(said.speaker))


def _rows(path: Path) -> Iterator[Row]:
    for row in read_turn_rows(_text(path), ("start", "stop"), "utterance", ("backchannel_count", "delta", "n_words")):
        if isinstance(row.values, Unusable):
            yield row.number, row.values
            continue
        values = row.values
        speaker = values.get("speaker", "").strip()
        yield Said(row.number, "", speaker, values["start"], values["stop"], values.get("utterance", ""))
        if values.get("backchannel", "").strip():
            yield Said(
                row.number,
                "",
                values.get("backchannel_speaker", "").strip(),
                values.get("backchannel_start"),
                values.get("backchannel_stop"),
                values["backchannel"],
                ("backchannel",),
            )


def _text(path: Path) -> str:
    """Return the text of a file of a conversation.

    Raises:
        Unusable: `bad_transcript`: it is missing, or too large to be one.
    """
    if not path.is_file():
        raise Unusable("bad_transcript", f"there is no {path.name}")
    with explained(path, "reading"), path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise Unusable("bad_transcript", f"{path.name} has more than {_MOST_BYTES:,} bytes")
    return data.decode("utf-8-sig", "replace")


def _about(path: Path, speakers: tuple[str, str]) -> Mapping[str, str]:
    about: dict[str, str] = {}
    try:
        rows = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    except (Unusable, csv.Error):
        return about
    for row in rows:
        for channel, user in enumerate(speakers):
            if row.get("user_id") == user:
                for name in ("age", "sex"):
                    value = (row.get(name) or "").strip()
                    if value and value.isprintable():
                        about.setdefault(f"{name}_{channel}", value)
    return about
