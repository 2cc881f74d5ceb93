"""The process that holds espeak-ng: requests on standard input, replies on standard output, until end of file.

Run as a script with the paths of the library and of its data; it imports nothing beyond the standard library,
so that it starts at once. Numbers are little-endian. A request is its size (u32), then rate, pitch and pitch
range (u16 each), the voice's name in UTF-8, a zero byte, and the text in UTF-8. A reply is a status (i32), its
size (u32), then that many bytes. For status 0 these are the number of words (u32), for each its place in the text
(u32, characters) and in the audio (u32, samples), and the audio in 16-bit samples; otherwise there are none. A
positive status is espeak-ng's error code, a negative one the signal that killed the synthesis. The first reply,
before any request, has the sampling rate (Hz) as its status, and the version as its bytes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import BinaryIO

REQUEST = struct.Struct("<I")
SETTINGS = struct.Struct("<HHH")
REPLY = struct.Struct("<iI")
WORDS = struct.Struct("<I")
WORD = struct.Struct("<II")

# The numbers of speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_POSITION_CHARACTER, _UTF8 = 1, 1
_NO_MORE_EVENTS, _WORD_BEGINS = 0, 1

_FAILED = 1
_RANDOM_SEED = 1


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h, whose last member is a union of at most 8 bytes."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        # In characters, from 1.
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_uint64),
    )


_RECEIVE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class _Espeak:
    """The native library, initialised and never used before: `speak` may be called once in a process."""

    def __init__(self, library: str, data: str) -> None:
        self._native = ctypes.CDLL(library)
        self._native.espeak_Info.restype = ctypes.c_char_p
        self.rate = self._native.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
        # Loads what all voices of English share, so that no copy of this process has to.
        self._native.espeak_SetVoiceByName(b"en-us")
        # The library seeds its noise from the time of day.
        self._native.espeak_ng_SetRandSeed(ctypes.c_long(_RANDOM_SEED))
        self.version: bytes = self._native.espeak_Info(None)

    def speak(self, request: bytes) -> tuple[int, bytes]:
        """Return the status, and the words and samples, of a request."""
        rate, pitch, pitch_range = SETTINGS.unpack_from(request)
        voice, text = request[SETTINGS.size :].split(b"\0", 1)
        samples = bytearray()
        words: list[bytes] = []

        def receive(wave: int | None, size: int, events: ctypes._Pointer[_Event]) -> int:
            if wave:
                samples.extend(ctypes.string_at(wave, 2 * size))
            number = 0
            while (event := events[number]).type != _NO_MORE_EVENTS:
                if event.type == _WORD_BEGINS:
                    words.append(WORD.pack(event.text_position - 1, event.sample))
                number += 1
            return 0

        # Kept in a variable: the library holds the pointer, Python must hold the object.
        callback = _RECEIVE(receive)
        self._native.espeak_SetSynthCallback(callback)
        status = self._native.espeak_SetVoiceByName(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            status = status or self._native.espeak_SetParameter(parameter, value, 0)
        status = status or self._native.espeak_Synth(
            text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None
        )
        return status, b"" if status else WORDS.pack(len(words)) + b"".join(words) + samples


def _apart(work: Callable[[], tuple[int, bytes]], limit: int) -> tuple[int, bytes]:
    """Do the work in a copy of this process, and return its result or how it ended."""
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        status = _FAILED
        try:
            signal.alarm(limit)
            # Only the process that serves holds these: so its death shows at once, to both of its neighbours.
            for descriptor in (reading, 0, 1):
                os.close(descriptor)
            status, content = work()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(content)
        finally:
            os._exit(min(status, 255))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    return status, b"" if status else content


def _serve(espeak: _Espeak, limit: int, requests: BinaryIO, replies: BinaryIO) -> None:
    def reply(status: int, content: bytes) -> None:
        replies.write(REPLY.pack(status, len(content)) + content)
        replies.flush()

    reply(espeak.rate, espeak.version)
    while len(head := requests.read(REQUEST.size)) == REQUEST.size:
        (size,) = REQUEST.unpack(head)
        request = requests.read(size)
        if len(request) < size:
            break
        # espeak-ng carries state from one utterance to the next (noise, the flutter of the pitch) that nothing
        # resets, not even initialising it again. A copy of the fresh process has none.
        reply(*_apart(lambda request=request: espeak.speak(request), limit))  # type: ignore[misc]


if __name__ == "__main__":
    _, library, data, limit = sys.argv
    _serve(_Espeak(library, data), int(limit), sys.stdin.buffer, sys.stdout.buffer)
