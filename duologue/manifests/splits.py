"""Which split a dialogue belongs to: decided by a hash of its id alone, so it never changes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from duologue.errors import UserError
from duologue.formats import seeds

NAMES = ("train", "valid", "test")


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
