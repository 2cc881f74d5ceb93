"""`duologue tokenizer`: tokenizers of speech, made and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from duologue.cli_options import AsJson, Layer, Out, Precision, Recordings, Seed, here, line_of

app = typer.Typer(help="Make tokenizers of speech, and look at them.")


@app.command("fit")
def tokenizer_fit(
    manifest: Recordings,
    out: Out,
    checkpoint: Annotated[
        str | None, typer.Option(help="HuBERT whose features are clustered; without one, MFCCs at 25 Hz are.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Layer of the checkpoint, counted from 1.")] = None,
    precision: Precision = "float32",
    units: Annotated[int, typer.Option(help="Size of the vocabulary.")] = 500,
    seed: Seed = 0,
    frames: Annotated[int, typer.Option(help="Frames that k-means sees at most, drawn uniformly.")] = 200_000,
    as_json: AsJson = False,
) -> None:
    """Fit a tokenizer on recordings: k-means over a HuBERT layer, or over MFCCs as in the embedded one.

    Example: duologue tokenizer fit manifests/calls --checkpoint hubert.pt --layer 11 --out tokenizers/calls500
    """
    from duologue.pipelines.fit import fit_tokenizer

    report = fit_tokenizer(
        manifest,
        out,
        checkpoint=checkpoint,
        layer=layer,
        precision=precision,
        units=units,
        seed=seed,
        frames=frames,
    )
    print(json.dumps(report) if as_json else line_of(report, out))


@app.command("import")
def tokenizer_import(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="fairseq .pt, Hugging Face directory or hub name, torchaudio.")
    ],
    quantizer: Annotated[str, typer.Option(help="k-means (joblib, torch, .npy) or linear quantizer.")],
    layer: Layer,
    out: Out,
    precision: Precision = "float32",
    as_json: AsJson = False,
) -> None:
    """Make a tokenizer of a HuBERT checkpoint and a quantizer of its features. No code in the files is run.

    Example: duologue tokenizer import hubert.pt --quantizer km500.bin --layer 11 --out tokenizers/hubert11
    """
    from duologue.tokenize.importing import import_tokenizer

    about = import_tokenizer(checkpoint, quantizer, out, layer=layer, precision=precision)
    if as_json:
        print(json.dumps(about))
        return
    identity, origin = about["identity"], about["origin"]
    print(
        f"{out}: {identity['vocabulary']} units at {identity['rate']} Hz from layer {layer} of "
        f"{origin['checkpoint']} ({origin['format']}), {identity['precision']}; "
        f"look at it with `duologue tokenizer check {out}`"
    )


@app.command("check")
def tokenizer_check(
    directory: Annotated[Path, typer.Argument(parser=here, metavar="DIR", help="A tokenizer's directory.")],
    audio: Annotated[
        list[Path] | None,
        typer.Option(parser=here, metavar="FILE", help="Audio to look at; the bundled call if not given."),
    ] = None,
    units: Annotated[
        list[Path] | None,
        typer.Option(parser=here, metavar="FILE", help="What somebody else's program made of it: .km, .txt or .npy."),
    ] = None,
    seconds: Annotated[
        int, typer.Option(min=1, max=100, help="Of each file, for what is computed several ways.")
    ] = 60,
    as_json: AsJson = False,
) -> None:
    """Compare a tokenizer with golden units, and with itself: in batches, in windows, in other precisions.

    Exit code 1 where golden units are not what they should be.

    Example: duologue tokenizer check tokenizers/hubert9 --audio call.wav --units call.km
    """
    from duologue.tokenize.check import check_tokenizer, report_lines

    report = check_tokenizer(directory, audio or [], units or [], seconds=seconds)
    print(json.dumps(report) if as_json else "\n".join(report_lines(report)))
    if not report["passed"]:
        raise typer.Exit(1)
