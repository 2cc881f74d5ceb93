"""The events of speech that is given frame by frame."""

from __future__ import annotations

import numpy as np

from duologue.formats.turntaking import Events, events


def events_of(active: np.ndarray, frame_s: float) -> Events:
    """The events of a recording: bool `[channels, frames]`, and the length of a frame in seconds."""
    quiet = np.zeros((len(active), 1), bool)
    changes = np.diff(np.concatenate([quiet, active, quiet], axis=1).astype(np.int8), axis=1)
    speech = [np.flatnonzero(row).reshape(-1, 2) * frame_s for row in changes]
    return events(speech, active.shape[1] * frame_s)
