"""Fitting a tokenizer on the recordings of a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.manifests.schema import Manifest, Recording
from duologue.pipelines.tokenize import recording_blocks
from duologue.progress import Watch, say
from duologue.tokenize.directory import make_ready
from duologue.tokenize.fit import fit
from duologue.tokenize.mfcc import SAMPLE_RATE


def fit_tokenizer(
    manifest: Path, out: Path, *, units: int = 500, seed: int = 0, frames: int = 200_000
) -> dict[str, Any]:
    """Fit a tokenizer of the embedded kind on both channels of every recording of the split "train".

    Recordings that cannot be used are named and left out.

    Args:
        manifest: of recordings.
        out: the tokenizer's directory; empty, not there, or what an interrupted fit left.
        units: size of the vocabulary, unit 0 for silence among them.
        seed: of the sampling and of k-means.
        frames: how many different frames k-means sees at most.

    Returns:
        Frames, units used, perplexity, and how many recordings were used and left out.

    Raises:
        UserError: an option is out of range, the manifest is of another kind, `out` holds something, or there is
            too little audio.
    """
    if units < 2 or frames < 1 or not 0 <= seed < 2**32:
        raise UserError(
            "--units is 2 or more, --frames 1 or more, --seed between 0 and 4294967295", hint="Correct the option"
        )
    recordings = Manifest(manifest)
    if recordings.card.kind != "recordings":
        raise UserError("a tokenizer is fitted on recordings", where=manifest, hint="Use `duologue manifest stereo`")
    make_ready(out)
    used = left_out = 0

    def channels() -> Iterator[np.ndarray]:
        nonlocal used, left_out
        with Watch("tokenizer fit", len(recordings), "recordings") as watch:
            for row in recordings.rows():
                assert isinstance(row, Recording)
                try:
                    audio = _whole(row, recordings.root) if row.split == "train" else None
                except Unusable as refusal:
                    say(f"left out: {row.id}: {refusal.message}")
                    left_out, audio = left_out + 1, None
                if audio is not None:
                    used += 1
                    yield from audio
                watch.advance()

    report = fit(channels(), out, units=units, seed=seed, frames=frames)
    return {**report, "recordings": used, "left_out": left_out}


def _whole(recording: Recording, root: Path) -> np.ndarray:
    return np.concatenate(list(recording_blocks(recording, root, SAMPLE_RATE)), axis=1)
