"""What the exports share: a directory that holds one export and nothing else, described by a file written last.

An export leaves the formats of the project, so it has no `dataset.json`: no other command reads it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import UserError, explained
from duologue.formats.card import Card
from duologue.formats.fingerprint import fingerprint, sha256_file
from duologue.formats.publish import UNFINISHED, claim, make_directory, write_bytes
from duologue.formats.rejects import REJECTS, Reject, count_by_reason, write_rejects

ABOUT = "export.json"
STATION = "export"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Export:
    """An export to be made.

    Attributes:
        kind: what it is made for, such as "dgslm".
        out: its directory.
        parent: the card of the artefact that is exported.
        names: every file that it may have, beside the rejects and its own description.
        settings: what its content depends on beside the parent.
    """

    kind: str
    out: Path
    parent: Card
    names: Collection[str]
    settings: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """The sha256 that names the content."""
        config = {"kind": self.kind, "format": _FORMAT_VERSION, "settings": self.settings}
        return fingerprint(config, [self.parent.fingerprint])

    def begin(self) -> dict[str, Any] | None:
        """Make the directory ready, or return the description of the very same export finished there before.

        Raises:
            UserError: the directory holds something else, or cannot be written.
        """
        with explained(self.out):
            make_directory(self.out)
            present = sorted(path.name for path in self.out.iterdir())
        if ABOUT in present:
            return self._finished()
        for name in claim(self.out, present, [*self.names, REJECTS], "export"):
            (self.out / name).unlink()
        return None

    def _finished(self) -> dict[str, Any]:
        path = self.out / ABOUT
        try:
            with explained(path, "reading"):
                about = json.loads(path.read_bytes())
            kind, made = about["kind"], about["fingerprint"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the description of the export is damaged ({error})",
                where=path,
                hint="Delete the directory and export again",
            ) from error
        if made != self.fingerprint:
            raise UserError(
                f"the directory holds an export for {kind}, made of other inputs: it is {made[:12]}, this would be "
                f"{self.fingerprint[:12]}",
                where=self.out,
                hint="Choose another --out, or delete the directory first",
            )
        (self.out / UNFINISHED).unlink(missing_ok=True)
        return about

    def finish(
        self, samples: int, rejects: Sequence[Reject], about: Mapping[str, Any], totals: Mapping[str, int]
    ) -> dict[str, Any]:
        """Write the rejects and `export.json`, which declares the directory finished.

        Args:
            samples: how many inputs are in the export.
            rejects: the others, and what was left out of those that are in it.
            about: what the description says for this kind of export.
            totals: what its totals say besides.

        Returns:
            The description. It holds no time of day and no absolute path.

        Raises:
            UserError: nothing could be exported, or the directory cannot be written.
        """
        whole = [reject for reject in rejects if reject.turn is None]
        if not samples:
            raise UserError(
                f"none of the {len(whole)} inputs could be exported; of the first: {whole[0].message} ({whole[0].id})"
                if whole
                else "there is nothing to export",
                where=self.out,
                hint="Look at what is exported: `duologue verify` and `duologue inspect`",
            )
        write_rejects(self.out, rejects)
        files = [path for name in sorted(self.names) if (path := self.out / name).exists()]
        content = {
            "format": _FORMAT_VERSION,
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "parent": self.parent.as_parent(),
            **about,
            "totals": {"inputs": samples + len(whole), "samples": samples, "rejects": len(whole), **totals},
            "rejects": count_by_reason(rejects),
            "licences": list(self.parent.licences),
            "files": [
                {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in files
            ],
        }
        write_bytes(self.out / ABOUT, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
        (self.out / UNFINISHED).unlink(missing_ok=True)
        return content
