import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import bundled
from duologue.errors import UserError
from duologue.formats.audio import read_channels
from duologue.formats.turntaking import added
from duologue.formats.units import Turn
from duologue.tokenize.activity import FRAME, FRAME_S
from duologue.tokenize.checks import HISTOGRAMS, NO_CROSSTALK_DB, AudioChecks, ChecksResult
from duologue.tokenize.thresholds import Thresholds, refusal

RATE = 16_000
SILENCE_DBFS = -50.0


class Loudness:
    """Voice activity for tones, which are no speech to Silero: frames that are loud."""

    def __init__(self) -> None:
        self.blocks = [np.zeros((2, 0), np.float32)]

    def add(self, block: np.ndarray) -> None:
        self.blocks.append(block.copy())

    def result(self) -> list[np.ndarray]:
        audio = np.concatenate(self.blocks, axis=1)
        frames = np.pad(audio, ((0, 0), (0, -audio.shape[1] % FRAME))).reshape(2, -1, FRAME)
        loud = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=2)) > 10 ** (SILENCE_DBFS / 20)
        edges = np.diff(np.pad(loud, ((0, 0), (1, 1))).astype(int), axis=1)
        return [np.flatnonzero(row).reshape(-1, 2) * FRAME_S for row in edges]


def checked(audio: np.ndarray, turns=(), block: int = 1 << 30) -> ChecksResult:
    checks = AudioChecks(Loudness())
    for first in range(0, audio.shape[1], block):
        checks.add(audio[:, first : first + block])
    return checks.result(turns)


def tones(speech: list[list[tuple[float, float]]], seconds: float) -> np.ndarray:
    """Two channels with tones of -12 dBFS at the given times, over noise of -70 dBFS."""
    draw = np.random.default_rng(1)
    audio = 10 ** (-70 / 20) * draw.standard_normal((2, round(seconds * RATE)))
    for channel, stretches in enumerate(speech):
        for start, end in stretches:
            time = np.arange(round(start * RATE), round(end * RATE)) / RATE
            audio[channel, round(start * RATE) : round(end * RATE)] += 0.355 * np.sin(
                2 * np.pi * (300 + 170 * channel) * time
            )
    return audio.astype(np.float32)


# A question with a stop and a pause, "mhm", an answer, an interruption.
TALK = [[(1.0, 2.0), (2.1, 3.0), (4.0, 6.0), (9.7, 11.0)], [(4.2, 4.6), (6.5, 10.0)]]
CONVERSATION = tones(TALK, 12.0)


@pytest.fixture(scope="module")
def call() -> np.ndarray:
    path = bundled.directory() / "call" / "auto_repairs.flac"
    return read_channels([(path, 0), (path, 1)], RATE)


@pytest.fixture(scope="module")
def real(call) -> ChecksResult:
    checks = AudioChecks()
    checks.add(call)
    return checks.result()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ipus", [(1, 3, 0), (4, 6, 0), (4.2, 4.6, 1), (6.5, 10, 1), (9.7, 11, 0)]),
        ("turns", [(1, 6, 0), (6.5, 10, 1), (9.7, 11, 0)]),
        ("pauses", [(3, 4, 0)]),
        ("gaps", [(6, 6.5, 1)]),
        ("overlaps_between", [(9.7, 10, 0)]),
        ("overlaps_within", [(4.2, 4.6, 1)]),
        ("backchannels", [(4.2, 4.6, 1)]),
    ],
)
def test_tones_at_known_times_are_events_to_within_a_frame(kind, expected):
    found = getattr(checked(CONVERSATION).events, kind)
    assert found.channel.tolist() == [channel for _, _, channel in expected]
    assert np.abs(found.start_s - [start for start, _, _ in expected]).max() <= FRAME_S
    assert np.abs(found.end_s - [end for _, end, _ in expected]).max() <= FRAME_S


