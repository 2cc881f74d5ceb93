import collections
import io
import pickle

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.formats.foreign import ForeignClass
from duologue.tokenize.unpickle import StandIn, Stream, Unpickler, array, attributes, mapping
from tests.pickles import Disguised, Evaluating, Malicious
from tests.tokenize.making import kmeans

PROTOCOLS = range(2, 6)


def load(data: bytes):
    return Unpickler(Stream(data)).load()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(plain, st.sampled_from(range(3, 6)))
def test_plain_data_is_read_as_pickle_reads_it(value, protocol):
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype=">f4"),
        np.array([1, 2], np.int64),
    ],
)
def test_arrays_are_read_without_numpys_own_functions(value, protocol):
    if protocol == 5:
        # Protocol 5 has another way for arrays, which no quantizer was ever saved in.
        with pytest.raises(ForeignClass, match="_frombuffer"):
            load(pickle.dumps(value, protocol))
        return
    read = array(load(pickle.dumps(value, protocol)))
    assert np.array_equal(read, value)


def test_array_of_no_number_is_refused_and_no_size_is_guessed():
    with pytest.raises(ValueError, match="numpy type M8"):
        array(load(pickle.dumps(np.array(["2020-01-01"], "M8[D]"), 4)))
    data = pickle.dumps(np.arange(6.0).reshape(2, 3), 2)
    damaged = data.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86")
    assert damaged != data
    with pytest.raises(ValueError, match="not a shape"):
        array(load(damaged))


def test_mappings_are_read_and_other_objects_are_none():
    ordered = collections.OrderedDict(a=1, b=[2])
    assert mapping(load(pickle.dumps(ordered))) == {"a": 1, "b": [2]}
    assert mapping({"a": 1}) == {"a": 1}
    assert mapping([1]) is None
    assert array([1.0]) is None
    assert attributes(3) == {}


def test_object_of_an_admitted_package_keeps_what_it_was_and_does_nothing():
    model = load(pickle.dumps(kmeans()))
    assert isinstance(model, StandIn)
    assert model.name == "sklearn.cluster._kmeans.KMeans"
    assert attributes(model)["n_clusters"] == 12
    assert np.array_equal(array(attributes(model)["cluster_centers_"]), kmeans().cluster_centers_)


@pytest.mark.parametrize("evil", [Malicious, Evaluating, Disguised])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_code_is_refused_by_name_and_never_run(tmp_path, evil, protocol):
    marker = tmp_path / "marker"
    data = pickle.dumps({"model": [evil(marker)]}, protocol)
    with pytest.raises(ForeignClass, match=r"(posix\.system|eval)"):
        load(data)
    assert not marker.exists()
    # The same bytes do harm where they are trusted.
    pickle.loads(data)
    assert marker.exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"(cos\nsystem\nS'true'\no.",
        b"cos\nsystem\n(S'true'\nt\x81.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.",
        b"csklearned\nos\n.",
        b"cfairseqx\nX\n.",
        b"cnumpy\nload\n.",
        b"ctorch\nload\n.",
        b"ctorch.hub\nload\n.",
        b"cpickle\nloads\n.",
        b"cbuiltins\ngetattr\n.",
    ],
)
def test_every_way_to_name_a_function_is_refused(opcodes):
    with pytest.raises(ForeignClass):
        load(opcodes)


def test_registered_extensions_cannot_be_named():
    with pytest.raises(ValueError, match="unregistered extension"):
        load(b"\x82\x01.")


def test_what_a_pickle_does_to_a_stand_ins_class_ends_with_it():
    # BUILD on the class itself, with attributes to set on it.
    state = pickle.dumps((None, {"name": "x", "__setstate__": 1}), 2)[2:-1]
    with pytest.raises(TypeError):
        load(b"\x80\x02csklearn.a\nB\n" + state + b"b.")
    assert isinstance(load(b"csklearn.a\nB\n(tR}b."), StandIn)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
        # The place 4,294,967,295 of the memo, for which C's unpickler makes room for all before it.
        b"\x80\x02Nr" + b"\xff" * 4 + b"s.",
    ],
)
def test_claims_of_great_size_take_no_memory(bomb):
    with pytest.raises((EOFError, KeyError, IndexError, pickle.UnpicklingError)):
        load(bomb)


def test_stream_never_reads_past_its_end():
    stream = Stream(b"ab\ncd", 1)
    assert stream.readline() == b"b\n"
    with pytest.raises(EOFError):
        stream.readline()
    with pytest.raises(EOFError):
        stream.read(3)
    with pytest.raises(EOFError):
        stream.read(-1)
    assert stream.read(2) == b"cd"


def joblib_bytes(value) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file)
    return file.getvalue()


def test_arrays_of_joblib_are_read_between_the_parts_of_the_pickle():
    value = {
        "first": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "words": np.array(["a", None], object),
        "last": np.float32(3),
    }
    read = load(joblib_bytes(value))
    assert list(read) == list(value)
    assert np.array_equal(array(read["first"]), value["first"])
    assert np.array_equal(array(read["columns"]), value["columns"])


def test_code_in_an_array_of_objects_is_refused(tmp_path):
    with pytest.raises(ForeignClass, match=r"posix\.system"):
        load(joblib_bytes(np.array([Malicious(tmp_path / "marker")], object)))
    assert not (tmp_path / "marker").exists()


def test_array_of_joblib_that_claims_more_than_the_file_has_is_an_error():
    file = io.BytesIO()
    joblib.dump(np.zeros(5), file, protocol=2)
    # The shape (5,) becomes (2147483647,).
    damaged = file.getvalue().replace(b"K\x05\x85", b"J\xff\xff\xff\x7f\x85")
    assert damaged != file.getvalue()
    with pytest.raises(EOFError):
        load(damaged)
