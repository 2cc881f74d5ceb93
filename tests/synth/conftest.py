from __future__ import annotations

from collections.abc import Iterator

import pytest

from duologue.synth.espeak import EspeakEngine


@pytest.fixture(scope="module")
def engine() -> Iterator[EspeakEngine]:
    """espeak-ng, running; tests of other engines have their own by this name."""
    with EspeakEngine() as started:
        yield started