def test_levels_are_those_of_the_signals():
    channel, other = checked(CONVERSATION).channels
    assert channel.speech_dbfs == pytest.approx(-12, abs=0.3)
    assert channel.loudest_dbfs == pytest.approx(-12, abs=0.1)
    assert channel.level_dbfs == pytest.approx(-12 + 10 * np.log10(5.2 / 12), abs=0.1)
    assert other.speech_s == pytest.approx(3.9, abs=4 * FRAME_S)
    assert 0.355 < channel.peak < 0.357
    assert (channel.clipped, channel.longest_zeros_s) == (0.0, pytest.approx(0.0, abs=0.001))


def test_level_of_speech_is_that_of_its_frames_alone():
    frames = [(10, 20), (40, 41), (60, 65)]
    times = [(first * FRAME_S, last * FRAME_S) for first, last in frames]
    assert checked(tones([times, []], 4.0)).channels[0].speech_dbfs == pytest.approx(-12.0, abs=0.05)


def test_offset_clipping_and_digital_silence_are_measured_where_they_are():
    audio = CONVERSATION.copy()
    audio[0] += np.float32(0.05)
    audio[1, RATE : 2 * RATE] = 1.0
    audio[1, 2 * RATE : 5 * RATE] = 0.0
    result = checked(audio)
    one, other = result.channels
    assert one.dc == pytest.approx(0.05, abs=0.001)
    assert one.clipped == one.zeros == 0.0
    assert other.clipped == pytest.approx(1 / 12, abs=1e-6)
    assert 3 / 12 < other.zeros < 3.3 / 12
    assert other.longest_zeros_s == pytest.approx(3.0, abs=0.01)
    assert result.summary()["clipped_seconds"] == pytest.approx([0.0, 1.0], abs=1e-4)
    assert result.summary()["zero_seconds"] == pytest.approx([0.0, 12 * other.zeros], abs=1e-4)


@pytest.mark.parametrize("leak_db", [-40.0, -20.0, -6.0])
def test_crosstalk_is_the_level_that_leaks(leak_db):
    audio = CONVERSATION.copy()
    audio[1] += np.float32(10 ** (leak_db / 20)) * CONVERSATION[0]
    # Breath before speech is neither speech nor noise of the line.
    audio[1, round(6.35 * RATE) : round(6.5 * RATE)] = CONVERSATION[0, RATE : RATE + round(0.15 * RATE)]
    # Loudness would take a loud leak for speech.
    speech = [np.array(channel) for channel in TALK]
    checks = AudioChecks(type("Known", (), {"add": lambda _, block: None, "result": lambda _: speech})())
    checks.add(audio)
    one, other = checks.result().channels
    assert other.crosstalk_db == pytest.approx(leak_db, abs=0.5)
    assert one.crosstalk_db < -50


def test_crosstalk_is_none_where_there_is_too_little_and_lowest_where_there_is_none():
    short = checked(tones([[(1, 1.5)], [(2, 4)]], 5.0))
    assert short.channels[1].crosstalk_db is None
    assert short.channels[0].crosstalk_db is not None
    silent = CONVERSATION.copy()
    silent[0, : 13 * FRAME] = silent[0, 6 * RATE : round(9.5 * RATE)] = 0.0
    assert checked(silent).channels[0].crosstalk_db == NO_CROSSTALK_DB


def crosstalk_with_a_sound_at(frame: int) -> float:
    """Crosstalk into channel 1, which is active in frames 100 to 119 of channel 0's 200, with a sound in one more."""
    audio = tones([[(0.0, 200 * FRAME_S)], []], 8.0)
    audio[1, frame * FRAME : (frame + 1) * FRAME] += audio[0, :FRAME]
    speech = [np.array([[0.0, 200 * FRAME_S]]), np.array([[100 * FRAME_S, 120 * FRAME_S]])]
    checks = AudioChecks(type("Known", (), {"add": lambda _, block: None, "result": lambda _: speech})())
    checks.add(audio)
    return checks.result().channels[1].crosstalk_db


def test_what_is_heard_within_160_ms_of_a_channels_speech_is_no_crosstalk():
    clean = crosstalk_with_a_sound_at(110)
    assert crosstalk_with_a_sound_at(95) == crosstalk_with_a_sound_at(124) == clean
    assert crosstalk_with_a_sound_at(94) > clean + 10 < crosstalk_with_a_sound_at(125)


