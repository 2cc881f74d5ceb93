"""The speech engines by name."""

from __future__ import annotations

from collections.abc import Callable

from duologue.errors import UserError
from duologue.synth.engine import Engine
from duologue.synth.espeak import EspeakEngine

_ENGINES: dict[str, Callable[[], Engine]] = {"espeak": EspeakEngine}


def load_engine(name: str) -> Engine:
    """Start a speech engine by its name.

    Raises:
        UserError: there is no such engine, or it cannot be started here.
    """
    if name in _ENGINES:
        return _ENGINES[name]()
    raise UserError(
        f"there is no speech engine called {name!r}",
        where="--engine",
        hint=f"Choose one of: {', '.join(_ENGINES)}",
    )
