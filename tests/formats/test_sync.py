import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.sync import FIRST_UNIT, S0, S1, chunk_lengths, decode, encode, encode_many, frames_per_chunk


def unit(*numbers: int) -> list[int]:
    return [number + FIRST_UNIT for number in numbers]


@st.composite
def dialogues(draw, most_frames: int = 60) -> np.ndarray:
    """Two channels of units that are held for a while, of any length, units few enough to come again."""
    frames = draw(st.integers(0, most_frames))
    rows = []
    for _ in range(2):
        held = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=40))
        row = np.concatenate([np.full(hold, number) for number, hold in held])
        rows.append(np.resize(row, frames))
    return np.array(rows, draw(st.sampled_from([np.int16, np.int32, np.int64, np.uint16])))


chunks_of = st.integers(1, 9)


def slow_encode(units: np.ndarray, f: int) -> list[int]:
    rows, frames = units.tolist(), units.shape[1]
    stream = []
    for begin in range(0, frames, f):
        novel = [
            [row[t] for t in range(begin, min(begin + f, frames)) if t == 0 or row[t] != row[t - 1]] for row in rows
        ]
        stream += [S0, *unit(*novel[0])]
        if novel[1]:
            stream += [S1, *unit(*novel[1])]
    return stream


def slow_decode(stream: list[int], f: int) -> list[list[int]]:
    chunks: list[tuple[list[int], list[int]]] = []
    channel = 0
    for token in stream:
        if token == S0:
            chunks.append(([], []))
            channel = 0
        elif token == S1:
            channel = 1
        else:
            chunks[-1][channel].append(token - FIRST_UNIT)
    rows: list[list[int]] = [[], []]
    for channel, row in enumerate(rows):
        every = [number for chunk in chunks for number in chunk[channel][:f]]
        latest = every[0] if every else 0
        for chunk in chunks:
            given_units = chunk[channel][:f]
            k = len(given_units)
            frames = [latest] * f
            for j in range(k):
                for frame in range(j * f // k, (j + 1) * f // k):
                    frames[frame] = given_units[j]
            latest = frames[-1]
            row += frames
    return rows


def test_figure_2_of_the_paper():
    units = np.array(
        [
            [75, 75, 75, 75, 17, 17, 338, 338, 338, 338, 338, 338, 338, 338, 338, 338],
            [89, 89, 89, 89, 89, 89, 89, 89, 89, 89, 12, 12, 12, 12, 12, 12],
        ]
    )
    f = frames_per_chunk(160, 25)
    assert f == 4
    expected = [S0, *unit(75), S1, *unit(89), S0, *unit(17, 338), S0, S1, *unit(12), S0]
    assert encode(units, f).tolist() == expected
    assert encode(units, f).dtype == np.int32
    assert chunk_lengths(encode(units, f)).tolist() == [4, 3, 3, 1]
    # A unit's time is known to within a chunk: 12 came two frames into the third one.
    assert decode(encode(units, f), f).tolist() == [
        [75, 75, 75, 75, 17, 17, 338, 338, *[338] * 8],
        [*[89] * 8, *[12] * 8],
    ]


@pytest.mark.parametrize(("chunk_ms", "frames"), [(160, 4), (200, 5), (240, 6), (40, 1)])
def test_chunks_of_the_paper_are_whole_frames(chunk_ms, frames):
    assert frames_per_chunk(chunk_ms, 25) == frames


@pytest.mark.parametrize(("chunk_ms", "rate"), [(170, 25), (20, 25), (0, 25), (-160, 25)])
def test_chunk_that_is_no_whole_number_of_frames_is_refused(chunk_ms, rate):
    with pytest.raises(ValueError, match="not a whole number of frames"):
        frames_per_chunk(chunk_ms, rate)


@given(dialogues(), chunks_of)
def test_encode_equals_the_obvious_loop(units, f):
    assert encode(units, f).tolist() == slow_encode(units, f)


@given(dialogues(), chunks_of)
def test_decode_equals_the_obvious_loop(units, f):
    stream = encode(units, f)
    assert decode(stream, f).tolist() == slow_decode(stream.tolist(), f)


@given(dialogues(), chunks_of)
def test_encoding_what_was_decoded_gives_the_stream_back(units, f):
    stream = encode(units, f)
    decoded = decode(stream, f)
    assert decoded.dtype == np.int32
    assert decoded.shape == (2, -(-units.shape[1] // f) * f)
    assert np.array_equal(encode(decoded, f), stream)


@given(dialogues(), chunks_of)
def test_time_of_every_unit_is_right_to_within_a_chunk(units, f):
    decoded = decode(encode(units, f), f)
    for row, back in zip(units, decoded, strict=True):
        before = np.flatnonzero(np.diff(row.astype(int), prepend=-1))
        after = np.flatnonzero(np.diff(back, prepend=-1))
        assert row[before].tolist() == back[after].tolist()
        assert (np.abs(before - after) < f).all()


@given(st.lists(dialogues(most_frames=20), max_size=6), chunks_of)
def test_encoding_many_equals_encoding_each(many, f):
    streams = encode_many(many, f)
    assert [stream.tolist() for stream in streams] == [encode(units, f).tolist() for units in many]
    assert all(stream.dtype == np.int32 for stream in streams)


def test_encoding_hours_at_once_loses_no_dialogue_and_joins_none():
    # Together they have more frames than are encoded in one pass, and so has one of them alone.
    draw = np.random.default_rng(0)
    many = [draw.integers(0, 3, (2, frames)) for frames in (4_000, 5_999, 1, 0, 12_000, 7)]
    streams = encode_many(many, 4)
    assert [stream.tolist() for stream in streams] == [encode(units, 4).tolist() for units in many]


@given(dialogues(), chunks_of)
def test_chunk_lengths_are_the_distances_of_the_clock(units, f):
    stream = encode(units, f)
    lengths = chunk_lengths(stream)
    assert lengths.sum() == len(stream)
    assert len(lengths) == -(-units.shape[1] // f)
    assert all(stream[end - length] == S0 for end, length in zip(np.cumsum(lengths), lengths, strict=True))
    assert lengths.max(initial=0) <= 2 + 2 * f


def test_short_last_chunk_is_written_as_it_is():
    units = np.array([[1, 1, 1, 1, 2], [3, 3, 3, 3, 3]])
    assert encode(units, 4).tolist() == [S0, *unit(1), S1, *unit(3), S0, *unit(2)]
    assert decode(encode(units, 4), 4).tolist() == [[1, 1, 1, 1, 2, 2, 2, 2], [3] * 8]


def test_dialogue_without_frames_is_an_empty_stream():
    nothing = np.zeros((2, 0), np.int16)
    assert encode(nothing, 4).tolist() == []
    assert chunk_lengths(encode(nothing, 4)).tolist() == []
    assert decode(np.zeros(0, np.int32), 4).shape == (2, 0)
    assert encode_many([], 4) == []


@pytest.mark.parametrize(
    "units",
    [
        np.zeros(8, int),
        np.zeros((3, 8), int),
        np.zeros((1, 8), int),
        np.zeros((2, 8, 1), int),
        np.zeros((2, 8)),
        np.array([[0, 1], [2, -1]]),
    ],
)
def test_what_is_no_pair_of_unit_rows_is_refused(units):
    with pytest.raises(ValueError, match="units are"):
        encode(units, 4)
    with pytest.raises(ValueError, match="units are"):
        encode_many([np.zeros((2, 4), int), units], 4)


def test_chunk_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        encode(np.zeros((2, 4), int), 0)


@given(st.lists(st.integers(0, 9), max_size=60), chunks_of)
def test_malformed_stream_keeps_the_clock_and_equals_the_obvious_loop(tail, f):
    stream = [S0, *tail]
    decoded = decode(np.array(stream), f)
    assert decoded.shape == (2, stream.count(S0) * f)
    assert decoded.tolist() == slow_decode(stream, f)


def test_units_beyond_a_full_chunk_are_left_out():
    stream = np.array([S0, *unit(1, 2, 3, 4, 5), S1, *unit(6), S1, *unit(7)])
    assert decode(stream, 4).tolist() == [[1, 2, 3, 4], [6, 6, 7, 7]]


def test_stream_cut_out_of_a_longer_one_begins_with_the_first_unit_it_has():
    stream = np.array([S0, *unit(5), S0, S1, *unit(9)])
    assert decode(stream, 2).tolist() == [[5, 5, 5, 5], [9, 9, 9, 9]]
    assert decode(np.array([S0, S0]), 2).tolist() == [[0] * 4, [0] * 4]


@pytest.mark.parametrize("stream", [[S1, 5], [5, S0], [S0, -1], [[S0, 5]]])
def test_what_does_not_begin_with_the_clock_is_no_stream(stream):
    with pytest.raises(ValueError, match="not a synchronous stream"):
        decode(np.array(stream), 4)
