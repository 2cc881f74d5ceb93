"""The command line: parse, call one function, print. Rooms are imported inside the commands that need them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from duologue import (
    __version__,
    cli_export,
    cli_look,
    cli_manifest,
    cli_preflight,
    cli_run,
    cli_synth,
    cli_tokenizer,
    cli_train,
)
from duologue.cli_options import (
    Artefact,
    AsJson,
    KeepAudio,
    MaxRejects,
    MetricsFile,
    Out,
    Place,
    Recordings,
    Seed,
    TokenizerName,
    Workers,
    first_of,
    here,
    place,
    print_card,
)
from duologue.errors import UserError

app = typer.Typer(
    name="duologue",
    help="Build training data for full-duplex spoken dialogue models, and train them.",
    epilog="Start with `duologue demo`. Flags for Beam go behind `--`, at the end of a command.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_manifest.app, name="manifest")
app.add_typer(cli_tokenizer.app, name="tokenizer")
app.add_typer(cli_export.app, name="export")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"duologue {__version__}")
        raise typer.Exit


@app.callback()
def _duologue(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", parser=here, metavar="DIR", help="Directory for everything the demo makes.")
    ] = Path("duologue-demo"),
    workers: Workers = 2,
) -> None:
    """Walk the whole road on bundled real dialogues and a real call: some minutes on two cores.

    Example: duologue demo --out duologue-demo
    """
    from duologue.demo import run_demo

    run_demo(out, workers)


app.command()(cli_synth.synthesize)
app.command()(cli_synth.voices)


@app.command()
def tokenize(
    context: typer.Context,
    manifest: Recordings,
    out: Out,
    tokenizer: TokenizerName = "embedded",
    keep_audio: KeepAudio = False,
    checks: Annotated[bool, typer.Option(help="Measure the audio: levels, voice activity, turn-taking.")] = True,
    threshold: Annotated[
        list[str] | None, typer.Option(help="NAME=NUMBER or NAME=off: by what the checks reject a recording.")
    ] = None,
    rows_per_shard: Annotated[int, typer.Option(help="Recordings in a shard: the unit of work and resume.")] = 16,
    workers: Workers = 1,
    max_rejects: MaxRejects = 1.0,
    metrics: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Tokenize two-channel recordings: a unit set for stage 3.

    Example: duologue tokenize manifests/calls --out units/calls --workers 8
    """
    from duologue.pipelines.measures import Measures
    from duologue.pipelines.partitions import RunOptions
    from duologue.pipelines.tokenize import tokenize as run
    from duologue.tokenize.thresholds import Thresholds

    measures = Measures(metrics, out)
    card = run(
        manifest,
        out,
        tokenizer=tokenizer,
        keep_audio=keep_audio,
        thresholds=Thresholds.chosen(checks, threshold),
        rows_per_shard=rows_per_shard,
        options=RunOptions(workers, context.obj, max_rejects, measures),
    )
    print_card(card, out, as_json)


