"""How time and memory of `duologue mix` and `duologue tokenize` grow with the data, and with the workers.

    python benchmarks/growth.py --out growth                                    # both, some minutes
    python benchmarks/growth.py --out growth --part mix --hours 100 --workers 1  # up to 10,000 hours: 13 GB of disk
    python benchmarks/growth.py --out growth --quick                            # smaller, to see that it runs

Every command is a process of its own, looked at from outside (Linux only). Memory is what it and the workers it
starts have resident together, pages they share counted once. It has as many processors as workers: a worker of
tokenize decodes ahead in threads, which would take a second one. What is made in --out is deleted again.

- mix: unit sets of the true format, in calls of ten minutes whose turns follow each other every two and a half
  seconds, 16 to a shard. A call is one of eight, moved in time by chance.
- tokenize: the bundled call, over and over, as calls of one minute in mu-law SPHERE, with the embedded tokenizer and
  the audio checks. All are names of one file, which is in the page cache.
- start: the command once more, where everything is done: what it takes before and after the work.
- growth: slope of the logarithm of the time over that of the data, with the start and without it, and of the time of
  the processors, which others on the machine stretch less; 1 is linear.
- beam: the share of the run that Beam's pipelines took beside the functions they called (one worker).

The outputs of different numbers of workers are compared, and have to be the same.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fisher_tree import ROW_S, WORDS, write_call
from measuring import Ran, machine, parser_of, ran, where
from sync import RATE, dialogue

from duologue.formats.card import Card, read_card, write_card
from duologue.formats.npy import npy_bytes
from duologue.formats.shards import ShardWriter
from duologue.formats.units import Sentence, Turn, UnitSample
from duologue.tokenize.tokenizer import read_about

CALL_S = 600
CALLS_PER_SHARD = 16
MODELS = 8
MODEL_ID = "call-0000000"


@dataclass(frozen=True)
class Size:
    """How much is measured: the smallest amount of data of each part in hours, its multiples, workers, runs."""

    parts: tuple[str, ...] = ("mix", "tokenize")
    stage: int = 3
    hours: float | None = None
    times: tuple[int, ...] = (1, 10, 100)
    workers: tuple[int, ...] = (1, 2)
    runs: int = 1


HOURS = {"mix": 10.0, "tokenize": 0.05}
QUICK = Size(times=(1, 2), runs=1)
QUICK_HOURS = {"mix": 3.0, "tokenize": 1 / 60}


def call(draw: np.random.Generator) -> UnitSample:
    """Return a call of ten minutes with a transcript, the sides in turn and half a second overlapped."""
    turns, sentences = [], []
    for number, start in enumerate(np.arange(0, CALL_S - ROW_S, ROW_S - 0.5).tolist()):
        text = " ".join(draw.choice(WORDS, 8))
        turns.append(Turn(number % 2, start, start + ROW_S, text))
        sentences.append(Sentence(number % 2, text, int(start * RATE), int(ROW_S * RATE), number))
    return UnitSample(
        MODEL_ID,
        "calls",
        "train",
        "CC0-1.0",
        float(CALL_S),
        ("a", "b"),
        tuple(turns),
        tuple(sentences),
        dialogue(CALL_S * RATE, draw),
    )


def write_units(directory: Path, hours: float) -> Path:
    """Write a unit set of so many hours, as `duologue tokenize` would."""
    directory.mkdir(parents=True)
    draw = np.random.default_rng(0)
    models = [(each.units, each.members()["json"]) for each in (call(draw) for _ in range(MODELS))]
    count = round(hours * 3600 / CALL_S)
    shards = []
    for first in range(0, count, CALLS_PER_SHARD):
        numbers = range(first, min(first + CALLS_PER_SHARD, count))
        with ShardWriter(directory / f"units-{first // CALLS_PER_SHARD:05d}.tar") as writer:
            for number in numbers:
                key = f"call-{number:07d}"
                units, about = models[number % MODELS]
                moved = np.roll(units, int(draw.integers(units.shape[1])), axis=1)
                about = about.replace(MODEL_ID.encode(), key.encode())
                writer.add(key, {"units.npy": npy_bytes(moved), "json": about})
        assert writer.info is not None
        amounts = {"frames": len(numbers) * CALL_S * RATE, "seconds": float(len(numbers) * CALL_S)}
        shards.append({**asdict(writer.info), **amounts})
    totals = {"inputs": count, "samples": count, "rejects": 0, "seconds": float(count * CALL_S)}
    config = {"station": "tokenize", "rows_per_shard": CALLS_PER_SHARD, "keep_audio": False, "checks": None}
    identity = read_about("embedded")["identity"]
    write_card(directory, Card("units", config, (), identity, None, shards, totals, {}, ["CC0-1.0"]))
    return directory


def write_manifest(directory: Path, hours: float) -> Path:
    """Write a manifest of so many hours in calls of one minute."""
    corpus = directory / "corpus"
    corpus.mkdir(parents=True)
    audio = write_call(corpus / "call.sph", 60.0)
    for number in range(1, round(hours * 60)):
        os.link(audio, corpus / f"call-{number:07d}.sph")
    ran(duologue("manifest", "stereo", corpus, "--out", directory / "manifest"))
    return directory / "manifest"


def duologue(*words: object) -> list[str]:
    return [sys.executable, "-m", "duologue", *map(str, words)]


@dataclass(frozen=True)
class Part:
    """A command that is measured: what writes its input, its own words before the input and behind it."""

    write: Callable[[Path, float], Path]
    words: tuple[object, ...]
    options: tuple[object, ...] = ()

    def command(self, source: Path, out: Path, workers: int, metrics: Path) -> list[str]:
        """Return the words of its command line."""
        rest = ("--out", out, "--workers", workers, "--metrics", metrics)
        return duologue(*self.words, source, *self.options, *rest)


def part_of(name: str, stage: int) -> Part:
    if name == "mix":
        return Part(write_units, ("mix",), ("--stage", stage))
    return Part(write_manifest, ("tokenize",), ("--rows-per-shard", 1))


def once(part: Part, source: Path, place: Path, workers: int) -> tuple[Ran, list[dict[str, Any]], Card, Ran]:
    """Run a command on a source, then once more where all is done.

    Returns:
        What was measured on the first, Beam's metrics of it, the card it wrote, and what was measured on the second.
    """
    out, metrics = place / "out", place / "metrics.json"
    shutil.rmtree(out, ignore_errors=True)
    command = part.command(source, out, workers, metrics)
    first = ran(command, workers)
    pipelines = json.loads(metrics.read_bytes())["pipelines"]
    start = ran(command, workers)
    card = read_card(out)
    shutil.rmtree(out)
    return first, pipelines, card, start


def beside(pipelines: Sequence[dict[str, Any]]) -> float:
    """Return the seconds that Beam's pipelines took beside the functions they called, one after the other."""
    return sum(pipeline["wall_s"] - pipeline["seconds_per_partition"]["sum"] for pipeline in pipelines)


