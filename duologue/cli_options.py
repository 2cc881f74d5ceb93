"""What the commands of the command line share: options, and how a result is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from duologue.formats.card import Card

    Place = Path
else:

    class Place:
        """What a parameter that takes a URL too is annotated with: typer would make a `Path` of a `Path`."""


def place(text: str | Path) -> Path:
    """Parse a path or a URL."""
    from duologue.formats.places import place as parsed

    return parsed(text)


def here(text: str | Path) -> Path:
    """Parse a path of this machine, and refuse a URL: it would become a directory called `s3:`."""
    from duologue.formats.places import here as parsed

    return parsed(text)


Out = Annotated[
    Place,
    typer.Option(
        "--out", parser=place, metavar="DIR", help="Directory, or URL of one, for the result; it holds nothing else."
    ),
]
OutHere = Annotated[
    Path, typer.Option("--out", parser=here, metavar="DIR", help="Directory for the result; it holds nothing else.")
]
Recordings = Annotated[Place, typer.Argument(parser=place, metavar="MANIFEST", help="Manifest of recordings.")]
Artefact = Annotated[Place, typer.Argument(parser=place, metavar="DIR", help="A manifest, unit set or sequence set.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine.")]
MaxRejects = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the inputs that may be rejected before the run stops.")
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics", parser=here, metavar="FILE", help="Keep what this run measured there, as JSON."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]
TokenizerName = Annotated[str, typer.Option("--tokenizer", help="A tokenizer's directory, or `embedded`.")]
KeepAudio = Annotated[bool, typer.Option("--keep-audio", help="Write the audio too, as FLAC in audio-NNNNN.tar.")]
Licence = Annotated[str, typer.Option(help="Licence of the corpus; every artefact made of it lists it.")]
SplitShares = Annotated[str, typer.Option("--splits", help="Shares of train, valid and test.")]
SplitBy = Annotated[
    str, typer.Option("--split", help="What is in one split: a `conversation`, a `speaker`; or a file that lists it.")
]
Precision = Annotated[str, typer.Option(help="Of the model's computation: float32 or bfloat16.")]
Layer = Annotated[int, typer.Option(help="Layer whose output is quantized, counted from 1.")]


def first_of(items: Sequence[Any], most: int = 3) -> list[Any]:
    """Return the first items of a list that may be as long as a corpus, and how many more there are, for people."""
    more = [f"and {len(items) - most:,} more"] if len(items) > most else []
    return [*items[:most], *more]


def line_of(about: Mapping[str, Any], out: Path) -> str:
    """Return what a command says of its result in a line for people."""
    return f"{out}: {', '.join(f'{name} {value}' for name, value in about.items())}"


def print_card(card: Card, out: Path, as_json: bool) -> None:
    """Print what an artefact's card says, as JSON or for people."""
    if as_json:
        print(
            json.dumps({"out": str(out), "fingerprint": card.fingerprint, **card.totals, "by_reason": card.rejects})
        )
        return
    totals = {name: value for name, value in card.totals.items() if not isinstance(value, dict)}
    print(f"{out}: {card.kind}, {', '.join(f'{value:,} {name}' for name, value in totals.items())}")
    for name, value in card.totals.get("splits", {}).items():
        print(f"  splits: {name} {json.dumps(value)}")
    for reason, count in card.rejects.items():
        print(f"  rejected: {count:,} {reason}")
