"""What a station makes of a partition, written as a shard and committed by a sidecar."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from duologue.errors import UserError
from duologue.formats.fingerprint import canonical_json
from duologue.formats.locks import locked
from duologue.formats.publish import write_bytes
from duologue.formats.rejects import Reject
from duologue.formats.shards import ShardWriter
from duologue.formats.turntaking import added
from duologue.pipelines.measures import counts
from duologue.pipelines.sidecars import Partition, Sidecar, file_name, read_sidecar, refuse_others


@dataclass(frozen=True)
class Output:
    """A sample that a station made of an input.

    Attributes:
        key: its webdataset key.
        members: extension to bytes, for each kind of shard: {"units": {...}, "audio": {...}}.
        amounts: what is summed over the shard, such as {"seconds": 12.5}.
        licences: of what went into it.
        checks: what was measured on it, of which the sums go into the card (`turntaking.added`).
    """

    key: str
    members: Mapping[str, Mapping[str, bytes]]
    amounts: Mapping[str, float]
    licences: Sequence[str] = ()
    checks: Mapping[str, Any] = field(default_factory=dict)


class Station(Protocol):
    """What turns a partition's inputs into samples. Picklable; models are loaded where they are first used."""

    @property
    def name(self) -> str:
        """What rejects and progress call it."""
        ...

    @property
    def unit(self) -> str:
        """What its inputs are called, in the plural."""
        ...

    @property
    def stems(self) -> Sequence[str]:
        """Names of the kinds of shard it writes, such as ("units",); the first one is the artefact."""
        ...

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        """Yield, in order, what became of each input: an output or a reject."""
        ...


@dataclass(frozen=True)
class Committer:
    """Makes the shard of a partition, then its sidecar. What it writes depends on manifest and config alone.

    Where a worker knows of more rejects than the run may have, it ends the run.

    Attributes:
        station: what is done with a partition.
        directory: the artefact.
        fingerprint: of it.
        inputs: of the whole run.
        most_rejected: how many of them may be rejected.
        rejected_before: how many were, in partitions that are not made again.
        rejected: how many this worker saw since, by the number of the partition: an engine may give it one twice.
    """

    station: Station
    directory: Path
    fingerprint: str
    inputs: int
    most_rejected: float
    rejected_before: int
    rejected: dict[int, int] = field(default_factory=dict)

    def __call__(self, partition: Partition) -> Generator[None, None, dict[str, int]]:
        """Commit a partition, and return its numbers, for the engine's metrics.

        It yields where the shard is made and has to be published: a disk or a store takes its time for that.

        Raises:
            UserError: the shard cannot be written, too much was rejected, or another run writes in the directory.
        """
        path = self.directory / file_name(self.station.stems[0], partition.index, "json")
        with locked(self.directory, fcntl.LOCK_SH):
            # An engine that runs its tasks again comes by partitions that an earlier attempt committed.
            sidecar = read_sidecar(path)
            if sidecar is None:
                sidecar = yield from self._write(partition)
                write_bytes(path, canonical_json(asdict(sidecar)))
            else:
                refuse_others([sidecar], self.fingerprint, self.directory)
                yield
        if sidecar.rejected:
            self.rejected[partition.index] = sidecar.rejected
            if self.rejected_before + sum(self.rejected.values()) > self.most_rejected:
                # How many they are together, and which, the launcher says.
                raise UserError("too many inputs were rejected", where=self.directory)
        numbers = {"inputs": partition.size, "outputs": sidecar.samples, "rejects": sidecar.rejected}
        return {**numbers, **counts(sidecar.amounts)}

    def _write(self, partition: Partition) -> Generator[None, None, Sidecar]:
        rejects: list[Reject] = []
        amounts: Counter[str] = Counter()
        licences: set[str] = set()
        writers: dict[str, ShardWriter] = {}
        samples = 0
        checks: dict[str, Any] = {}
        with ExitStack() as stack:
            for output in self.station.outputs(partition):
                if isinstance(output, Reject):
                    rejects.append(output)
                    continue
                for stem, members in output.members.items():
                    if stem not in writers:
                        path = self.directory / file_name(stem, partition.index, "tar")
                        writers[stem] = stack.enter_context(ShardWriter(path))
                    writers[stem].add(output.key, members)
                samples += 1
                amounts.update(output.amounts)
                licences.update(output.licences)
                if output.checks:
                    checks = added([checks, output.checks])
            yield
        sidecar = Sidecar(
            self.fingerprint,
            partition,
            {stem: asdict(writer.info) for stem, writer in writers.items() if writer.info is not None},
            samples,
            {name: round(amount, 6) for name, amount in sorted(amounts.items())},
            sorted(licences),
            rejects,
            checks,
            self.inputs,
        )
        if samples + sidecar.rejected != partition.size:
            raise AssertionError(f"{partition}: {samples} samples and {sidecar.rejected} rejects")
        return sidecar
