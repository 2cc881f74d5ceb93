"""`report.html`: one file, offline, about any artefacts and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from duologue.errors import explained
from duologue.evaluate import figures
from duologue.evaluate.artefacts import Artefact, Run, collect, rejects_of
from duologue.evaluate.excerpts import SECONDS
from duologue.evaluate.players import dialogues, streams
from duologue.evaluate.sound import Sound
from duologue.evaluate.survey import survey_shares
from duologue.evaluate.templates import template
from duologue.evaluate.unit_sets import duplex, survey_sets, token_rates
from duologue.formats.curriculum import curriculum
from duologue.formats.publish import write_bytes

_CHUNK_MS = 160
_EXAMPLES = 3


def write_report(
    directories: Sequence[Path], out: Path, tokenizer: Path | None = None, excerpts: int | None = None
) -> Path:
    """Write the report on artefacts and training runs.

    The same directories give the same bytes, in whatever order they are named and wherever they lie.

    Args:
        directories: artefacts and runs; a section appears if there is something for it to show.
        out: the HTML file.
        tokenizer: directory of the tokenizer whose vocoder makes units audible; None for a report without
            resynthesis.
        excerpts: of dialogues, as for `survey_sets`.

    Returns:
        `out`.

    Raises:
        UserError: a directory is not a finished artefact or a run, or is damaged; the tokenizer cannot be loaded;
            the file cannot be written.
    """
    artefacts, runs = collect(directories)
    names = {artefact.card.fingerprint: artefact.name for artefact in artefacts}
    names |= {run.about["fingerprint"]: run.name for run in runs}
    sound = Sound(tokenizer)
    chunk_ms = _chunk_ms(artefacts)
    surveys = survey_sets([artefact for artefact in artefacts if artefact.card.kind == "units"], chunk_ms, excerpts)
    sequences = [artefact for artefact in artefacts if artefact.card.kind == "sequences"]
    page = template("report.html.jinja").render(
        things=_things(artefacts, runs, names),
        totals=_totals(artefacts, runs),
        rates=token_rates(surveys),
        duplex=duplex(surveys),
        shares=_shares(artefacts),
        dialogues=dialogues(surveys, sound),
        streams=streams(sequences, sound),
        sound=sound,
        seconds=SECONDS,
        chunk_ms=chunk_ms,
        losses=[figures.losses(f"loss-{number}", run) for number, run in enumerate(runs) if run.metrics],
        starts=_starts(runs, names),
        throughput=figures.throughput("throughput", seen) if (seen := [r for r in runs if r.metrics]) else None,
        runs=[_run_row(run, names) for run in runs],
        rejects=_rejects(artefacts),
    )
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, page.encode())
    return out


def _chunk_ms(artefacts: Sequence[Artefact]) -> int:
    clocked = [artefact.card.config["chunk_ms"] for artefact in artefacts if artefact.stage > 1]
    return int(clocked[0]) if clocked else _CHUNK_MS


def _things(artefacts: Sequence[Artefact], runs: Sequence[Run], names: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    for artefact in artefacts:
        card = artefact.card
        rows.append(
            {
                "name": artefact.name,
                "kind": f"sequences, stage {artefact.stage}" if artefact.stage else card.kind,
                "samples": card.totals.get("samples", sum(shard["samples"] for shard in card.shards)),
                "size": _size(card.totals),
                "rejects": card.totals.get("rejects", 0),
                "licences": ", ".join(card.licences),
                "fingerprint": card.fingerprint[:12],
                "parents": [_parent(parent, names) for parent in card.parents],
            }
        )
    for run in runs:
        rows.append(
            {
                "name": run.name,
                "kind": f"run, stage {run.stage}",
                "samples": run.metrics[-1]["step"] if run.metrics else 0,
                "size": f"{int(run.metrics[-1]['tokens']):,} tokens" if run.metrics else "",
                "rejects": None,
                "licences": "",
                "fingerprint": run.about["fingerprint"][:12],
                "parents": [_parent(run.about["data"], names), *_origins(run, names)],
            }
        )
    return rows


def _parent(parent: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Name a set, run or model that something was made from."""
    if parent.get("kind") == "hub":
        return str(parent["name"])
    fingerprint = parent["fingerprint"]
    return names.get(fingerprint) or f"{parent.get('kind', 'set')} {fingerprint[:12]}"


