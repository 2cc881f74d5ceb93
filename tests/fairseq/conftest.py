from __future__ import annotations

from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def models() -> ModuleType:
    """`tests.fairseq.models`; its tests are skipped where fairseq is not installed.

    fairseq is imported when a test wants it and not before: it takes seconds, and sets up logging for everybody.
    """
    pytest.importorskip("fairseq", reason="the fairseq extra is not installed")
    from tests.fairseq import models

    return models
