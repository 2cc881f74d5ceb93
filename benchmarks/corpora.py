"""Speed and memory from a corpus of calls to units, beside what others have for it, on the same files in one run.

    python benchmarks/corpora.py            # needs the extra `dev`: lhotse is in it
    python benchmarks/corpora.py --quick    # smaller in everything, to see that it runs
    python benchmarks/corpora.py --json

The corpus is made: two-channel calls in mu-law SPHERE, 10 minutes each, with transcripts and tables in Fisher's tree.
The ways of each part take turns, and the median of several runs counts; ratios are to the first of them. Their
results are compared, and have to agree. One thread each, but for lhotse, which has a process and threads of its own.
Real time is the length of the calls, both channels together. All files are in the page cache by the time they are
read: the disk is not measured.

- manifest: `duologue manifest fisher` beside lhotse's recipe for Fisher. By itself the recipe has every `.sph` file
  decoded whole by sph2pipe, to learn its length, and without that program it fails. Here lhotse is told to ask
  libsndfile for it, which reads headers alone: its fastest way, open for uncompressed copies only.
- decode: the channels as the tokenizer gets them, at the rate of the telephone and at its own, beside reading the
  whole file with soundfile and resampling it whole with soxr.
- shorten: LDC's own coding, the one file of 30 s that the tests have.
- activity: voice activity and all audio checks beside Silero's network as its package runs it, one frame after the
  other (both channels at once), and its function for whole recordings (one channel after the other).
- memory: the highest resident memory of a process that tokenizes with the embedded tokenizer, by number and by
  length of the calls (Linux only). Of a call of one second it is what the program itself takes.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from fisher_tree import RATE, write_call, write_tree
from measuring import agree, interleaved, machine, parser_of, where

from duologue.formats.audio import channel_blocks
from duologue.manifests.fisher import write_fisher
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Recording
from duologue.tokenize.activity import FRAME, SAMPLE_RATE, VoiceActivity
from duologue.tokenize.checks import AudioChecks

SHORTEN = Path(__file__).parent.parent / "tests/data/sphere/fisher_coding/call30s_2ch_ulaw_shorten.sph"
# A process of its own: the system counts the highest memory from a process's start.
TOKENIZE = """
import re, sys
from pathlib import Path
from duologue.pipelines.tokenize import tokenize
tokenize(Path(sys.argv[1]), Path(sys.argv[2]))
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    calls: int = 500
    seconds: float = 600.0
    activity_seconds: float = 59.0
    runs: int = 3
    counts: tuple[int, ...] = (1, 10, 100)
    count_seconds: float = 60.0
    lengths: tuple[float, ...] = (1.0, 60.0, 600.0, 3600.0)


QUICK = Size(20, 20.0, 5.0, 1, (3,), 2.0, (60.0,))


