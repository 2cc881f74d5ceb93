"""A run over all partitions: those committed before are skipped, and all are checked at its end."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.card import Card, is_finished, read_card, write_card
from duologue.formats.locks import locked
from duologue.formats.places import remove_tree
from duologue.formats.publish import make_directory, sweep
from duologue.formats.rejects import REJECTS, Reject, count_by_reason, write_rejects
from duologue.formats.turntaking import added
from duologue.pipelines.commit import Committer, Station
from duologue.pipelines.engine import for_each
from duologue.pipelines.measures import Measures
from duologue.pipelines.sidecars import Partition, Sidecar, file_name, find_commits, refuse_others, summed_amounts
from duologue.progress import Watch, watched

_SECONDS_FOR_ORPHANS = 60


@dataclass(frozen=True)
class RunOptions:
    """How a run goes; nothing that is made depends on it.

    Attributes:
        workers: processes on this machine.
        flags: Beam's own.
        max_rejects: share of the inputs that may be rejected.
        measures: where what Beam's metrics say is kept.
    """

    workers: int = 1
    flags: Sequence[str] = ()
    max_rejects: float = 1.0
    measures: Measures | None = None


ALONE = RunOptions()


def _judge_rejects(sidecars: Collection[Sidecar], inputs: int, most: float, directory: Path, stem: str) -> None:
    """Refuse a run that rejected too much, and take back the commits with rejects: the inputs may be mended.

    Args:
        sidecars: what is committed so far.
        inputs: of the whole run.
        most: share of them that may be rejected; never all of them.
        directory: the artefact.
        stem: what its sidecars are called.
    """
    whole = [reject for sidecar in sidecars for reject in sidecar.rejects if reject.turn is None]
    if not whole or (len(whole) <= most * inputs and len(whole) < inputs):
        return
    for sidecar in sidecars:
        if sidecar.rejected:
            (directory / file_name(stem, sidecar.partition.index, "json")).unlink(missing_ok=True)
    reasons = ", ".join(f"{count} {reason}" for reason, count in count_by_reason(whole).items())
    allow = f", or allow more than {most} by --max-rejects" if len(whole) < inputs else ""
    raise UserError(
        f"{len(whole)} of {inputs} inputs were rejected ({reasons}); the first: {whole[0].id}: {whole[0].message}",
        where=directory,
        hint=f"Mend the inputs{allow}: a rerun goes on from here",
    )


class _Counted:
    """Counts the inputs of the partitions committed so far, by the sidecars that appear: on any engine."""

    def __init__(self, directory: Path, stem: str) -> None:
        self._directory, self._stem = directory, stem
        self._seen: dict[str, int] = {}

    def __call__(self) -> int:
        # A store that does not answer for a moment is no reason to stop: the next look will tell.
        with suppress(UserError):
            for commit in find_commits(self._directory, self._stem, self._seen):
                if commit.sidecar is not None:
                    self._seen[commit.path.name] = commit.sidecar.partition.size
        return sum(self._seen.values())


def run(
    station: Station,
    card: Card,
    todo: Sequence[Partition],
    directory: Path,
    options: RunOptions,
    *,
    rejects: Sequence[Reject] = (),
    totals: Mapping[str, Any] | None = None,
    scratch: Sequence[str] = (),
) -> Card:
    """Make an artefact of partitions, going on from where an earlier run of the same settings stopped.

    Args:
        station: what is done with a partition.
        card: kind, config and identities of the artefact; shards and totals are filled in here.
        todo: all partitions.
        directory: the `--out`; made ready by `prepare`.
        options: how the run goes.
        rejects: inputs that were rejected before there were partitions.
        totals: what the card's totals say besides, or instead.
        scratch: directories inside it to delete before it is declared finished.

    Raises:
        UserError: a shard could not be written, too many inputs were rejected, a worker died, or somebody else does
            not stop writing there.
    """
    stem = station.stems[0]
    inputs = todo[-1].stop if todo else 0

    def committed() -> dict[int, Sidecar]:
        asked = {file_name(stem, partition.index, "json") for partition in todo}
        found = (commit.sidecar for commit in find_commits(directory, stem) if commit.path.name in asked)
        whole = {sidecar.partition.index: sidecar for sidecar in found if sidecar is not None}
        # Of two runs that began at the same moment, neither has found the other's work as it began.
        refuse_others(whole.values(), card.fingerprint, directory)
        _judge_rejects(whole.values(), inputs, options.max_rejects, directory, stem)
        return whole

    sidecars = committed()
    missing = [partition for partition in todo if partition.index not in sidecars]
    rejected = sum(sidecar.rejected for sidecar in sidecars.values())
    counted = _Counted(directory, stem)
    watch = Watch(station.name, inputs, station.unit, counted())
    with locked(directory, fcntl.LOCK_SH), watched(watch, counted):
        # Workers elsewhere have another working directory.
        commit = Committer(
            station, directory.resolve(), card.fingerprint, inputs, options.max_rejects * inputs, rejected
        )
        try:
            measured = for_each(commit, missing, workers=options.workers, flags=options.flags)
        except UserError:
            # Where too much was rejected, that is what there is to say.
            committed()
            raise
    (options.measures or Measures()).add(station.name, measured)
    sidecars = committed()
    lost = [partition.index for partition in todo if partition.index not in sidecars]
    if lost:
        raise UserError(
            f"{len(lost)} of {len(todo)} shards did not arrive, the first is number {lost[0]}",
            where=directory,
            hint="Run the same command again: it makes what is missing",
        )
    done = [sidecars[partition.index] for partition in todo]
    card = _summed(card, done, station.stems)
    every = [*rejects, *(reject for sidecar in done for reject in sidecar.rejects)]
    card = replace(card, rejects=count_by_reason(every), totals={**card.totals, **(totals or {})})
    # Attempts that the engine gave up may be at work still; those that were killed have left what nobody swept yet.
    with locked(directory, fcntl.LOCK_EX, _SECONDS_FOR_ORPHANS):
        sweep(directory)
        write_rejects(directory, every)
        for name in scratch:
            remove_tree(directory / name)
        write_card(directory, card)
    return card


def _summed(card: Card, sidecars: Sequence[Sidecar], stems: Sequence[str]) -> Card:
    """Fill in what the sidecars say: every input is in a shard or in the rejects."""
    inputs = sum(sidecar.partition.size for sidecar in sidecars)
    samples = sum(sidecar.samples for sidecar in sidecars)
    checks = added(sidecar.checks for sidecar in sidecars if sidecar.checks)
    shards = [
        {**sidecar.shards[stem], **(sidecar.amounts if stem == stems[0] else {})}
        for stem in stems
        for sidecar in sidecars
        if stem in sidecar.shards
    ]
    return replace(
        card,
        shards=shards,
        totals={
            "inputs": inputs,
            "samples": samples,
            "rejects": inputs - samples,
            **summed_amounts(sidecar.amounts for sidecar in sidecars),
            **({"checks": checks} if checks else {}),
        },
        licences=sorted({*card.licences, *(name for sidecar in sidecars for name in sidecar.licences)}),
    )


def prepare(directory: Path, card: Card, stems: Sequence[str], leftovers: Sequence[str] = ()) -> Card | None:
    """Make the `--out` ready, or return the card of the very same artefact finished there before.

    Waits for the workers of a killed run to leave, sweeps what they left, and refuses the unfinished work of a run
    with other settings.

    Raises:
        UserError: the directory holds something else, or another run is writing there.
    """
    with explained(directory):
        make_directory(directory)
    with locked(directory, fcntl.LOCK_EX, _SECONDS_FOR_ORPHANS):
        ours = [f"{stem}-*.{suffix}" for stem in stems for suffix in ("tar", "json")]
        if is_finished(directory, card.fingerprint, [*ours, REJECTS, *leftovers]):
            return read_card(directory)
        found = (commit.sidecar for commit in find_commits(directory, stems[0]))
        refuse_others((sidecar for sidecar in found if sidecar is not None), card.fingerprint, directory)
    return None