def rows_of(part: Part, hours: float, size: Size, place: Path) -> Iterator[dict[str, Any]]:
    """Yield what was measured on an amount of data, for each number of workers."""
    source = part.write(place / "source", hours)
    # What the system still writes back would be in the way of what is measured first.
    os.sync()
    made: list[dict[str, Any]] = []
    for workers in size.workers:
        runs = sorted((once(part, source, place, workers) for _ in range(size.runs)), key=lambda one: one[0].seconds)
        first, pipelines, card, start = runs[len(runs) // 2]
        made.append(asdict(card))
        if made[-1] != made[0]:
            raise AssertionError(f"{size.workers[0]} and {workers} workers made different sets")
        yield {
            "hours": hours,
            "workers": workers,
            "seconds": round(first.seconds, 2),
            "start_s": round(start.seconds, 2),
            "cpu_s": round(first.cpu_seconds, 2),
            "start_cpu_s": round(start.cpu_seconds, 2),
            "peak_mb": round(max(one[0].peak_bytes for one in runs) / 1e6),
            "times_real_time": round(3600 * hours / first.seconds),
            "beam_share": round(beside(pipelines) / first.seconds, 4) if workers == 1 else None,
            "pipelines": pipelines,
        }
    shutil.rmtree(place / "source")


def slope(rows: Sequence[dict[str, Any]], name: str, start: str | None = None) -> float | None:
    """Return the slope of log time over log data by least squares, or None of one amount of data.

    Args:
        rows: of one number of workers.
        name: of the time.
        start: of the time that is taken off it, if any.
    """
    if len(rows) < 2:
        return None
    seconds = [row[name] - (row[start] if start else 0) for row in rows]
    return round(float(np.polyfit(np.log([row["hours"] for row in rows]), np.log(seconds), 1)[0]), 3)


def summary(rows: Sequence[dict[str, Any]], workers: Sequence[int]) -> dict[str, Any]:
    """Return what the rows of a part say of growth."""
    by = {count: [row for row in rows if row["workers"] == count] for count in workers}
    first, last = by[workers[0]], by[workers[-1]]
    grown = {str(count): round(some[-1]["peak_mb"] / some[0]["peak_mb"], 3) for count, some in by.items()}
    return {
        "workers": workers[0],
        "slope": slope(first, "seconds"),
        "slope_without_start": slope(first, "seconds", "start_s"),
        "slope_cpu_without_start": slope(first, "cpu_s", "start_cpu_s"),
        "memory_ratio": grown,
        "speed_of_workers": round(first[-1]["seconds"] / last[-1]["seconds"], 2) if len(workers) > 1 else None,
        "beam_share": first[-1]["beam_share"],
    }


def measure(size: Size, smallest: dict[str, float], out: Path) -> dict[str, Any]:
    """Measure all parts, and return the figures."""
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in size.parts:
        part = part_of(name, size.stage)
        hours = smallest[name] if size.hours is None else size.hours
        rows = [row for times in size.times for row in rows_of(part, hours * times, size, out / name)]
        shutil.rmtree(out / name)
        title = f"mix, stage {size.stage}" if name == "mix" else name
        parts.append({"part": title, "rows": rows, **summary(rows, size.workers)})
    return {"parts": parts, "runs": size.runs, **machine("apache-beam", "pyarrow", "tokenizers")}


def table(part: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that show a part."""
    names = ("hours", "workers", "seconds", "start_s", "cpu_s", "x real time", "peak MB", "beam")
    yield f"{part['part']:<18}" + "".join(f"{name:>13}" for name in names)
    for row in part["rows"]:
        share = "" if row["beam_share"] is None else f"{row['beam_share']:.1%}"
        yield (
            f"{'':<18}{row['hours']:>13,.2f}{row['workers']:>13}{row['seconds']:>13,.1f}{row['start_s']:>13,.1f}"
            f"{row['cpu_s']:>13,.1f}{row['times_real_time']:>13,}{row['peak_mb']:>13,}{share:>13}"
        )
    ratios = ", ".join(f"{ratio:.2f} with {count}" for count, ratio in part["memory_ratio"].items())
    yield (
        f"  slope {part['slope']}, without the start {part['slope_without_start']}, "
        f"of the processors' time without it {part['slope_cpu_without_start']} (workers: {part['workers']})"
    )
    yield f"  memory, most data to least, by workers: {ratios}"
    if part["speed_of_workers"] is not None:
        yield f"  speed of {part['rows'][-1]['workers']} workers to {part['workers']}: {part['speed_of_workers']}"


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for what is made meanwhile")
    parser.add_argument("--part", nargs="+", choices=("mix", "tokenize"), default=["mix", "tokenize"])
    parser.add_argument("--stage", type=int, choices=(1, 2, 3), default=3, help="of the mix")
    parser.add_argument("--hours", type=float, help="the smallest amount of data; 10 for mix, 0.05 for tokenize")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100], help="multiples of it, rising")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runs", type=int, default=1, help="runs of each, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="smaller in everything, to see that it runs")
    options = parser.parse_args()
    size = Size(
        tuple(options.part),
        options.stage,
        options.hours,
        tuple(options.times),
        tuple(options.workers),
        options.runs,
    )
    if options.quick:
        size = replace(QUICK, parts=size.parts, stage=size.stage, workers=size.workers)
    figures = measure(size, QUICK_HOURS if options.quick else HOURS, options.out)
    if options.json:
        print(json.dumps(figures))
        return 0
    for part in figures["parts"]:
        print("\n".join(table(part)))
    print(where(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
