"""Golden units: units that somebody else made of the same audio, read from files and compared frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from duologue.errors import UserError, explained

# Lags that are tried, in frames, and how much of two utterances must overlap for it.
MOST_LAG = 5
_LEAST_OVERLAP = 20
# Centroids are as near as each other where their squared distances differ by this share at most: some ten times what
# float32 comes to on different machines.
_TIE = 1e-3


@dataclass(frozen=True)
class Comparison:
    """Units beside golden ones.

    Attributes:
        frames: how many were compared: the length of the shorter; of deduplicated units, that of the longer.
        equal: how many of them are equal.
        length_difference: how many more units there are than golden ones.
        first_difference: the first frame that differs, or None.
        lag: frames that the units are behind the golden ones, where that makes more of them equal; else 0.
        lag_share: the share that is equal with this lag.
        deduplicated: whether the golden units were, so that both were compared without repeats.
    """

    frames: int
    equal: int
    length_difference: int
    first_difference: int | None
    lag: int
    lag_share: float
    deduplicated: bool = False

    @property
    def share(self) -> float:
        """The share of the frames that is equal."""
        return self.equal / self.frames if self.frames else 0.0


def read_golden(paths: Sequence[Path], vocabulary: int) -> list[np.ndarray]:
    """Read golden units.

    Args:
        paths: `.km` and `.txt` files, one utterance a line, whole numbers between spaces, as fairseq writes them;
            `.npy` files, an integer array of one utterance, or of one a row.
        vocabulary: number of different units that there can be.

    Returns:
        The utterances of all files, in order: int64 `[frames]`, at least one frame.

    Raises:
        UserError: a file cannot be read, or holds something else than such units.
    """
    return [utterance for path in paths for utterance in _utterances(path, vocabulary)]


def _utterances(path: Path, vocabulary: int) -> list[np.ndarray]:
    if path.suffix not in (".km", ".txt", ".npy"):
        raise UserError(
            "golden units are .km, .txt or .npy files", where=path, hint="Convert them, or give the file its suffix"
        )
    try:
        with explained(path, "reading"):
            found = _of_array(path) if path.suffix == ".npy" else _of_lines(path)
    except FileNotFoundError as error:
        raise UserError("there is no such file", where=path, hint="Check the path of --units") from error
    except (ValueError, EOFError, OverflowError) as error:
        raise UserError(
            f"these are no golden units ({error})",
            where=path,
            hint="Give one utterance a line, whole numbers between spaces, or an integer array",
        ) from error
    highest = max(int(utterance.max()) for utterance in found)
    if highest >= vocabulary:
        raise UserError(
            f"the golden units go up to {highest}, and the tokenizer has {vocabulary} units, from 0",
            where=path,
            hint="Give units of this tokenizer's quantizer",
        )
    return found


def _of_lines(path: Path) -> list[np.ndarray]:
    lines = path.read_text("utf-8-sig").splitlines()
    return _checked([np.array([int(word) for word in line.split()], np.int64) for line in lines if line.strip()])


def _of_array(path: Path) -> list[np.ndarray]:
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu" or array.ndim not in (1, 2):
        raise ValueError("not an array of whole numbers with one or two dimensions")
    return _checked(list(np.atleast_2d(array).astype(np.int64)))


def _checked(utterances: list[np.ndarray]) -> list[np.ndarray]:
    if not utterances or not all(utterance.size for utterance in utterances):
        raise ValueError("there are none")
    if min(int(utterance.min()) for utterance in utterances) < 0:
        raise ValueError("a unit is below 0")
    return utterances


def without_repeats(units: np.ndarray) -> np.ndarray:
    """Return units `[frames]` with each run of equal ones as one."""
    return units[np.diff(units, prepend=-1) != 0]


def compare(units: np.ndarray, golden: np.ndarray) -> Comparison:
    """Compare units with golden ones of the same audio.

    Deduplicated golden units are known by having no repeats, and about as many units as these have runs.

    Args:
        units: int `[frames]`.
        golden: int `[frames]`, or `[runs]` where it is deduplicated.
    """
    single = without_repeats(units)
    nearer = abs(len(golden) - len(single)) < abs(len(golden) - len(units))
    if nearer and len(golden) == len(without_repeats(golden)):
        return _deduplicated(single, golden)
    frames = min(len(units), len(golden))
    differs = np.flatnonzero(units[:frames] != golden[:frames])
    lag, share = best_lag(units, golden)
    return Comparison(
        frames=frames,
        equal=frames - len(differs),
        length_difference=len(units) - len(golden),
        first_difference=int(differs[0]) if len(differs) else None,
        lag=lag,
        lag_share=share,
    )


def _deduplicated(units: np.ndarray, golden: np.ndarray) -> Comparison:
    # A run more or less moves all that follow: places are aligned first.
    blocks = SequenceMatcher(None, units.tolist(), golden.tolist(), autojunk=False).get_matching_blocks()
    equal, frames = sum(block.size for block in blocks), max(len(units), len(golden))
    first = blocks[0].size if blocks[0].a == blocks[0].b == 0 else 0
    return Comparison(
        frames=frames,
        equal=equal,
        length_difference=len(units) - len(golden),
        first_difference=None if first == frames else first,
        lag=0,
        lag_share=equal / frames,
        deduplicated=True,
    )


def best_lag(units: np.ndarray, golden: np.ndarray) -> tuple[int, float]:
    """Find the lag with most equal frames, the least one of equals: units k + lag are golden ones k.

    Args:
        units: int `[frames]`.
        golden: int `[frames]`; lengths may differ.

    Returns:
        The lag, at most `MOST_LAG` to either side, and the share that is equal with it, of the frames that overlap.
    """
    best, best_share = 0, -1.0
    for lag in sorted(range(-MOST_LAG, MOST_LAG + 1), key=abs):
        one, other = units[max(lag, 0) :], golden[max(-lag, 0) :]
        overlap = min(len(one), len(other))
        if lag and overlap < _LEAST_OVERLAP:
            continue
        share = float((one[:overlap] == other[:overlap]).mean()) if overlap else 0.0
        if share > best_share:
            best, best_share = lag, share
    return best, best_share


def near_ties(features: np.ndarray, centroids: np.ndarray, units: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """Return bool `[frames]`: whether the golden unit's centroid is as near to the frame as the unit's, within 0.1 %.

    Args:
        features: float32 `[frames, dim]`.
        centroids: float32 `[units, dim]`.
        units: int `[frames]`.
        golden: int `[frames]`.
    """
    exact, rows = features.astype(np.float64), centroids.astype(np.float64)
    own, other = (np.square(exact - rows[chosen]).sum(axis=1) for chosen in (units, golden))
    return np.abs(other - own) <= _TIE * own


def judged(comparison: Comparison, spare: int, ties: int) -> tuple[bool, str]:
    """Say whether units are the golden ones, and what a difference points to.

    Args:
        comparison: of the two.
        spare: frames at the end that the golden units may lack.
        ties: of the frames that differ, how many are as near to the golden unit.

    Returns:
        Whether they pass, and a clause for people.
    """
    most = 0 if comparison.deduplicated else spare
    in_time = 0 <= comparison.length_difference <= most
    if comparison.equal == comparison.frames:
        if in_time:
            return True, "all are equal"
        return False, "equal as far as both go, but the lengths differ: one of them is cut, or lost frames on the way"
    if in_time and comparison.equal + ties == comparison.frames:
        return True, "the others are as near to the one unit as to the other: last bits of another machine"
    if comparison.lag and comparison.lag_share >= 0.5:
        return False, (
            f"{comparison.lag_share:.1%} are equal {abs(comparison.lag)} frames "
            f"{'later' if comparison.lag > 0 else 'earlier'}: another clock, or audio that is cut elsewhere"
        )
    if comparison.share >= 0.9:
        return False, "the model is right: another precision, resampling, normalisation or cutting of the audio"
    return False, "another layer, model, normalisation or quantizer, or other audio"
