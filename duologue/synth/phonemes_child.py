"""The process that holds espeak-ng for phonemes: texts on standard input, their phonemes on standard output.

Run as a script with the paths of the library and of its data and the voice's name; it imports nothing beyond the
standard library, so that it starts at once. Each line of the input is a text as a JSON string. Each line of the
output is its phonemes as a JSON string, as soon as they are known. The first line of the output, before any, is the
library's version, or null where it has no such voice.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys

# The numbers of speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_UTF8 = 1
# International phonetic alphabet, "_" between the phonemes of a word, as `espeak-ng --ipa=1` writes them.
_IPA = 0x02 | ord("_") << 8


class _Phonemizer:
    """The native library, speaking one language."""

    def __init__(self, library: str, data: str, voice: str) -> None:
        self._native = ctypes.CDLL(library)
        self._native.espeak_Info.restype = ctypes.c_char_p
        self._native.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self._native.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        known = self._native.espeak_SetVoiceByName(voice.encode()) == 0
        self.version: str | None = self._native.espeak_Info(None).decode() if known else None

    def clauses(self, text: str) -> list[str]:
        """Return the phonemes of each clause of a text."""
        rest = ctypes.c_char_p(text.replace("\0", " ").encode("utf-8", "replace"))
        found = []
        while rest.value:
            found.append(self._native.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
        return found


def _serve(library: str, data: str, voice: str) -> None:
    phonemizer = _Phonemizer(library, data, voice)
    print(json.dumps(phonemizer.version), flush=True)
    for line in sys.stdin:
        print(json.dumps(phonemizer.clauses(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
