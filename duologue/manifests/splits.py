"""Which split a dialogue or recording belongs to: by a hash of its id, by its speakers, or by a list."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats import seeds
from duologue.formats.places import place
from duologue.formats.rejects import Unusable
from duologue.manifests.disjoint import part

NAMES = ("train", "valid", "test")
_ALSO = {"validation": "valid", "val": "valid", "dev": "valid"}
_SECTION = re.compile(r"\[\s*(\w+)\s*\]")
_LISTED = re.compile(r'[\s,]"?(\w+)"?$')


@dataclass(frozen=True)
class Splits:
    """Shares of train, valid and test; only their proportions count."""

    shares: tuple[float, float, float] = (98, 1, 1)

    def __str__(self) -> str:
        return ":".join(f"{share:g}" for share in self.shares)

    @classmethod
    def parse(cls, text: str) -> Splits:
        """Read shares such as "98:1:1".

        Raises:
            UserError: these are not three shares, none below zero and one at least above it.
        """
        try:
            train, valid, test = (float(part) for part in text.split(":"))
        except ValueError:
            train = valid = test = math.nan
        if not (min(train, valid, test) >= 0 and 0 < train + valid + test < math.inf):
            raise UserError(
                f"{text!r} are not shares of train, valid and test",
                where="--splits",
                hint="Give three numbers, such as 98:1:1",
            )
        return cls((train, valid, test))


def split_of(id: str, splits: Splits) -> str:
    """Return "train", "valid" or "test" for a dialogue or recording, by a hash of its id."""
    place = seeds.uniform("split", id) * sum(splits.shares)
    for name, border in zip(NAMES, itertools.accumulate(splits.shares), strict=True):
        if place < border:
            return name
    # Rounding can put the place on the last border: it belongs to the last split that has a share.
    return [name for name, share in zip(NAMES, splits.shares, strict=True) if share > 0][-1]


def split_called(name: str) -> str | None:
    """Return "train", "valid" or "test" for a name of theirs, such as "dev"; None for any other text."""
    name = name.strip().lower()
    return name if name in NAMES else _ALSO.get(name)


@dataclass(frozen=True)
class SplitPlan:
    """The split of every conversation of a corpus. Made by `plan_splits`.

    Attributes:
        identity: what the plan depends on beside the conversations, as JSON: for the manifest's config.
        summary: what the plan gives and costs: `by`, and `conversations` by split. By speaker also `asked` and
            `reached` (shares of the conversations that have a split), `speakers` by split, `components`,
            `largest_component` (in conversations), `straddling` (conversations between splits, lost) and `unknown`
            (conversations without speakers, lost). By list also `unlisted` (conversations, lost) and `absent`
            (listed ids that the corpus lacks).
        shares: of train, valid and test.
        places: the split of each, None between two; None where a hash decides.
    """

    identity: Any
    summary: Mapping[str, Any]
    shares: Splits
    places: Mapping[str, str | None] | None

    def of(self, id: str) -> str:
        """Return the split of a conversation.

        Raises:
            Unusable: `no_split`: it is not listed, or a speaker of it is not known; or `straddles_splits`: its
                speakers are in different splits.
        """
        if self.places is None:
            return split_of(id, self.shares)
        if id not in self.places:
            why = "a speaker of it is not known" if self.summary["by"] == "speaker" else "the list doesn't name it"
            raise Unusable("no_split", f"it is in no split: {why}")
        split = self.places[id]
        if split is None:
            raise Unusable("straddles_splits", "its two speakers are in different splits")
        return split


def identity_of(by: str, shares: Splits) -> Any:
    """Return the `identity` of a plan before there are conversations.

    Raises:
        UserError: there is no such list.
    """
    if by == "conversation":
        return str(shares)
    if by == "speaker":
        return {"by": by, "shares": str(shares)}
    return {"by": "list", "sha256": hashlib.sha256(_bytes_of_list(place(by))).hexdigest()}


def plan_splits(conversations: Iterable[tuple[str, Sequence[str]]], by: str, shares: Splits) -> SplitPlan:
    """Decide the split of every conversation of a corpus.

    Args:
        conversations: id and the two speakers of each, in any order. A speaker who is not known is "".
        by: "conversation": by a hash of the id, so it stays when the corpus grows. "speaker": so that no speaker is
            in two splits (`disjoint.part`). Or the path of a list: lines of an id and its split parted by a tab,
            comma or space, or sections of ids, each under `[train]`, `[valid]` or `[test]`.
        shares: of train, valid and test; a list has its own.

    Raises:
        UserError: there is no such list, it is damaged or names an id for two splits; or the speakers cannot be
            parted.
    """
    if by == "conversation":
        counts = Counter(split_of(id, shares) for id, _ in conversations)
        summary = {"by": by, "conversations": _by_split(counts)}
        return SplitPlan(identity_of(by, shares), summary, shares, None)
    if by == "speaker":
        return _by_speaker(conversations, shares)
    return _by_list(conversations, place(by), shares)


def _by_split(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in NAMES}


def _by_speaker(conversations: Iterable[tuple[str, Sequence[str]]], shares: Splits) -> SplitPlan:
    known: dict[str, tuple[str, str]] = {}
    unknown = 0
    for id, speakers in conversations:
        if len(speakers) == 2 and all(speakers):
            # As a manifest does: of an id that comes twice, the first counts.
            known.setdefault(id, (speakers[0], speakers[1]))
        else:
            unknown += 1
    if unknown and not known:
        raise UserError(
            "no conversation says who speaks in it, so speakers cannot be parted",
            where="--split speaker",
            hint="Split by conversation, by a list, or name the speakers",
        )
    parted = part(known, dict(zip(NAMES, shares.shares, strict=True)))
    counts = Counter(split for split in parted.places.values() if split is not None)
    total = sum(shares.shares)
    summary = {
        "by": "speaker",
        "conversations": _by_split(counts),
        "asked": {name: round(share / total, 6) for name, share in zip(NAMES, shares.shares, strict=True)},
        "reached": {name: round(counts[name] / max(counts.total(), 1), 6) for name in NAMES},
        "speakers": _by_split(Counter(parted.homes.values())),
        "components": parted.components,
        "largest_component": parted.largest,
        "straddling": sum(split is None for split in parted.places.values()),
        "unknown": unknown,
    }
    return SplitPlan(identity_of("speaker", shares), summary, shares, parted.places)


def _bytes_of_list(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(
            "this is no way to split, and there is no such list",
            where=path,
            hint="Split by `conversation`, by `speaker`, or name a file that lists ids with their splits",
        )
    with explained(path, "reading"):
        return path.read_bytes()


def _by_list(conversations: Iterable[tuple[str, Sequence[str]]], path: Path, shares: Splits) -> SplitPlan:
    places = _listed(_bytes_of_list(path), path)
    ids = {id for id, _ in conversations}
    summary = {
        "by": "list",
        "conversations": _by_split(Counter(places[id] for id in ids if id in places)),
        "unlisted": sum(id not in places for id in ids),
        "absent": sum(id not in ids for id in places),
    }
    return SplitPlan(identity_of(str(path), shares), summary, shares, places)


def _listed(data: bytes, path: Path) -> dict[str, str]:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the list is not UTF-8 ({error})", where=path, hint="Write it again as UTF-8") from error
    places: dict[str, str] = {}
    section: str | None = None
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#") or (number == 1 and re.fullmatch(r"id[\s,]+split", line.lower())):
            continue
        heading = _SECTION.fullmatch(line)
        if heading and (named := split_called(heading[1])):
            section = named
            continue
        match = None if section else _LISTED.search(line)
        id, split = (line[: match.start()], split_called(match[1])) if match else (line, section)
        id = id.strip(' \t,"')
        if split is None or not id:
            raise UserError(
                f"line {number} is not an id and a split: {line[:60]!r}",
                where=path,
                hint="Write lines such as `call1 train`, or ids under [train], [valid] and [test]",
            )
        if places.setdefault(id, split) != split:
            raise UserError(
                f"{id!r} is listed in two splits, {places[id]} and {split}",
                where=f"{path}, line {number}",
                hint="Leave it in one",
            )
    if not places:
        raise UserError("the list names no ids", where=path, hint="Write lines such as `call1 train`")
    return places