@pytest.mark.parametrize("gain", [0.5, -1.0])
@pytest.mark.parametrize("delay", [0, 5, 300])
def test_the_same_signal_on_both_channels_is_found(delay, gain):
    source = tones([[(0.5, 4.0)], []], 5.0)[0]
    draw = np.random.default_rng(2)
    # Words differ from moment to moment, as a tone does not.
    source = (source * draw.standard_normal(len(source))).astype(np.float32)
    result = checked(np.stack([source, gain * np.roll(source, delay)]).astype(np.float32))
    assert result.highest_correlation == pytest.approx(np.sign(gain), abs=1e-4)
    assert result.lag_s == pytest.approx(delay / RATE, abs=1e-6)
    assert (abs(result.correlation) > 0.99) == (delay == 0)
    assert refusal(result, Thresholds()).reason == "same_channels"


def test_channels_of_a_real_call_are_two_signals(real):
    assert abs(real.correlation) <= abs(real.highest_correlation) < 0.02
    assert refusal(real, Thresholds()) is None


@settings(max_examples=15)
@given(st.integers(1, 40_000))
def test_blocks_do_not_matter(block):
    audio = CONVERSATION[:, : 10 * RATE + 77] if block > 400 else CONVERSATION[:, :9000]
    assert checked(audio, block=block).as_dict() == checked(audio).as_dict()


def test_swapping_the_channels_swaps_the_numbers():
    plain, swapped = checked(CONVERSATION), checked(CONVERSATION[::-1].copy())
    assert swapped.channels == plain.channels[::-1]
    assert swapped.correlation == plain.correlation
    assert swapped.highest_correlation == pytest.approx(plain.highest_correlation, abs=1e-6)
    assert swapped.lag_s == -plain.lag_s
    one, other = plain.events.summary(), swapped.events.summary()
    assert other["talk_seconds"] == one["talk_seconds"][::-1]
    assert {**other, "talk_seconds": 0} == {**one, "talk_seconds": 0}


@given(st.sampled_from([0.25, 0.5, 2.0]))
def test_gain_moves_the_levels_and_nothing_else(gain):
    speech = Loudness()
    speech.add(CONVERSATION)
    times = speech.result()
    fixed = type("Known", (), {"add": lambda _, block: None, "result": lambda _: times})
    results = []
    for audio in (CONVERSATION, np.float32(gain) * CONVERSATION):
        checks = AudioChecks(fixed())
        checks.add(audio)
        results.append(checks.result())
    plain, louder = results
    for before, after in zip(plain.channels, louder.channels, strict=True):
        for name in ("level_dbfs", "loudest_dbfs", "speech_dbfs"):
            assert getattr(after, name) == pytest.approx(getattr(before, name) + 20 * np.log10(gain), abs=1e-5)
        assert after.peak == pytest.approx(gain * before.peak, abs=2e-6)
        assert after.crosstalk_db == pytest.approx(before.crosstalk_db, abs=1e-6)
    assert (louder.correlation, louder.lag_s) == (plain.correlation, plain.lag_s)
    assert louder.events.summary() == plain.events.summary()


def turns_of(result: ChecksResult, first: int) -> list[Turn]:
    """A transcript of what was heard, with channel 0 as channel `first`."""
    return [
        Turn(channel ^ first, start - 0.2, end + 0.3, "words")
        for channel, stretches in enumerate(result.activity)
        for start, end in stretches.tolist()
    ]


def test_transcript_of_the_other_channel_is_found_out(call, real):
    for first, reason in ((0, None), (1, "swapped_channels")):
        checks = AudioChecks()
        checks.add(call)
        result = checks.result(turns_of(real, first))
        own, other = result.turn_shares if first == 0 else result.turn_shares[::-1]
        assert own > 0.7
        assert other < 0.3
        refused = refusal(result, Thresholds())
        assert (refused and refused.reason) == reason
        assert refusal(result, Thresholds(swapped_share=None)) is None


