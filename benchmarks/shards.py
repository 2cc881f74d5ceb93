"""Shards: ours beside webdataset's, mosaicml-streaming's and litdata's, on the same samples in one run.

    python benchmarks/shards.py
    python benchmarks/shards.py --directory /dev/shm    # without a disk: what the programs cost
    python benchmarks/shards.py --quick                 # smaller in everything, to see that it runs
    python benchmarks/shards.py --json

webdataset comes with Duologue. The others ask for older versions of what Duologue needs, so that they are installed
beside it without their dependencies:

    pip install --no-deps mosaicml-streaming==0.13.0 litdata==0.2.76 torchvision==0.26.* Brotli python-snappy \\
        cramjam "zstd<2" catalogue xxhash boto3 botocore s3transfer jmespath lightning-utilities tifffile obstore

One that is not installed is named as missing. The ways of each part take turns, and the median of some runs counts.
Samples are made-up dialogues as unit sets and sequence sets have them, already encoded, as many to a shard everywhere
(mosaicml-streaming counts bytes; it gets as many bytes). Everything is read from the page cache.

- write: a sample's members into shards. Ours always hashes (sha256), syncs and renames a shard before it is there. Of
  the others only mosaicml-streaming can make checksums, and none syncs; webdataset and litdata get a sha256 of every
  finished shard as `sha256sum` would make it, and all of them the syncs that are missing, where it says so.
- read: all members of all samples, in order. Ours looks at every header's checksum and for repeated keys.
- train: the batches of the trainer, eight sequences each, in order. Ours is the trainer's own reader, which compares
  every shard's sha256 with the card. None of the others verifies what lies on this machine (mosaicml-streaming does
  what it downloads); where it says so, they get a sha256 of every shard first. All decode and collate by the same
  functions.

All have one process, but for `litdata.optimize`, which starts one worker, without the work in the caller that the
others have. Datasets are opened outside the time that counts, ours inside. Ratios are to ours: above 1 is faster. "A
CPU s" is processor time, of all threads: on a busy machine it is what can be compared.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import shard_formats as formats
import talks
import torch
from measuring import agree, interleaved, machine, parser_of

from duologue.formats.sequences import SequenceSet, packed_sequence
from duologue.formats.shards import ShardInfo
from duologue.formats.vocabulary import Vocabulary
from duologue.train.data import Batch, collate
from duologue.train.parallel import World
from duologue.train.reader import Reader

LENGTH = 8192
BATCH = 8
PACKAGES = {"streaming": "mosaicml-streaming", "litdata": "litdata"}


@dataclass(frozen=True)
class Size:
    """How much is measured: samples, how many of them differ, samples of a shard, and runs."""

    samples: int = 4096
    different: int = 512
    per_shard: int = 512
    runs: int = 5


QUICK = Size(64, 16, 32, 1)


def samples_of(kind: str, size: Size) -> formats.Samples:
    """Return the samples of a unit set or a sequence set, encoded."""
    if kind == "units":
        members = [talks.unit_sample(number).members() for number in range(size.different)]
    else:
        packed = talks.sequences(Vocabulary.byte_level(talks.UNITS), LENGTH, size.different)
        members = [sequence.members() for sequence in packed]
    return [(f"{number:09d}", members[number % len(members)]) for number in range(size.samples)]


def cpu_seconds() -> float:
    """Return the processor time that this process and its ended children used, in seconds."""
    counts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(count.ru_utime + count.ru_stime for count in counts)


def part(
    title: str, samples: formats.Samples, ways: Mapping[str, Callable[[], Any]], runs: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time ways of doing the same; return the figures, and what each way returned."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}

    def counted(name: str, way: Callable[[], Any]) -> Any:
        begin = cpu_seconds()
        result = way()
        cpu[name].append(cpu_seconds() - begin)
        return result

    seconds, results = interleaved({name: partial(counted, name, way) for name, way in ways.items()}, runs)
    used = {name: statistics.median(times) for name, times in cpu.items()}
    megabytes = sum(len(content) for _, members in samples for content in members.values()) / 1e6
    rows = [
        {
            "what": name,
            "mb_per_s": round(megabytes / median, 1),
            "samples_per_s": round(len(samples) / median),
            "ratio": round(seconds["duologue"] / median, 2),
            "samples_per_cpu_s": round(len(samples) / used[name]),
            "cpu_ratio": round(used["duologue"] / used[name], 2),
        }
        for name, median in seconds.items()
    ]
    return {"part": title, "samples": len(samples), "mb": round(megabytes, 1), "rows": rows}, results


def writing(kind: str, samples: formats.Samples, size: Size, directory: Path) -> dict[str, Any]:
    """Measure writing; what was written stays in a directory for each format."""

    def way(write: formats.Write, name: str, *more: Callable[[Path], None]) -> Callable[[], None]:
        place = directory / name

        def run() -> None:
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            write(samples, place, size.per_shard)
            for step in more:
                step(place)

        return run

    ways: dict[str, Callable[[], None]] = {}
    for form in formats.available():
        ways[form.name] = way(form.write, form.name)
        if form.write_hashed is not None:
            ways[f"{form.name}, sha256"] = way(form.write_hashed, form.name)
            ways[f"{form.name}, sha256, synced"] = way(form.write_hashed, form.name, formats.sync_all)
        elif form.name != "duologue":
            ways[f"{form.name}, + sha256, synced"] = way(form.write, form.name, formats.hash_all, formats.sync_all)
    if find_spec("litdata"):
        ways["litdata.optimize"] = way(formats.optimize_litdata, "litdata.optimize")
    return part(f"write {kind}", samples, ways, size.runs)[0]


def reading(kind: str, samples: formats.Samples, size: Size, directory: Path) -> dict[str, Any]:
    """Measure reading of what was written."""
    ways = {}
    for form in formats.available():
        agree(
            f"samples of {form.name}",
            [members for _, members in samples] == list(form.read(form.opened(directory / form.name))),
        )
        ways[form.name] = _reads(form, directory / form.name)
    figures, counts = part(f"read {kind}", samples, ways, size.runs)
    agree("numbers of samples", set(counts.values()) == {len(samples)})
    return figures


def _reads(form: formats.Format, place: Path) -> Callable[[], int]:
    source = form.opened(place)
    return lambda: sum(1 for _ in form.read(source))


def sequence_set(directory: Path, size: Size) -> Path:
    """Make a sequence set of the shards that are in `directory`."""
    shards = []
    for path in sorted(directory.glob("*.tar")):
        shards.append(ShardInfo(path.name, size.per_shard, path.stat().st_size, formats.sha256_file(path)))
    talks.finish(directory, Vocabulary.byte_level(talks.UNITS), LENGTH, shards)
    return directory


def training(samples: formats.Samples, size: Size, directory: Path) -> dict[str, Any]:
    """Measure the batches of the trainer."""
    ours = sequence_set(directory / "duologue", size)

    def reader() -> int:
        alone = World(0, 1, torch.device("cpu"))
        with Reader(SequenceSet(ours), range(len(samples) // BATCH), BATCH, BATCH, alone) as batches:
            return sum(len(batch.tokens) for step in batches for batch in step)

    def peer(form: formats.Format, *before: Callable[[Path], None]) -> Callable[[], int]:
        place = directory / form.name
        source = form.opened(place)

        def run() -> int:
            for step in before:
                step(place)
            return sum(len(batch.tokens) for batch in batches_of(form.read(source)))

        return run

    ways: dict[str, Callable[[], int]] = {"duologue": reader}
    for form in formats.available()[1:]:
        ways[form.name] = peer(form)
        ways[f"{form.name}, + sha256"] = peer(form, formats.hash_all)
    figures, counts = part("train: batches of 8 sequences", samples, ways, size.runs)
    agree("numbers of sequences", set(counts.values()) == {len(samples)})
    return figures


def batches_of(members: Iterator[formats.Members]) -> Iterator[Batch]:
    """Yield sequences as the trainer's batches."""
    while some := [packed_sequence(each) for each in islice(members, BATCH)]:
        yield collate(some)


