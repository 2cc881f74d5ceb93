"""espeak-ng, embedded: a formant synthesizer, hundreds of times faster than real time on one core."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import soxr

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth.engine import SAMPLE_RATE, Engine, Speech, Utterance, trimmed
from duologue.synth.espeak_child import REPLY, REQUEST, SETTINGS, WORD, WORDS
from duologue.synth.espeak_words import words
from duologue.synth.voices import ESPEAK_VOICES

_CHILD = Path(__file__).with_name("espeak_child.py")
_TIMEOUT_S = 30
_ATTEMPTS = 2
# A pipe holds 64 KB, so requests within this never wait for a child that waits for us.
_AHEAD_BYTES = 32_768


class _Broken(Exception):
    """The child is gone or does not answer."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Child:
    """A running child process. Its native library starts fresh for every utterance."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
        # Isolated and without site-packages: the child needs neither, and starts in a fraction of the time.
        command = [sys.executable, "-I", "-S", str(_CHILD), library, data, str(max(1, round(timeout)))]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._requests, self._replies = self.process.stdin, self.process.stdout
        self._ready = select.poll()
        self._ready.register(self._replies, select.POLLIN)
        try:
            self.rate, version = self.receive()
        except BaseException:
            self.kill()
            raise
        self.version = version.decode()

    def send(self, request: bytes) -> bool:
        """Ask for an utterance without waiting for it; return whether the child was there to be asked.

        What it answered before it was gone can still be received.
        """
        try:
            self._requests.write(REQUEST.pack(len(request)) + request)
            self._requests.flush()
        except OSError:
            return False
        return True

    def receive(self) -> tuple[int, bytes]:
        """Return status and content of the oldest request that has not been answered."""
        # Longer than the child's own limit for one utterance: this one is for a child that no longer runs.
        deadline = time.monotonic() + self._timeout + 2
        status, size = REPLY.unpack(self._read(REPLY.size, deadline))
        return status, self._read(size, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        content = bytearray()
        while len(content) < size:
            if not self._ready.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise _Broken("engine_timeout")
            # Past Python's own buffer, which `poll` does not see.
            part = os.read(self._replies.fileno(), size - len(content))
            if not part:
                raise _Broken("engine_crash")
            content += part
        return bytes(content)

    def kill(self) -> None:
        """End the child and the utterance it is at."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._replies.close()
        with contextlib.suppress(OSError):
            self._requests.close()


def not_started() -> UserError:
    """Return the error for an espeak-ng that does not run here."""
    return UserError(
        "espeak-ng cannot be started",
        where=espeakng_loader.get_library_path(),
        hint="Install it again: pip install --force-reinstall espeakng-loader",
    )


class EspeakEngine(Engine):
    """espeak-ng in a child process: if it crashes or hangs, that costs one utterance and not the run.

    Args:
        timeout: seconds that one utterance may take.

    Raises:
        UserError: espeak-ng cannot be started here.
    """

    name = "espeak"
    licence = "GPL-3.0-or-later"
    voices: Sequence[str] = tuple(ESPEAK_VOICES)
    draws = False

    def __init__(self, timeout: float = _TIMEOUT_S) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        try:
            self._child: _Child | None = _Child(timeout)
        except (_Broken, OSError) as error:
            raise not_started() from error
        self._version = self._child.version

    @property
    def identity(self) -> dict[str, Any]:
        """Whatever the audio depends on: engine, version and the voices' settings."""
        voices = {name: asdict(voice) for name, voice in ESPEAK_VOICES.items()}
        return {"engine": "espeak-ng", "version": self._version, "voices": voices}

    def synthesize(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        """Speak each utterance. See `Engine.synthesize`; `seed` has no effect, espeak-ng draws nothing.

        Reasons of an `Unusable`: `silent`, `engine_error` (espeak-ng reports an error), and, after a second
        attempt, `engine_crash` and `engine_timeout`.
        """
        with self._lock:
            try:
                return self._speak(utterances)
            except BaseException:
                # Replies that nobody waits for must not be taken for those of the next call.
                self._end_child()
                raise

    def _speak(self, utterances: Sequence[Utterance]) -> list[Speech | Unusable]:
        requests = [_request(utterance) for utterance in utterances]
        results: list[Speech | Unusable] = []
        attempts = sent = ahead = 0
        while len(results) < len(requests):
            current = len(results)
            try:
                if self._child is None:
                    sent, ahead = current, 0
                    self._child = _Child(self._timeout)
                # The next requests lie ready, so the child works while its last reply is resampled.
                while sent < len(requests) and (sent == current or ahead + len(requests[sent]) <= _AHEAD_BYTES):
                    if not self._child.send(requests[sent]):
                        break
                    ahead += len(requests[sent])
                    sent += 1
                status, content = self._child.receive()
                ahead -= len(requests[current])
                if status < 0:
                    raise _Broken("engine_timeout" if -status == signal.SIGALRM else "engine_crash")
            except _Broken as broken:
                self._end_child()
                attempts += 1
                if attempts == _ATTEMPTS:
                    results.append(Unusable(broken.reason, _EXPLAINED[broken.reason]))
                    attempts = 0
                continue
            results.append(_speech(utterances[current].text, status, content, self._child.rate))
            attempts = 0
        return results

    def close(self) -> None:
        """End the child process. A later `synthesize` starts another one."""
        with self._lock:
            self._end_child()

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None


_EXPLAINED = {
    "engine_crash": "espeak-ng crashed on it, twice",
    "engine_timeout": "espeak-ng did not come to an end with it, twice",
}


def _request(utterance: Utterance) -> bytes:
    voice = ESPEAK_VOICES[utterance.voice]
    settings = SETTINGS.pack(voice.rate, voice.pitch, voice.pitch_range)
    text = utterance.text.replace("\0", " ")
    return settings + voice.language.encode() + b"\0" + text.encode("utf-8", "replace")


def _speech(text: str, status: int, content: bytes, rate: int) -> Speech | Unusable:
    if status:
        return Unusable("engine_error", f"espeak-ng reports error {status}")
    (count,) = WORDS.unpack_from(content)
    begun = list(WORD.iter_unpack(content[WORDS.size : WORDS.size + count * WORD.size]))
    native = np.frombuffer(content, dtype="<i2", offset=WORDS.size + count * WORD.size)
    if native.size == 0:
        return Unusable("silent", "the engine gave no sound")
    audio = np.clip(soxr.resample(native.astype(np.float32) / 32_768, rate, SAMPLE_RATE), -1.0, 1.0)
    try:
        return trimmed(audio, words(text, begun, rate, audio))
    except Unusable as unusable:
        return unusable
