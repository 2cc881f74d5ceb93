"""The constants that a run is reckoned with before it, and what the reckoning warns of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from duologue.formats.places import is_remote

ASSUMED: dict[str, float] = {
    # Of text, for a second of two-channel speech: espeak's ten voices with natural gaps, on three English corpora
    # (14.7, 15.2 and 15.4).
    "characters_per_s": 15.2,
    # The embedded engine and tokenizer, seconds of two-channel speech that a worker makes in a second; measured.
    "espeak_times_real_time": 111,
    "mfcc_times_real_time": 113,
    # The audio checks of recordings; measured.
    "checks_times_real_time": 234,
    # HuBERT base at 50 Hz: measured on one core of an AMD EPYC in float32; on a GPU reckoned from 32 GFLOP for a
    # second of two channels, at 50 TFLOPS.
    "hubert_times_real_time_on_a_cpu": 1.2,
    "hubert_times_real_time_on_a_gpu": 1500,
    # In a unit set: units, turns and checks of a dialogue, and its headers; and what the times of the words take more
    # than the checks, which synthetic speech lacks: measured on the three corpora with espeak.
    "units_bytes_per_hour": 800_000,
    "units_bytes_per_dialogue": 3_000,
    "words_bytes_per_hour": 400_000,
    # Two channels at 16 kHz; espeak gave 67 MB, a call 79 MB.
    "flac_bytes_per_hour": 75e6,
    # In the synchronous stream, units of both channels after deduplication, and tags of a chunk: at 160 ms 28 tokens
    # a second, where the paper counts 25 to 30 on Fisher.
    "units_per_s": 19.6,
    "tags_per_chunk": 1.35,
    # In stage 1, tokens of a character of text: of a byte vocabulary 1, of a large one less.
    "tokens_per_character": 0.25,
    # Padding of the sequences, at most; of each process, its libraries and models (the embedded ones; HuBERT base in
    # float32 on a CPU; a mix has none); on top, in the mix's launcher, for each visit of a dialogue and each piece of
    # one in a sequence. Measured.
    "padding_share": 0.02,
    "process_bytes": 900e6,
    "hubert_process_bytes": 1500e6,
    "mix_process_bytes": 300e6,
    "mix_bytes_per_visit": 280,
    "mix_bytes_per_piece": 120,
}
"""The constants of the reckoning; those that a run was reckoned with are in what is returned."""

FEW = 20
"""Dialogues of a split, or of a source, that are too few to be meant."""

LONG_H, GOOD_H = 0.5, 1 / 6
"""Hours of a worker that are too long for a shard, and those that are good for one."""

SHARD_END = 10_240
"""Bytes at the end of a shard that hold nothing, at most."""


def assumed(names: Iterable[str]) -> dict[str, float]:
    """Return the constants of these names, in their order here."""
    return {name: value for name, value in ASSUMED.items() if name in set(names)}


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, which takes an "s" in the plural."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def tokens_per_s(chunk_ms: int) -> float:
    """Return tokens of the synchronous stream for a second of two-channel speech."""
    return ASSUMED["units_per_s"] + ASSUMED["tags_per_chunk"] * 1000 / chunk_ms


def shard_warnings(shards: int, readers: int, workers: int, option: str, inputs: int) -> Iterator[str]:
    """Yield a warning where there are fewer shards than processes to read or to write them.

    Args:
        shards: of the run, which are its partitions.
        readers: processes that will read them at once.
        workers: processes that make them.
        option: that says how many inputs a shard has.
        inputs: of the run.
    """
    for count, who in ((readers, "readers"), (workers, "workers")):
        if shards < count:
            fit = inputs // count
            mend = f"{option} {fit} gives each one" if fit else f"there are only {inputs:,} inputs"
            yield f"{counted(shards, 'shard')} for {count:,} {who}: some will have nothing to do; {mend}"


def crash_warnings(hours: float, rows: int) -> Iterator[str]:
    """Yield a warning where a crash costs more than it need.

    Args:
        hours: that a worker takes for a shard.
        rows: of the manifest in it.
    """
    if hours > LONG_H and rows > 1:
        fit = max(int(rows * GOOD_H / hours), 1)
        yield (
            f"a shard takes a worker about {hours:.1f} hours, which a crash costs: --rows-per-shard {fit} takes "
            f"{60 * hours * fit / rows:.0f} minutes"
        )


def machine_warnings(about: Mapping[str, Any], out: Path | None) -> Iterator[str]:
    """Yield a warning where the memory of this machine, or the disk of `out`, is too small for `about`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if about["memory_bytes"] > memory:
        yield (
            f"the run takes about {about['memory_bytes'] / 1e9:,.1f} GB of memory, this machine has "
            f"{memory / 1e9:,.1f} GB: take fewer --workers"
        )
    if out is None or is_remote(out):
        return
    place = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(place).free, sum(about["disk_bytes"].values())
    if needed > free:
        yield f"{out} takes about {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free there"