@app.command()
def mix(
    context: typer.Context,
    units: Annotated[list[str], typer.Argument(metavar="UNITS[:WEIGHT]...", help="Unit sets, with weights.")],
    stage: Annotated[int, typer.Option(help="1: text and speech in turn; 2, 3: synchronous stream.")],
    out: Annotated[
        Place | None,
        typer.Option("--out", parser=place, metavar="DIR", help="Directory, or URL of one, for the sequence set."),
    ] = None,
    vocabulary: Annotated[str, typer.Option(help="`bytes`, or a Hugging Face tokenizer (directory or hub name).")] = (
        "bytes"
    ),
    chunk_ms: Annotated[int, typer.Option(help="Stages 2, 3: length of a chunk in milliseconds.")] = 160,
    sequence_length: Annotated[int, typer.Option(help="Tokens in a sequence.")] = 8192,
    epochs: Annotated[int, typer.Option(help="How often to go through the sources.")] = 1,
    seed: Seed = 0,
    curriculum: Annotated[
        str, typer.Option(help="Stage 1, share of speech: paper, linear[:FROM:TO], constant[:MEAN] or speech.")
    ] = "paper",
    level: Annotated[str, typer.Option(help="Stage 1: text or speech by `sentence`, or by `turn`.")] = "sentence",
    split: Annotated[str, typer.Option(help="Part of the data: train, valid or test.")] = "train",
    sequences_per_shard: Annotated[int, typer.Option(help="Sequences in a shard: the unit of work.")] = 1024,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be made, and write nothing.")] = False,
    workers: Workers = 1,
    metrics: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Mix unit sets into training sequences, in their final order.

    Example: duologue mix units/chats units/tasks:2 --stage 1 --epochs 3 --out sequences/stage1
    """
    from duologue.pipelines.measures import Measures
    from duologue.pipelines.mix import mix as run
    from duologue.pipelines.mix import plan_mix
    from duologue.pipelines.mix_settings import MixSettings, UnitSource

    settings = MixSettings(
        stage=stage,
        sources=tuple(UnitSource.parse(text) for text in units),
        vocabulary=vocabulary,
        chunk_ms=chunk_ms,
        sequence_length=sequence_length,
        epochs=epochs,
        seed=seed,
        curriculum=curriculum,
        level=level,  # type: ignore[arg-type]  # checked with the other settings
        split=split,
        sequences_per_shard=sequences_per_shard,
    )
    if plan:
        _print_plan(plan_mix(settings, workers=workers, flags=context.obj), as_json)
        return
    if out is None:
        raise UserError("there is no place for the result", where="--out", hint="Name one, or ask for the --plan")
    measures = Measures(metrics, out)
    print_card(run(settings, out, workers=workers, flags=context.obj, measures=measures), out, as_json)


def _print_plan(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    bins = summary.pop("speech_by_progress", [])
    for name, value in summary.items():
        print(f"{name:>14}  {value:,}" if isinstance(value, int) else f"{name:>14}  {value}")
    if bins:
        print("share of speech by progress (asked, obtained):")
    for row in bins:
        shares = f"{row['asked']:.2f}  {row['obtained']:.2f}" if row["samples"] else "no samples"
        print(f"  {row['from']:.1f} to {row['to']:.1f}  {shares}  ({row['samples']:,} samples)")


app.command()(cli_train.train)
app.command()(cli_train.curve)


@app.command()
def inspect(
    directory: Artefact,
    sample: Annotated[int | None, typer.Option(help="Print this sample, counted from 0, as people write it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what an artefact is, or print one of its samples: `[S0][75][S1][89]`, with the text in between.

    Example: duologue inspect sequences/stage3 --sample 0
    """
    from duologue.pipelines.inspect import describe, show

    if sample is not None:
        text = show(directory, sample)
        print(json.dumps({"sample": sample, "text": text}) if as_json else text)
        return
    about = describe(directory)
    if as_json:
        print(json.dumps(about))
        return
    if sources := about["config"].get("sources"):
        about["config"]["sources"] = first_of(sources)
    print("\n".join(f"{name:>12}  {value}" for name, value in about.items()))


app.command(context_settings=cli_preflight.SETTINGS)(cli_preflight.preflight)
app.command()(cli_run.run_info)
app.command()(cli_look.verify)
app.command()(cli_look.status)
app.command()(cli_look.why)


@app.command()
def report(
    directories: Annotated[
        list[Place], typer.Argument(parser=place, metavar="DIR...", help="Artefacts and runs, in any order.")
    ],
    out: Annotated[Path, typer.Option("--out", parser=here, metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    tokenizer: TokenizerName = "embedded",
    excerpts: Annotated[
        int | None,
        typer.Option(min=0, help="Dialogues to show and play, of all unit sets together; at most 4 if not given."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write one offline HTML page about artefacts and runs: token rates, curves, timelines, players, rejects.

    Example: duologue report units/chats sequences/* runs/* --out report.html
    """
    from duologue.evaluate.report import write_report
    from duologue.tokenize.tokenizer import directory_of

    path = write_report(directories, out, directory_of(tokenizer), excerpts)
    print(json.dumps({"out": str(path)}) if as_json else f"{path}: open it in a browser")
