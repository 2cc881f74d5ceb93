import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.synth import espeak
from duologue.synth.engine import SAMPLE_RATE, Speech, Utterance
from duologue.synth.espeak import EspeakEngine, _Child

TEXTS = ("Hello, how are you doing today?", "Yes.", "No way! The weather is nice, isn't it?")


def utterances(engine, count=12):
    return [
        Utterance(TEXTS[index % len(TEXTS)], engine.voices[index % len(engine.voices)], 0) for index in range(count)
    ]


def the_same(results, others):
    return len(results) == len(others) and all(
        isinstance(one, Speech)
        and isinstance(other, Speech)
        and np.array_equal(one.audio, other.audio)
        and one.words == other.words
        for one, other in zip(results, others, strict=True)
    )


def exists(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A zombie whose parent is gone waits for a reaper that a container may lack.
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def gone_within(process, seconds):
    deadline = time.monotonic() + seconds
    while exists(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not exists(process)


def sabotage(monkeypatch, tmp_path, action):
    """Let the real child do `action` when the text holds the word "poison"."""
    source = Path(espeak.__file__).with_name("espeak_child.py").read_text()
    place = "        rate, pitch, pitch_range = SETTINGS.unpack_from(request)\n"
    assert place in source
    child = tmp_path / "child.py"
    child.write_text(source.replace(place, f"        if b'poison' in request: {action}\n{place}"))
    monkeypatch.setattr(espeak, "_CHILD", child)


def test_every_voice_speaks_and_sounds_different(engine):
    results = engine.synthesize([Utterance(TEXTS[0], voice, 0) for voice in engine.voices])
    for audio in (result.audio for result in results):
        assert audio.dtype == np.float32 and audio.ndim == 1
        assert 0.5 < len(audio) / SAMPLE_RATE < 5 and 0.1 < np.abs(audio).max() <= 1
    assert len({result.audio.tobytes() for result in results}) == len(engine.voices) == 10


def test_an_utterance_sounds_the_same_whatever_was_spoken_before(engine):
    asked = utterances(engine)
    once = engine.synthesize(asked)
    assert the_same(once, engine.synthesize(asked[::-1])[::-1])
    assert the_same(once[5:6], engine.synthesize(asked[5:6]))
    with EspeakEngine() as fresh:
        assert the_same(once[7:], fresh.synthesize(asked[7:]))


def test_an_utterance_sounds_the_same_in_another_process(engine):
    program = (
        "import sys, hashlib; from duologue.synth.espeak import *\n"
        f"with EspeakEngine() as engine: print(hashlib.sha256(engine.synthesize("
        f"[Utterance({TEXTS[0]!r}, 'us-man', 0)])[0].audio.tobytes()).hexdigest())"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    (speech,) = engine.synthesize([Utterance(TEXTS[0], "us-man", 0)])
    assert out.strip() == hashlib.sha256(speech.audio.tobytes()).hexdigest()


def test_silence_is_trimmed_to_ten_milliseconds(engine):
    (speech,) = engine.synthesize([Utterance("Stop.", "rp-man", 0)])
    audio = speech.audio
    audible = np.flatnonzero(np.abs(audio) >= 1e-3)
    assert audible[0] <= SAMPLE_RATE // 100 and len(audio) - 1 - audible[-1] <= SAMPLE_RATE // 100


def test_text_without_sound_is_refused_and_the_rest_goes_on(engine):
    silent, spoken = engine.synthesize([Utterance("", "us-man", 0), Utterance("Yes.", "us-man", 0)])
    assert isinstance(silent, Unusable) and silent.reason == "silent"
    assert isinstance(spoken, Speech)


def test_markup_and_odd_bytes_do_no_harm(engine):
    texts = ["<speak>hi</speak>", "a\0b", "[[h@loU]]", "\ud83d oh", "ünïcode 世界", "yes " * 500]
    results = engine.synthesize([Utterance(text, "us-woman", 0) for text in texts])
    assert len(results) == len(texts)
    assert isinstance(engine.synthesize([Utterance("Yes.", "us-man", 0)])[0], Speech)


def test_child_killed_between_calls_costs_nothing():
    with EspeakEngine() as engine:
        asked = utterances(engine, 3)
        once = engine.synthesize(asked)
        os.kill(engine._child.process.pid, signal.SIGKILL)
        assert the_same(once, engine.synthesize(asked))


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_child_killed_in_the_middle_costs_nothing(by):
    with EspeakEngine() as engine:
        asked = utterances(engine, 60)
        once = engine.synthesize(asked)
        first = engine._child.process.pid
        killer = threading.Timer(0.1, os.kill, (first, by))
        killer.start()
        again = engine.synthesize(asked)
        killer.join()
        engine.synthesize(asked[:1])
        assert engine._child.process.pid != first
        assert the_same(once, again)


@pytest.mark.parametrize(
    "action",
    ["os.kill(os.getpid(), signal.SIGSEGV)", "os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getppid(), 9)"],
)
def test_a_sentence_that_crashes_the_library_costs_itself_alone(monkeypatch, tmp_path, action):
    sabotage(monkeypatch, tmp_path, action)
    with EspeakEngine() as engine:
        results = engine.synthesize(
            [Utterance(text, "us-man", 0) for text in ("One.", "poison", "Two.", "poison", "Three.")]
        )
    reasons = [result.reason if isinstance(result, Unusable) else None for result in results]
    assert reasons == [None, "engine_crash", None, "engine_crash", None]


def test_what_was_spoken_before_a_crash_is_heard_however_late_the_next_was_asked_for(monkeypatch, tmp_path):
    sabotage(monkeypatch, tmp_path, "os.kill(os.getppid(), 9)")
    send = _Child.send

    def late(child, request):
        # By now the child has come to the end of all that it was asked for.
        time.sleep(0.15)
        return send(child, request)

    with EspeakEngine() as engine:
        monkeypatch.setattr(_Child, "send", late)
        results = engine.synthesize([Utterance(text, "us-man", 0) for text in ("One.", "poison", "Two.")])
    reasons = [result.reason if isinstance(result, Unusable) else None for result in results]
    assert reasons == [None, "engine_crash", None]


@pytest.mark.parametrize("action", ["signal.pause()", "os.kill(os.getppid(), signal.SIGSTOP)"])
def test_a_sentence_that_hangs_costs_itself_alone(monkeypatch, tmp_path, action):
    sabotage(monkeypatch, tmp_path, action)
    with EspeakEngine(timeout=1) as engine:
        results = engine.synthesize([Utterance(text, "us-man", 0) for text in ("One.", "poison", "Two.")])
    reasons = [result.reason if isinstance(result, Unusable) else None for result in results]
    assert reasons == [None, "engine_timeout", None]


def test_a_call_that_was_interrupted_leaves_no_replies_for_the_next(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with EspeakEngine() as engine:
        asked = utterances(engine, 6)
        once = engine.synthesize(asked)
        with monkeypatch.context() as patch:
            patch.setattr(espeak, "_speech", interrupt)
            with pytest.raises(KeyboardInterrupt):
                engine.synthesize(asked)
        assert the_same(once[3:], engine.synthesize(asked[3:]))


def test_child_ends_when_the_engine_is_closed():
    engine = EspeakEngine()
    child = engine._child.process.pid
    engine.close()
    assert not exists(child)
    assert isinstance(engine.synthesize([Utterance("Yes.", "us-man", 0)])[0], Speech)
    engine.close()


def test_child_ends_with_its_parent():
    program = (
        "import os, time; from duologue.synth.espeak import EspeakEngine\n"
        "engine = EspeakEngine(); print(engine._child.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert exists(child)
    parent.kill()
    parent.communicate()
    assert gone_within(child, 20)


def test_identity_names_version_and_voices(engine):
    assert engine.identity["engine"] == "espeak-ng" and engine.identity["version"].startswith("1.")
    assert set(engine.identity["voices"]) == set(engine.voices)


def test_a_library_that_cannot_be_loaded_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr("espeakng_loader.get_library_path", lambda: str(tmp_path / "none.so"))
    with pytest.raises(UserError, match=r"cannot be started.*none\.so.*pip install"):
        EspeakEngine()
