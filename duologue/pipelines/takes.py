"""A recording on its way to a tokenizer, block by block, with what is noted of its audio as it passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from duologue.errors import explained
from duologue.formats.audio import FlacWriter, channel_blocks
from duologue.formats.places import at_hand
from duologue.formats.rejects import Unusable
from duologue.manifests.schema import Recording
from duologue.tokenize.checks import AudioChecks, ChecksResult


class Take:
    """Both sides of a recording, to be iterated over once.

    Attributes:
        recording: a row of a manifest.
        samples: of each channel, so far.
        flac: the audio so far, if it is kept.
        checks: what was measured, once all is read, if it is checked.

    Args:
        recording: a row of a manifest.
        root: the directory that its paths are relative to.
        rate: the sample rate that is wanted, in Hz.
        keep_audio: keep the audio as FLAC.
        check: measure it.
    """

    def __init__(
        self, recording: Recording, root: Path, rate: int, *, keep_audio: bool = False, check: bool = False
    ) -> None:
        self.recording = recording
        self.samples = 0
        self.flac = FlacWriter(len(recording.audio), rate) if keep_audio else None
        self.checks: ChecksResult | None = None
        self._root, self._rate, self._check = root, rate, check

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield float32 `[2, samples]`.

        Raises:
            Unusable: a file cannot be used (`missing_file`, `undecodable`, `nan_audio`, ...), or its path leads out
                of the root (`outside_root`).
        """
        checks = AudioChecks() if self._check else None
        recording = self.recording
        for block in self._blocks():
            self.samples += block.shape[1]
            if self.flac is not None:
                self.flac.add(block)
            if checks is not None:
                checks.add(block)
            yield block
        if checks is not None:
            self.checks = checks.result(recording.turns)

    def _blocks(self) -> Iterator[np.ndarray]:
        recording = self.recording
        with ExitStack() as stack:
            copies: dict[Path, Path] = {}
            sides = []
            for path, channel in recording.sides(self._root):
                if path not in copies:
                    try:
                        with explained(path, "reading"):
                            copies[path] = stack.enter_context(at_hand(path))
                    except FileNotFoundError as error:
                        raise Unusable("missing_file", f"there is no file {path.name}") from error
                sides.append((copies[path], channel))
            yield from channel_blocks(sides, self._rate, recording.raw_rate)