def part(
    title: str, unit: str, amount: float, ways: Mapping[str, Callable[[], Any]], beside: str, runs: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time ways of doing the same.

    Returns:
        The figures, with amounts a second in `unit` and how many times that of the way called `beside`; and what each
        way returned.
    """
    seconds, results = interleaved(ways, runs)
    rows = [
        {"what": name, "rate": round(amount / median, 1), "ratio": round(seconds[beside] / median, 2)}
        for name, median in seconds.items()
    ]
    return {"part": title, "unit": unit, "beside": beside, "rows": rows}, results


def manifest(size: Size, directory: Path) -> dict[str, Any]:
    """Time a manifest of a whole tree."""
    from lhotse.audio.backend import audio_backend
    from lhotse.recipes.fisher_english import prepare_fisher_english

    corpus = write_tree(directory / "corpus", size.calls, size.seconds)

    def duologue() -> None:
        shutil.rmtree(directory / "manifest", ignore_errors=True)
        write_fisher([str(corpus)], directory / "manifest")

    def lhotse() -> dict[str, Any]:
        shutil.rmtree(directory / "lhotse", ignore_errors=True)
        with audio_backend("LibsndfileBackend"):
            return prepare_fisher_english(corpus, directory / "lhotse")

    with contextlib.redirect_stderr(io.StringIO()):  # both show their progress there
        figures, results = part(
            f"manifest of {size.calls:,} calls and their transcripts",
            "files/s",
            2 * size.calls,
            {"lhotse, by headers": lhotse, "duologue": duologue},
            "lhotse, by headers",
            size.runs,
        )
    theirs = {name: sum(1 for _ in made) for name, made in results["lhotse, by headers"].items()}
    rows = [row for row in Manifest(directory / "manifest").rows() if isinstance(row, Recording)]
    turns = sum(len(row.turns) for row in rows)
    agree("manifest", theirs == {"recordings": len(rows), "supervisions": turns})
    return figures


def decode(size: Size, directory: Path) -> dict[str, Any]:
    """Time reading a call."""
    path = write_call(directory / "call.sph", size.seconds)

    def whole() -> np.ndarray:
        return soundfile.read(path, dtype="float32", always_2d=True)[0]

    def blocks(rate: int) -> list[np.ndarray]:
        return list(channel_blocks([(path, 0), (path, 1)], rate))

    figures, results = part(
        f"decode {size.seconds:,.0f} s of mu-law SPHERE",
        "x real time",
        size.seconds,
        {
            "soundfile, 8 kHz": whole,
            "duologue, 8 kHz": lambda: blocks(RATE),
            "soundfile and soxr, 16 kHz": lambda: soxr.resample(whole(), RATE, SAMPLE_RATE, "HQ"),
            "duologue, 16 kHz": lambda: blocks(SAMPLE_RATE),
        },
        "soundfile, 8 kHz",
        size.runs,
    )
    arrays = {name: np.concatenate(made, 1).T if isinstance(made, list) else made for name, made in results.items()}
    agree("decode", np.array_equal(arrays["soundfile, 8 kHz"], arrays["duologue, 8 kHz"]))
    resampled = arrays["soundfile and soxr, 16 kHz"], arrays["duologue, 16 kHz"]
    agree("resample", np.allclose(*resampled, atol=1e-5))
    return figures


@contextlib.contextmanager
def pure_desphere() -> Iterator[Any]:
    """Import desphere as it is without its compiled part, beside the one that is in use."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0].startswith("desphere")}
    for name in kept:
        del sys.modules[name]
    sys.modules["desphere_native"] = None  # type: ignore[assignment]
    try:
        yield importlib.import_module("desphere")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0].startswith("desphere")]:
            del sys.modules[name]
        sys.modules.update(kept)


def shorten(size: Size) -> dict[str, Any]:
    """Time decoding LDC's own coding."""
    import desphere

    data = SHORTEN.read_bytes()
    with pure_desphere() as pure:
        slow = pure.transcode_bytes
        agree("desphere without its compiled part", not pure.native_available())
    figures, results = part(
        "decode 30 s of shorten-compressed mu-law SPHERE",
        "x real time",
        30.0,
        {
            "desphere, pure Python": lambda: slow(data),
            "desphere, compiled": lambda: desphere.transcode_bytes(data),
            "duologue, 8 kHz": lambda: list(channel_blocks([(SHORTEN, 0), (SHORTEN, 1)], RATE)),
        },
        "desphere, pure Python",
        size.runs,
    )
    agree("shorten", results["desphere, pure Python"] == results["desphere, compiled"])
    return figures


