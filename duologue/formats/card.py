"""`dataset.json`, the card that makes a directory an artefact: written last, refused where it is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import fingerprint
from duologue.formats.places import entries
from duologue.formats.publish import UNFINISHED, claim, make_directory, sweep, write_bytes
from duologue.formats.temporary import TEMPORARY

Kind = Literal["dialogues", "recordings", "units", "sequences"]
MANIFESTS: tuple[Kind, ...] = ("dialogues", "recordings")
"""The kinds that list what there is; all others are made of these."""
FORMAT_VERSION = 1
CARD = "dataset.json"
RUN = "run.json"
"""What makes a directory a training run."""
_SIDECARS = "*-[0-9]*.json"
_PARTS = ("*-[0-9]*.tar", "*-[0-9]*.parquet", _SIDECARS, UNFINISHED, f"{TEMPORARY}*")
_OF_TOTALS = {"inputs", "samples", "rejects"}
_OF_A_SHARD = {"name", "samples", "bytes", "sha256"}


@dataclass(frozen=True)
class Card:
    """What a finished artefact says of itself. Holds no time of day and no absolute path.

    Attributes:
        kind: which of the artefacts this is; manifests are "dialogues" or "recordings".
        config: every setting that the content depends on.
        parents: `{"kind", "fingerprint"}` of the artefacts it was made from, in the order they were given.
        tokenizer: identity of the unit tokenizer, from unit sets on.
        vocabulary: identity of the vocabulary, in sequence sets.
        shards: `{"name", "samples", "bytes", "sha256"}` and "tokens" or "seconds", in order.
        totals: sums over the shards, "inputs" and "rejects" among them.
        rejects: how many inputs were rejected, by reason.
        licences: the licences of everything that went into it, sorted.
    """

    kind: Kind
    config: Mapping[str, Any]
    parents: Sequence[Mapping[str, str]] = ()
    tokenizer: Mapping[str, Any] | None = None
    vocabulary: Mapping[str, Any] | None = None
    shards: Sequence[Mapping[str, Any]] = ()
    totals: Mapping[str, Any] = field(default_factory=dict)
    rejects: Mapping[str, int] = field(default_factory=dict)
    licences: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """The sha256 that names the content: of the config, the identities and the parents' fingerprints."""
        config = {
            "kind": self.kind,
            "format": FORMAT_VERSION,
            "config": self.config,
            "tokenizer": self.tokenizer,
            "vocabulary": self.vocabulary,
        }
        return fingerprint(config, [parent["fingerprint"] for parent in self.parents])

    @property
    def sample_shards(self) -> list[Mapping[str, Any]]:
        """The entries of the shards that hold the samples: all but kept audio, which has shards beside them."""
        return [shard for shard in self.shards if not shard["name"].startswith("audio-")]

    def as_parent(self) -> dict[str, str]:
        """Return the entry that an artefact made from this one lists under `parents`."""
        return {"kind": self.kind, "fingerprint": self.fingerprint}


def write_card(directory: Path, card: Card) -> None:
    """Write `dataset.json`, which declares the directory finished.

    Raises:
        UserError: the directory cannot be written.
    """
    content = {"format": FORMAT_VERSION, "fingerprint": card.fingerprint, **asdict(card)}
    write_bytes(directory / CARD, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
    (directory / UNFINISHED).unlink(missing_ok=True)


def read_card(directory: Path, *kinds: Kind) -> Card:
    """Read the card of a finished artefact.

    Args:
        directory: the artefact.
        kinds: the kinds that will do; any, if none is named.

    Raises:
        UserError: there is no such directory, it is unfinished, damaged, of a newer format, or another kind.
    """
    path = directory / CARD
    if directory.is_file():
        raise UserError(
            "this is a file; an artefact of Duologue is a directory",
            where=directory,
            hint="List a corpus first: `duologue manifest --help`",
        )
    if not directory.is_dir():
        raise UserError("there is no such directory", where=directory, hint="Check the path")
    if not path.exists():
        raise _without_card(directory)
    try:
        with explained(path, "reading"):
            content = json.loads(path.read_bytes())
        version = content.pop("format")
        recorded = content.pop("fingerprint")
        if version > FORMAT_VERSION:
            raise UserError(
                f"the artefact has format {version}; this Duologue reads up to {FORMAT_VERSION}",
                where=path,
                hint="Upgrade Duologue",
            )
        card = Card(**content)
        if misshapen := _misshapen(card):
            raise ValueError(f"its {', '.join(misshapen)} cannot be read")
        if gaps := _gaps(card):
            raise ValueError("; ".join(gaps))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"the card is damaged ({error})", where=path, hint=mending(directory)) from error
    if card.fingerprint != recorded:
        raise UserError(
            f"the card was changed by hand: it says {str(recorded)[:12]}, its content gives {card.fingerprint[:12]}",
            where=path,
            hint=mending(directory),
        )
    if kinds and card.kind not in kinds:
        wanted = " or ".join(kinds)
        raise UserError(
            f"this is a set of {card.kind}; {wanted} are needed here",
            where=directory,
            hint="Check the order of the steps: manifest, then synthesize or tokenize, then mix, then train",
        )
    return card


