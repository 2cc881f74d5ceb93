"""The process that holds espeak-ng: requests on standard input, replies on standard output, until end of file.

Run as a script with the paths of the library and of its data; it imports nothing beyond the standard library,
so that it starts at once. Numbers are little-endian. A request is its size (u32), then rate, pitch and pitch
range (u16 each), the voice's name in UTF-8, a zero byte, and the text in UTF-8. A reply is a status (i32), its
size (u32), then that many bytes: 16-bit samples for status 0, nothing otherwise. A positive status is
espeak-ng's error code, a negative one the signal that killed the synthesis. The first reply, before any
request, has the sampling rate (Hz) as its status, and the version as its bytes.
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

# The numbers of speak_lib.h.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_POSITION_CHARACTER, _UTF8 = 1, 1

_FAILED = 1
_RANDOM_SEED = 1


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
        """Return the status and the samples of a request."""
        rate, pitch, pitch_range = SETTINGS.unpack_from(request)
        voice, text = request[SETTINGS.size :].split(b"\0", 1)
        samples = bytearray()

        def receive(wave: int | None, count: int, _events: int | None) -> int:
            if wave:
                samples.extend(ctypes.string_at(wave, 2 * count))
            return 0

        # Kept in a variable: the library holds the pointer, Python must hold the object.
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(receive)
        self._native.espeak_SetSynthCallback(callback)
        status = self._native.espeak_SetVoiceByName(voice)
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            status = status or self._native.espeak_SetParameter(parameter, value, 0)
        status = status or self._native.espeak_Synth(
            text, len(text) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None
        )
        return status, b"" if status else bytes(samples)


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
            status, samples = work()
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(samples)
        finally:
            os._exit(min(status, 255))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        samples = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    return status, b"" if status else samples


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
