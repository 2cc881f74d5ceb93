"""`duologue verify`, `status` and `why`: whether an artefact is sound, how far a run is, where a dialogue is from."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli_options import Artefact, AsJson, Place, first_of, place
from duologue.errors import UserError

if TYPE_CHECKING:
    from duologue.pipelines.repair import Repair

Parents = Annotated[
    list[Place] | None,
    typer.Option(
        "--parents",
        parser=place,
        metavar="DIR",
        help="Where to look for what it was made of, beside the directories around it.",
    ),
]


def verify(
    directory: Artefact,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Take the damaged shards back, and make just these again; where the card does not tell how, say so.",
        ),
    ] = False,
    parents: Parents = None,
    as_json: AsJson = False,
) -> None:
    """Check an artefact: checksums, counts, and the invariants of its kind. Exit code 1 if something is wrong.

    Example: duologue verify sequences/stage3
    """
    if repair:
        from duologue.pipelines.repair import repair as take_back

        done = take_back(directory, _existing(parents))
        if not as_json:
            print("\n".join(_repaired(directory, done)), flush=True)
        code = _made_again(done, as_json) if done.known else None
        if as_json:
            again = shlex.join(["duologue", *done.again]) if done.again else ""
            about = {"directory": str(directory), **vars(done), "again": again, "rebuilt": code == 0}
            print(json.dumps({**about, "finished": done.finished or code == 0}))
        if code:
            raise typer.Exit(code)
        problems = list(done.problems)
    elif parents:
        raise UserError("a set is verified by itself", where="--parents", hint="Leave it out, or add --repair")
    else:
        from duologue.pipelines.verify import verify as run

        problems = run(directory)
        if as_json:
            print(json.dumps({"directory": str(directory), "problems": problems}))
        else:
            print("\n".join(problems) if problems else f"{directory}: all is well")
    if problems:
        raise typer.Exit(1)


def _existing(parents: Sequence[Path] | None) -> Sequence[Path]:
    for directory in parents or ():
        if not directory.is_dir():
            raise UserError("there is no such directory", where=directory, hint="Correct --parents")
    return parents or ()


def _made_again(done: Repair, quiet: bool) -> int:
    """Run the command that makes again what was taken back, in a process of its own, and return its exit code."""
    from duologue import children

    output = subprocess.DEVNULL if quiet else None
    command = children.command_of("duologue", *done.again)
    return subprocess.run(command, env=children.environment(), stdout=output, check=False).returncode


def _repaired(directory: Path, done: Repair) -> Iterator[str]:
    if not done.problems:
        unfinished = "unfinished; what it has is sound. Run the command that makes it again: it goes on from here"
        yield f"{directory}: {'all is well' if done.finished else unfinished}"
        return
    yield from done.problems
    if done.removed:
        shards = ", ".join(map(str, done.partitions)) or "none, only what is written last"
        yield f"{directory}: taken back, to be made again: {shards} ({len(done.removed)} files deleted)"
        if done.known:
            yield f"making them again: {shlex.join(['duologue', *done.again])}"
        elif done.again:
            yield "run the command that made it, with the same options; as far as they are recorded:"
            yield f"  {shlex.join(['duologue', *done.again])}"
        else:
            yield "run the command that made it, with the same options"
    for problem in done.left:
        yield f"left alone, look at it yourself: {problem}"


def status(
    directory: Annotated[
        Place, typer.Argument(parser=place, metavar="DIR", help="The --out of a command, finished or not.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say how far a run is, its rate, time left and rejects, while it goes on or after it died.

    Example: duologue status units/chats
    """
    from duologue.formats.card import RUN
    from duologue.pipelines.status import status as artefact_status

    if (directory / RUN).is_file():
        from duologue.pipelines.ancestry import Neighbours
        from duologue.train.status import data_of, run_status

        data = Neighbours(directory).directory_of(data_of(directory))
        about = run_status(directory, None if data is None else artefact_status(data)["samples"])
    else:
        about = artefact_status(directory)
    if as_json:
        print(json.dumps({"directory": str(directory), **about}))
    else:
        print("\n".join(_told(directory, about)))


