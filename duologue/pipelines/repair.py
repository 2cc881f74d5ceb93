"""Taking back what is damaged, so that the command which made an artefact makes just that again."""

from __future__ import annotations

import fcntl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.errors import UserError, explained
from duologue.formats.card import CARD, MANIFESTS, Card, read_card
from duologue.formats.fingerprint import sha256_file
from duologue.formats.locks import locked
from duologue.formats.places import remove_tree
from duologue.formats.publish import UNFINISHED, sync_directory, write_bytes
from duologue.formats.rejects import REJECTS
from duologue.formats.sequences import VOCABULARY
from duologue.pipelines.commits import Problem, number_of, partitions_of, stem_of
from duologue.pipelines.recall import Blank, command_of
from duologue.pipelines.sidecars import file_name, find_commits, read_sidecars
from duologue.pipelines.verify import find_problems
from duologue.progress import Watch

_SECONDS_FOR_WORKERS = 2


@dataclass(frozen=True)
class Repair:
    """What became of a damaged artefact.

    Attributes:
        problems: what was wrong, a sentence each.
        partitions: numbers of the shards that were taken back, to be made again.
        removed: names of the files that were deleted.
        left: those of the problems that concern files of nobody knows whom; they are left alone.
        again: the words, behind `duologue`, of the command that makes them, as far as the card tells; empty without a
            card, or if nothing was removed.
        finished: whether there is a card: a run that did not end lacks shards, though those that it has are sound.
    """

    problems: Sequence[str]
    partitions: Sequence[int]
    removed: Sequence[str]
    left: Sequence[str]
    again: Sequence[str]
    finished: bool = False

    @property
    def known(self) -> bool:
        """Whether `again` can be run as it stands."""
        return bool(self.again) and not any(isinstance(word, Blank) for word in self.again)


def repair(directory: Path, parents: Sequence[Path] = ()) -> Repair:
    """Take back the damaged shards of a unit set or a sequence set, finished or not.

    A damaged shard is deleted with its sidecar, and `dataset.json` last of all: the directory is then an unfinished
    run, which the command that made it completes, to the same bytes. Undamaged shards stay. Killed in between, the
    directory is still damaged, and repaired by the next call.

    Args:
        directory: the artefact.
        parents: where to look for what it was made of, beside the neighbourhood; only for the command in `again`.

    Raises:
        UserError: it is damaged and a manifest, or without sidecars; it is nothing of Duologue; or a run is writing
            there.
    """
    with explained(directory), locked(_existing(directory), fcntl.LOCK_EX, _SECONDS_FOR_WORKERS):
        card, found = _look(directory)
        if found and card is not None and card.kind in MANIFESTS:
            raise UserError(
                f"a manifest is not made of parts that can be made again: {found[0].what}",
                where=found[0].path,
                hint="Delete the directory and run the `duologue manifest` that made it again",
            )
        if found and card is not None and not any(directory.glob(f"{stem_of(card)}-[0-9]*.json")):
            raise UserError(
                f"the set has no sidecars, so that nothing of it could be kept: {found[0].what}",
                where=found[0].path,
                hint="Copy its sidecars to it too (*.json), or delete the directory and make it again",
            )
        foreign = _foreign({problem.path for problem in found}, directory, card)
        left = [problem for problem in found if problem.path in foreign]
        mended = [problem for problem in found if problem.path not in foreign]
        if not mended:
            return Repair([str(p) for p in found], (), (), [str(p) for p in left], (), finished=card is not None)
        damaged = sorted({number for p in mended if (number := number_of(p.path)) is not None})
        removed = _take_back(directory, damaged, mended)
    again = () if card is None else command_of(directory, card, parents)
    return Repair([str(p) for p in found], damaged, removed, [str(p) for p in left], again)


def _existing(directory: Path) -> Path:
    if not directory.is_dir():
        read_card(directory)
    return directory


def _look(directory: Path) -> tuple[Card | None, list[Problem]]:
    try:
        card = read_card(directory)
    except UserError as error:
        return None, _unfinished(directory, error)
    return card, find_problems(directory)


def _unfinished(directory: Path, error: UserError) -> list[Problem]:
    """Return what is wrong with an artefact without a card that can be read, by its sidecars.

    Args:
        directory: the artefact.
        error: what is wrong with its card.
    """
    paths = [commit.path for commit in find_commits(directory)]
    if not paths:
        raise error
    card = directory / CARD
    problems = [Problem(card, error.what)] if card.exists() else []
    with Watch("verify: checksums", len(paths), "sidecars", quiet=True) as watch:
        for path, sidecar in zip(paths, read_sidecars(paths), strict=True):
            watch.advance()
            if sidecar is None:
                problems.append(Problem(path, "the sidecar is damaged"))
                continue
            for shard in sidecar.shards.values():
                shard_path = directory / shard["name"]
                if not shard_path.is_file():
                    problems.append(Problem(shard_path, "the shard is missing"))
                elif shard_path.stat().st_size != shard["bytes"] or sha256_file(shard_path) != shard["sha256"]:
                    problems.append(Problem(shard_path, "its checksum is not its sidecar's: its bytes were changed"))
    return problems


def _foreign(paths: Collection[Path], directory: Path, card: Card | None) -> set[Path]:
    """Return those files that are named like shards and are none of the artefact's: nobody asked to delete them."""
    if card is None:
        return set()
    stem = stem_of(card)
    known = {shard["name"] for shard in card.shards}
    known |= {file_name(stem, partition.index, "json") for partition in partitions_of(card)}
    numbers = {path: number for path in paths if (number := number_of(path)) is not None and path.name not in known}
    sidecars = read_sidecars([directory / file_name(stem, number, "json") for number in numbers.values()])
    return {
        path
        for path, sidecar in zip(numbers, sidecars, strict=True)
        if sidecar is None or path.name not in {shard["name"] for shard in sidecar.shards.values()}
    }


def _take_back(directory: Path, damaged: Sequence[int], problems: Sequence[Problem]) -> list[str]:
    """Delete the commits of partitions, then their shards, then what is written at the end of a run."""
    paths = [
        path
        for suffix in ("json", "tar")
        for path in sorted(directory.glob(f"*-[0-9]*.{suffix}"))
        if number_of(path) in damaged
    ]
    # Of a set that loses every shard, nothing else says whose the rest is.
    write_bytes(directory / UNFINISHED, b"")
    removed = []
    for path in [*paths, directory / REJECTS]:
        if path.exists():
            path.unlink()
            removed.append(path.name)
    vocabulary = directory / VOCABULARY
    if any(vocabulary in (problem.path, *problem.path.parents) for problem in problems):
        remove_tree(vocabulary)
        removed.append(vocabulary.name)
    sync_directory(directory)
    # Last: until then the directory says of itself that it is damaged, and never passes for one without damage.
    if (directory / CARD).exists():
        (directory / CARD).unlink()
        removed.append(CARD)
        sync_directory(directory)
    return removed
