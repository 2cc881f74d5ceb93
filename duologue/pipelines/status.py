"""How far a run is: read off the sidecars and their times, while it goes on or after it died."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from duologue.errors import UserError
from duologue.formats.card import CARD, MANIFESTS, RUN, read_card
from duologue.formats.locks import state_of
from duologue.formats.parquet import open_parquet
from duologue.formats.places import at_hand
from duologue.formats.rejects import Reject, count_by_reason
from duologue.pipelines.mix_plan import INDEX, PLAN
from duologue.pipelines.sidecars import Sidecar, find_commits, summed_amounts

# Commits that the rate is taken from, and how much longer than usual a gap is that was a pause.
_LATEST = 50
_PAUSE = 20
_SHORTEST_PAUSE_S = 600.0


def status(directory: Path) -> dict[str, Any]:
    """Say how far an artefact is. Reads the card or the sidecars, no shard; writes nothing.

    Returns:
        `kind` ("units", "sequences", "dialogues" or "recordings"; None before the first commit) and `state`:
        "finished"; "running", if somebody holds the directory's lock; "stopped"; or "unfinished", where that cannot
        be told. Besides, as far as they are known: `done` of `inputs` (rows of the manifest, or sequences), `shards`
        committed, `samples`, `amounts` summed over them (seconds, frames, tokens), `rejected` inputs and `rejects`
        by reason; of an unfinished one `per_s`, inputs a second lately, while it runs `left_s`, seconds until the
        end at this rate, and `since_commit_s`, seconds since the latest commit.

    Raises:
        UserError: there is no such directory, or nothing of Duologue in it.
    """
    if (directory / CARD).exists() or not directory.is_dir():
        return _finished(directory)
    found = find_commits(directory)
    if not found:
        return _before_commits(directory)
    commits = [(commit.modified, commit.sidecar) for commit in found if commit.sidecar is not None]
    state = state_of(directory)
    return {
        "kind": "units" if found[0].path.name.startswith("units-") else "sequences",
        "state": state,
        **_progress(commits, state),
        "damaged": len(found) - len(commits),
    }


def _finished(directory: Path) -> dict[str, Any]:
    card = read_card(directory)
    totals = dict(card.totals)
    counts = ("inputs", "samples", "rejects")
    inputs = totals["samples"] if card.kind == "sequences" else totals["inputs"]
    return {
        "kind": card.kind,
        "state": "finished",
        "done": inputs,
        "inputs": inputs,
        "shards": len(card.shards),
        "samples": totals["samples"],
        # What was measured, and how a manifest was split, are no sums.
        "amounts": {
            name: value for name, value in totals.items() if name not in counts and isinstance(value, int | float)
        },
        "rejected": totals["rejects"],
        "rejects": dict(card.rejects),
        "fingerprint": card.fingerprint,
    }


def _progress(commits: Sequence[tuple[float, Sidecar]], state: str) -> dict[str, Any]:
    sidecars = [sidecar for _, sidecar in commits]
    rejects: list[Reject] = [reject for sidecar in sidecars for reject in sidecar.rejects]
    done = sum(sidecar.partition.size for sidecar in sidecars)
    inputs = max((sidecar.inputs for sidecar in sidecars), default=0)
    rate = _rate(commits)
    about: dict[str, Any] = {
        "done": done,
        "inputs": inputs or None,
        "shards": sum(len(sidecar.shards) for sidecar in sidecars),
        "samples": sum(sidecar.samples for sidecar in sidecars),
        "amounts": summed_amounts(sidecar.amounts for sidecar in sidecars),
        "rejected": sum(sidecar.rejected for sidecar in sidecars),
        "rejects": count_by_reason(rejects),
        "per_s": rate and round(rate, 6),
    }
    if commits:
        about["since_commit_s"] = round(max(time.time() - max(when for when, _ in commits), 0.0), 1)
    if rate and inputs and state != "stopped":
        about["left_s"] = round((inputs - done) / rate, 1)
    return about


def _rate(commits: Sequence[tuple[float, Sidecar]]) -> float | None:
    """Return inputs a second by the latest commits, back to the last pause; None where two commits lack."""
    latest = sorted(commits, key=lambda commit: (commit[0], commit[1].partition.index))[-_LATEST:]
    times = np.array([when for when, _ in latest])
    gaps = np.diff(times)
    if not len(gaps):
        return None
    pauses = np.flatnonzero(gaps > max(_PAUSE * float(np.median(gaps)), _SHORTEST_PAUSE_S))
    first = int(pauses[-1]) + 1 if len(pauses) else 0
    took = float(times[-1] - times[first])
    # What the first of them committed was made before its time.
    made = sum(sidecar.partition.size for _, sidecar in latest[first + 1 :])
    return made / took if made and took else None


def _before_commits(directory: Path) -> dict[str, Any]:
    """Say how far a directory without sidecars is: a manifest, the first pass of a mix, or a run that just began."""
    for kind in MANIFESTS:
        files = sorted(directory.glob(f"{kind}-*.parquet"))
        if files:
            try:
                done = 0
                for path in files:
                    with open_parquet(path) as rows:
                        done += rows.metadata.num_rows
            except (OSError, pa.ArrowInvalid) as error:
                raise UserError(
                    f"a file of the manifest is damaged ({error})",
                    where=directory,
                    hint="Run `duologue manifest` again: it begins anew",
                ) from error
            return {"kind": kind, "state": "unfinished", "done": done, "inputs": None, "shards": len(files)}
    state = state_of(directory)
    index = directory / INDEX
    if index.is_dir():
        about = {"kind": "sequences", "state": state, "done": 0, "inputs": None, "shards": 0}
        about["indexed_unit_shards"] = sum(1 for _ in index.glob("*/*.npz"))
        for planned in index.glob(f"*/{PLAN}"):
            with at_hand(planned) as path:
                pieces = np.load(path, mmap_mode="r", allow_pickle=False)
            about["inputs"] = int(pieces["sequence"][-1]) + 1
        return about
    if state == "running":
        return {"kind": None, "state": state, "done": 0, "inputs": None, "shards": 0}
    raise UserError(
        f"nothing of Duologue is in this directory: no {CARD}, no sidecars of a run, no {RUN} of a training",
        where=directory,
        hint="Name the --out of a command. A run that was stopped before its first shard leaves nothing to count",
    )
