"""`duologue export`: artefacts and models in other tools' forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from duologue.cli_options import AsJson, OutHere, Place, Recordings, here, line_of, place

app = typer.Typer(help="Write artefacts and models as other tools read them.")


@app.command("dgslm")
def export_dgslm(
    units: Annotated[Place, typer.Argument(parser=place, metavar="UNITS", help="A unit set.")],
    out: OutHere,
    as_json: AsJson = False,
) -> None:
    """Write a unit set as dGSLM's files: unit lines of both channels, dictionaries, code files.

    Example: duologue export dgslm units/fisher --out dgslm/fisher
    """
    from duologue.pipelines.export_dgslm import export_dgslm as run

    _print_export(run(units, out), out, as_json)


@app.command("lhotse")
def export_lhotse(
    manifest: Recordings,
    out: OutHere,
    as_json: AsJson = False,
) -> None:
    """Write a manifest of recordings as lhotse's recordings and supervisions.

    Example: duologue export lhotse manifests/fisher --out lhotse/fisher
    """
    from duologue.pipelines.export_lhotse import export_lhotse as run

    _print_export(run(manifest, out), out, as_json)


@app.command("hf")
def export_hf(
    run: Annotated[Path, typer.Argument(parser=here, metavar="RUN", help="A run, or one of its checkpoints.")],
    out: OutHere,
    dtype: Annotated[str, typer.Option(help="Of the weights: float32 or bfloat16.")] = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Write a trained model as AutoModelForCausalLM and AutoTokenizer load it.

    Example: duologue export hf runs/stage3 --out models/stage3
    """
    from duologue.train.export import export_hf as run_export

    about = run_export(run, out, dtype=dtype)  # type: ignore[arg-type]  # checked there
    print(json.dumps({"out": str(out), **about}) if as_json else line_of(about, out))


def _print_export(about: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"out": str(out), **about}))
        return
    print(f"{out}: {', '.join(f'{value:,} {name}' for name, value in about['totals'].items())}")
    for name, value in about["splits"].items():
        print(f"  {name}: {json.dumps(value)}")
    for reason, count in about.get("rejects", {}).items():
        print(f"  rejected: {count:,} {reason}")
