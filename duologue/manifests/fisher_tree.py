"""Finding Fisher English on a disk: calls and tables by their names, wherever below the roots they lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.places import common, place, shown, walk
from duologue.formats.sphere import is_sphere
from duologue.manifests.audio_files import SUFFIXES, head_of

_CALL = re.compile(r"fe_03_([0-9]{5})(?:\.[0-9a-z]+)*", re.IGNORECASE | re.ASCII)
_TABLE = re.compile(r"fe_03_(?:p[0-9]_)?(calldata|filelist|pindata)\.tbl", re.IGNORECASE | re.ASCII)
# BBN's own files: what they say stands in the transcripts under `trans` as well, in the same form as LDC's.
_ORIGINALS = "bbn_orig"


@dataclass
class Call:
    """The files of a call, sorted by path: more than one of a kind where it was found twice."""

    audio: list[Path] = field(default_factory=list)
    transcripts: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Tree:
    """What was found.

    Attributes:
        root: the directory that all roots lie in.
        calls: by number of five digits, in order; each has audio, a transcript, or both.
        tables: files by kind: "calldata", "filelist" and "pindata", sorted by path.
    """

    root: Path
    calls: Mapping[str, Call]
    tables: Mapping[str, Sequence[Path]]

    def identity(self) -> dict[str, Any]:
        """Return what tells this corpus from another: audio by name, size and beginning, the rest by sha256."""
        return {
            "audio": _identity((path for call in self.calls.values() for path in call.audio), self.root, head_of),
            "transcripts": _identity(
                (path for call in self.calls.values() for path in call.transcripts), self.root, sha256_file
            ),
            "tables": _identity((path for paths in self.tables.values() for path in paths), self.root, sha256_file),
        }


def find_fisher(roots: Sequence[str]) -> Tree:
    """Find calls and tables below the roots, in any of the trees that Fisher comes in.

    A call is known by the name `fe_03_NNNNN`: with the suffix `.txt` it is a transcript; with one of an audio file,
    or with the first bytes of NIST SPHERE whatever the suffix, it is audio. Hidden files, linked directories, links
    that lead nowhere and BBN's original files (`bbn_orig`) are left out.

    Raises:
        UserError: a root is no directory, or no call is found.
    """
    if not roots:
        raise UserError("no directory was named", hint="Name the directories that hold the audio and the transcripts")
    for root in roots:
        if not place(root).is_dir():
            raise UserError("there is no such directory", where=root, hint="Check the path")
    directories = [place(root).resolve() for root in roots]
    calls: dict[str, Call] = {}
    tables: dict[str, list[Path]] = {"calldata": [], "filelist": [], "pindata": []}
    # One root may lie in another: a file is a file once.
    for path in sorted({path for directory in directories for path in walk(directory)}):
        table, named = _TABLE.fullmatch(path.name), _CALL.fullmatch(path.name)
        # Anything else than a file must not be opened: a pipe would never end, a link may lead nowhere.
        if not (table or named) or _ORIGINALS in path.parts or not path.is_file():
            continue
        if table:
            tables[table[1].lower()].append(path)
        elif named:
            suffix = path.suffix.lower()
            if suffix == ".txt":
                calls.setdefault(named[1], Call()).transcripts.append(path)
            elif suffix in SUFFIXES or _is_sphere(path):
                calls.setdefault(named[1], Call()).audio.append(path)
    if not calls:
        raise UserError(
            "no call of Fisher English was found",
            where=roots[0],
            hint="Audio is called fe_03_NNNNN.sph, a transcript fe_03_NNNNN.txt, in any directory below",
        )
    return Tree(common(directories), dict(sorted(calls.items())), tables)


def _is_sphere(path: Path) -> bool:
    with explained(path, "reading"):
        return is_sphere(path)


def _identity(paths: Iterable[Path], root: Path, digest: Callable[[Path], Any]) -> dict[str, Any]:
    digests = []
    for path in paths:
        with explained(path, "reading"):
            digests.append([shown(path.relative_to(root)), digest(path)])
    return {"files": len(digests), "sha256": fingerprint(digests)}
