"""What a run will be, before it: counted in the manifest and reckoned with stated constants. Nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError
from duologue.manifests.splits import NAMES
from duologue.pipelines.census import Census, Part, take_census
from duologue.pipelines.reckoning import (
    ASSUMED,
    FEW,
    SHARD_END,
    assumed,
    counted,
    crash_warnings,
    machine_warnings,
    shard_warnings,
    tokens_per_s,
)
from duologue.tokenize.tokenizer import read_about

# Engines that say when each word is said (of coqui's models, VITS).
_TIMES_WORDS = ("espeak", "coqui")


@dataclass(frozen=True)
class UnitsPlan:
    """A run of `synthesize` or `tokenize`.

    Attributes:
        command: which of both.
        manifest: its input.
        out: where the unit set will be.
        tokenizer: a tokenizer's directory, or "embedded".
        rows_per_shard: rows of the manifest in a shard.
        workers: processes.
        keep_audio: whether the audio is written too.
        gpus: of this machine.
        engine: of `synthesize`, its name.
        voices: of `synthesize`, the voices that may speak; empty if they are not known.
        seed: of `synthesize`.
        checks: of `tokenize`, whether the audio is checked.
    """

    command: str
    manifest: Path
    out: Path | None
    tokenizer: str
    rows_per_shard: int
    workers: int
    keep_audio: bool
    gpus: int = 0
    engine: str | None = None
    voices: Sequence[str] = ()
    seed: int = 0
    checks: bool = False


def before_units(plan: UnitsPlan, readers: int) -> dict[str, Any]:
    """Say what a run of `synthesize` or `tokenize` will be.

    Args:
        plan: of the run.
        readers: processes that will read its shards at once.

    Returns:
        `inputs`, `partitions`, `shards`, `hours` of speech, `splits` and `voices` of them, `tokens` of stage 2's
        stream at 160 ms, `work_hours` of a worker by station (None: not known), `gpu_hours`, `wall_hours` on
        `workers`, `disk_bytes`, `memory_bytes`, `warnings`, and the constants that were `assumed`.

    Raises:
        UserError: the manifest or the tokenizer is missing or damaged, it is the other kind of manifest, or an option
            is out of range.
    """
    if plan.rows_per_shard < 1 or plan.workers < 1:
        raise UserError("--rows-per-shard and --workers are 1 or more", hint="Correct the option")
    census = take_census(plan.manifest, plan.voices, plan.seed)
    wanted = "dialogues" if plan.command == "synthesize" else "recordings"
    if census.kind != wanted:
        raise UserError(
            f"this is a set of {census.kind}; `duologue {plan.command}` takes a manifest of {wanted}",
            where=plan.manifest,
            hint="Use the other of `synthesize` and `tokenize`",
        )
    whole = census.whole
    hours = whole.seconds / 3600
    parts = -(-whole.dialogues // plan.rows_per_shard)
    used = {"units_bytes_per_hour", "units_bytes_per_dialogue", "units_per_s", "tags_per_chunk"}
    if census.kind == "dialogues":
        used.add("characters_per_s")
    size_per_hour = ASSUMED["units_bytes_per_hour"]
    if plan.engine in _TIMES_WORDS:
        used.add("words_bytes_per_hour")
        size_per_hour += ASSUMED["words_bytes_per_hour"]
    disk = {
        "units": hours * size_per_hour + whole.dialogues * ASSUMED["units_bytes_per_dialogue"] + parts * SHARD_END
    }
    if plan.keep_audio:
        used.add("flac_bytes_per_hour")
        disk["audio"] = hours * ASSUMED["flac_bytes_per_hour"] + parts * SHARD_END
    hubert = read_about(plan.tokenizer)["kind"] != "mfcc-kmeans"
    process = "hubert_process_bytes" if hubert else "process_bytes"
    used.add(process)
    work, on_gpus = _work(plan, hours, hubert, used)
    known = [spent for spent in work.values() if spent is not None]
    about: dict[str, Any] = {
        "command": plan.command,
        "inputs": whole.dialogues,
        "partitions": parts,
        "shards": parts * len(disk),
        "hours": round(hours, 3),
        "splits": {split: _told(part) for split, part in census.splits.items()},
        "voices": census.voices,
        "tokens": round(whole.seconds * tokens_per_s(160)),
        "work_hours": {station: spent and round(spent, 4) for station, spent in work.items()},
        "gpu_hours": round(sum(work[station] or 0.0 for station in on_gpus), 4) if plan.gpus else 0.0,
        "wall_hours": round(sum(known) / min(plan.workers, max(parts, 1)), 4) if len(known) == len(work) else None,
        "disk_bytes": {kind: round(size) for kind, size in disk.items()},
        "memory_bytes": round(plan.workers * ASSUMED[process]),
    }
    about["warnings"] = [
        *_split_warnings(census),
        *_voice_warnings(census.voices, whole.dialogues),
        *shard_warnings(parts, readers, plan.workers, "--rows-per-shard", whole.dialogues),
        *crash_warnings(sum(known) / max(parts, 1), min(plan.rows_per_shard, whole.dialogues)),
        *machine_warnings(about, plan.out),
    ]
    about["assumed"] = assumed(used)
    return about


def _work(plan: UnitsPlan, hours: float, hubert: bool, used: set[str]) -> tuple[dict[str, float | None], list[str]]:
    """Return hours of a worker by station, None where no constant is known, and the stations that take a GPU."""
    work: dict[str, float | None] = {}
    on_gpus = []
    if plan.engine is not None:
        work["speech"] = None
        if plan.engine == "espeak":
            used.add("espeak_times_real_time")
            work["speech"] = hours / ASSUMED["espeak_times_real_time"]
        else:
            on_gpus.append("speech")
    if plan.checks:
        used.add("checks_times_real_time")
        work["checks"] = hours / ASSUMED["checks_times_real_time"]
    name = "mfcc_times_real_time"
    if hubert:
        on_gpus.append("units")
        name = f"hubert_times_real_time_on_a_{'gpu' if plan.gpus else 'cpu'}"
    used.add(name)
    work["units"] = hours / ASSUMED[name]
    return work, on_gpus


def _told(part: Part) -> dict[str, float]:
    return {"dialogues": part.dialogues, "hours": round(part.seconds / 3600, 3)}


def _split_warnings(census: Census) -> Iterator[str]:
    for split in NAMES:
        count = census.of(split).dialogues
        if count == 0:
            yield f"the split {split} is empty: `duologue mix --split {split}` will find nothing"
        elif count < FEW:
            yield f"the split {split} is nearly empty: {counted(count, census.kind[:-1])}"


def _voice_warnings(voices: Mapping[str, int], dialogues: int) -> Iterator[str]:
    for voice, count in voices.items():
        # Every dialogue has two voices.
        if count < max(2 * dialogues / len(voices) / 4, 1):
            yield f"the voice {voice} is nearly unheard: it speaks in {count} of {dialogues:,} dialogues"
