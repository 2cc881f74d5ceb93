"""A campaign of kills: commands that are killed at random moments, and run again until they end.

Every end is compared with an unbroken run's directory, byte for byte.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import soundfile

from duologue import bundled
from duologue.formats.rejects import read_rejects
from duologue.formats.sequences import SequenceSet
from duologue.formats.temporary import TEMPORARY
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.manifest import Manifest, write_manifest
from duologue.manifests.schema import Dialogue, DialogueTurn
from duologue.manifests.stereo import write_recordings
from duologue.progress import say
from tests.pipelines.comparing import contents, samples
from tests.pipelines.killing import Happenings, Run, kill, wait_until_gone

_DIALOGUES, _TURNS, _CALLS = 12, 4, 16
_KILLS_BEFORE_THE_END = 4
_SECONDS_TO_START = 5.0
_CODE = "```python\nprint('hello')\nfor i in range(3):\n    print(i)\n```"
_SIDECARS = "[a-z]*-*.json"
_SIZES = {
    "synthesize": ["--rows-per-shard", "1"],
    "tokenize": ["--rows-per-shard", "1"],
    "mix": ["--stage", "2", "--sequence-length", "256", "--sequences-per-shard", "2"],
}

Victims = Mapping[str, Callable[[Run], Sequence[int]]]
"""Whom to kill: by a name for the report, what finds the processes of a run at a moment."""

ONE_PROCESS: Victims = {"launcher": lambda run: [run.pid]}
SEVERAL_PROCESSES: Victims = {
    "launcher": lambda run: [run.pid],
    "worker": lambda run: run.workers()[:1],
    "all workers": lambda run: run.workers(),
    "process group": lambda run: run.group(),
}


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds from now, or so soon after the n-th thing that happens to a file."""

    seconds: float
    events: int | None = None

    def comes(self, run: Run, happenings: Happenings) -> bool:
        """Wait for it, and return whether it came before the run ended."""
        first = happenings.count
        until = time.monotonic() + self.seconds
        while run.is_alive():
            if self.events is not None:
                happenings.wait(0.05)
                if happenings.count - first >= self.events:
                    time.sleep(self.seconds)
                    return True
            elif (left := until - time.monotonic()) > 0:
                time.sleep(min(left, 0.05))
            else:
                return True
        return False


@dataclass
class Tally:
    """What a campaign did: kills by command and by victim, what they left, and ends that were the unbroken run's."""

    kills: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    ends: int = 0

    def __str__(self) -> str:
        kills = ", ".join(f"{count} {name}" for name, count in sorted(self.kills.items()))
        left = ", ".join(f"{count} {name}" for name, count in sorted(self.left.items()))
        total = sum(self.kills.values())
        return f"{total} kills ({kills}); left behind: {left}; {self.runs} starts, {self.ends} ends, all identical"


@dataclass(frozen=True)
class Campaign:
    """A command to be killed, and what comes of it unbroken.

    Attributes:
        name: of the command.
        arguments: of it, without `--out`.
        place: for its directories.
        unbroken: the directory of the run that nobody killed.
        seconds: it took.
        events: that happened to files in it.
        flags: Beam's own.
    """

    name: str
    arguments: Sequence[str]
    place: Path
    unbroken: Path
    seconds: float = 0.0
    events: int = 0
    flags: Sequence[str] = ()

    def run(self, out: Path) -> Run:
        """Begin it."""
        behind = ["--", *self.flags] if self.flags else []
        log = self.place / f"log-{time.monotonic_ns()}.txt"
        return Run([self.name, *self.arguments, "--out", str(out), *behind], log)

    def with_workers(self, workers: int) -> Campaign:
        """Return the campaign with more workers, each of which takes some seconds to start."""
        arguments = [*self.arguments, "--workers", str(workers)]
        return replace(self, arguments=arguments, seconds=self.seconds + _SECONDS_TO_START)

    def measured(self, flags: Sequence[str] = ()) -> Campaign:
        """Return the campaign, on another engine if flags name one, with what its unbroken run took."""
        other = replace(self, flags=flags)
        out = self.place / f"{self.name}-far" if flags else self.unbroken
        out.mkdir()
        happenings = Happenings(out)
        began = time.monotonic()
        run = other.run(out)
        while run.is_alive():
            happenings.wait(0.05)
        assert run.wait() == 0, run.said
        seconds = time.monotonic() - began
        happenings.close()
        assert tree(out) == tree(self.unbroken)
        return replace(other, seconds=seconds, events=happenings.count)

    def _moment(self, out: Path, draw: Random) -> Moment:
        """Draw one by the clock, between start and end, or, more often, among what is left to happen to files."""
        if draw.random() < 0.3:
            return Moment(self.seconds * draw.random())
        every, done = (len(list(place.glob(_SIDECARS))) for place in (self.unbroken, out))
        left = round(self.events * (1 + every - done) / (1 + every))
        return Moment(0.003 * draw.random(), 1 + draw.randrange(max(left, 4)))

    def wage(self, kills: int, victims: Victims, draw: Random, tally: Tally) -> None:
        """Kill it so often, in as many directories as that takes, and compare every end.

        Raises:
            AssertionError: an end differs, a process stays behind, or a run that was not killed itself ended neither
                well nor in one message.
        """
        until = sum(tally.kills.values()) + kills
        while (left := until - sum(tally.kills.values())) > 0:
            out = self.place / f"{self.name}-killed"
            out.mkdir()
            left = min(left, _KILLS_BEFORE_THE_END)
            groups: list[int] = []
            ended = False
            while not ended:
                run, killed = self._start(out, left, victims, draw, tally)
                groups.append(run.pid)
                left -= len(killed)
                ended = self._ended(run, killed)
            assert tree(out) == tree(self.unbroken)
            wait_until_gone(groups)
            tally.ends += 1
            shutil.rmtree(out)

    def _start(
        self, out: Path, most: int, victims: Victims, draw: Random, tally: Tally
    ) -> tuple[Run, list[Sequence[int]]]:
        """Start it, and kill somebody at one moment after the other, until it ends; return whom."""
        happenings = Happenings(out)
        run = self.run(out)
        tally.runs += 1
        killed: list[Sequence[int]] = []
        while len(killed) < most and self._moment(out, draw).comes(run, happenings):
            victim = draw.choice(list(victims))
            pids: Sequence[int] = ()
            while not pids and run.is_alive():
                pids = kill(victims[victim](run))
                time.sleep(0 if pids else 0.01)
            if pids:
                killed.append(pids)
                tally.kills[f"{self.name}: {victim}"] += 1
                tally.left.update(_left(out))
                say(f"{time.strftime('%H:%M:%S')} {self.name}: {victim} killed")
            if run.pid in pids:
                break
        happenings.close()
        return run, killed

    def _ended(self, run: Run, killed: Sequence[Sequence[int]]) -> bool:
        """Return whether a run did its work to the end; if it was not killed, it says so or why it did not."""
        code = run.wait()
        if not any(run.pid in pids for pids in killed):
            assert code == 0 or (code == 2 and killed and run.said.count("duologue: error: ") == 1), run.said
            assert "Traceback" not in run.said, run.said
        return code == 0


