"""The report's players: stretches of dialogue to look at and to listen to, on one timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from duologue.evaluate.artefacts import Artefact
from duologue.evaluate.excerpts import Excerpt
from duologue.evaluate.sound import Sound
from duologue.evaluate.survey import opening
from duologue.evaluate.timeline import timeline
from duologue.evaluate.unit_sets import SurveyedSet

_STREAMS = 2


def _player(name: str, piece: Excerpt, tracks: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return what the page needs of a picture and the tracks that play along it."""
    return {"name": name, "piece": piece, "picture": timeline(name, piece), "tracks": tracks}


def dialogues(sets: Sequence[SurveyedSet], sound: Sound) -> list[dict[str, Any]]:
    """Return a player for each excerpt of the sets: the source where it was kept, and the resynthesis."""
    shown = []
    for number, one in enumerate(sets):
        for place, piece in enumerate(one.survey.excerpts):
            tracks = []
            if piece.audio is not None:
                tracks.append(sound.track("Source", piece.audio, piece.sample_rate))
            again = sound.resynthesis(one.artefact, piece.units)
            if again is not None:
                tracks.append(sound.track("Resynthesis from units", *again))
            shown.append({"set": one.artefact.name, **_player(f"dialogue-{number}-{place}", piece, tracks)})
    return shown


def streams(sets: Sequence[Artefact], sound: Sound) -> list[dict[str, Any]]:
    """Return how sequence sets begin, the first two of stages 2 and 3 with a player of what they decode to.

    Raises:
        UserError: a set is damaged.
    """
    shown: list[dict[str, Any]] = []
    heard = 0
    for number, artefact in enumerate(sets):
        begin = opening(artefact)
        if begin is None:
            continue
        player = None
        piece = begin.excerpt
        if piece is not None and heard < _STREAMS:
            heard += 1
            tracks = []
            again = sound.resynthesis(artefact, piece.units)
            if again is not None:
                tracks.append(sound.track("Decoded stream, resynthesised", *again))
                piece = replace(piece, audio=again[0], sample_rate=again[1])
            player = _player(f"stream-{number}", piece, tracks)
        about = {"set": artefact.name, "stage": artefact.stage, "id": begin.id, "text": begin.text}
        shown.append({**about, "player": player})
    return shown
