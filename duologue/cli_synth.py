"""`duologue synthesize` and `duologue voices`: speech out of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from duologue.cli_options import (
    AsJson,
    KeepAudio,
    MaxRejects,
    MetricsFile,
    Place,
    Seed,
    TokenizerName,
    Workers,
    here,
    place,
    print_card,
)
from duologue.errors import UserError

if TYPE_CHECKING:
    from duologue.pipelines.synthesize import Settings
    from duologue.synth.engines import EngineChoice

EngineName = Annotated[str, typer.Option("--engine", help="Speech engine: espeak, coqui or bark.")]
Model = Annotated[str | None, typer.Option(help="Of coqui or bark: path, or public name, of the model.")]
ModelConfig = Annotated[str | None, typer.Option(help="The model's configuration, where it lies elsewhere.")]
ModelLicence = Annotated[
    str | None, typer.Option("--licence", help="Of the model (SPDX), where its files do not say.")
]
SpeechPrecision = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--precision", help="Of the model's computation.")
]
Batch = Annotated[int | None, typer.Option(min=1, help="Sentences that the model speaks at once.")]


def synthesize(
    context: typer.Context,
    manifest: Annotated[Place, typer.Argument(parser=place, metavar="MANIFEST", help="Manifest of dialogues.")],
    out: Annotated[
        Place | None,
        typer.Option("--out", parser=place, metavar="DIR", help="Directory, or URL of one, for the unit set."),
    ] = None,
    tokenizer: TokenizerName = "embedded",
    engine: EngineName = "espeak",
    model: Model = None,
    model_config: ModelConfig = None,
    licence: ModelLicence = None,
    voices: Annotated[str | None, typer.Option(help="NAME,NAME,...: those that may speak; else all.")] = None,
    precision: SpeechPrecision = "float32",
    batch: Batch = None,
    gaps: Annotated[
        str | None,
        typer.Option(help="Between speakers: natural (the default), fixed:SECONDS or lognormal:MEDIAN:SPREAD."),
    ] = None,
    overlap_model: Annotated[
        Place | None,
        typer.Option(
            parser=place, metavar="UNITS", help="Overlaps and backchannels as measured in a unit set of recordings."
        ),
    ] = None,
    seed: Seed = 0,
    keep_audio: KeepAudio = False,
    rows_per_shard: Annotated[int, typer.Option(help="Dialogues in a shard: the unit of work and resume.")] = 64,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Speak a sample, say what all of it would take, and write nothing.")
    ] = False,
    sample: Annotated[int, typer.Option(help="Dialogues that are spoken for the --estimate.")] = 20,
    workers: Workers = 1,
    max_rejects: MaxRejects = 1.0,
    metrics: MetricsFile = None,
    as_json: AsJson = False,
) -> None:
    """Speak text dialogues on two channels and tokenize them: a unit set for stages 1 and 2.

    Example: duologue synthesize manifests/chats --out units/chats --workers 8
    """
    from duologue.pipelines.estimate import estimate as estimated
    from duologue.pipelines.measures import Measures
    from duologue.pipelines.partitions import RunOptions
    from duologue.pipelines.synthesize import synthesize as run

    settings = settings_of(context.params)
    if estimate:
        about = estimated(manifest, settings, overlap_model=overlap_model, dialogues=sample)
        print(json.dumps(about) if as_json else "\n".join(_estimate_lines(manifest, about)))
        return
    if out is None:
        raise UserError("there is no place for the result", where="--out", hint="Name one, or ask for an --estimate")
    card = run(
        manifest,
        out,
        settings,
        overlap_model=overlap_model,
        rows_per_shard=rows_per_shard,
        options=RunOptions(workers, context.obj, max_rejects, Measures(metrics, out)),
    )
    print_card(card, out, as_json)


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Return the settings that the options of `synthesize`, by the names of its parameters, make.

    Raises:
        UserError: one of them is no setting, or two contradict each other.
    """
    from duologue.pipelines.synthesize import Settings
    from duologue.synth.shape import NATURAL, Shape

    gaps = options["gaps"]
    if gaps is not None and options["overlap_model"] is not None:
        raise UserError("--gaps and --overlap-model both say when speakers begin", hint="Leave one of them out")
    named = ("engine", "model", "model_config", "licence", "precision", "batch", "voices")
    return Settings(
        engine=_choice(*(options[name] for name in named)),
        tokenizer=options["tokenizer"],
        seed=options["seed"],
        shape=NATURAL if gaps is None else Shape.parse(gaps),
        keep_audio=options["keep_audio"],
    )


def voices(
    engine: EngineName = "espeak",
    model: Model = None,
    model_config: ModelConfig = None,
    licence: ModelLicence = None,
    precision: SpeechPrecision = "float32",
    batch: Batch = None,
    listen: Annotated[
        Path | None, typer.Option(parser=here, metavar="DIR", help="Write a page there with a player each.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the voices of a speech engine, or make a page to hear them.

    Example: duologue voices --listen voices/espeak
    """
    from duologue.evaluate.voices import refuse_other_page, write_voices
    from duologue.synth.engine import SAMPLE_RATE
    from duologue.synth.engines import load_engine
    from duologue.synth.listening import SENTENCES, hear_voices
    from duologue.tokenize.devices import own_device

    choice = _choice(engine, model, model_config, licence, precision, batch, None)
    if listen:
        # Before the voices speak, which a model takes its time for.
        refuse_other_page(listen)
    with load_engine(choice, own_device() if listen and engine != "espeak" else "cpu") as speaker:
        names, terms = list(speaker.voices), speaker.licence
        heard = hear_voices(speaker) if listen else {}
    about: dict[str, Any] = {"engine": engine, "licence": terms, "voices": names}
    if listen:
        page = write_voices(listen, heard, SAMPLE_RATE, engine=engine, licence=terms, sentences=SENTENCES)
        about["page"] = str(page)
    if as_json:
        print(json.dumps(about))
    else:
        print(f"{about['page']}: open it in a browser" if listen else "\n".join(names))


def _choice(
    engine: str,
    model: str | None,
    config: str | None,
    licence: str | None,
    precision: str,
    batch: int | None,
    voices: str | None,
) -> EngineChoice:
    from duologue.synth.engines import EngineChoice

    named = tuple(name.strip() for name in voices.split(",")) if voices is not None else ()
    return EngineChoice(engine, model, config, licence, named, precision, batch)


def _estimate_lines(manifest: Path, about: dict[str, Any]) -> list[str]:
    def line(name: str, unit: str, values: dict[str, float], scale: float = 1.0) -> str:
        value, low, high = (f"{values[part] * scale:,.4g}" for part in ("value", "low", "high"))
        return f"{name:>14}  {value} {unit} ({low} to {high})"

    lines = [
        f"{manifest}: {about['dialogues']:,} dialogues; estimated from {about['sampled']:,}, "
        f"of which {about['rejected']:,} were rejected (95 % intervals)",
        line("speech", "hours", about["hours"]),
    ]
    for station, hours in about["work_hours"].items():
        device = "GPU hours" if about["devices"][station] == "cuda" else "hours of a CPU worker"
        lines.append(line(f"work, {station}", device, hours))
    for kind, size in about["bytes"].items():
        lines.append(line(f"{kind} shards", "MB", size, 1e-6))
    lines.append(line("stage 2", "million tokens at 160 ms", about["tokens"], 1e-6))
    return lines
