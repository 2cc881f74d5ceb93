"""Who speaks: the presets of the embedded engine, the voices of a run, and the two of a dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from duologue.errors import UserError
from duologue.formats.seeds import uniform


@dataclass(frozen=True)
class EspeakVoice:
    """A voice of espeak-ng.

    Attributes:
        language: accent and variant as espeak-ng names them, such as "en-us+f2".
        rate: words a minute.
        pitch: 0 to 99, 50 is the variant's own.
        pitch_range: 0 to 99, 50 is the variant's own; lower is more monotonous.
    """

    language: str
    rate: int
    pitch: int
    pitch_range: int


# Seven accents; the five men and five women differ in variant (formants), pitch, liveliness and speed as well.
ESPEAK_VOICES = {
    "us-man": EspeakVoice("en-us+m3", 165, 40, 50),
    "us-woman": EspeakVoice("en-us+f2", 172, 50, 60),
    "us-deep-man": EspeakVoice("en-us+m7", 152, 22, 40),
    "new-york-woman": EspeakVoice("en-us-nyc+f4", 185, 55, 65),
    "rp-man": EspeakVoice("en-gb-x-rp+m1", 170, 48, 55),
    "rp-woman": EspeakVoice("en-gb-x-rp+f3", 160, 62, 50),
    "scottish-man": EspeakVoice("en-gb-scotland+m4", 178, 55, 65),
    "lancashire-woman": EspeakVoice("en-gb-x-gbclan+f1", 168, 45, 45),
    "midlands-woman": EspeakVoice("en-gb-x-gbcwmd+f5", 155, 38, 70),
    "caribbean-man": EspeakVoice("en-029+m5", 160, 60, 75),
}


def named_voices(voices: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the voices that may speak, in the engine's order, whatever the order of the names.

    Args:
        voices: names of the engine's voices.
        names: of those that are wanted; all, if none is named.

    Raises:
        UserError: there is no such voice, or there are fewer than the two that a dialogue needs.
    """
    for name in names:
        if name not in voices:
            near = get_close_matches(name, voices, 1, cutoff=0) or [""]
            raise UserError(
                f"there is no voice {name!r}; the nearest is {near[0]!r}",
                where="--voices",
                hint="`duologue voices`, with the same engine and model, lists them",
            )
    chosen = tuple(voice for voice in voices if not names or voice in names)
    if len(chosen) < 2:
        raise UserError(
            f"a dialogue needs two voices; there is {', '.join(chosen) or 'none'}",
            where="--voices" if names else "--engine",
            hint="Name another one beside it" if names else "Choose a model with several speakers",
        )
    return chosen


def choose_voices(voices: Sequence[str], seed: int, dialogue: str) -> tuple[str, str]:
    """Return the voices of channel 0 and channel 1, never the same one.

    Every ordered pair is equally likely; the choice depends on the arguments alone.

    Args:
        voices: names of those that may speak, at least two.
        seed: of the run.
        dialogue: id of the dialogue.
    """
    first = int(uniform(seed, "voice", dialogue, 0) * len(voices))
    others = [voice for index, voice in enumerate(voices) if index != first]
    return voices[first], others[int(uniform(seed, "voice", dialogue, 1) * len(others))]