def _told(directory: Path, about: dict[str, Any]) -> Iterator[str]:
    done, total, unit = about.get("done"), about.get("inputs"), "inputs"
    if about["kind"] == "run":
        done, total, unit = about["step"], about["steps"], "steps"
    of = f"{done:,} of {total:,} {unit} ({done / total:.1%})" if total else f"{done:,} {unit}"
    yield f"{directory}: {about['kind'] or 'nothing yet'}, {about['state']}, {of}"
    if about.get("indexed_unit_shards"):
        yield f"{'first pass':>14}  {about['indexed_unit_shards']:,} unit shards looked through"
    if about.get("per_s"):
        yield f"{'rate':>14}  {about['per_s']:,.3g} inputs a second"
    if about.get("tokens_per_s"):
        yield f"{'rate':>14}  {about['tokens_per_s']:,.0f} tokens a second"
    if about.get("left_s") is not None:
        yield f"{'left':>14}  {_time(about['left_s'])}"
    for name, what in (("since_commit_s", "last shard"), ("since_step_s", "last step")):
        if about.get(name) is not None:
            yield f"{what:>14}  {_time(about[name])} ago"
    for name in ("shards", "samples", "tokens", "loss", "valid_loss", "checkpoint", "damaged"):
        if about.get(name) not in (None, 0):
            yield f"{name:>14}  {_number(about[name])}"
    for name, amount in about.get("amounts", {}).items():
        yield f"{name:>14}  {_number(amount)}"
    if "rejected" in about:
        yield f"{'rejected':>14}  {about['rejected']:,} inputs"
    for reason, count in about.get("rejects", {}).items():
        yield f"{'':>14}  {count:,} {reason}"
    if about["state"] == "stopped":
        yield "run the same command again: it goes on from here"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def why(
    directory: Annotated[
        Place, typer.Argument(parser=place, metavar="DIR", help="A sequence set, unit set or manifest.")
    ],
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the dialogue; behind `--` if it begins with a dash.")
    ],
    parents: Parents = None,
    as_json: AsJson = False,
) -> None:
    """Say where a dialogue is from: its sequences, units, voices and seed, source row, licences; or why it is not.

    Example: duologue why sequences/stage2 "talk 17"
    """
    from duologue.pipelines.why import why as run

    found = run(directory, identifier, _existing(parents))
    print(json.dumps(found) if as_json else "\n".join(_chain(found)))


def _chain(found: dict[str, Any]) -> Iterator[str]:
    yield found["id"]
    for entry in found["chain"]:
        head = f"{entry['kind']} {entry['fingerprint'][:12]}"
        if entry["directory"] is None:
            yield f"{head}  not found: name its directory by --parents"
            continue
        if not entry["places"] and not entry["rejects"]:
            yield f"{head}  {entry['directory']}: not in it"
            continue
        yield f"{head}  {entry['directory']}"
        yield f"    {_pairs(_settings(entry))}"
        for found in entry["places"]:
            yield f"    {_pairs(found)}"
        for reject in entry["rejects"]:
            what = "rejected" if reject["turn"] is None else f"its turn {reject['turn']} was left out"
            yield f"    {what} by {reject['station']}: {reject['reason']}: {reject['message']}"


def _settings(entry: dict[str, Any]) -> dict[str, Any]:
    told = {name: entry.get(name) for name in ("stage", "chunk_ms", "epochs", "station", "seed")}
    if tokenizer := entry.get("tokenizer"):
        told["tokenizer"] = f"{tokenizer.get('kind')} ({tokenizer.get('vocabulary')} units)"
    if sources := entry.get("sources"):
        told["sources"] = " ".join(first_of([source["name"] for source in sources]))
    return {**told, "licences": " ".join(entry["licences"])}


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value if isinstance(value, str | int | float) else json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
        if value not in (None, {}, "")
    )
