"""Random choices without state: every one is a hash of (seed, purpose, id), the same on any machine."""

from __future__ import annotations

import hashlib

import numpy as np


def _digest(parts: tuple[str | int, ...], size: int) -> bytes:
    # The unit separator cannot stand in an id, so ("a", "bc") and ("ab", "c") differ.
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


def integer(*parts: str | int) -> int:
    """Return a number in [0, 2^64), decided by `parts` alone."""
    return int.from_bytes(_digest(parts, 8), "big")


def uniform(*parts: str | int) -> float:
    """Return a number in [0, 1) with 53 random bits, decided by `parts` alone."""
    return (integer(*parts) >> 11) * 2.0**-53


def generator(*parts: str | int) -> np.random.Generator:
    """Return a numpy generator seeded by `parts` alone, for choices that need many draws."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(parts, 16), "big")))
