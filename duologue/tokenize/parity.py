"""Parity: the units of one tokenizer computed in several ways, and how much differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from duologue.tokenize.architecture import SAMPLE_RATE, Architecture
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.golden import best_lag
from duologue.tokenize.windows import SPAN_S, WINDOW_S, units_of

# fairseq computes audio in pieces of this length, each by itself.
PIECE_S = SPAN_S
_BATCH = 4
# A neighbour in the batch is as long as this share of the recording that it is cut from: another length, and mostly
# another padding.
_NEIGHBOUR = 0.9
# Drift is looked for at the end, where it has added up.
_END_S = 20


@dataclass(frozen=True)
class Variant:
    """A way to compute units, other in one thing than the one that all are compared with.

    Attributes:
        name: what is compared, such as "bfloat16 v float32".
        options: for `HubertTokenizer.load`.
        neighbours: whether other recordings are encoded with each.
        longer_than_s: recordings up to this length, in seconds, would be computed in the same way.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    neighbours: bool = False
    longer_than_s: int = 0


def has_bfloat16(device: str) -> bool:
    """Return whether a device computes in bfloat16. A CPU that only imitates it takes a hundred times as long."""
    if not device.startswith("cpu"):
        return True
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def variants(precision: str, device: str, recordings: Sequence[np.ndarray]) -> tuple[list[Variant], list[str]]:
    """Return what is worth comparing, and the names of what is not computed, since the CPU only imitates bfloat16.

    Args:
        precision: of the tokenizer.
        device: where it computes.
        recordings: float32 `[channels, samples]` at 16 kHz, at most `PIECE_S` seconds each.
    """
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    found = [
        Variant(f"batches of {_BATCH} v alone", {"batch": _BATCH}, neighbours=True),
        Variant("bfloat16 v float32", {"precision": other}),
    ]
    longest = -(-max(recording.shape[1] for recording in recordings) // SAMPLE_RATE)
    if longest > WINDOW_S:
        found.insert(1, Variant("windows v whole", {"window_s": longest}, longer_than_s=WINDOW_S))
    if device != "cpu":
        found.append(Variant(f"{device.partition(':')[0]} v cpu", {"device": "cpu"}))

    def imitated(way: Variant) -> bool:
        used = {"precision": precision, "device": device, **way.options}
        # What the tokenizer is anyway, its own units need too.
        is_own = used["precision"] == precision and used["device"] == device
        return used["precision"] == "bfloat16" and not is_own and not has_bfloat16(used["device"])

    return [way for way in found if not imitated(way)], [way.name for way in found if imitated(way)]


def parity(
    directory: Path,
    about: Mapping[str, Any],
    ways: Sequence[Variant],
    recordings: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Compare units computed in several ways with those computed window by window, each alone.

    Args:
        directory: of a HuBERT tokenizer.
        about: its `tokenizer.json`.
        ways: from `variants`.
        recordings: as for `variants`.
        reference: the units of each, int16 `[channels, frames]`.
        advance: called after each recording.

    Returns:
        For each way its name, the frames compared, how many units changed, their share, and the drift: the lag in
        frames, largest of all channels, at which the ends fit best.
    """
    rows = []
    for way in ways:
        # One at a time: each has a copy of the weights.
        tokenizer = HubertTokenizer.load(directory, about, **{"batch": 1, **way.options})
        frames = changed = drift = 0
        for recording, wanted, got in zip(
            recordings, reference, _encoded(tokenizer, recordings, way.neighbours), strict=True
        ):
            advance()
            if recording.shape[1] <= way.longer_than_s * SAMPLE_RATE:
                continue
            frames += wanted.size
            changed += int((got != wanted).sum())
            drift = max([drift, *_drifts(got, wanted, tokenizer.rate)], key=abs)
        rows.append(
            {"what": way.name, "frames": frames, "changed": changed, "share": changed / frames, "drift_frames": drift}
        )
    return rows


def _encoded(tokenizer: HubertTokenizer, recordings: Sequence[np.ndarray], neighbours: bool) -> Iterator[np.ndarray]:
    """Yield the units of each recording; those of neighbours are left out."""

    def mixed() -> Iterator[list[np.ndarray]]:
        for recording in recordings:
            yield [recording]
            if neighbours:
                yield [recording[:, : max(int(_NEIGHBOUR * recording.shape[1]), 1)]]

    for i, units in enumerate(tokenizer.encode(mixed())):
        assert isinstance(units, np.ndarray)
        if not neighbours or i % 2 == 0:
            yield units


def _drifts(units: np.ndarray, wanted: np.ndarray, rate: int) -> list[int]:
    end = _END_S * rate
    return [best_lag(row[-end:], other[-end:])[0] for row, other in zip(units, wanted, strict=True)]


def pieces(audio: np.ndarray) -> list[np.ndarray]:
    """Cut `[channels, samples]` at 16 kHz into pieces of `PIECE_S` seconds, as fairseq does."""
    step = PIECE_S * SAMPLE_RATE
    return [audio[:, first : first + step] for first in range(0, audio.shape[1], step)]


def clock(samples: int, architecture: Architecture) -> dict[str, int]:
    """Compare the clock with that of pieces.

    Args:
        samples: of a recording at 16 kHz.
        architecture: of the model.

    Returns:
        "units": ceil(samples / hop); "in_pieces": what the convolutions reach of pieces of `PIECE_S` seconds;
        "lost": the difference.
    """
    units = units_of(samples, architecture.hop)
    whole, rest = divmod(samples, PIECE_S * SAMPLE_RATE)
    reached = whole * architecture.frames_of(PIECE_S * SAMPLE_RATE) + architecture.frames_of(rest)
    return {"units": units, "in_pieces": reached, "lost": units - reached}
