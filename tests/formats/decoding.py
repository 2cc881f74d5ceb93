"""Audio files as the tests read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from duologue.formats import audio
from duologue.formats.rejects import Unusable


def read(path: Path, raw_rate: int | None = None) -> tuple[np.ndarray, int]:
    """All samples, float32 `[channels, samples]`, and the rate."""
    info = audio.probe(path, raw_rate)
    return np.concatenate(list(audio.blocks(path, info)), axis=1), info.sample_rate


def reason(call: Callable[..., Any], *args: Any) -> str:
    """Why a call finds its file unusable."""
    with pytest.raises(Unusable) as caught:
        call(*args)
    return caught.value.reason
