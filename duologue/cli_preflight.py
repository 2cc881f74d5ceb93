"""`duologue preflight`: what the command behind it would be, before it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from typing import Annotated, Any

import typer

from duologue.cli_synth import settings_of
from duologue.errors import UserError
from duologue.progress import say

# Everything behind the command's name is the command's own.
SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
_COMMANDS = ("synthesize", "tokenize", "mix")


def preflight(
    context: typer.Context,
    command: Annotated[
        list[str], typer.Argument(metavar="COMMAND...", help="synthesize, tokenize or mix, with all its options.")
    ],
    readers: Annotated[int, typer.Option(min=1, help="Processes that will read the shards at once, later.")] = 8,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs where it will run; else as many as there are here.")
    ] = None,
) -> None:
    """Say what a command would take, before it runs: put `preflight` before it. Writes nothing.

    Partitions, shards, hours, tokens, GPU hours, disk and memory are reckoned from the manifest. With the command's
    own --estimate (synthesize) or --plan (mix), what that measures follows, with --json as `measured`. For mix,
    manifests may stand in for the unit sets that are not made yet.

    Example: duologue preflight synthesize manifests/chats --out units/chats --workers 8
    """
    name, *words = command
    if name not in _COMMANDS:
        hint = "`duologue train --estimate` says what a training takes" if name == "train" else None
        raise UserError(
            f"preflight stands before {', '.join(_COMMANDS[:-1])} or {_COMMANDS[-1]}, not {name!r}",
            hint=hint or "Put it before the command you are going to run, with all its options",
        )
    root = context.find_root()
    parser = root.command.commands[name]  # type: ignore[attr-defined]  # the root is a group
    its_own = parser.make_context(name, words, parent=root)
    options = its_own.params
    about = _mix(options, readers) if name == "mix" else _units(name, options, readers, gpus)
    # They measure, and write nothing.
    measures = options.get("estimate") or options.get("plan")
    if not options["as_json"]:
        print("\n".join(_told(about)), flush=True)
        if measures:
            with its_own:
                parser.invoke(its_own)
        return
    if measures:
        with its_own, redirect_stdout(StringIO()) as said:
            parser.invoke(its_own)
        about["measured"] = json.loads(said.getvalue())
    print(json.dumps(about))


def _units(name: str, options: dict[str, Any], readers: int, gpus: int | None) -> dict[str, Any]:
    from duologue.pipelines.preflight import UnitsPlan, before_units
    from duologue.tokenize.thresholds import Thresholds

    if gpus is None:
        from duologue.gpus import find_gpus

        gpus, trouble = find_gpus()
        if trouble:
            say(trouble)
    spoken = name == "synthesize"
    if not spoken:
        Thresholds.chosen(options["checks"], options["threshold"])
    plan = UnitsPlan(
        name,
        options["manifest"],
        options["out"],
        options["tokenizer"],
        options["rows_per_shard"],
        options["workers"],
        options["keep_audio"],
        gpus,
        options["engine"] if spoken else None,
        _voices(options) if spoken else (),
        options.get("seed", 0),
        options.get("checks", False),
    )
    return before_units(plan, readers)


def _voices(options: dict[str, Any]) -> tuple[str, ...]:
    """Check the settings, and return the voices that may speak, as far as no model has to be loaded for either."""
    from duologue.pipelines.synthesize import settled
    from duologue.synth.engines import ENGINES, load_engine
    from duologue.synth.voices import named_voices

    settings, _ = settled(settings_of(options), options["overlap_model"])
    choice = settings.engine
    if choice.name in ENGINES and choice.name != "espeak" and choice.model is not None:
        return choice.voices
    with load_engine(choice) as engine:
        return named_voices(engine.voices, choice.voices)


def _mix(options: dict[str, Any], readers: int) -> dict[str, Any]:
    from duologue.pipelines.mix_settings import MixSettings, UnitSource
    from duologue.pipelines.preflight_mix import before_mix

    named = {field.name: options[field.name] for field in fields(MixSettings) if field.name in options}
    settings = MixSettings(sources=tuple(UnitSource.parse(text) for text in options["units"]), **named)
    return before_mix(settings, options["out"], options["workers"], readers)


def _told(about: dict[str, Any]) -> Iterator[str]:
    yield f"before {about['command']}, reckoned and not measured:"
    for name in ("inputs", "visits", "hours", "tokens", "sequences", "partitions", "shards"):
        if name in about:
            yield f"{name:>14}  {about[name]:,}"
    for name, part in about.get("splits", {}).items():
        yield f"{name:>14}  {part['dialogues']:,} inputs, {part['hours']:,} hours"
    for station, hours in about.get("work_hours", {}).items():
        took = "not known beforehand: add --estimate" if hours is None else f"{hours:,.4g} hours of a worker"
        yield f"{f'work, {station}':>14}  {took}"
    if about.get("wall_hours") is not None:
        yield f"{'time':>14}  {about['wall_hours']:,.4g} hours with these workers"
    if about.get("gpu_hours"):
        yield f"{'GPU':>14}  {about['gpu_hours']:,.4g} hours of what is known"
    for kind, size in about["disk_bytes"].items():
        yield f"{f'disk, {kind}':>14}  {size / 1e6:,.1f} MB"
    yield f"{'memory':>14}  {about['memory_bytes'] / 1e9:,.1f} GB"
    if about.get("voices"):
        heard = about["voices"].values()
        yield f"{'voices':>14}  {len(heard)}, in {min(heard):,} to {max(heard):,} dialogues each"
    yield from (f"{'warning':>14}  {warning}" for warning in about["warnings"])
    yield f"{'assumed':>14}  " + ", ".join(f"{name} {value:,g}" for name, value in about["assumed"].items())
