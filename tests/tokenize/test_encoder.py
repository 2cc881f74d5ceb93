from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import UserError
from duologue.formats.rejects import Unusable
from duologue.tokenize import batches
from duologue.tokenize.cutting import Cutter
from duologue.tokenize.encoder import HubertTokenizer
from duologue.tokenize.quantizer import KMeans
from duologue.tokenize.windows import units_of
from tests.far import FAR, on_far
from tests.tokenize import tiny
from tests.tokenize.signals import sound

HZ = 16_000
BASE, BASE_50, LARGE = tiny.tokenizer(), tiny.tokenizer(50), tiny.tokenizer(large=True)
# More in the long form: DUOLOGUE_MIXES=500 takes some minutes.
MIXES = int(os.environ.get("DUOLOGUE_MIXES", 12))
LENGTHS = [1, 399, 50_000, 320_720, 1_600_000]


def units(tokenizer: HubertTokenizer, *channels: np.ndarray) -> np.ndarray:
    (result,) = tokenizer.encode([[np.stack(channels)]])
    assert isinstance(result, np.ndarray)
    return result


def features(tokenizer: HubertTokenizer, channel: np.ndarray) -> np.ndarray:
    (result,) = tokenizer.features([[channel[None]]])
    assert isinstance(result, np.ndarray)
    return result[0]