@pytest.mark.parametrize(
    ("shares", "swapped"), [((0.2, 0.6), True), ((0.2, 0.5), False), ((0.3, 0.6), False), ((0.5, 0.6), False)]
)
def test_channels_are_swapped_only_where_the_other_one_fits_far_better(real, shares, swapped):
    assert (refusal(replace(real, turn_shares=shares), Thresholds()) is not None) == swapped


def test_transcript_is_not_judged_by_a_few_seconds(real):
    assert checked(CONVERSATION, [Turn(1, 1.0, 9.0, "words")]).turn_shares is None
    long = [Turn(1, 0.0, 9.0, "words"), Turn(1, 5.0, 11.5, "words"), Turn(1, 4.0, 2.0, "no time")]
    result = checked(CONVERSATION, long)
    own, other = result.as_dict()["turn_shares"]
    assert (own, other) == result.turn_shares
    assert own == pytest.approx(3.9 / 11.5, abs=0.02)
    assert other == pytest.approx(5.2 / 11.5, abs=0.02)


@pytest.mark.parametrize("offset", [0.0, 0.2])
@pytest.mark.parametrize("level", [0.0, 1e-6, 3e-4])
def test_channel_without_sound_is_empty(level, offset):
    audio = CONVERSATION.copy()
    audio[1] = level * np.random.default_rng(0).standard_normal(audio.shape[1]) + offset
    refused = refusal(checked(audio), Thresholds())
    assert refused.reason == "empty_channel"
    assert refused.message.startswith("channel 1 ")
    # A short word in twelve seconds of silence is enough.
    audio[1, RATE : RATE + 3000] += CONVERSATION[0, RATE : RATE + 3000]
    assert refusal(checked(audio), Thresholds()) is None


@pytest.mark.parametrize(
    ("threshold", "reason", "message"),
    [
        ({"speech_s": 4.5}, "no_speech", "channel 1 has 3.9 s of speech"),
        ({"clipped": 0.01}, "clipped", "5.00% of channel 0 is clipped"),
        ({"crosstalk_db": -30.0}, "crosstalk", "channel 1 is heard in channel 0 at -12.0 dB"),
    ],
)
def test_further_thresholds_are_asked_for_by_name(threshold, reason, message):
    plain = checked(CONVERSATION)
    result = replace(
        plain,
        channels=(
            replace(plain.channels[0], clipped=0.05, crosstalk_db=-12.0),
            replace(plain.channels[1], speech_s=3.9),
        ),
    )
    assert refusal(result, Thresholds()) is None
    refused = refusal(result, Thresholds(**threshold))
    assert (refused.reason, refused.message) == (reason, message)
    assert refusal(plain, Thresholds(speech_s=3.0, clipped=0.0, crosstalk_db=-10.0)) is None


@pytest.mark.parametrize(
    ("name", "stricter", "reason"),
    [
        ("loudest_dbfs", 1, "empty_channel"),
        ("correlation", -1, "same_channels"),
        ("speech_s", 1, "no_speech"),
        ("clipped", -1, "clipped"),
        ("crosstalk_db", -1, "crosstalk"),
    ],
)
def test_what_just_meets_every_threshold_is_used_and_what_misses_one_by_a_hair_is_not(name, stricter, reason):
    plain = checked(CONVERSATION)
    first, second = (replace(one, clipped=0.01, crosstalk_db=-20.0) for one in plain.channels)
    for polarity in (1, -1):
        result = replace(plain, channels=(first, second), highest_correlation=0.25 * polarity)
        meets = Thresholds(
            loudest_dbfs=min(first.loudest_dbfs, second.loudest_dbfs),
            correlation=0.25,
            speech_s=min(first.speech_s, second.speech_s),
            clipped=0.01,
            crosstalk_db=-20.0,
        )
        assert refusal(result, meets) is None
        missed = replace(meets, **{name: getattr(meets, name) + stricter * 1e-6})
        assert refusal(result, missed).reason == reason


