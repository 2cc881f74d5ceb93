"""Fitting a tokenizer on the recordings of a manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.manifests.manifest import Manifest
from duologue.manifests.schema import Recording
from duologue.pipelines.feeding import ahead, threads
from duologue.pipelines.takes import Take
from duologue.progress import Watch, say
from duologue.tokenize.architecture import SAMPLE_RATE
from duologue.tokenize.directory import make_ready
from duologue.tokenize.fit import fit
from duologue.tokenize.fit_hubert import fit_hubert
from duologue.tokenize.importing import read_model
from duologue.tokenize.tokenizer import MOST_UNITS, read_about

# Longer recordings are looked at in pieces: the features of one are held whole.
_PIECE_S = 600


@dataclass
class _Recordings:
    """The usable recordings of the split "train", counted."""

    manifest: Manifest
    used: int = 0
    left_out: int = 0

    def __iter__(self) -> Iterator[Iterator[np.ndarray]]:
        """Yield the blocks of each, which end early where the rest cannot be used."""
        root = self.manifest.audio_root()
        chosen = (row for row in self._watched() if row.split == "train")
        takes = (Take(row, root, SAMPLE_RATE) for row in chosen)
        reading: Iterator[tuple[Take, Iterator[np.ndarray]]] = ahead(takes, threads())
        for take, blocks in reading:
            yield self._noted(take.recording, blocks)

    def _watched(self) -> Iterator[Recording]:
        with Watch("tokenizer fit", len(self.manifest), "recordings") as watch:
            for row in self.manifest.rows():
                assert isinstance(row, Recording)
                yield row
                watch.advance()

    def _noted(self, row: Recording, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        try:
            yield from blocks
            self.used += 1
        except Unusable as refusal:
            say(f"left out: {row.id}: {refusal.message}")
            self.left_out += 1
            raise


def fit_tokenizer(
    manifest: Path,
    out: Path,
    *,
    checkpoint: str | None = None,
    layer: int | None = None,
    precision: str = "float32",
    units: int = 500,
    seed: int = 0,
    frames: int = 200_000,
) -> dict[str, Any]:
    """Fit a tokenizer on both channels of every recording of the split "train".

    Without a checkpoint it is of the embedded kind; with one, its units are found among a HuBERT layer's features.
    Recordings that cannot be used are named and left out; a long one that is damaged further in may leave the frames
    of the pieces before.

    Args:
        manifest: of recordings.
        out: the tokenizer's directory; empty, not there, what an interrupted fit left, or what this very fit made.
        checkpoint: of a HuBERT model, as for `import_tokenizer`.
        layer: of the checkpoint, counted from 1.
        precision: "float32" or "bfloat16", of the checkpoint's computation.
        units: size of the vocabulary; in the embedded kind, unit 0 for silence is among them.
        seed: of the sampling and of k-means.
        frames: how many different frames k-means sees at most.

    Returns:
        Frames, units used, perplexity, and how many recordings were used and left out; `tokenizer.json` keeps them.

    Raises:
        UserError: an option is out of range, the manifest is of another kind, `out` holds something, or there is
            too little audio.
    """
    if not 2 <= units <= MOST_UNITS or frames < 1 or not 0 <= seed < 2**32:
        raise UserError(
            f"--units is 2 to {MOST_UNITS}, --frames 1 or more, --seed between 0 and 4294967295",
            hint="Correct the option",
        )
    if (checkpoint is None) != (layer is None):
        raise UserError(
            "--checkpoint and --layer go together",
            hint="Give both for units of a HuBERT model, none of them for the embedded kind",
        )
    listed = Manifest(manifest)
    if listed.card.kind != "recordings":
        raise UserError("a tokenizer is fitted on recordings", where=manifest, hint="Use `duologue manifest stereo`")
    model = None if checkpoint is None or layer is None else read_model(checkpoint, layer, precision)
    asked = {
        "manifest": listed.card.fingerprint,
        "checkpoint_sha256": model and model.origin["checkpoint_sha256"],
        "layer": layer,
        "precision": model and precision,
        "units": units,
        "seed": seed,
        "frames": frames,
    }
    if (done := _done_before(out, asked)) is not None:
        return done
    make_ready(out)
    recordings = _Recordings(listed)

    def noted() -> dict[str, Any]:
        return {"recordings": recordings.used, "left_out": recordings.left_out, "asked": asked}

    if model is None:
        report = fit(_channels(recordings), out, units=units, seed=seed, frames=frames, noted=noted)
    else:
        pieces = (piece for blocks in recordings for piece in _pieces(blocks))
        report = fit_hubert(model, pieces, out, units=units, seed=seed, frames=frames, noted=noted)
    return _told(report)


def _done_before(out: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return what was told of the fit of this very tokenizer, if it is there."""
    with suppress(UserError):
        report = read_about(out).get("fit")
        if isinstance(report, dict) and report.get("asked") == asked:
            return _told(report)
    return None


def _told(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != "asked"}


def _channels(recordings: _Recordings) -> Iterator[np.ndarray]:
    for blocks in recordings:
        try:
            whole = np.concatenate(list(blocks), axis=1)
        except Unusable:
            continue
        yield from whole


def _pieces(blocks: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    piece: list[np.ndarray] = []
    try:
        for block in blocks:
            piece.append(block)
            if sum(one.shape[1] for one in piece) >= _PIECE_S * SAMPLE_RATE:
                yield piece
                piece = []
    except Unusable:
        return
    if piece:
        yield piece