@pytest.mark.parametrize(
    "samples", [1, 399, 639, 640, 641, 719, 720, 1599, 160_000, 320_080, 320_719, 320_720, 328_000]
)
@pytest.mark.parametrize("tokenizer", [BASE, BASE_50, LARGE])
def test_there_is_a_unit_for_every_hop_begun(tokenizer, samples):
    result = units(tokenizer, sound(samples), sound(samples, seed=1))
    assert (result.shape, result.dtype) == ((2, units_of(samples, HZ // tokenizer.rate)), np.int16)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3_000_000))
def test_any_number_of_samples_keeps_the_clock(samples):
    channel = np.zeros(samples, np.float32)
    channel[: len(channel) // 2] = 0.1
    assert units(BASE, channel).shape == (1, -(-samples // 640))


def test_ten_minutes_drift_by_no_frame():
    # A click in unit 14,990 of 15,000: extractors that lose a frame every 100 s would have it in 14,985.
    channel = np.zeros(600 * HZ, np.float32)
    place = 14_990
    channel[place * 640 + 320] = 0.9
    found = features(BASE, channel)
    assert len(found) == 14_999
    assert np.abs(found - np.median(found, axis=0)).sum(axis=1).argmax() == pytest.approx(place, abs=1)


def test_units_are_those_of_the_features_and_the_last_goes_on():
    channel = sound(3 * HZ)
    found = features(BASE, channel)
    wanted = BASE._quantizer(torch.from_numpy(found)).numpy()
    result = units(BASE, channel)[0]
    assert len(result) - len(wanted) == 1
    assert result.tolist() == [*wanted, wanted[-1]]
    assert len(np.unique(result)) > 5


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 110 * HZ), max_size=8))
def test_blocks_of_any_sizes_give_the_same_units(borders):
    audio = np.stack([sound(110 * HZ), sound(110 * HZ, seed=1)])
    blocks = np.split(audio, sorted(borders), axis=1)
    assert np.array_equal(next(BASE.encode([blocks])), units(BASE, *audio))


def test_channels_are_encoded_apart():
    first, second = sound(130 * HZ), sound(130 * HZ, seed=1)
    both = units(BASE, first, second)
    assert np.array_equal(both[0], units(BASE, first)[0])
    assert np.array_equal(both[1], units(BASE, second)[0])
    assert (both[0] != both[1]).mean() > 0.3


@pytest.mark.parametrize(("rate", "large"), [(25, False), (50, False), (25, True)])
def test_units_of_any_batch_are_those_of_each_recording_alone(rate, large):
    together, alone = (tiny.tokenizer(rate, batch=batch, large=large) for batch in (3, 1))
    draw = np.random.default_rng(rate)
    # From 0.1 s to 15 minutes; of the longest there are few.
    lengths = np.geomspace(0.1, 900, 30) * HZ
    weights = 1 / np.maximum(lengths, 10 * HZ)

    @cache
    def recording(one: int) -> tuple[np.ndarray, np.ndarray]:
        audio = sound(int(lengths[one]), seed=one)[None]
        return audio, next(alone.encode([[audio]]))

    for _ in range(MIXES):
        mix = draw.choice(len(lengths), size=draw.integers(2, 8), p=weights / weights.sum()).tolist()
        for one, result in zip(mix, together.encode([recording(one)[0]] for one in mix), strict=True):
            assert np.array_equal(result, recording(one)[1]), f"recording {one} in the mix {mix}"


def test_neighbours_and_place_in_a_batch_change_no_bit():
    batched = tiny.tokenizer(batch=4)
    channel, others = sound(40_000)[None], [sound(38_000, seed=i)[None] for i in range(1, 8)]
    alone = next(batched.features([[channel]]))
    for place in range(8):
        mix = [*others[:place], channel, *others[place:]]
        assert np.array_equal(list(batched.features([one] for one in mix))[place], alone)


def encoded(device: torch.device | str) -> list[np.ndarray | Unusable]:
    """Return the units, of all kinds of model, of calls from less than a frame to more than the moments see."""
    calls = [[np.stack([sound(length), sound(length, seed=1)])] for length in LENGTHS]
    kinds = product([False, True], [torch.float32, torch.bfloat16])
    models = [tiny.tokenizer(batch=4, large=large, dtype=dtype, device=device) for large, dtype in kinds]
    return [result for model in models for result in model.encode(calls)]


def test_a_device_with_a_memory_of_its_own_gives_the_units_of_a_cpu():
    there, here = on_far(encoded, FAR), encoded("cpu")
    assert len(there) == len(here) == 4 * len(LENGTHS)
    assert all(np.array_equal(one, other) for one, other in zip(there, here, strict=True))


@pytest.mark.gpu
def test_on_a_gpu_units_are_those_of_a_cpu_but_where_two_are_nearly_as_near():
    there, here = encoded("cuda"), encoded("cpu")
    assert [units.shape for units in there] == [units.shape for units in here]
    for kind, dtype in enumerate(2 * [torch.float32, torch.bfloat16]):
        calls = slice(kind * len(LENGTHS), (kind + 1) * len(LENGTHS))
        one, other = (np.concatenate(units[calls], axis=1) for units in (there, here))
        assert (one == other).mean() > (0.99 if dtype == torch.float32 else 0.8)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("rate", [25, 50])
def test_only_attention_sees_where_windows_are_cut(rate, large):
    # 45 s in windows of 20 s and in one of 45 s, where frames take nothing from afar but by their positions, which
    # see further than the context at 25 Hz.
    shape = replace(tiny.architecture(rate, large=large), positions=128)
    near = tiny.network(shape, normalise=large, attention=0)
    quantizer = KMeans(tiny.centroids(rate, large))
    channel = sound(45 * HZ)
    windowed = features(HubertTokenizer(near, quantizer, {}), channel)
    whole = features(HubertTokenizer(near, quantizer, {}, window_s=45), channel)
    assert np.abs(windowed - whole).max() <= 1e-5
    assert np.ptp(whole, axis=0).min() > 0.1


def test_normalisation_looks_further_than_a_window():
    # Speech, then a side that listens for a minute: its faint noise is not made as loud as speech.
    noise = 1e-4 * np.random.default_rng(0).standard_normal(90 * HZ).astype(np.float32)
    spoken = noise.copy()
    spoken[: 30 * HZ] += sound(30 * HZ)
    after = units(BASE, spoken)[0][50 * 25 : 80 * 25]
    silent = np.zeros(90 * HZ, np.float32)
    silent[: 30 * HZ] = spoken[: 30 * HZ]
    assert (after == units(BASE, silent)[0][50 * 25 : 80 * 25]).mean() > 0.9
    # On its own, a minute of the same noise sounds like something.
    assert len(np.unique(units(BASE, noise)[0][50 * 25 : 80 * 25])) > 3


@pytest.mark.parametrize("tokenizer", [BASE, LARGE])
def test_digital_silence_is_one_unit(tokenizer):
    assert len(np.unique(units(tokenizer, np.zeros(150 * HZ, np.float32))[0][70:-70])) == 1


@pytest.mark.parametrize("tokenizer", [BASE, LARGE])
def test_constant_offset_changes_next_to_nothing(tokenizer):
    channel = sound(5 * HZ)
    assert (units(tokenizer, channel) != units(tokenizer, channel + 0.1)).mean() < 0.02


@pytest.mark.parametrize("gain", [0.5, 5.0])
def test_level_changes_next_to_nothing(gain):
    channel = sound(5 * HZ)
    assert (units(BASE, channel) != units(BASE, gain * channel)).mean() < 0.02


def test_clipped_speech_has_units_like_any():
    clipped = np.clip(20 * sound(5 * HZ), -1, 1)
    assert len(np.unique(units(BASE, clipped))) > 5


def test_recording_that_breaks_off_is_answered_in_its_place():
    def broken():
        yield sound(130 * HZ)[None]
        raise Unusable("nan_audio", "not a number")

    good = [sound(HZ)[None]]
    first, second, third = tiny.tokenizer(batch=3).encode([good, broken(), good])
    assert isinstance(second, Unusable)
    assert np.array_equal(first, third)
    assert np.array_equal(first, units(BASE, good[0][0]))


def test_recordings_are_asked_for_as_there_is_room():
    asked = []

    def recordings():
        for i in range(10):
            asked.append(i)
            yield [sound(HZ, seed=i)[None]]

    results = BASE.encode(recordings())
    next(results)
    assert len(asked) == 1
    assert len(list(results)) == 9


@pytest.mark.parametrize(("step", "longest"), [("embedded", 330_000), ("features", 600)])
def test_batch_is_halved_once_where_memory_runs_out_and_units_stay(monkeypatch, capsys, step, longest):
    recordings = [[sound(length, seed=length)[None]] for length in (700_000, 20_000, 21_000, 500_000)]
    wanted = list(tiny.tokenizer(batch=4).encode(recordings))
    small = tiny.tokenizer(batch=4)
    real = getattr(type(small._batched.network), step)

    def tight(self, rows, *rest):
        if rows.shape[0] * rows.shape[1] > 3 * longest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, rows, *rest)

    monkeypatch.setattr(type(small._batched.network), step, tight)
    got = list(small.encode(recordings))
    assert all(np.array_equal(one, other) for one, other in zip(got, wanted, strict=True))
    assert capsys.readouterr().err.count("memory does not hold 4 windows: going on with 2") == 1
    assert small._batched.size(500) == 2


@pytest.mark.parametrize(("batch", "last"), [(4, "a batch of 2 windows"), (2, "one window"), (1, "one window")])
def test_memory_too_small_for_half_a_batch_ends_in_one_message(monkeypatch, batch, last):
    tokenizer = tiny.tokenizer(batch=batch)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(type(tokenizer._batched.network), "features", full)
    with pytest.raises(UserError, match=f"the memory does not hold {last}") as caught:
        list(tokenizer.encode([[sound(20 * HZ)[None]]]))
    assert caught.value.where == "cpu"


def test_what_fails_for_another_reason_than_memory_is_not_tried_again(monkeypatch):
    tokenizer, tries = tiny.tokenizer(batch=4), []

    def broken(_, embedded, *rest):
        tries.append(embedded)
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(type(tokenizer._batched.network), "features", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(tokenizer.encode([[sound(20 * HZ)[None]]]))
    assert len(tries) == 1


def test_batches_of_short_windows_are_as_large_as_those_of_long_ones():
    batched = batches.BatchedNetwork(tiny.network(tiny.architecture()), batch=4)
    assert [batched.size(frames) for frames in (500, 250, 125, 63, 32)] == [4, 8, 16, 28, 60]
    for batch, sizes in ((2, [2, 30]), (1, [1, 1]), (None, [1, 1])):
        assert [batches.BatchedNetwork(batched.network, batch).size(frames) for frames in (500, 32)] == sizes


def test_half_precision_gives_units_of_the_same_shape_and_mostly_the_same():
    channel = sound(25 * HZ)
    half = units(tiny.tokenizer(dtype=torch.bfloat16), channel)
    full = units(BASE, channel)
    assert half.shape == full.shape
    assert 0.5 < (half == full).mean() < 1


def test_blanks_take_the_unit_before_them_in_the_same_channel():
    class Strongest:
        units, width, blank = 16, 16, 13

        def __call__(self, features: torch.Tensor) -> torch.Tensor:
            return features.argmax(dim=-1).to(torch.int16)

    channels = sound(45 * HZ), sound(45 * HZ, seed=1)
    tokenizer = tiny.tokenizer(quantizer=Strongest())
    result = units(tokenizer, *channels)
    assert (result != 13).all()
    for row, channel in zip(result, channels, strict=True):
        raw = features(tokenizer, channel).argmax(axis=1).tolist()
        assert 0.05 < raw.count(13) / len(raw) < 0.95
        last = next(unit for unit in raw if unit != 13)
        for unit, before in zip(row, raw, strict=False):
            last = last if before == 13 else before
            assert unit == last


def test_long_recordings_are_held_in_part_only():
    cutter = Cutter(tiny.architecture(), torch.device("cpu"))
    held = 0
    for _ in range(120):
        for window in cutter.add(np.zeros((1, 30 * HZ), np.float32)):
            held = max(held, cutter._end - cutter._first_sample, window.audio.shape[1])
    assert cutter.samples == 3600 * HZ
    assert held < 150 * HZ
