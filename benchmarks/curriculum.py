"""Stage 1 with the paper's rising share of speech against speech alone, on the same dialogues in one run.

    python benchmarks/curriculum.py --out curriculum
    python benchmarks/curriculum.py --out longer --epochs 24 --seeds 0 1 2 --json MORE_DIALOGUES.json

Both runs have the same model (the recipe demo-stage1), the same dialogues and as many steps; only the share of speech
in their data differs. They are judged on dialogues that neither was trained on: the loss on units where half of the
dialogue's sentences are text ("given text"), and where all are speech. What is made stays in --out, and a run that
was interrupted goes on.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import torch
from measuring import machine, parser_of

from duologue import bundled
from duologue.formats.metrics import VALID, read_lines
from duologue.formats.sequences import SequenceSet
from duologue.manifests.dialogues import write_dialogues
from duologue.manifests.splits import Splits
from duologue.pipelines.mix import mix
from duologue.pipelines.mix_settings import MixSettings, UnitSource
from duologue.pipelines.synthesize import Settings, synthesize
from duologue.train.loop import train
from duologue.train.recipe import load_recipe

LENGTH = 1024
RUNS = {"paper": "paper", "speech alone": "speech"}
JUDGED = {"given text": "constant:0.5", "all speech": "speech"}


def unit_sets(out: Path, more: list[str]) -> tuple[UnitSource, ...]:
    """Speak the dialogues, a tenth of them for validation."""
    named = {part.name: [str(bundled.directory() / "dialogues" / part.name)] for part in bundled.DIALOGUES}
    shapes = {part.name: part.shape for part in bundled.DIALOGUES}
    sources = []
    for name, where in {**named, **({"more": more} if more else {})}.items():
        manifest = out / "manifests" / name
        write_dialogues(where, manifest, shape=shapes.get(name), source=name, splits=Splits((90, 10, 0)))
        synthesize(manifest, out / "units" / name, Settings(), rows_per_shard=16)
        sources.append(UnitSource(out / "units" / name, 1.0))
    return tuple(sources)


def sequences(out: Path, name: str, sources: tuple[UnitSource, ...], **settings: Any) -> Path:
    """Mix stage-1 sequences of the sources."""
    directory = out / "sequences" / name.replace(" ", "-")
    mix(MixSettings(stage=1, sources=sources, sequence_length=LENGTH, **settings), directory)
    return directory


def judge(run: Path) -> dict[str, float]:
    """Return the loss on units of each valid set after the last step, in nats."""
    last = read_lines(run, VALID)[-1]
    return {name: last["sets"][f"valid-{name.replace(' ', '-')}"]["loss_units"] for name in JUDGED}


def compare(out: Path, more: list[str], epochs: int, steps: int, seeds: list[int]) -> dict[str, Any]:
    """Train both ways with each seed and return what came of them."""
    sources = unit_sets(out, more)
    data = {
        name: sequences(out, name, sources, curriculum=curriculum, epochs=epochs) for name, curriculum in RUNS.items()
    }
    valid = [
        sequences(out, f"valid-{name}", sources, curriculum=curriculum, split="valid", epochs=4)
        for name, curriculum in JUDGED.items()
    ]
    most = min(len(SequenceSet(directory)) for directory in data.values()) // 2
    steps = min(steps, most) if steps else most
    losses: dict[str, dict[str, list[float]]] = {name: {judged: [] for judged in JUDGED} for name in RUNS}
    for seed in seeds:
        for name, directory in data.items():
            settings = {"name": f"{name}, seed {seed}", "seed": seed, "steps": steps, "valid_every": steps // 8 or 1}
            run = out / "runs" / f"{name.replace(' ', '-')}-{seed}"
            train(load_recipe("demo-stage1", settings), directory, run, valid=valid)
            for judged, loss in judge(run).items():
                losses[name][judged].append(loss)
    return {
        **machine(),
        "threads": torch.get_num_threads(),
        "steps": steps,
        "seeds": seeds,
        "sequences": {name: len(SequenceSet(directory)) for name, directory in data.items()},
        "loss_units": losses,
        "difference": {
            judged: statistics.mean(losses["paper"][judged]) - statistics.mean(losses["speech alone"][judged])
            for judged in JUDGED
        },
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("more", nargs="*", help="text dialogues beside the bundled ones")
    parser.add_argument("--out", type=Path, required=True, help="directory for all that is made")
    parser.add_argument("--epochs", type=int, default=6, help="how often both go through the dialogues")
    parser.add_argument("--steps", type=int, default=0, help="steps of both; 0 for as many as both have data for")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    result = compare(arguments.out, arguments.more, arguments.epochs, arguments.steps, arguments.seeds)
    if arguments.json:
        print(json.dumps(result))
        return
    print(f"{result['cpu']}, {result['threads']} threads, load {result['load_average']}; {result['versions']}")
    print(f"{result['steps']} steps of 2 x {LENGTH} tokens, seeds {', '.join(map(str, result['seeds']))}")
    print("loss on units of held-out dialogues, nats:")
    for judged, difference in result["difference"].items():
        for name in RUNS:
            losses = result["loss_units"][name][judged]
            each = ", ".join(f"{loss:.3f}" for loss in losses)
            print(f"  {judged:>10}  {name:>12}  {statistics.mean(losses):.3f}  ({each})")
        print(f"  {judged:>10}  {'difference':>12}  {difference:+.3f}")


if __name__ == "__main__":
    main()
