"""Two-channel audio of any origin becomes a manifest of recordings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.formats.card import Card
from duologue.formats.headerless import MAX_RATE
from duologue.formats.places import common, is_file, is_remote, place, shown
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Turn
from duologue.manifests.audio_files import Call, calls_of_files, find_audio, identity, transcripts_of_files
from duologue.manifests.audio_tables import Listed, calls_of_table, is_table, read_table, transcripts_of_row
from duologue.manifests.manifest import write_manifest
from duologue.manifests.schema import Recording
from duologue.manifests.splits import SplitPlan, Splits, identity_of, plan_splits, split_called
from duologue.manifests.transcripts import by_start, read_turns
from duologue.progress import Watch


def write_recordings(
    sources: Sequence[str],
    out: Path,
    *,
    licence: str = "unknown",
    source: str | None = None,
    splits: Splits | None = None,
    split_by: str = "conversation",
    transcripts: str | None = None,
    raw_rate: int | None = None,
) -> Card:
    """Write a manifest of the two-channel recordings in the sources.

    A file with two channels is a recording. Two files with one channel are one if they lie in one directory and
    their names differ only in a marker of the side at the end (`sides.MARKERS`), or if a table says so. Audio that a
    table names is left to the table. Where the split isn't that of a hash, the card's totals have the plan's summary
    under `splits`.

    Args:
        sources: audio files, directories of them (recursive), and tables of recordings (`audio_tables.read_table`).
        out: the directory to write.
        licence: of the recordings, as an SPDX identifier, unless a table has its own.
        source: name of the corpus; the name of the directory that all audio lies in if None.
        splits: shares of train, valid and test; 98:1:1 if None.
        split_by: "conversation", "speaker" (as tables name them), or a list file; see `plan_splits`. A table's own
            column wins.
        transcripts: the directory where `<id>.json`, `.csv`, `.stm` or `.rttm` is looked for; None for that of the
            audio.
        raw_rate: sample rate in Hz of audio files that don't say theirs; without it they are rejected.

    Raises:
        UserError: a source is missing, damaged as a whole or holds no audio file, the recordings cannot be split,
            none can be used, or `raw_rate` is no rate.
    """
    if raw_rate is not None and not 0 < raw_rate <= MAX_RATE:
        raise UserError(f"{raw_rate} Hz is no sample rate", where="--raw-rate", hint="Telephone audio has 8000")
    splits = splits or Splits()
    found = _find(sources, transcripts)
    source = source or shown(found.root.name) or "recordings"
    config = {
        "licence": licence,
        "source": source,
        "splits": identity_of(split_by, splits),
        "audio": found.identity(),
        **({"tables": found.about_tables} if found.tables else {}),
        **({"raw_rate": raw_rate} if raw_rate is not None else {}),
    }
    totals: dict[str, Any] = {}

    def read() -> Iterator[Recording | Reject]:
        calls = found.calls(raw_rate)
        if split_by == "conversation":
            plan = plan_splits((), split_by, splits)
        else:
            held = list(calls)
            calls = iter(held)
            by_plan = (call for call in held if isinstance(call, Call) and call.split is None)
            plan = plan_splits(((call.id, call.speakers or ()) for call in by_plan), split_by, splits)
            totals["splits"] = plan.summary
        for call in calls:
            if isinstance(call, Reject):
                yield call
                continue
            try:
                yield from _recording(call, plan, source, licence, raw_rate)
            except Unusable as error:
                yield error.reject(call.id, "manifest")

    return write_manifest(out, "recordings", config, read, root=found.root, totals=totals)


@dataclass(frozen=True)
class _Found:
    # What the sources hold. `root` is the directory that all audio lies below.
    files: list[Path]
    tables: list[list[Listed | Reject]]
    about_tables: list[dict[str, Any]]
    root: Path
    transcripts: Path | None

    def calls(self, raw_rate: int | None) -> Iterator[Call | Reject]:
        of_files = calls_of_files(self.files, self.root, self.transcripts or self.root, raw_rate)
        of_tables = (calls_of_table(rows, self.root, self.transcripts, raw_rate) for rows in self.tables)
        with Watch("manifest stereo", None, "recordings") as watch:
            for call in chain(of_files, *of_tables):
                yield call
                watch.advance()

    def identity(self) -> dict[str, Any]:
        rows = [row for row in chain(*self.tables) if isinstance(row, Listed)]
        listed = {path for row in rows for path, _ in row.sides if is_file(path)}
        # A link may lead nowhere, a pipe never end: that comes to light when the audio is read. A store has neither.
        found = {path for path in self.files if is_remote(path) or is_file(path)}
        texts = dict.fromkeys(transcripts_of_files(self.files, self.root, self.transcripts or self.root))
        for row in rows:
            texts.update(dict.fromkeys(path for path, _ in transcripts_of_row(row, self.root, self.transcripts)))
        # A transcript that a table names may be missing: that comes to light when it is read.
        there = [path for path in texts if is_file(path)]
        return identity(sorted(found | listed), there, self.root, self.transcripts)


def _find(sources: Sequence[str], transcripts: str | None) -> _Found:
    if not sources:
        raise UserError("no source was named", hint="Name audio files, directories of them, or tables")
    directory = None if transcripts is None else place(transcripts)
    if directory is not None and not directory.is_dir():
        raise UserError("there is no such directory", where=directory, hint="Name the directory of the transcripts")
    tables = [read_table(place(name)) for name in sources if is_table(name)]
    listed = {path for rows, _ in tables for row in rows if isinstance(row, Listed) for path, _ in row.sides}
    files = [path for path in find_audio(name for name in sources if not is_table(name)) if path not in listed]
    folders = {path.parent for path in chain(files, listed)}
    if not folders:
        raise UserError("the tables name no recording", where=sources[0], hint="Give them a row for each recording")
    return _Found(
        files,
        [rows for rows, _ in tables],
        [about for _, about in tables],
        common(folders),
        None if directory is None else directory.resolve(),
    )


def _recording(
    call: Call, plan: SplitPlan, source: str, licence: str, raw_rate: int | None
) -> Iterator[Recording | Reject]:
    split = _split(call, plan)
    turns, rejects = _turns(call)
    yield Recording(
        call.id,
        source,
        split,
        call.licence or licence,
        call.duration_s,
        call.audio,
        call.speakers or (f"{call.id}:0", f"{call.id}:1"),
        turns,
        raw_rate=raw_rate,
    )
    yield from rejects


def _split(call: Call, plan: SplitPlan) -> str:
    if call.split is None:
        return plan.of(call.id)
    split = split_called(call.split)
    if split is None:
        raise Unusable("no_split", f"the table's split {call.split[:40]!r} is none of train, valid and test")
    return split


def _turns(call: Call) -> tuple[tuple[Turn, ...], list[Reject]]:
    turns: list[Turn] = []
    rejects: list[Reject] = []
    for path, channel in call.transcripts:
        read, left = read_turns(path, call.id, call.duration_s, speakers=call.speakers or (), channel=channel)
        turns += read
        rejects += left
    return by_start(turns), rejects