def _left(out: Path) -> Iterator[str]:
    """Say what a kill has left that is no whole commit."""
    for path in out.rglob(f"{TEMPORARY}*"):
        name = re.sub(r"\d+", "N", path.name.split("-", 2)[2])
        yield f"half a {name}"
    for path in out.glob("*-*.tar"):
        if not path.name.startswith(TEMPORARY) and not path.with_suffix(".json").exists():
            yield "shard without a sidecar"


def tree(directory: Path) -> dict[str, bytes | None]:
    """Every file and directory below a directory, by its path in it."""
    every = {str(path.relative_to(directory)): None for path in directory.rglob("*")}
    return {**every, **contents(directory)}


def _few_words(place: Path) -> None:
    """Write a manifest of the first turns of bundled dialogues, with one of nothing to say and a turn of code."""
    name, shape, licence = bundled.DIALOGUES[0]
    source = bundled.directory() / "dialogues" / name
    write_dialogues([str(source)], place / "whole", shape=shape, licence=licence, source=name, limit=_DIALOGUES)
    rows = [row for row in Manifest(place / "whole").rows() if isinstance(row, Dialogue)]
    cut = [replace(row, turns=row.turns[:_TURNS]) for row in rows]
    cut[3] = replace(cut[3], turns=(DialogueTurn(0, "### $$x^2$$"), DialogueTurn(1, "Hm?")))
    cut[7] = replace(cut[7], turns=(*cut[7].turns, DialogueTurn(0, _CODE)))
    write_manifest(place / "dialogues", "dialogues", {"turns": _TURNS}, lambda: cut)


def _pieces_of_a_call(place: Path) -> None:
    """Write a manifest of the bundled call, cut into pieces of some seconds; in some of them one side is silent."""
    audio, rate = soundfile.read(next((bundled.directory() / "call").glob("*.flac")), dtype="int16")
    size = len(audio) // _CALLS
    (place / "audio").mkdir()
    for number in range(_CALLS):
        piece = audio[number * size : (number + 1) * size]
        soundfile.write(place / "audio" / f"piece{number:02d}.wav", piece, rate)
    write_recordings([str(place / "audio")], place / "recordings", licence=bundled.CALL_LICENCE)


def campaigns(place: Path) -> dict[str, Campaign]:
    """Make the inputs, run every command unbroken with one worker, and return the campaigns by command."""
    _few_words(place)
    _pieces_of_a_call(place)
    inputs = {
        "synthesize": [place / "dialogues"],
        "tokenize": [place / "recordings"],
        "mix": [place / "synthesize", place / "tokenize"],
    }
    made = {}
    for name, sizes in _SIZES.items():
        arguments = [*map(str, inputs[name]), *sizes]
        made[name] = Campaign(name, arguments, place, place / name).measured()
    return made


def ids_in(manifest: Path) -> list[str]:
    """Return the ids in a manifest, or those that came out of a unit set: in samples and in rejects, as often."""
    if list(manifest.glob("*.parquet")) and not list(manifest.glob("units-*")):
        return sorted(row.id for row in Manifest(manifest).rows())
    spoken = [sample.id for sample in samples(manifest)]
    return sorted([*spoken, *(reject.id for reject in read_rejects(manifest) if reject.turn is None)])


def pieces_in(sequences: Path) -> dict[str, list[tuple[int, int]]]:
    """Return by dialogue the pieces of it in a sequence set: where in it each starts, and its tokens."""
    pieces: dict[str, list[tuple[int, int]]] = {}
    for sequence in SequenceSet(sequences):
        for document in sequence.documents:
            pieces.setdefault(document.id, []).append((document.start, document.length))
    return {identifier: sorted(found) for identifier, found in pieces.items()}
