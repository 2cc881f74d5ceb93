"""Which audio has golden units, and what a tokenizer makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from duologue.errors import UserError
from duologue.formats.audio import probe, read_channels
from duologue.formats.rejects import Unusable
from duologue.tokenize.architecture import Architecture
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.golden import compare, judged, near_ties, read_golden
from duologue.tokenize.parity import PIECE_S, pieces
from duologue.tokenize.tokenizer import QUANTIZER, Tokenizer
from duologue.tokenize.windows import WINDOW_S

BUNDLED = Path(__file__).parents[1] / "bundled"
SAMPLE = BUNDLED / "hubert" / "6313-76958-0021.flac"
SAMPLE_UNITS = BUNDLED / "hubert" / "sample.base.L9.km500.km"
SAMPLE_WEIGHTS = "hubert_base_ls960, layer 9, km500"
_BASE = {"dim": 768, "heads": 12, "feed": 3072, "conv_norm": "group", "norm_first": False}
# In the name of a quantizer, the layer that it was made for: km_L11.bin, layer-6.npy.
_LAYER = re.compile(r"(?<![a-z0-9])l(?:ayer)?[_-]?(\d+)")


@dataclass(frozen=True)
class Case:
    """An audio file with golden units.

    Attributes:
        audio: the file.
        golden: int64 `[frames]` for each of its channels.
        weights: what the golden units belong to, where they ship with the package; else None.
        required: whether the tokenizer must give them.
    """

    audio: Path
    golden: Sequence[np.ndarray]
    weights: str | None = None
    required: bool = True


@dataclass(frozen=True)
class _Way:
    """A way to compute units; `cut` gives the parts of the audio that are computed each by itself."""

    name: str
    tokenizer: Tokenizer
    cut: Callable[[np.ndarray], list[np.ndarray]]
    frames_of: Callable[[int], int]

    def units(self, audio: np.ndarray) -> tuple[np.ndarray, int]:
        """Return int `[channels, frames]`, and how many frames at the end the convolutions do not reach."""
        parts = self.cut(audio)
        found = [units for units in self.tokenizer.encode([part] for part in parts) if isinstance(units, np.ndarray)]
        reached = [self.frames_of(part.shape[1]) for part in parts]
        within = [units[:, :count] for units, count in zip(found[:-1], reached, strict=False)]
        return np.concatenate([*within, found[-1]], axis=1), found[-1].shape[1] - reached[-1]

    def features(self, audio: np.ndarray) -> np.ndarray:
        """Return float32 `[channels, frames, dim]` of the frames that the convolutions reach."""
        assert isinstance(self.tokenizer, HubertTokenizer)
        parts = self.tokenizer.features([part] for part in self.cut(audio))
        return np.concatenate([part for part in parts if isinstance(part, np.ndarray)], axis=1)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn audio that cannot be used inside the block into a `UserError` naming `path`."""
    try:
        yield
    except Unusable as refusal:
        raise UserError(refusal.message, where=path, hint="Give another --audio file") from refusal


def cases_of(audio: Sequence[Path], units: Sequence[Path], about: Mapping[str, Any], vocabulary: int) -> list[Case]:
    """Return the user's golden units with their audio, and the sample that ships where it may belong.

    Args:
        audio: the user's files.
        units: golden units of these files, an utterance for each channel, in order.
        about: the tokenizer's `tokenizer.json`.
        vocabulary: of the tokenizer.

    Raises:
        UserError: golden units or audio cannot be read, or do not go together.
    """
    if not units:
        return _shipped(about)
    channels = []
    for path in audio:
        with readable(path):
            channels.append(probe(path).channels)
    golden = read_golden(units, vocabulary)
    if len(golden) != sum(channels):
        raise UserError(
            f"there are golden units of {len(golden)} utterances, and {sum(channels)} channels of audio",
            where="--units",
            hint="Give an utterance for each channel of the --audio files, in their order",
        )
    ends = np.cumsum([0, *channels])
    own = [Case(path, golden[first:end]) for path, first, end in zip(audio, ends, ends[1:], strict=False)]
    return [*own, *_shipped(about)]


def _shipped(about: Mapping[str, Any]) -> list[Case]:
    """Return the sample that ships, where the tokenizer's shape or its origin's names are those of its weights."""
    identity, origin = about["identity"], about.get("origin", {})
    shape = identity.get("architecture", {})
    base = all(shape.get(name) == value for name, value in _BASE.items())
    if not base or (identity["rate"], identity["vocabulary"], identity["quantizer"]["kind"]) != (50, 500, "kmeans"):
        return []
    checkpoint = str(origin.get("checkpoint", "")).lower()
    named = all(word in checkpoint for word in ("hubert", "base", "ls960"))
    named = named and "km500" in str(origin.get("quantizer", "")).lower() and layer_named(about) == 9
    if not named and identity["layer"] != 9:
        return []
    return [Case(SAMPLE, read_golden([SAMPLE_UNITS], 500), SAMPLE_WEIGHTS, required=named)]


