"""What is known to be wrong with Fisher English: calls with bad audio, rows with wrong times or words."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

_FILE = resources.files("duologue.manifests") / "fisher_known.toml"
SIDES = {"A": 0, "B": 1}


@dataclass(frozen=True)
class KnownRow:
    """A row of a transcript that is known to be wrong.

    Attributes:
        start_s: when it really starts, in seconds; None if that is right.
        text: what is really said; None if that is right.
        unusable: why the row cannot be mended; None if it can.
    """

    start_s: float | None
    text: str | None
    unusable: str | None


@cache
def bad_calls() -> Mapping[str, str]:
    """Return why a call cannot be used, by its number of five digits."""
    return MappingProxyType({call["number"]: f"{call['why']} ({call['source']})" for call in _content()["call"]})


@cache
def known_rows() -> Mapping[tuple[str, int, float, float], KnownRow]:
    """Return the wrong rows by call number, channel, and start and end in seconds as the transcript has them."""
    return MappingProxyType(
        {
            (row["call"], SIDES[row["side"]], *row["times"]): KnownRow(
                row.get("start"),
                row.get("text"),
                f"{row['unusable']} ({row['source']})" if "unusable" in row else None,
            )
            for row in _content()["row"]
        }
    )


def known_bytes() -> bytes:
    """Return the file of known defects as it is, for a manifest's identity."""
    return _FILE.read_bytes()


def _content() -> dict[str, list[dict]]:
    return tomllib.loads(_FILE.read_text("utf-8"))
