"""A station that is quick and slow enough to be killed, and a command line for it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from duologue.errors import UserError
from duologue.formats.card import Card
from duologue.formats.places import place
from duologue.formats.rejects import Reject
from duologue.pipelines.commit import Output
from duologue.pipelines.partitions import RunOptions, prepare, run
from duologue.pipelines.sidecars import Partition, partitions

INPUTS = 30
SIZE = 3


@dataclass(frozen=True)
class Toy:
    """Input i becomes a sample with i in it; every seventh is rejected.

    Attributes:
        seconds: an input takes.
        fails_at: input that ends in an error.
        dies_at: input at which the process ends.
        meets: a directory in which two processes wait for each other before they begin.
        leaves: a file that it leaves behind.
    """

    seconds: float = 0.0
    fails_at: int = -1
    dies_at: int = -1
    meets: str = ""
    leaves: str = ""
    name: str = "toy"
    unit: str = "numbers"
    stems: tuple[str, ...] = ("units", "audio")

    def outputs(self, partition: Partition) -> Iterator[Output | Reject]:
        if self.leaves:
            Path(self.leaves).write_bytes(b"half")
        if self.meets:
            (Path(self.meets) / str(os.getpid())).touch()
            while len(list(Path(self.meets).iterdir())) < 2:
                time.sleep(0.001)
        for number in range(partition.start, partition.stop):
            time.sleep(self.seconds)
            if number == self.fails_at:
                raise UserError("this number cannot be had", where=f"number {number}", hint="Take another")
            if number == self.dies_at:
                os._exit(9)
            if number % 7 == 6:
                yield Reject(f"n{number}", self.name, "seventh", "it is a seventh")
                continue
            body = str(number).encode() * 1000
            yield Output(
                f"n{number}", {"units": {"txt": body}, "audio": {"txt": body}}, {"seconds": number}, ["CC0-1.0"]
            )


CARD = Card("units", {"toy": True}, tokenizer={"kind": "toy"})


def make(directory: Path, station: Toy, *, workers: int = 1, card: Card = CARD, max_rejects: float = 1.0) -> Card:
    """Run the station over its inputs, as the stations of the package are run."""
    finished = prepare(directory, card, station.stems)
    if finished is not None:
        return finished
    options = RunOptions(workers, max_rejects=max_rejects)
    return run(station, card, partitions(INPUTS, SIZE), directory, options)


if __name__ == "__main__":
    make(place(sys.argv[1]), Toy(float(sys.argv[2])), workers=int(sys.argv[3]))