def layer_named(about: Mapping[str, Any]) -> int | None:
    """Return the layer in the name of the file that a tokenizer's quantizer was read from, or None."""
    found = _LAYER.search(str(about.get("origin", {}).get("quantizer", "")).lower())
    return int(found[1]) if found else None


def compared(
    cases: Sequence[Case],
    tokenizer: Tokenizer,
    directory: Path,
    about: Mapping[str, Any],
    advance: Callable[[], None],
) -> list[dict[str, Any]]:
    """Compare the units of each channel with its golden ones.

    A HuBERT tokenizer computes them in float32, as others do; of audio longer than a window in both ways: in windows,
    and as fairseq does, in pieces of 100 s. The better one counts: what is looked for is another model, layer,
    normalisation or quantizer, and `parity` says what precision and windows change.

    Args:
        cases: from `cases_of`.
        tokenizer: as it was loaded from `directory`.
        directory: of the tokenizer.
        about: its `tokenizer.json`.
        advance: called after each case.

    Returns:
        A row for each channel: "audio", "channel", "weights" and "required" of the case, the way in which it was
        "computed", `Comparison`'s attributes, "share", "spare" (frames at the end that golden units may
        lack), "near_ties", "passed" and "verdict".

    Raises:
        UserError: audio cannot be read.
    """
    rows = []
    long = False
    for case in cases:
        with readable(case.audio):
            long = long or probe(case.audio).duration_s > WINDOW_S
    ways = _ways(tokenizer, directory, about, long) if cases else []
    centroids = None
    if about["identity"].get("quantizer", {}).get("kind") == "kmeans":
        centroids = load_file(directory / QUANTIZER)["centroids"]
    for case in cases:
        with readable(case.audio):
            sides = [(case.audio, channel) for channel in range(len(case.golden))]
            audio = read_channels(sides, tokenizer.sample_rate)
        whose = {"audio": case.audio.name, "weights": case.weights, "required": case.required}
        fitting = ways if audio.shape[1] > WINDOW_S * tokenizer.sample_rate else ways[:1]
        results = [_rows(way, audio, case.golden, centroids) for way in fitting]
        for channel, found in enumerate(zip(*results, strict=True)):
            best = max(found, key=lambda row: (row["passed"], row["share"]))
            rows.append({**whose, "channel": channel, **best})
        advance()
    return rows


def _ways(tokenizer: Tokenizer, directory: Path, about: Mapping[str, Any], long: bool) -> list[_Way]:
    if not isinstance(tokenizer, HubertTokenizer):
        hop = tokenizer.sample_rate // tokenizer.rate
        return [_Way("whole", tokenizer, lambda audio: [audio], lambda samples: -(-samples // hop))]
    frames_of = Architecture.from_dict(about["identity"]["architecture"]).frames_of
    if tokenizer.identity["precision"] != "float32":
        tokenizer = HubertTokenizer.load(directory, about, precision="float32", batch=1)
    ways = [_Way("in windows", tokenizer, lambda audio: [audio], frames_of)]
    if long:
        whole = HubertTokenizer.load(directory, about, precision="float32", batch=1, window_s=PIECE_S)
        ways.append(_Way(f"in pieces of {PIECE_S} s", whole, pieces, frames_of))
    return ways


def _rows(
    way: _Way, audio: np.ndarray, golden: Sequence[np.ndarray], centroids: np.ndarray | None
) -> list[dict[str, Any]]:
    units, spare = way.units(audio)
    features = None
    rows = []
    for channel, (own, wanted) in enumerate(zip(units, golden, strict=True)):
        comparison = compare(own, wanted)
        ties = 0
        if comparison.share < 1 and not comparison.deduplicated and centroids is not None:
            features = way.features(audio) if features is None else features
            count = min(len(wanted), features.shape[1])
            near = near_ties(features[channel, :count], centroids, own[:count], wanted[:count])
            ties = int(near[own[:count] != wanted[:count]].sum())
        passed, verdict = judged(comparison, spare, ties)
        rows.append(
            {
                "computed": way.name,
                **asdict(comparison),
                "share": comparison.share,
                "spare": spare,
                "near_ties": ties,
                "passed": passed,
                "verdict": verdict,
            }
        )
    return rows