def activity(size: Size, directory: Path) -> dict[str, Any]:
    """Time voice activity and all checks."""
    from silero_vad import get_speech_timestamps, load_silero_vad

    path = write_call(directory / "heard.sph", size.activity_seconds)
    pieces = list(channel_blocks([(path, 0), (path, 1)], SAMPLE_RATE))
    audio = np.concatenate(pieces, axis=1)
    audio = audio[:, : audio.shape[1] // FRAME * FRAME]
    model = load_silero_vad()

    def frames() -> np.ndarray:
        model.reset_states()
        with torch.inference_mode():
            return torch.cat(
                [model(frame, SAMPLE_RATE) for frame in torch.from_numpy(audio).split(FRAME, 1)], 1
            ).numpy()

    def timestamps() -> list[list[list[int]]]:
        found = [get_speech_timestamps(torch.from_numpy(channel), model, speech_pad_ms=0) for channel in audio]
        return [[[stretch["start"], stretch["end"]] for stretch in channel] for channel in found]

    def voice() -> VoiceActivity:
        made = VoiceActivity()
        made.add(audio)
        made.result()
        return made

    def checks() -> Any:
        made = AudioChecks()
        made.add(audio)
        return made.result()

    figures, results = part(
        f"activity in {size.activity_seconds:,.0f} s",
        "x real time",
        size.activity_seconds,
        {
            "silero, frame by frame": frames,
            "silero, get_speech_timestamps": timestamps,
            "duologue, voice activity": voice,
            "duologue, all checks": checks,
        },
        "silero, frame by frame",
        size.runs,
    )
    heard = results["duologue, voice activity"]
    agree("probabilities", np.allclose(heard.probabilities(), results["silero, frame by frame"], atol=1e-3))
    ours = [np.round(channel * SAMPLE_RATE).astype(int).tolist() for channel in heard.result()]
    agree("voice activity", ours == results["silero, get_speech_timestamps"])
    return figures


def peak_megabytes(directory: Path, calls: int, seconds: float) -> float:
    """Return the highest resident memory of a process that tokenizes so many calls of so many seconds, in MB."""
    with tempfile.TemporaryDirectory(dir=directory) as name:
        place = Path(name)
        with contextlib.redirect_stderr(io.StringIO()):
            write_fisher([str(write_tree(place / "corpus", calls, seconds))], place / "manifest")
        command = [sys.executable, "-c", TOKENIZE, str(place / "manifest"), str(place / "units")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"tokenize failed:\n{done.stderr}")
        return int(done.stdout.split()[-1]) / 1000


def memory(size: Size, directory: Path) -> list[dict[str, Any]]:
    """Measure memory by the number of calls and by their length."""
    sizes = [(count, size.count_seconds) for count in size.counts] + [(1, length) for length in size.lengths]
    return [
        {"calls": calls, "seconds": seconds, "peak_mb": round(peak_megabytes(directory, calls, seconds))}
        for calls, seconds in sizes
    ]


def measure(size: Size, directory: Path) -> dict[str, Any]:
    """Measure everything, and return the figures."""
    torch.set_num_threads(1)
    return {
        "parts": [manifest(size, directory), decode(size, directory), shorten(size), activity(size, directory)],
        "memory": memory(size, directory) if sys.platform == "linux" else [],
        "runs": size.runs,
        **machine("soundfile", "soxr", "desphere", "silero-vad", "lhotse"),
    }


def main() -> int:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller in everything, to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(QUICK if options.quick else Size(), Path(directory))
    if options.json:
        print(json.dumps(figures))
        return 0
    print(f"runs in turn, of which the median counts: {figures['runs']}")
    for measured in figures["parts"]:
        print(f"\n{measured['part'] + ', ' + measured['unit']:<60} {'':>12} {'ratio':>8}")
        for row in measured["rows"]:
            print(f"  {row['what']:<58} {row['rate']:>12,.1f} {row['ratio']:>8.2f}")
    if figures["memory"]:
        print(f"\n{'tokenize, highest resident memory, MB':<60}")
    for row in figures["memory"]:
        what = f"number of calls: {row['calls']}, seconds of each: {row['seconds']:,.0f}"
        print(f"  {what:<58} {row['peak_mb']:>12,}")
    print(f"\n{where(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
