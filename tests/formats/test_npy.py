import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from duologue.formats.npy import npy_array, npy_bytes


@given(arrays.arrays(st.sampled_from(["<i2", "<u4", "<f8"]), arrays.array_shapes(min_dims=1, max_dims=3, min_side=0)))
def test_arrays_come_back_and_are_the_same_bytes(array):
    back = npy_array(npy_bytes(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()
    assert npy_bytes(np.asfortranarray(array)) == npy_bytes(array)


@given(
    arrays.arrays(
        st.sampled_from([np.dtype(name) for name in ("<i2", ">i4", "<u4", "<f8", "?", "S3")]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    ),
    st.binary(max_size=3),
)
def test_arrays_are_written_and_read_as_numpy_does(array, behind):
    for each in (array, np.asfortranarray(array), array[::2] if array.ndim else array):
        expected = io.BytesIO()
        np.lib.format.write_array(expected, np.ascontiguousarray(each), version=(1, 0))
        assert npy_bytes(each) == expected.getvalue()
    plain = io.BytesIO()
    np.save(plain, np.asfortranarray(array))
    data = plain.getvalue() + behind
    read, expected_array = npy_array(data), np.load(io.BytesIO(data))
    assert (read.dtype, read.shape, read.tobytes()) == (
        expected_array.dtype,
        expected_array.shape,
        expected_array.tobytes(),
    )
    assert read.flags.writeable


@given(arrays.arrays(np.int16, (2, 5)), st.data())
def test_an_array_that_was_cut_is_refused(array, data):
    whole = npy_bytes(array)
    with pytest.raises(ValueError, match="not an array"):
        npy_array(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_no_pickle_is_ever_written_or_read():
    with pytest.raises(ValueError):
        npy_bytes(np.array([{}], object))
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an array"):
        npy_array(pickled.getvalue())
