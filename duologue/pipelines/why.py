"""Where one dialogue of an artefact comes from: the chain of artefacts behind it, each asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from duologue.errors import UserError
from duologue.formats.card import Card, read_card
from duologue.formats.parquet import open_parquet
from duologue.formats.rejects import REJECTS, read_rejects
from duologue.formats.sequences import packed_sequence
from duologue.formats.shards import Sample, damaged, key_of
from duologue.formats.units import dialogue_of
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Recording
from duologue.pipelines.ancestry import Neighbours
from duologue.pipelines.looking import each_sample


def why(directory: Path, identifier: str, parents: Sequence[Path] = ()) -> dict[str, Any]:
    """Trace a dialogue back through the artefacts that a set was made of.

    Args:
        directory: a sequence set, a unit set or a manifest.
        identifier: id of the dialogue.
        parents: artefacts, or directories with artefacts in them, to look for parents in, beside the neighbourhood.

    Returns:
        `id`, and `chain`: an entry for `directory`, then for each artefact behind it, nearest first, with `kind` and
        `fingerprint`. One that was found has `directory`, `licences`, `places` (where the dialogue stands in it: a
        list of rows, samples or documents; empty if it is not in it) and `rejects` (of it, or of single turns of
        it). One that was not found has `directory` None, and what it was made of is not known.

    Raises:
        UserError: an artefact is damaged, or none of those found knows the dialogue.
    """
    around = Neighbours(directory, parents)
    start = read_card(directory)
    try:
        identifier.encode()
    except UnicodeEncodeError as error:
        raise UserError("the id is not UTF-8, which every id is", where=repr(identifier), hint="Check it") from error
    waiting: list[tuple[dict[str, str], Path | None]] = [(start.as_parent(), directory)]
    chain: list[dict[str, Any]] = []
    seen = set()
    while waiting:
        parent, place = waiting.pop(0)
        if parent["fingerprint"] in seen:
            continue
        seen.add(parent["fingerprint"])
        if place is None:
            chain.append({**parent, "directory": None})
            continue
        card = read_card(place)
        chain.append(_entry(place, card, identifier))
        waiting += [(dict(each), around.directory_of(each["fingerprint"])) for each in card.parents]
    if not any(entry.get("places") or entry.get("rejects") for entry in chain):
        missing = sum(entry["directory"] is None for entry in chain)
        also = f"; {missing} of its parents were not found" if missing else ""
        raise UserError(
            f"nothing is known of a dialogue {identifier!r} here, nor in what it was made of{also}",
            where=directory,
            hint="Name the directories of its parents by --parents" if missing else "Check the id",
        )
    return {"id": identifier, "chain": chain}


def _entry(directory: Path, card: Card, identifier: str) -> dict[str, Any]:
    look = {"units": _samples, "sequences": _documents}.get(card.kind, _rows)
    try:
        rejects = [asdict(reject) for reject in read_rejects(directory) if reject.id == identifier]
    except (OSError, ValueError) as error:  # pyarrow's own are both
        raise _damaged(directory / REJECTS, error) from error
    return {
        **card.as_parent(),
        "directory": str(directory),
        "licences": list(card.licences),
        **_made(card),
        "places": list(look(directory, card, identifier)),
        "rejects": rejects,
    }


def _made(card: Card) -> dict[str, Any]:
    """Return what of an artefact's settings a dialogue in it depends on."""
    config = card.config
    if card.kind == "units":
        return {"station": config.get("station"), "seed": config.get("seed"), "tokenizer": card.tokenizer}
    if card.kind == "sequences":
        names = ("stage", "split", "chunk_ms", "epochs", "seed")
        return {name: config.get(name) for name in names}
    return {"sources": config.get("sources"), "source": config.get("source")}


def _rows(directory: Path, card: Card, identifier: str) -> Iterator[dict[str, Any]]:
    start = 0
    for shard in card.shards:
        path = directory / shard["name"]
        try:
            with open_parquet(path) as rows:
                ids = rows.read(["id"], use_threads=False)["id"]
        except (OSError, pa.ArrowInvalid) as error:
            raise _damaged(path, error) from error
        found = pc.index(ids, pa.scalar(identifier, ids.type)).as_py()
        if found >= 0:
            row = next(iter(Manifest(directory).rows(start + found, start + found + 1)))
            about: dict[str, Any] = {
                "file": path.name,
                "row": start + found,
                "source": row.source,
                "split": row.split,
                "licence": row.licence,
                "turns": len(row.turns),
            }
            if isinstance(row, Recording):
                audio = [f"{side.path}:{side.channel}" for side in row.audio]
                about |= {"audio": audio, "speakers": list(row.speakers), "about": dict(row.about)}
            yield about
        start += shard["samples"]


def _samples(directory: Path, card: Card, identifier: str) -> Iterator[dict[str, Any]]:
    for path, sample in _all_samples(directory, card):
        if sample.key != key_of(identifier):
            continue
        dialogue = dialogue_of(sample, path)
        yield {
            "shard": path.name,
            "key": sample.key,
            "source": dialogue.source,
            "split": dialogue.split,
            "licence": dialogue.licence,
            "seconds": dialogue.duration_s,
            "frames": dialogue.units.shape[1],
            "speakers": list(dialogue.speakers),
            "turns": len(dialogue.turns),
            "sentences": len(dialogue.sentences),
            "about": dict(dialogue.about),
        }


def _documents(directory: Path, card: Card, identifier: str) -> Iterator[dict[str, Any]]:
    # As the id stands in the JSON: most sequences are passed by without being parsed.
    written = json.dumps(identifier, ensure_ascii=False).encode()
    epochs = int(card.config.get("epochs", 1))
    for path, sample in _all_samples(directory, card):
        if written not in bytes(sample.members.get("json", b"")):
            continue
        try:
            documents = packed_sequence(sample.members).documents
        except ValueError as error:
            raise damaged(path, f"sample {sample.key}: {error}") from error
        for document in documents:
            if document.id == identifier:
                epoch = min(int(document.progress * epochs), epochs - 1)
                yield {"shard": path.name, "sequence": int(sample.key), "epoch": epoch, **document._asdict()}


def _all_samples(directory: Path, card: Card) -> Iterator[tuple[Path, Sample]]:
    paths = [directory / shard["name"] for shard in card.sample_shards]
    return each_sample(paths, f"why: {card.kind}")


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"the file is damaged ({error})", where=path, hint="`duologue verify` says what is wrong with the directory"
    )