def _misshapen(card: Card) -> list[str]:
    """Return the fields that are not built as those of a card are."""

    def all_are(kind: type, values: Any) -> bool:
        return isinstance(values, list) and all(isinstance(value, kind) for value in values)

    def numbers(part: Mapping[str, Any], *names: str) -> bool:
        return all(type(part.get(name, 0)) is int and part.get(name, 0) >= 0 for name in names)

    shapes = {
        "kind": card.kind in get_args(Kind),
        "config": isinstance(card.config, dict),
        "parents": all_are(dict, card.parents)
        and all(all_are(str, [parent.get("kind"), parent.get("fingerprint")]) for parent in card.parents),
        "tokenizer": isinstance(card.tokenizer, dict | None),
        "vocabulary": isinstance(card.vocabulary, dict | None),
        "shards": all_are(dict, card.shards)
        and all(isinstance(shard.get("name"), str) and numbers(shard, "samples", "bytes") for shard in card.shards),
        "totals": isinstance(card.totals, dict)
        and numbers(card.totals, "inputs", "samples", "rejects", "tokens", "frames"),
        "rejects": isinstance(card.rejects, dict),
        "licences": all_are(str, card.licences),
    }
    return [name for name, well in shapes.items() if not well]


def _gaps(card: Card) -> list[str]:
    """Return what is missing in the parts that the fingerprint does not hold, a clause for each."""
    parts = [("totals", card.totals, _OF_TOTALS | ({"tokens"} if card.kind == "sequences" else set()))]
    parts += [(f"shard {number}", shard, _OF_A_SHARD) for number, shard in enumerate(card.shards)]
    missing = [(name, sorted(needed - part.keys())) for name, part, needed in parts]
    return [f"its {name} lacks {', '.join(keys)}" for name, keys in missing if keys]


def _without_card(directory: Path) -> UserError:
    if (directory / RUN).exists():
        return UserError(
            "this is a training run; an artefact is needed here",
            where=directory,
            hint="Runs are what `duologue status`, `report` and `curve` look at",
        )
    if any(path for pattern in _PARTS for path in directory.glob(pattern)):
        return UserError(
            f"the directory has no {CARD}: it is unfinished",
            where=directory,
            hint="Run the command that makes it again: it goes on from where it stopped",
        )
    return UserError(
        f"there is no artefact of Duologue in this directory: no {CARD}, and no part of an unfinished one",
        where=directory,
        hint="Name the directory of one; a corpus is listed first: `duologue manifest --help`",
    )


def mending(directory: Path) -> str:
    """Return the hint for an artefact with a damaged file: where there are sidecars, the rest of it can be kept."""
    if any(directory.glob(_SIDECARS)):
        return f"Run `duologue verify {directory} --repair`: it makes again what is damaged, and only that"
    return "Delete the directory and make it again"


def is_finished(directory: Path, fingerprint: str, leftovers: Sequence[str] = ()) -> bool:
    """Make `directory` ready for an artefact, or say that the very same one is finished there already.

    Creates the directory where there is none, and marks it as ours. What killed attempts left under temporary names
    is swept.

    Args:
        directory: the `--out` of a command.
        fingerprint: of the artefact that is to be made.
        leftovers: glob patterns of the files that an unfinished run may have left, which the caller deals with.

    Raises:
        UserError: it holds another artefact, or files that no run of Duologue left there.
    """
    with explained(directory):
        make_directory(directory)
    if (directory / CARD).exists():
        card = read_card(directory)
        if card.fingerprint == fingerprint:
            sweep(directory)
            (directory / UNFINISHED).unlink(missing_ok=True)
            return True
        raise UserError(
            f"the directory holds {card.kind} made from other inputs or settings: it is {card.fingerprint[:12]}, "
            f"this would be {fingerprint[:12]}",
            where=directory,
            hint="Choose another --out, or delete the directory first",
        )
    names = [path.name for path in entries(directory)]
    # Where there is a sidecar, so is its run.
    ours = any(fnmatchcase(name, _SIDECARS) for name in names)
    claim(directory, names, leftovers, "artefact", ours=ours)
    return False