def test_thresholds_are_read_as_they_are_written_and_the_others_keep_their_default():
    assert Thresholds.parse([]) == Thresholds()
    written = ["clipped=0.01", "correlation=off", "crosstalk_db=-15", "speech_s=5", "speech_s=3"]
    assert Thresholds.parse(written) == Thresholds(correlation=None, clipped=0.01, crosstalk_db=-15.0, speech_s=3.0)


@pytest.mark.parametrize("text", ["", "clipped", "clipped=", "=1", "clipped=much", "clipped=nan", "loud=1"])
def test_what_is_no_threshold_is_refused_with_the_names_there_are(text):
    with pytest.raises(UserError, match="is no threshold") as caught:
        Thresholds.parse(["speech_s=5", text])
    assert "loudest_dbfs" in caught.value.hint


def test_thresholds_that_are_off_refuse_nothing():
    off = Thresholds(loudest_dbfs=None, correlation=None, swapped_share=None)
    silence = np.zeros((2, 3 * RATE), np.float32)
    assert refusal(checked(silence), off) is None
    assert refusal(checked(silence), Thresholds()).message == "channel 0 has no sound"


def test_result_is_json_that_says_the_same_in_six_decimals(real):
    about = real.as_dict()
    text = json.dumps(about, allow_nan=False)
    assert json.loads(text) == json.loads(text, parse_float=lambda number: round(float(number), 6)) == about
    assert about["turn_taking"]["ipus"]["count"] == len(real.events.ipus) > 20
    assert about["seconds"] == 59.0
    assert sum(end - start for start, end in about["activity"][0]) == pytest.approx(about["channels"][0]["speech_s"])
    assert "histograms" not in about["turn_taking"]
    assert "histograms" in real.events.summary()


@pytest.mark.parametrize("samples", [0, 1, 100, FRAME, FRAME + 1])
def test_shortest_recordings_are_measured_too(samples):
    result = AudioChecks()
    result.add(np.full((2, samples), 0.5, np.float32))
    about = result.result().as_dict()
    assert about["correlation"] is None
    assert about["channels"][0]["speech_dbfs"] is None
    assert about["channels"][0]["peak"] == (0.5 if samples else 0.0)
    json.dumps(about, allow_nan=False)


def test_results_are_summed_for_the_card(real):
    other = checked(CONVERSATION)
    one, two = real.summary(), other.summary()
    total = added([one, two, one])
    assert total == added([two, one, one])
    assert total == added([added([one, one]), two])
    assert total["turn_taking"]["recordings"] == 3
    assert total["speech_seconds"] == pytest.approx(
        [2 * real.channels[n].speech_s + other.channels[n].speech_s for n in (0, 1)]
    )
    # A number for each channel, and one for each recording.
    assert {name: sum(counts) for name, counts in total["histograms"].items()} == {
        "speech_dbfs": 6,
        "crosstalk_db": 6,
        "correlation": 3,
    }
    assert {name: len(counts) for name, counts in total["histograms"].items()} == {
        name: bins.count + 2 for name, bins in HISTOGRAMS.items()
    }


@pytest.mark.parametrize(
    ("name", "first", "last", "bins"),
    [("speech_dbfs", -60, 0, 20), ("crosstalk_db", -80, 10, 18), ("correlation", 0, 1, 20)],
)
def test_histograms_have_the_ranges_that_the_guide_names(name, first, last, bins):
    edges = HISTOGRAMS[name].edges()
    assert (edges[0], edges[-1], len(edges) - 1) == (first, last, bins)


def test_memory_grows_by_a_few_numbers_a_frame(call):
    checks = AudioChecks()
    minute = call[:, : 60 * RATE - RATE]
    checks.add(minute)
    tracemalloc.start()
    try:
        for _ in range(3):
            checks.add(minute)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    frames = 3 * minute.shape[1] / FRAME
    # For each channel two sums of 8 bytes and a probability of 4, and what does not grow; the samples would be 4096.
    assert grown < frames * 100 + 1_200_000