def measure(size: Size, directory: Path) -> dict[str, Any]:
    """Measure everything, and return the figures."""
    torch.set_num_threads(1)
    parts = []
    for kind in ("units", "sequences"):
        samples = samples_of(kind, size)
        place = directory / kind
        place.mkdir()
        parts += [writing(kind, samples, size, place), reading(kind, samples, size, place)]
        if kind == "sequences":
            parts.append(training(samples, size, place))
    installed = [name for module, name in PACKAGES.items() if find_spec(module)]
    return {
        "parts": parts,
        "runs": size.runs,
        "samples_of_a_shard": size.per_shard,
        "missing": [name for name in PACKAGES.values() if name not in installed],
        "directory": str(directory.parent),
        **machine("webdataset", *installed),
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--directory", type=Path, help="where shards are written; by default the system's temporary")
    parser.add_argument("--runs", type=int, default=Size.runs, help="of which the median counts")
    parser.add_argument("--quick", action="store_true", help="smaller in everything, to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        figures = measure(QUICK if options.quick else Size(runs=options.runs), Path(directory))
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"runs in turn, of which the median counts: {figures['runs']}; {figures['samples_of_a_shard']} to a shard")
    for measured in figures["parts"]:
        title = f"{measured['part']}: {measured['samples']:,} samples, {measured['mb']:,.0f} MB"
        print(f"\n{title:<50} {'MB/s':>8} {'samples/s':>10} {'ratio':>6} {'a CPU s':>9} {'ratio':>6}")
        for row in measured["rows"]:
            rates = f"{row['mb_per_s']:>8,.1f} {row['samples_per_s']:>10,} {row['ratio']:>6.2f}"
            print(f"  {row['what']:<48} {rates} {row['samples_per_cpu_s']:>9,} {row['cpu_ratio']:>6.2f}")
    for name in figures["missing"]:
        print(f"\n{name} is not installed and was left out: the head of this script says how it is")
    print(f"\n{figures['cpu']}, {figures['directory']}, load {figures['load_average']}; {figures['versions']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
