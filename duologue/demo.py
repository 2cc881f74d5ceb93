"""The whole road on bundled data: manifests, speech, units, sequences, three stages of training, sound, a report."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from duologue import bundled
from duologue.progress import say

CHUNK_MS = 160
_SEQUENCE_LENGTH = 1024
_DIALOGUES_PER_SHARD = 8
_HEARD_SECONDS = 20
_STREAM = "speech/stage3-stream.flac"
# How often a stage goes through its unit sets; the demo's recipes then take all the data once.
_EPOCHS = {1: 2, 2: 1, 3: 24}


def _manifests(out: Path) -> None:
    from duologue.manifests.dialogues import write_dialogues
    from duologue.manifests.stereo import write_recordings

    for name, shape, licence in bundled.DIALOGUES:
        source = bundled.directory() / "dialogues" / name
        write_dialogues([str(source)], out / "manifests" / name, shape=shape, licence=licence, source=name)
    call = bundled.directory() / "call"
    write_recordings([str(call)], out / "manifests" / "call", licence=bundled.CALL_LICENCE, source="call")


def _units(out: Path, workers: int) -> None:
    from duologue.pipelines.partitions import RunOptions
    from duologue.pipelines.synthesize import Settings, synthesize
    from duologue.pipelines.tokenize import tokenize

    for part in bundled.DIALOGUES:
        synthesize(
            out / "manifests" / part.name,
            out / "units" / part.name,
            Settings(keep_audio=True),
            rows_per_shard=_DIALOGUES_PER_SHARD,
            options=RunOptions(workers),
        )
    tokenize(out / "manifests" / "call", out / "units" / "call", keep_audio=True)


def _sequences(out: Path) -> None:
    from duologue.pipelines.mix import mix
    from duologue.pipelines.mix_settings import MixSettings, UnitSource

    spoken = [part.name for part in bundled.DIALOGUES]
    for stage, names in ((1, spoken), (2, spoken), (3, ["call"])):
        settings = MixSettings(
            stage=stage,
            sources=tuple(UnitSource(out / "units" / name, 1.0) for name in names),
            chunk_ms=CHUNK_MS,
            sequence_length=_SEQUENCE_LENGTH,
            epochs=_EPOCHS[stage],
        )
        mix(settings, out / "sequences" / f"stage{stage}")


def _training(out: Path) -> None:
    from duologue.train.loop import train
    from duologue.train.recipe import load_recipe

    before = None
    for stage in (1, 2, 3):
        run = out / "runs" / f"stage{stage}"
        train(load_recipe(f"demo-stage{stage}"), out / "sequences" / f"stage{stage}", run, init_from=before)
        before = run
    # Stage 3 from nothing, a few steps of it, for the report to hold against stage 3 from stage 2.
    few = load_recipe("demo-stage3", {"name": "demo-stage3-from-nothing", "steps": 10})
    train(few, out / "sequences" / "stage3", out / "runs" / "stage3-from-nothing")


def _sound(out: Path) -> None:
    from duologue.formats.audio import flac_bytes
    from duologue.formats.publish import write_bytes
    from duologue.formats.sequences import SequenceSet
    from duologue.generate.decode import units_of
    from duologue.generate.vocoder import load_vocoder, resynthesize_dialogue
    from duologue.tokenize.tokenizer import EMBEDDED, directory_of

    path = out / _STREAM
    sequences = SequenceSet(out / "sequences" / "stage3")
    first = sequences[0]
    document = first.documents[0]
    tokens = first.tokens[document.offset : document.offset + document.length]
    vocoder = load_vocoder(directory_of(EMBEDDED))
    units = units_of(tokens, sequences.vocabulary, sequences.card.config["frames_per_chunk"])
    audio = resynthesize_dialogue(units[:, : _HEARD_SECONDS * vocoder.rate], vocoder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, flac_bytes(audio, vocoder.sample_rate))


def _report(out: Path) -> None:
    from duologue.evaluate.report import write_report
    from duologue.tokenize.tokenizer import EMBEDDED, directory_of

    directories = [path for room in ("units", "sequences", "runs") for path in sorted((out / room).iterdir())]
    write_report(directories, out / "report.html", directory_of(EMBEDDED))


def _is_done(out: Path) -> bool:
    """Say, without loading anything heavy, whether an earlier run came to its end and nothing was deleted since."""
    corpora = [*(part.name for part in bundled.DIALOGUES), "call"]
    artefacts = [Path(room, name) for room in ("manifests", "units") for name in corpora]
    artefacts += [Path("sequences", f"stage{stage}") for stage in _EPOCHS]
    ends = [artefact / "dataset.json" for artefact in artefacts]
    ends += [Path("runs", f"stage{stage}", "run.json") for stage in _EPOCHS]
    return all((out / end).exists() for end in [*ends, Path(_STREAM), Path("report.html")])


def run_demo(out: Path, workers: int) -> None:
    """Walk the whole road below a directory. What an earlier run finished is not done again.

    Args:
        out: gets `manifests/`, `units/`, `sequences/`, `runs/`, `speech/` and `report.html`.
        workers: processes that synthesize.

    Raises:
        UserError: the directory cannot be written, or holds something else under these names.
    """
    began = time.monotonic()
    steps: list[tuple[str, Callable[[], None]]] = [
        ("manifests of three sets of dialogues and a call", lambda: _manifests(out)),
        ("speech and units", lambda: _units(out, workers)),
        ("sequence sets of the three stages", lambda: _sequences(out)),
        ("a small Llama through the three stages", lambda: _training(out)),
        ("a stream decoded back to speech", lambda: _sound(out)),
        ("the report", lambda: _report(out)),
    ]
    if _is_done(out):
        say("everything was made before; delete the directory to see it made again")
        steps = []
    for number, (what, step) in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {what}")
        step()
    say(f"done in {time.monotonic() - began:.0f} s")
    # Named as it was started: in the environment that make builds it is not on the PATH.
    command = sys.argv[0] if Path(sys.argv[0]).name == "duologue" and not shutil.which("duologue") else "duologue"
    print(
        f"""Made in {out}:
  manifests/   the dialogues and the call, listed
  units/       their speech as units, and as FLAC in audio-*.tar
  sequences/   what a trainer reads, for the three stages
  runs/        a small model after each stage
  speech/      a stream of stage 3, decoded back to sound
  report.html  all of it to look at and to listen to

Open {out / "report.html"} in a browser. Then look into a sequence:
  {command} inspect {out / "sequences" / "stage3"} --sample 0
and list dialogues of your own:
  {command} manifest dialogues YOUR_FILE.jsonl --out manifests/mine"""
    )
