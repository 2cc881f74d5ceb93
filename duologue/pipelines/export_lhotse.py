"""Manifest of recordings -> lhotse's manifests: a RecordingSet and a SupervisionSet for each split."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from duologue.errors import UserError
from duologue.formats.audio import AudioInfo, probe_sides
from duologue.formats.fingerprint import canonical_json
from duologue.formats.places import shown
from duologue.formats.publish import publishing
from duologue.formats.rejects import Reject, Unusable
from duologue.formats.units import Turn
from duologue.manifests.manifest import ROOT, Manifest
from duologue.manifests.schema import Recording
from duologue.manifests.splits import NAMES
from duologue.pipelines.export import STATION, Export
from duologue.progress import Watch

_KINDS = ("recordings", "supervisions")
# Times are rounded to the microsecond: below it, they are noise of the subtraction.
_DIGITS = 6


class _Lines:
    """The files of the export, each opened when its first line comes and published when the stack closes."""

    def __init__(self, out: Path, stack: ExitStack) -> None:
        self._out, self._stack = out, stack
        self._files: dict[str, IO[bytes]] = {}

    def add(self, kind: str, split: str, line: Mapping[str, Any]) -> None:
        name = _file_name(kind, split)
        if name not in self._files:
            file = self._stack.enter_context(publishing(self._out / name))
            # Without a name and a time in the header, equal lines give equal bytes.
            packed = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
            self._files[name] = cast(IO[bytes], self._stack.enter_context(packed))
        self._files[name].write(canonical_json(line) + b"\n")


def export_lhotse(manifest: Path, out: Path) -> dict[str, Any]:
    """Write a manifest of recordings as lhotse's, in memory that does not grow with the manifest.

    For every split that has recordings: `recordings_SPLIT.jsonl.gz`, and `supervisions_SPLIT.jsonl.gz` if they have
    turns. These are the names that `lhotse.recipes.utils.read_manifests_if_cached` looks for. lhotse's Recording has
    no place for a split, so it is in the names of the files, and in the supervisions besides.

    Side 0 of a recording is lhotse's channel 0 and side 1 its channel 1, wherever they are in the files; channels of
    the files that are no side are numbered from 2. Sample rates and lengths are read from the headers of the audio
    files, and the paths of the files are absolute. Turns are cut to the length of the recording. `export.json`,
    written last, declares the export finished.

    Recordings that cannot be used go to the rejects (`missing_file`, `undecodable`, `no_rate`,
    `outside_root`, `no_such_channel`, `same_channel`, `rate_mismatch`, `length_mismatch`, `bad_split`), and so do
    turns without a length within their recording (`no_time`).

    Args:
        manifest: of recordings.
        out: the export's directory.

    Returns:
        What `export.json` says.

    Raises:
        UserError: the manifest is missing, of another kind or damaged, the path of its audio is not UTF-8, no
            recording can be used, or `out` holds something else or cannot be written.
    """
    recordings = Manifest(manifest)
    if recordings.card.kind != "recordings":
        raise UserError(
            "lhotse's manifests are of recordings; this is a manifest of text dialogues",
            where=manifest,
            hint="Export a manifest made by `duologue manifest fisher`, `candor` or `stereo`",
        )
    root = recordings.audio_root()
    if shown(root) != str(root):
        raise UserError(
            "the path of the audio is not UTF-8, and lhotse's files are",
            where=shown(root),
            hint=f"Move the audio, and write its new place into {manifest / ROOT}",
        )
    names = [_file_name(kind, split) for kind in _KINDS for split in NAMES]
    export = Export("lhotse", out, recordings.card, names, {"root": str(root)})
    finished = export.begin()
    if finished is not None:
        return finished
    splits: dict[str, dict[str, int]] = {}
    rejects: list[Reject] = []
    with ExitStack() as stack, Watch("export lhotse", len(recordings), "recordings") as watch:
        lines = _Lines(out, stack)
        for row in recordings.rows():
            assert isinstance(row, Recording)
            try:
                described = _recording(row, root)
            except Unusable as refusal:
                rejects.append(refusal.reject(row.id, STATION))
            else:
                lines.add("recordings", row.split, described)
                count = splits.setdefault(row.split, dict.fromkeys(_KINDS, 0))
                count["recordings"] += 1
                for turn in _supervisions(row, described["duration"]):
                    if isinstance(turn, Reject):
                        rejects.append(turn)
                    else:
                        lines.add("supervisions", row.split, turn)
                        count["supervisions"] += 1
            watch.advance()
    made = {name: splits[name] for name in NAMES if name in splits}
    totals = {"supervisions": sum(count["supervisions"] for count in made.values())}
    return export.finish(sum(count["recordings"] for count in made.values()), rejects, {"splits": made}, totals)


def _file_name(kind: str, split: str) -> str:
    return f"{kind}_{split}.jsonl.gz"


def _recording(recording: Recording, root: Path) -> dict[str, Any]:
    """Return a recording as lhotse writes it."""
    if recording.split not in NAMES:
        raise Unusable("bad_split", f"it is in a split {recording.split!r}, not in {', '.join(NAMES)}")
    sides = recording.sides(root)
    if sides[0] == sides[1]:
        raise Unusable("same_channel", "both sides are the same channel of one file; lhotse names a channel once")
    infos = probe_sides(sides)
    rate, samples = _length(infos)
    spare = itertools.count(len(sides))
    sources = []
    for path, info in infos.items():
        ids = {channel: side for side, (file, channel) in enumerate(sides) if file == path}
        channels = [ids[channel] if channel in ids else next(spare) for channel in range(info.channels)]
        sources.append({"type": "file", "channels": channels, "source": str(path)})
    return {
        "id": recording.id,
        "sources": sources,
        "sampling_rate": rate,
        "num_samples": samples,
        "duration": samples / rate,
        # In the order in which lhotse stacks what it reads: that of the sources.
        "channel_ids": [channel for source in sources for channel in cast(list[int], source["channels"])],
    }


def _length(infos: Mapping[Path, AudioInfo]) -> tuple[int, int]:
    """Return the sample rate and the samples of the longest file, to which lhotse pads the other."""
    rates = {info.sample_rate for info in infos.values()}
    if len(rates) > 1:
        described = " and ".join(f"{path.name}: {info.sample_rate} Hz" for path, info in infos.items())
        raise Unusable("rate_mismatch", f"the two sides differ in sample rate, and lhotse has one ({described})")
    return rates.pop(), max(info.samples for info in infos.values())


def _supervisions(recording: Recording, duration_s: float) -> Iterator[dict[str, Any] | Reject]:
    """Yield the turns as lhotse writes them, cut to the recording, and a reject for each that has no length in it."""
    for index, turn in enumerate(recording.turns):
        start = round(max(turn.start_s, 0.0), _DIGITS)
        length = round(min(turn.end_s, duration_s) - start, _DIGITS)
        # Written so that a time that is not a number is refused too.
        if not length > 0:
            message = f"it lasts from {turn.start_s} to {turn.end_s} s; the recording has {duration_s:.2f} s"
            yield Reject(recording.id, STATION, "no_time", message, index)
        else:
            yield _supervision(recording, index, turn, start, length)


def _supervision(recording: Recording, index: int, turn: Turn, start: float, length: float) -> dict[str, Any]:
    return {
        "id": f"{recording.id}-{index}",
        "recording_id": recording.id,
        "start": start,
        "duration": length,
        "channel": turn.channel,
        "text": turn.text,
        "speaker": recording.speakers[turn.channel],
        "custom": {"split": recording.split, "events": list(turn.events), "doubtful": turn.doubtful},
    }
