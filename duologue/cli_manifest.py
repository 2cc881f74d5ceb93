"""`duologue manifest`: corpora in."""

from __future__ import annotations

from typing import Annotated

import typer

from duologue.cli_options import AsJson, Licence, Out, SplitBy, SplitShares, print_card

app = typer.Typer(help="List a corpus: text dialogues or two-channel audio.")


@app.command("dialogues")
def manifest_dialogues(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Files, directories, or a data set.")],
    out: Out,
    shape: Annotated[
        str | None,
        typer.Option(help="messages, sharegpt, taskmaster, topical-chat, self-dialogue or fields; else looked at."),
    ] = None,
    turns_field: Annotated[str | None, typer.Option(help="Shape `fields`: path of the list of turns.")] = None,
    text_field: Annotated[str | None, typer.Option(help="Shape `fields`: path of the text in a turn.")] = None,
    speaker_field: Annotated[str | None, typer.Option(help="Shape `fields`: path of the speaker in a turn.")] = None,
    id_field: Annotated[str | None, typer.Option(help="Shape `fields`: path of the id in a dialogue.")] = None,
    licence: Licence = "unknown",
    source: Annotated[str | None, typer.Option(help="Name of the corpus; the file's name by default.")] = None,
    splits: SplitShares = "98:1:1",
    limit: Annotated[int | None, typer.Option(help="Read this many dialogues at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """List text dialogues from JSON, JSONL, CSV, Parquet, or a Hugging Face data set.

    Example: duologue manifest dialogues chats.jsonl --licence CC-BY-4.0 --out manifests/chats
    """
    from duologue.manifests.dialogues import write_dialogues
    from duologue.manifests.fields import Fields
    from duologue.manifests.splits import Splits

    named = (turns_field, text_field, speaker_field, id_field)
    card = write_dialogues(
        sources,
        out,
        shape=shape,
        fields=Fields(*named) if any(named) else None,
        licence=licence,
        source=source,
        splits=Splits.parse(splits),
        limit=limit,
    )
    print_card(card, out, as_json)


@app.command("stereo")
def manifest_stereo(
    sources: Annotated[
        list[str], typer.Argument(metavar="SRC...", help="Audio files, directories of them, or tables.")
    ],
    out: Out,
    transcripts: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Directory of transcripts (JSON, CSV, STM, RTTM); beside the audio if not given."
        ),
    ] = None,
    licence: Licence = "unknown",
    source: Annotated[str | None, typer.Option(help="Name of the corpus; the directory's name by default.")] = None,
    splits: SplitShares = "98:1:1",
    split_by: SplitBy = "conversation",
    raw_rate: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sample rate in Hz of files that don't say theirs: .ulaw, .alaw, .raw, and .shn without one."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List two-channel calls: stereo files, one file per speaker, or what tables name.

    Example: duologue manifest stereo calls/ --licence CC-BY-4.0 --out manifests/calls
    """
    from duologue.manifests.splits import Splits
    from duologue.manifests.stereo import write_recordings

    card = write_recordings(
        sources,
        out,
        licence=licence,
        source=source,
        splits=Splits.parse(splits),
        split_by=split_by,
        transcripts=transcripts,
        raw_rate=raw_rate,
    )
    print_card(card, out, as_json)


@app.command("fisher")
def manifest_fisher(
    roots: Annotated[
        list[str], typer.Argument(metavar="ROOT...", help="Directories with audio, transcripts, tables.")
    ],
    out: Out,
    splits: SplitShares = "98:1:1",
    split_by: SplitBy = "conversation",
    as_json: AsJson = False,
) -> None:
    """List Fisher English from any copy of it: LDC's discs or downloads, whole or in part, together or apart.

    Example: duologue manifest fisher LDC2004S13 LDC2004T19 LDC2005S13 LDC2005T19 --out manifests/fisher
    """
    from duologue.manifests.fisher import write_fisher
    from duologue.manifests.splits import Splits

    print_card(write_fisher(roots, out, splits=Splits.parse(splits), split_by=split_by), out, as_json)


@app.command("candor")
def manifest_candor(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Directory with a directory for each conversation.")],
    out: Out,
    transcript: Annotated[str, typer.Option(help="cliffhanger, audiophile or backbiter.")] = "cliffhanger",
    splits: SplitShares = "98:1:1",
    split_by: SplitBy = "conversation",
    as_json: AsJson = False,
) -> None:
    """List the CANDOR corpus of video conversations.

    Example: duologue manifest candor candor/ --split speaker --out manifests/candor
    """
    from duologue.manifests.candor import write_candor
    from duologue.manifests.splits import Splits

    card = write_candor(root, out, transcript=transcript, splits=Splits.parse(splits), split_by=split_by)
    print_card(card, out, as_json)