def _origins(run: Run, names: Mapping[str, str]) -> list[str]:
    origin = run.about["init_from"]
    return [] if origin["kind"] == "nothing" else [_parent(origin, names)]


def _size(totals: Mapping[str, Any]) -> str:
    if "tokens" in totals:
        return f"{totals['tokens']:,} tokens"
    if "seconds" in totals:
        hours = totals["seconds"] / 3600
        return f"{hours:,.1f} h" if hours >= 10 else f"{hours:.2f} h"
    return ""


def _totals(artefacts: Sequence[Artefact], runs: Sequence[Run]) -> list[tuple[str, str]]:
    def total(kind: str, key: str) -> float:
        return sum(artefact.card.totals.get(key, 0) for artefact in artefacts if artefact.card.kind == kind)

    hours = total("units", "seconds") / 3600
    parts = [
        (f"{hours:,.1f}" if hours >= 10 else f"{hours:.2f}", "hours of dialogue as units", hours),
        (f"{total('sequences', 'tokens'):,}", "training tokens", total("sequences", "tokens")),
        (f"{len(runs)}", "training runs", len(runs)),
    ]
    return [(value, text) for value, text, there in parts if there]


def _shares(artefacts: Sequence[Artefact]) -> list[dict[str, Any]]:
    shares = []
    for number, artefact in enumerate(artefact for artefact in artefacts if artefact.stage == 1):
        survey = survey_shares(artefact)
        if survey.dialogues:
            form = curriculum(artefact.card.config["curriculum"])
            svg = figures.speech_shares(
                f"shares-{number}", artefact.name, survey.progress, survey.asked, survey.share, form
            )
            shares.append({"read": survey.dialogues, "svg": svg})
    return shares


def _began(run: Run, names: Mapping[str, str]) -> str:
    return f"from {', '.join(_origins(run, names)) or 'nothing'}"


def _starts(runs: Sequence[Run], names: Mapping[str, str]) -> list[Markup]:
    drawn = []
    for stage in sorted({run.stage for run in runs}):
        peers = [(run, _began(run, names)) for run in runs if run.stage == stage and run.metrics]
        if len(peers) > 1:
            drawn.append(figures.starts(f"starts-{stage}", stage, peers))
    return drawn


def _run_row(run: Run, names: Mapping[str, str]) -> dict[str, Any]:
    def median(key: str) -> float | None:
        values = run.column(key)
        return None if np.isnan(values).all() else float(np.nanmedian(values))

    loss = run.column("loss")
    memory = run.column("memory_gb")
    return {
        "name": run.name,
        "stage": run.stage,
        "began": _began(run, names),
        "steps": len(run.metrics),
        "first": float(loss[0]) if len(loss) else None,
        "last": float(loss[-1]) if len(loss) else None,
        "speed": median("tokens_per_s"),
        "waiting": median("data_share"),
        "memory": None if np.isnan(memory).all() else float(np.nanmax(memory)),
    }


def _rejects(artefacts: Sequence[Artefact]) -> list[dict[str, Any]]:
    rows = []
    for artefact in artefacts:
        if not artefact.card.rejects:
            continue
        examples: dict[str, list[dict[str, str]]] = {}
        for reject in rejects_of(artefact):
            shown = examples.setdefault(reject.counted_as, [])
            if len(shown) < _EXAMPLES:
                shown.append({"id": reject.id, "message": reject.message})
        most = max(artefact.card.rejects.values())
        reasons = [
            {"reason": reason, "count": count, "width": 100 * count / most, "examples": examples.get(reason, [])}
            for reason, count in artefact.card.rejects.items()
        ]
        rows.append({"name": artefact.name, "inputs": artefact.card.totals.get("inputs"), "reasons": reasons})
    return rows
