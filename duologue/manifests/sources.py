"""What a user names as a corpus: files, directories and datasets, each with its identity and its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.places import is_file, place, shown, walk
from duologue.formats.rejects import Reject
from duologue.manifests import hub
from duologue.manifests.files import SUFFIXES, Record, is_readable, read_records

IsDialogue = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Source:
    """A file or a dataset of dialogues.

    Attributes:
        name: what the manifest calls it under `source`, unless the user gives another name.
        identity: what the manifest's fingerprint takes in: name and sha256 of a file, commit of a dataset.
        where: what messages call it.
        records: yields its records in order, and a reject for each one that is damaged.
    """

    name: str
    identity: Mapping[str, Any]
    where: str
    records: Callable[[IsDialogue], Iterator[Record | Reject]]


def find_sources(names: Sequence[str]) -> list[Source]:
    """Find what the user named: files, directories (recursive, sorted by path) and Hugging Face datasets.

    Raises:
        UserError: a source does not exist, is empty, or is of a kind that is not read here.
    """
    if not names:
        raise UserError("no source was named", hint="Name files, directories or datasets of dialogues")
    return [source for name in names for source in _found(name)]


def _found(name: str) -> Iterator[Source]:
    path = place(name)
    if path.is_dir():
        yield from _of_directory(path)
    elif path.exists():
        if not is_readable(path):
            raise UserError(
                f"a file with the suffix {path.suffix!r} is not read",
                where=path,
                hint=f"Give one of {', '.join(SUFFIXES)}; all but .parquet also as .gz",
            )
        yield _of_file(path, path.name, _stem(path))
    elif (dataset := hub.parse(name)) is not None and not is_readable(path):
        yield _of_dataset(dataset)
    else:
        raise UserError("there is no such file or directory", where=path, hint="Check the path")


def _of_file(path: Path, name: str, source: str) -> Source:
    with explained(path, "reading"):
        _check_file(path)
        if path.stat().st_size == 0:
            raise UserError("the file is empty", where=path, hint="Get the file again, or leave it out")
        identity = {"name": shown(name), "sha256": sha256_file(path)}
    return Source(source, identity, str(path), lambda is_dialogue: read_records(path, shown(name), is_dialogue))


def _check_file(path: Path) -> None:
    # A link may lead nowhere; a pipe may never end.
    if not is_file(path):
        raise UserError(
            "there is no file behind this name: it is a link that leads nowhere, or a pipe",
            where=path,
            hint="Mend it, or leave it out",
        )


def _of_directory(directory: Path) -> Iterator[Source]:
    name = shown(directory.resolve().name)
    if hub.is_saved(directory):
        identity = {"name": name, "sha256": _sha256_of_all(directory)}
        yield Source(name, identity, str(directory), lambda _: hub.read_saved(directory))
        return
    files = [path for path in walk(directory) if is_readable(path)]
    if not files:
        raise UserError(
            "the directory holds no file of dialogues",
            where=directory,
            hint=f"Files end in one of {', '.join(SUFFIXES)}; all but .parquet also in .gz after that",
        )
    for path in files:
        yield _of_file(path, f"{name}/{path.relative_to(directory).as_posix()}", name)


def _of_dataset(dataset: hub.HubName) -> Source:
    if dataset.is_local:
        directory = Path(dataset.path)
        name = shown(directory.resolve().name)
        local = {"name": name, "config": dataset.config, "split": dataset.split}
        identity = {**local, "sha256": _sha256_of_all(directory)}
        return Source(name, identity, dataset.path, lambda _: dataset.records(None))
    identity = dataset.identity()
    return Source(dataset.path, identity, dataset.path, lambda _: dataset.records(identity["revision"]))


def _sha256_of_all(directory: Path) -> str:
    digests = []
    for path in walk(directory):
        with explained(path, "reading"):
            _check_file(path)
            digests.append([shown(path.relative_to(directory)), sha256_file(path)])
    return fingerprint(digests)


def _stem(path: Path) -> str:
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    return shown(stem)
