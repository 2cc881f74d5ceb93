import tarfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.formats.ustar import BLOCK, header_of, name_and_size

LARGEST = 8**11 - 1
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=100).filter(
    lambda name: len(name.encode()) <= 100
)
sizes = st.integers(0, LARGEST)


def by_tarfile(name: str, size: int, form: int = tarfile.USTAR_FORMAT, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(form, "utf-8", "strict")


@given(names, sizes)
@example("x" * 100, LARGEST)
@example("first.units.npy", 0)
def test_a_header_is_the_one_that_tarfile_writes_and_is_read_back(name, size):
    header = header_of(name.encode(), size)
    assert header == by_tarfile(name, size)
    assert name_and_size(header) == (name, size)


@pytest.mark.parametrize(("name", "size"), [(b"x" * 101, 0), (b"a\x00b", 0), (b"a", -1), (b"a", LARGEST + 1)])
def test_what_ustar_cannot_hold_is_refused(name, size):
    with pytest.raises(ValueError):
        header_of(name, size)


@given(
    names.filter(lambda name: not name.endswith("/")),
    sizes,
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(0, 2**31),
    st.sampled_from(["", "bigdata"]),
    st.integers(0, 0o777),
)
def test_a_header_that_others_wrote_is_read(name, size, form, mtime, user, mode):
    header = by_tarfile(name, size, form, mtime=mtime, uname=user, gname=user, mode=mode)
    assert name_and_size(header) == (name, size)


def outcome(read, header):
    try:
        return read(header)
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        return type(error), str(error)


def with_tarfile_alone(header):
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    return info.name, info.size


@given(
    names, sizes, st.lists(st.tuples(st.integers(0, BLOCK - 1), st.integers(0, 255)), max_size=3), st.integers(0, 1)
)
@example("a", 8, [(135, 0x20)], 0)
@example("a", 8, [(134, 0x20)], 1)
@example("a", 8, [(0, 0xFF)], 1)
@example("a", 8, [(124, 0x5F)], 1)
@example("a", 8, [(124, 0x2D)], 1)
@example("a", 8, [(135, 0x31)], 1)
@example("a", 8, [(100, 0x01)], 1)
def test_a_changed_header_is_read_or_refused_as_tarfile_does(name, size, changes, mend):
    changed = bytearray(header_of(name.encode(), size))
    for place, value in changes:
        changed[place] = value
    if mend:
        changed[148:156] = b"%06o\x00 " % tarfile.calc_chksums(bytes(changed))[0]
    expected = outcome(with_tarfile_alone, bytes(changed))
    found = outcome(name_and_size, bytes(changed))
    assert found == expected or (expected[1] < 0 and found[0] is tarfile.HeaderError)


@given(st.integers(0, BLOCK - 1))
def test_a_header_that_was_cut_is_refused(length):
    with pytest.raises(tarfile.HeaderError):
        name_and_size(header_of(b"first.json", 7)[:length])


def test_a_size_below_zero_is_refused():
    changed = bytearray(header_of(b"first.json", 7))
    changed[124:136] = b"\xff" * 12
    changed[148:156] = b"%06o\x00 " % tarfile.calc_chksums(bytes(changed))[0]
    with pytest.raises(tarfile.HeaderError, match="negative"):
        name_and_size(bytes(changed))
